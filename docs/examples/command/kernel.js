// A command for softcert: softmax and attention in JavaScript, whose numbers are binary64.
//
//     softcert check "command:node kernel.js"
"use strict";

const fs = require("node:fs");

const ARRAYS = { float64: Float64Array, float32: Float32Array };

/** Read exactly so many bytes of stdin, or null where it ends. */
function read(size) {
  const buffer = Buffer.alloc(size);
  for (let have = 0; have < size; ) {
    const count = fs.readSync(0, buffer, have, size - have, null);
    if (count === 0) return null;
    have += count;
  }
  return buffer;
}

function write(buffer) {
  for (let sent = 0; sent < buffer.length; ) sent += fs.writeSync(1, buffer, sent);
}

/** The next request: its header, and its arrays as [values, shape]. */
function receive() {
  const prefix = read(8);
  if (prefix === null) return null;
  const header = JSON.parse(read(prefix.readUInt32LE(4)).toString());
  const arrays = header.arrays.map(({ dtype, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const type = dtype === "bool" ? Uint8Array : ARRAYS[dtype];
    // A copy, whose buffer begins where its numbers do.
    const bytes = Uint8Array.from(read(size * type.BYTES_PER_ELEMENT));
    return [new type(bytes.buffer), shape];
  });
  return [header, arrays];
}

function send(header, arrays = []) {
  const listed = arrays.map(([values, shape]) => ({
    dtype: values instanceof Float32Array ? "float32" : "float64",
    shape,
  }));
  const text = Buffer.from(JSON.stringify({ ...header, arrays: listed }));
  const prefix = Buffer.from("SCF1\0\0\0\0");
  prefix.writeUInt32LE(text.length, 4);
  write(Buffer.concat([prefix, text]));
  for (const [values] of arrays) write(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
}

function softmax({ dtype }, [[x, shape]]) {
  const [rows, n] = shape;
  const y = new ARRAYS[dtype](rows * n);
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * n, (r + 1) * n);
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const terms = Float64Array.from(row, (value) => Math.exp(value - top));
    const sum = terms.reduce((a, b) => a + b, 0);
    terms.forEach((term, i) => (y[r * n + i] = term / sum));
  }
  return [[y, shape]];
}

function attention({ dtype, scale, causal, mask }, [[q, qShape], [k, kShape], [v, vShape], given]) {
  const [batch, heads, queries, features] = qShape;
  const [, kvHeads, keys, columns] = vShape;
  const out = new ARRAYS[dtype](batch * heads * queries * columns);
  for (let row = 0; row < batch * heads * queries; row++) {
    const query = row % queries;
    const head = Math.floor(row / queries) % heads;
    const shared = Math.floor(row / queries / heads) * kvHeads + Math.floor(head / (heads / kvHeads));
    const scores = new Float64Array(keys).fill(-Infinity);
    for (let j = 0; j < keys; j++) {
      if (causal && j > query + keys - queries) continue;
      if (mask === "boolean" && !given[0][row * keys + j]) continue;
      let sum = 0;
      for (let d = 0; d < features; d++) sum += q[row * features + d] * k[(shared * keys + j) * features + d];
      scores[j] = sum * Number(scale) + (mask === "additive" ? given[0][row * keys + j] : 0);
    }
    const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    if (top === -Infinity) continue; // no key is visible: 0
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights.reduce((a, b) => a + b, 0);
    for (let e = 0; e < columns; e++) {
      let sum = 0;
      for (let j = 0; j < keys; j++) if (weights[j] !== 0) sum += weights[j] * v[(shared * keys + j) * columns + e];
      out[row * columns + e] = sum / total;
    }
  }
  return [[out, [batch, heads, queries, columns]]];
}

const OPS = { softmax, attention };

for (let request = receive(); request !== null; request = receive()) {
  const [header, arrays] = request;
  if (header.request === "hello") {
    send({
      protocol: 1,
      name: "kernel.js",
      ops: Object.keys(OPS),
      dtypes: Object.keys(ARRAYS),
      contract: { compute: "float64", accumulator: "float64" },
      versions: { node: process.versions.node },
    });
  } else if (!(header.dtype in ARRAYS)) {
    // Its arrays are not read: it never comes, as the dtypes are declared.
    process.exit(1);
  } else {
    send({ status: "ok" }, OPS[header.op](header, arrays));
  }
}
