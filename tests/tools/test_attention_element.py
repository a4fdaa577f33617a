"""The independent checker on real witnesses of attention: true ones pass, falsified ones are named."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from softcert import check
from softcert.conformance.wire.runs import witness_to_json

PROGRAM = Path(__file__).resolve().parents[2] / "tools" / "verify_witness.py"
#: A kernel whose results are all 1 % too large, by the first clause of its op.
KERNEL = """
from softcert.backends.numpy_attention import {op} as right

def {op}({operands}{options}):
    results = right({operands}{given})
    enlarged = [r * r.dtype.type(1.01) for r in (results if isinstance(results, tuple) else (results,))]
    return enlarged[0] if len(enlarged) == 1 else tuple(enlarged)
"""
OPS = {
    "attention": ("q, k, v", "attention.causal"),
    "attention_lse": ("q, k, v", "attention.heads"),
    "attention_vjp": ("q, k, v, out, lse, dout", "attention-gradient.mask"),
    "attention_merge": ("out_a, lse_a, out_b, lse_b", "attention.merge"),
}


@pytest.fixture(scope="module", params=OPS)
def witness(request, tmp_path_factory):
    operands, clause = OPS[request.param]
    scored = request.param != "attention_merge"
    kernel = tmp_path_factory.mktemp("kernel") / "kernel.py"
    kernel.write_text(
        KERNEL.format(
            op=request.param,
            operands=operands,
            options=", *, scale=None, causal=False, mask=None" if scored else "",
            given=", scale=scale, causal=causal, mask=mask" if scored else "",
        )
    )
    run = check(
        f"{kernel}:{request.param}",
        ops=[request.param],
        dtypes=["float32"],
        clauses=[clause],
        profile="smoke",
    )
    (verdict,) = run.broken
    return witness_to_json(verdict.witness, "kernel")


def said(document, folder):
    (folder / "witness.json").write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, PROGRAM, folder / "witness.json"], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_a_true_witness_is_found_true(witness, tmp_path):
    status, line = said(witness, tmp_path)
    assert status == 0
    assert ": true: exact " in line


def test_other_operands_make_it_wrong(witness, tmp_path):
    changed = copy.deepcopy(witness)
    for tensor in changed["trial"]["calls"][0]["operands"]:
        tensor["hex"] = [(3 * float.fromhex(v) + 5).hex() for v in tensor["hex"]]
    assert said(changed, tmp_path)[0] == 1


def test_a_moved_enclosure_is_wrong(witness, tmp_path):
    changed = copy.deepcopy(witness)
    changed["finding"]["exact"] = ["123.5", "123.6"]
    status, line = said(changed, tmp_path)
    assert status == 1
    assert "WRONG: the enclosure does not hold the exact value" in line
