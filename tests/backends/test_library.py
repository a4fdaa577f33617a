"""Shared libraries: the symbols of the header are called, and whatever a library does is a reply."""

import shutil
import subprocess

import numpy as np
import pytest

from softcert.backends import (
    DTYPES,
    OPERANDS,
    OPS,
    Call,
    Failure,
    Limits,
    Output,
    SubjectError,
    Worker,
    as_dtype,
    include_folder,
    load,
)
from softcert.backends.harmless import attention_operands
from softcert.backends.ops import ATTENTION_OPS, OF_TREES, ROW_OPS, operand_dtype
from softcert.backends.trees import heap_paths

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

X = np.array([[0.0, 1.0, 2.0, -1.0], [3.0, 0.5, -2.0, 1.0]], dtype=np.float32)
SOFT = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
QUICK = Limits(seconds=1.0, load_seconds=10.0, memory_bytes=1 << 28)
VERSION = "uint32_t softcert_abi_version(void) { return SOFTCERT_ABI_VERSION; }\n"
PRELUDE = """
#include "softcert_backend.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
"""
GOOD = """
    float *out = y;
    const float *in = x;
    for (int64_t r = 0; r < rows; r++, in += n, out += n) {
        float top = -INFINITY, sum = 0;
        for (int64_t i = 0; i < n; i++) top = in[i] > top ? in[i] : top;
        for (int64_t i = 0; i < n; i++) sum += out[i] = expf(in[i] - top);
        for (int64_t i = 0; i < n; i++) out[i] /= sum;
    }
    return SOFTCERT_OK;
"""


def softmax(body):
    unused = "(void)dtype, (void)rows, (void)n, (void)beta, (void)x, (void)y;"
    parameters = "int32_t dtype, int64_t rows, int64_t n, double beta, const void *x, void *y"
    return f"int softcert_softmax({parameters}) {{\n{unused}\n{body}\n}}\n"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile C to a library; return its path."""
    folder, made = tmp_path_factory.mktemp("libraries"), []

    def compiled(text, *options, suffix=".so"):
        made.append(text)
        source, target = folder / f"source{len(made)}.c", folder / f"lib{len(made)}{suffix}"
        source.write_text(PRELUDE + text)
        flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", *options]
        command = ["gcc", *flags, f"-I{include_folder()}", "-o", str(target), str(source), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(target)

    return compiled


@pytest.fixture(scope="module")
def good(build):
    return build(VERSION + softmax(GOOD))


def called(library, x=X, **facts):
    with Worker(library, limits=QUICK) as worker:
        return worker.call(Call("softmax", (x,), **facts))


# --- what is handed over ---


def test_a_library_computes(good):
    with Worker(good) as worker:
        assert worker.description.ops == ("softmax",)
        assert (worker.description.dtypes, worker.description.assumed) == (("float64", "float32"), True)
        for layout in ("contiguous", "strided", "reversed", "broadcast", "transposed"):
            for axis in (-1, 0):
                reply = worker.call(Call("softmax", (X,), {"axis": axis}, layout))
                assert reply.side_effects == ()
                expected = np.exp(X) / np.exp(X).sum(axis, keepdims=True)
                np.testing.assert_allclose(reply.value, expected, rtol=1e-6)
        cube = np.stack([X, X + 1, X * 2])
        assert worker.call(Call("softmax", (cube,), {"axis": 0})).value.shape == cube.shape
        assert worker.call(Call("softmax", (X[0],))).value.shape == (4,)
        assert worker.call(Call("softmax", (X[:0],))).value.shape == (0, 4)
        assert worker.restarts == 0


#: Each op copies what tells its arguments apart into its first result.
ECHO = """
static int size(int32_t dtype) { return dtype == SOFTCERT_FLOAT64 ? 8 : dtype == SOFTCERT_FLOAT32 ? 4 : 2; }
static int lse_size(int32_t dtype) { return dtype == SOFTCERT_FLOAT64 ? 8 : 4; }
int softcert_softmax(int32_t t, int64_t r, int64_t n, double beta, const void *x, void *y) {
    memcpy(y, x, r * n * size(t));
    return beta == 1.0 || beta == 2.5 ? SOFTCERT_OK : SOFTCERT_FAILED;
}
int softcert_log_softmax(int32_t t, int64_t r, int64_t n, const void *x, void *y) {
    memcpy(y, x, r * n * size(t));
    return SOFTCERT_OK;
}
int softcert_logsumexp(int32_t t, int64_t r, int64_t n, const void *x, void *lse) {
    for (int64_t i = 0; i < r; i++)
        memcpy((char *)lse + i * size(t), (const char *)x + i * n * size(t), size(t));
    return SOFTCERT_OK;
}
int softcert_softmax_vjp(int32_t t, int64_t r, int64_t n, const void *y, const void *dy, void *dx) {
    (void)y;
    memcpy(dx, dy, r * n * size(t));
    return SOFTCERT_OK;
}
int softcert_softmax_jvp(int32_t t, int64_t r, int64_t n, const void *y, const void *dx, void *dy) {
    (void)dx;
    memcpy(dy, y, r * n * size(t));
    return SOFTCERT_OK;
}
int softcert_sparsemax(int32_t t, int64_t r, int64_t n, const void *x, void *y) {
    memcpy(y, x, r * n * size(t));
    return SOFTCERT_OK;
}
int softcert_sparsemax_vjp(int32_t t, int64_t r, int64_t n, const void *y, const void *dy, void *dx) {
    (void)y;
    memcpy(dx, dy, r * n * size(t));
    return SOFTCERT_OK;
}
int softcert_entmax(int32_t t, int64_t r, int64_t n, double alpha, const void *x, void *y) {
    memcpy(y, x, r * n * size(t));
    return alpha == 1.5 || alpha == 1.25 ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
int softcert_entmax_vjp(int32_t t, int64_t r, int64_t n, double alpha,
                        const void *y, const void *dy, void *dx) {
    (void)dy;
    memcpy(dx, y, r * n * size(t));
    return alpha == 1.5 || alpha == 1.25 ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
int softcert_cross_entropy(int32_t t, int64_t r, int64_t n, double s, int64_t ignore, double z,
                           const void *x, const void *target, void *loss) {
    const int64_t *k = target;
    for (int64_t i = 0; i < r; i++)
        memcpy((char *)loss + i * size(t), (const char *)x + (i * n + k[i]) * size(t), size(t));
    return s == 0.25 && ignore == -7 && z == 0.5 ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
int softcert_cross_entropy_vjp(int32_t t, int64_t r, int64_t n, double s, int64_t ignore, double z,
                               const void *x, const void *target, const void *dloss, void *dx) {
    (void)target;
    memcpy(dx, x, r * n * size(t));
    memcpy(dx, dloss, r * size(t));
    return s == 0.25 && ignore == -7 && z == 0.5 ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
int softcert_hierarchical_log_softmax(int32_t t, int64_t r, int64_t n, const void *s, const void *target,
                                      const void *starts, const void *nodes, const void *signs, void *logp) {
    const int64_t *leaf = target, *start = starts, *node = nodes, *sign = signs;
    /* The score of the first node of each path where its branch is 1, and of the last one where it is -1. */
    for (int64_t i = 0; i < r; i++) {
        const int64_t k = sign[start[leaf[i]]] > 0 ? start[leaf[i]] : start[leaf[i] + 1] - 1;
        memcpy((char *)logp + i * size(t), (const char *)s + (i * n + node[k]) * size(t), size(t));
    }
    return SOFTCERT_OK;
}
int softcert_hierarchical_log_softmax_vjp(int32_t t, int64_t r, int64_t n, const void *s, const void *target,
                                          const void *dlogp, const void *starts, const void *nodes,
                                          const void *signs, void *ds) {
    (void)target, (void)nodes, (void)signs;
    memcpy(ds, s, r * n * size(t));
    memcpy(ds, dlogp, r * size(t));
    return ((const int64_t *)starts)[n + 1] > n ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
int softcert_gumbel_softmax(int32_t t, int64_t r, int64_t n, double tau, int64_t hard, int64_t seed,
                            const void *x, void *y) {
    memcpy(y, x, r * n * size(t));
    return tau == 0.5 && hard == 1 && seed == 7 ? SOFTCERT_OK : SOFTCERT_UNSUPPORTED;
}
static int64_t queries(const softcert_attention_call *c) { return c->batch * c->heads * c->queries; }
static int64_t keys(const softcert_attention_call *c) { return c->batch * c->kv_heads * c->keys; }
int softcert_attention(int32_t t, const softcert_attention_call *c, const void *q, const void *k,
                       const void *v, void *out) {
    (void)q, (void)k, (void)v;
    const double told[] = {c->batch, c->heads, c->kv_heads, c->queries, c->keys, c->features, c->columns,
                           c->scale, c->causal, c->mask_kind, c->mask ? ((const uint8_t *)c->mask)[1] : -1};
    if (t != SOFTCERT_FLOAT64) return SOFTCERT_UNSUPPORTED;
    memset(out, 0, queries(c) * c->columns * size(t));
    memcpy(out, told, sizeof told);
    return SOFTCERT_OK;
}
int softcert_attention_lse(int32_t t, const softcert_attention_call *c, const void *q, const void *k,
                           const void *v, void *out, void *lse) {
    (void)k, (void)v;
    memcpy(out, q, queries(c) * c->columns * size(t));
    memset(lse, 0, queries(c) * lse_size(t));
    return SOFTCERT_OK;
}
int softcert_attention_vjp(int32_t t, const softcert_attention_call *c, const void *q, const void *k,
                           const void *v, const void *out, const void *lse, const void *dout,
                           void *dq, void *dk, void *dv) {
    (void)q, (void)out, (void)lse;
    memcpy(dq, dout, queries(c) * c->features * size(t));
    memcpy(dk, k, keys(c) * c->features * size(t));
    memcpy(dv, v, keys(c) * c->columns * size(t));
    return SOFTCERT_OK;
}
int softcert_attention_merge(int32_t t, int64_t r, int64_t n, const void *out_a, const void *lse_a,
                             const void *out_b, const void *lse_b, void *out, void *lse) {
    (void)out_a, (void)lse_b;
    memcpy(out, out_b, r * n * size(t));
    memcpy(lse, lse_a, r * lse_size(t));
    return SOFTCERT_OK;
}
const char *softcert_declaration(void) {
    return "{\\"name\\": \\"echo\\", \\"beta\\": true, \\"versions\\": {\\"blas\\": \\"3\\"},"
           " \\"dtypes\\": [\\"float64\\", \\"float32\\", \\"float16\\", \\"bfloat16\\"],"
           " \\"contract\\": {\\"exp_ulp\\": 2}}";
}
"""


@pytest.fixture(scope="module")
def echo(build):
    with Worker(build(VERSION + ECHO)) as worker:
        yield worker


def test_every_op_and_the_declaration(echo):
    described = echo.description
    assert described.ops == OPS
    assert (described.name, described.dtypes, described.beta) == ("echo", DTYPES, True)
    assert (described.contract.exp_ulp, described.versions["blas"]) == (2.0, "3")


LOSS = {"label_smoothing": 0.25, "ignore_index": -7, "z_loss": 0.5}
#: Options under which the echo of an op answers.
GIVEN = {
    "softmax": {"beta": 2.5},
    "entmax": {"alpha": 1.25},
    "cross_entropy": LOSS,
    "cross_entropy_vjp": LOSS,
    "gumbel_softmax": {"tau": 0.5, "hard": 1, "seed": 7},
}


def row_operands(op, dtype):
    few, tree = np.arange(len(X)) + 7, dict(zip(OF_TREES, heap_paths(X.shape[-1] + 1), strict=True))
    every = {"target": np.arange(len(X)) % X.shape[-1], "dloss": few, "dlogp": few, **tree}
    return tuple(
        every.get(name, X + k).astype(as_dtype(operand_dtype(name, dtype)))
        for k, name in enumerate(OPERANDS[op])
    )


def begun_with(x, few):
    changed = x.copy()
    changed.reshape(-1)[: few.size] = few
    return changed


def firsts_or_lasts(given):
    starts, nodes, signs = (given[name] for name in OF_TREES)
    first, last = starts[given["target"]], starts[given["target"] + 1] - 1
    at = nodes[np.where(signs[first] > 0, first, last)]
    return np.take_along_axis(given["s"], at[:, None], 1)[:, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", [op for op in OPS if op != "attention"])
def test_arrays_arrive_in_their_places_bit_by_bit(echo, op, dtype):
    if op in ROW_OPS:
        operands = row_operands(op, dtype)
        params = {"axis": -1, **GIVEN.get(op, {})}
    else:
        operands, params = attention_operands(op, dtype, (2, 2), keys=5), {}
    reply = echo.call(Call(op, operands, params))
    assert isinstance(reply, Output), reply
    given = dict(zip(OPERANDS[op], operands, strict=True))
    returned = {
        "softmax": lambda: [given["x"]],
        "log_softmax": lambda: [given["x"]],
        "logsumexp": lambda: [given["x"][:, 0]],
        "softmax_vjp": lambda: [given["dy"]],
        "softmax_jvp": lambda: [given["y"]],
        "sparsemax": lambda: [given["x"]],
        "sparsemax_vjp": lambda: [given["dy"]],
        "entmax": lambda: [given["x"]],
        "entmax_vjp": lambda: [given["y"]],
        "cross_entropy": lambda: [np.take_along_axis(given["x"], given["target"][:, None], 1)[:, 0]],
        "cross_entropy_vjp": lambda: [begun_with(given["x"], given["dloss"])],
        "hierarchical_log_softmax": lambda: [firsts_or_lasts(given)],
        "hierarchical_log_softmax_vjp": lambda: [begun_with(given["s"], given["dlogp"])],
        "gumbel_softmax": lambda: [given["x"]],
        "attention_lse": lambda: [given["q"], np.zeros((2, 2, 3), "f8" if dtype == "float64" else "f4")],
        "attention_vjp": lambda: [given["dout"], given["k"], given["v"]],
        "attention_merge": lambda: [given["out_b"], given["lse_a"]],
    }[op]()
    assert [value.dtype for value in reply.values] == [value.dtype for value in returned]
    for value, wanted in zip(reply.values, returned, strict=True):
        assert value.shape == wanted.shape
        assert value.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("heads", "groups", "mask", "params", "told"),
    [
        ((), None, None, {}, [1, 1, 1, 3, 5, 4, 6, 0.5, 0, 0, -1]),
        ((2,), 1, None, {"scale": 3.0}, [1, 2, 1, 3, 5, 4, 6, 3.0, 0, 0, -1]),
        ((3, 4), 2, None, {"causal": True}, [3, 4, 2, 3, 5, 4, 6, 0.5, 1, 0, -1]),
        ((2, 3, 4), 2, np.arange(15).reshape(3, 5) != 0, {}, [6, 4, 2, 3, 5, 4, 6, 0.5, 0, 1, 1]),
        ((2,), None, np.full((2, 1, 5), 0.1), {}, [1, 2, 2, 3, 5, 4, 6, 0.5, 0, 2, 0x99]),
    ],
)
def test_the_sizes_and_options_of_attention(echo, heads, groups, mask, params, told):
    operands = attention_operands("attention", "float64", heads, groups=groups, keys=5, width=6)
    reply = echo.call(Call("attention", operands, params, mask=mask))
    assert reply.value.shape == (*operands[0].shape[:-1], 6)
    np.testing.assert_array_equal(reply.value.ravel()[: len(told)], told)


def test_what_is_unsupported_is_refused_and_not_a_fault(echo):
    reply = echo.call(Call("attention", attention_operands("attention", "float32"), {}))
    assert (reply.kind, reply.message) == (
        "exception",
        "NotImplementedError: softcert_attention returned SOFTCERT_UNSUPPORTED",
    )
    reply = echo.call(Call("softmax", (X,), {"axis": -1, "beta": 4.0}))
    assert (reply.kind, reply.message) == (
        "exception",
        "StatusError: softcert_softmax returned the status 2",
    )


# --- what a library may do wrong ---


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("raise_signal", "crash", "SIGSEGV"),
        ("*(volatile int *)0 = 1; return 0;", "crash", "SIGSEGV"),
        ("abort();", "crash", "SIGABRT"),
        ("_exit(3);", "crash", "exited with status 3"),
        ("for (;;) sleep(1);", "hang", "no result within"),
        ("return malloc((size_t)1 << 40) ? 0 : 5;", "exception", "the status 5"),
        ("((char *)y)[rows * n * 4] = 0; return 0;", "crash", "SIGSEGV"),
        ("return ((const char *)x)[rows * n * 4];", "crash", "SIGSEGV"),
    ],
)
def test_failures_are_replies(build, body, kind, words):
    text = "return ((int (*)(void))0)();" if body == "raise_signal" else body
    with Worker(build(VERSION + softmax(text)), limits=QUICK) as worker:
        for _ in range(2):
            reply = worker.call(Call("softmax", (X,)))
            assert isinstance(reply, Failure)
            assert reply.kind == kind, reply
            assert words in reply.message


def test_every_element_has_to_be_written(build):
    reply = called(build(VERSION + softmax("*(float *)y = 0.5f; return 0;")))
    assert reply.value[0, 0] == 0.5
    assert np.isnan(reply.value.ravel()[1:]).all()


@pytest.mark.parametrize(
    ("body", "effect"),
    [
        ("((float *)y)[-1] = 0.0f;", "wrote-outside"),
        ("((char *)y)[-4096] = 0;", "wrote-outside"),
        ("((float *)(uintptr_t)x)[1] = 0.0f;", "input-modified"),
        ("((float *)(uintptr_t)x)[-1] = 0.0f;", "input-modified"),
    ],
)
def test_writes_where_nothing_is_to_be_written_are_seen(build, body, effect):
    reply = called(build(VERSION + softmax(body + GOOD)))
    assert effect in reply.side_effects
    assert not called(build(VERSION + softmax(GOOD))).side_effects


def test_a_library_that_flushes_subnormals_is_told_with_every_call(build):
    fast = build(VERSION + softmax(GOOD), "-ffast-math")
    plain = build(VERSION + softmax(GOOD))
    with Worker(fast) as worker:
        for _ in range(2):
            assert worker.call(Call("softmax", (X,))).side_effects == ("flush-to-zero",)
    assert called(plain).side_effects == ()


# --- what is no library ---


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "text.so",
            b"no library at all",
            "is no shared library: it begins with b'no l'",
        ),
        ("empty.so", b"", "is no shared library: it is empty"),
        ("cut.so", b"\x7fELF\x02", "is no shared library"),
        ("foreign.so", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xf7\x00" + bytes(64), r"machine 247"),
        ("arm.so", b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x03\x00\x28\x00" + bytes(64), r"arm \(32 bits\)"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SubjectError, match=words):
        load(path)


def test_libraries_that_are_not_there(tmp_path):
    with pytest.raises(SubjectError, match=r"there is no file '\./gone\.so\.1'"):
        load("./gone.so.1")
    (tmp_path / "folder.so").mkdir()
    with pytest.raises(SubjectError, match="is a folder, not a shared library"):
        load(tmp_path / "folder.so")


DECLARE = "const char *softcert_declaration(void) {{ return {}; }}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (softmax(GOOD), "does not export softcert_abi_version; see softcert_backend.h"),
        ("int PyInit_lib(void);", "does not export softcert_abi_version"),
        ("uint32_t softcert_abi_version(void) { return 9; }", "has version 9 of softcert_backend.h"),
        (VERSION, "exports none of softcert_softmax, softcert_log_softmax"),
        (VERSION + softmax(GOOD) + DECLARE.format('"{"'), "is no JSON"),
        (VERSION + softmax(GOOD) + DECLARE.format("0"), "is no JSON"),
        (VERSION + softmax(GOOD) + DECLARE.format('"3"'), "is int, not a mapping"),
        (VERSION + softmax(GOOD) + DECLARE.format('"{\\"ops\\": 1}"'), "unknown entry 'ops'"),
        (VERSION + softmax(GOOD) + DECLARE.format('"{\\"beta\\": 1}"'), "has to be true or false"),
        (VERSION + softmax(GOOD) + DECLARE.format('"{\\"versions\\": 1}"'), "is not a mapping"),
        (VERSION + "void gone(void);" + softmax("gone(); return 0;"), "undefined symbol: gone"),
    ],
)
def test_libraries_that_cannot_be_used(build, text, words):
    with pytest.raises(SubjectError, match=words) as caught:
        load(build(text, "-Wl,-z,now"))
    assert "\n" not in str(caught.value)


def test_other_files_of_a_compiler(build, tmp_path):
    source = tmp_path / "lone.c"
    source.write_text("int x;\n")
    subprocess.run(["gcc", "-c", "-o", str(tmp_path / "lone.o"), str(source)], check=True)
    with pytest.raises(SubjectError, match="is an object file; link it with -shared"):
        load(tmp_path / "lone.o")
    # What begins as a library does is one, whatever it is called.
    assert set(load(build(VERSION + softmax(GOOD), suffix=".kernel")).ops) == {"softmax"}


def test_a_python_extension_is_told_from_a_library(build, tmp_path):
    text = "void *PyInit_extension(void);\nvoid *PyInit_extension(void) { return 0; }\n"
    target = tmp_path / "extension.cpython-311-x86_64-linux-gnu.so"
    shutil.copy(build(text), target)
    with pytest.raises(SubjectError, match="is a Python extension module; give it as module:function"):
        load(target)


def test_one_op_of_a_library(good):
    assert set(load(good, "softmax").ops) == {"softmax"}
    assert set(load(f"{good}:softmax").ops) == {"softmax"}
    with pytest.raises(SubjectError, match="has no logsumexp; it has softmax"):
        load(good, "logsumexp")
    with pytest.raises(SubjectError, match="has no my_softmax; it has softmax"):
        load(f"{good}:my_softmax")


def test_in_the_judges_own_process(good):
    kernel = load(good).ops["softmax"]
    np.testing.assert_allclose(kernel(X), SOFT, rtol=1e-6)
    with pytest.raises(TypeError, match="int32 arrays cannot be asked"):
        kernel(np.zeros(3, dtype=np.int32))


def test_the_header_is_c_and_c_plus_plus(tmp_path):
    for language, compiler in (("c", "gcc"), ("c++", "g++")):
        if shutil.which(compiler) is None:
            continue
        flags = ["-x", language, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
        header = include_folder() / "softcert_backend.h"
        done = subprocess.run([compiler, *flags, str(header)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_header_declares_every_op():
    text = (include_folder() / "softcert_backend.h").read_text()
    assert all(f"int softcert_{op}(" in text for op in OPS)
    assert set(ATTENTION_OPS) <= set(OPS)
