"""The Triton kernels, interpreted and on a GPU: NumPy's results to within rounding, clauses that hold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softcert.backends import Call, Output, Worker, as_dtype, available, load
from softcert.backends.ops import lse_dtype

PORTABLE = ("triton-interpreter", pytest.param("triton", marks=pytest.mark.gpu))
HOPPER = (pytest.param("triton-hopper", marks=pytest.mark.gpu),)
DTYPES = ("float32", "float16", "bfloat16")
PLAIN = load("numpy").ops
SOFTMAX = ("softmax", "log_softmax", "logsumexp")
#: Of small sums, relative to the largest result.
TOLERANCES = {"float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}


def named(backend):
    """The name of a backend that runs here."""
    state = available()[backend]
    if not state.runs:
        pytest.skip(state.detail)
    return backend


@pytest.fixture(scope="module", params=PORTABLE)
def run(request):
    """Call a kernel in a process of its own, where Triton interprets or compiles."""
    with Worker(named(request.param)) as worker:

        def call(op, *operands, mask=None, **params):
            if not op.startswith("attention"):
                params = {"axis": -1, **params}
            reply = worker.call(Call(op, operands, params, mask=mask))
            assert isinstance(reply, Output), reply
            return reply.values

        yield call


def close(got, expected, dtype):
    got, expected = got.astype(float), expected.astype(float)
    scale = np.max(np.abs(expected), initial=1.0, where=np.isfinite(expected))
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCES[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (70, 5), (2, 3, 40), (3, 1025), (2, 33000)])
def test_rows_along_any_axis_are_those_of_numpy(run, dtype, shape):
    rng = np.random.default_rng(7)
    x, slope = (rng.normal(scale=3.0, size=shape).astype(as_dtype(dtype)) for _ in range(2))
    for axis in range(len(shape)) if max(shape) < 100 else (-1,):
        for op in SOFTMAX:
            (got,) = run(op, x, axis=axis)
            assert (got.dtype, got.shape) == (x.dtype, PLAIN[op](x, axis).shape)
            close(got, PLAIN[op](x, axis), dtype)
        y = PLAIN["softmax"](x, axis)
        close(run("softmax_vjp", y, slope, axis=axis)[0], PLAIN["softmax_vjp"](y, slope, axis), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [4, 33000])
def test_rows_with_infinities_and_nan(run, dtype, length):
    inf, nan = np.inf, np.nan
    starts = [
        [0, -inf, 1, 2],
        [nan, 0, 0, 0],
        [inf, 0, 0, 0],
        [-inf] * 4,
        [inf, nan, 0, 0],
        [-inf, nan, -inf, 0],
    ]
    x = np.full((len(starts), length), -inf, as_dtype(dtype))
    x[:, :4] = starts
    for op in SOFTMAX:
        expected = PLAIN[op](x).astype(float)
        np.testing.assert_allclose(run(op, x)[0].astype(float), expected, rtol=0.01)


def test_a_row_is_the_same_in_any_batch(run):
    x = np.random.default_rng(1).normal(size=(9, 130)).astype(np.float32)
    (whole,) = run("softmax", x)
    for row, expected in zip(x, whole, strict=True):
        np.testing.assert_array_equal(run("softmax", row[None])[0][0], expected)


SHAPES = {
    "one tile": (1, 1, 1, 5, 7, 16, 16),
    "tails of tiles": (1, 2, 2, 130, 70, 64, 64),
    "shared heads, odd widths": (2, 4, 2, 33, 45, 40, 24),
    "more queries than keys": (1, 1, 1, 70, 9, 16, 16),
    "wide": (1, 1, 1, 20, 40, 256, 256),
    "no keys": (1, 1, 1, 3, 0, 8, 8),
    "no queries": (1, 1, 1, 0, 3, 8, 8),
}
OPTIONS = {
    "plain": {},
    "negative scale": {"scale": -0.1},
    "no scale": {"scale": 0.0},
    "causal": {"causal": True},
    "boolean": {"mask": "boolean"},
    "additive, causal": {"mask": "additive", "causal": True},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_and_its_gradient_are_those_of_numpy(run, dtype, options, shape):
    attention_agrees(run, dtype, options, SHAPES[shape])


#: Lengths about the ends of tiles, of 64 rows and 128, and of blocks of keys; heads shared and not.
HOPPER_SHAPES = (
    (1, 1, 1, 1, 1, 64, 64),
    (2, 2, 1, 64, 128, 64, 64),
    (1, 4, 2, 129, 257, 64, 64),
    (1, 2, 2, 300, 130, 40, 24),
    (3, 2, 1, 127, 1025, 128, 128),
    (1, 8, 2, 1000, 640, 128, 128),
    (1, 1, 1, 3, 0, 64, 64),
    (1, 1, 1, 0, 3, 64, 64),
)


@pytest.mark.parametrize("run", HOPPER, indirect=True)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("options", [name for name, given in OPTIONS.items() if "mask" not in given])
@pytest.mark.parametrize("shape", HOPPER_SHAPES, ids=str)
def test_the_kernels_for_hopper_agree_with_numpy(run, dtype, options, shape):
    attention_agrees(run, dtype, options, shape)


@pytest.mark.parametrize("run", HOPPER, indirect=True)
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernels_for_hopper_have_a_forward_of_wide_heads(run, causal):
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(1, 2, n, 256)).astype(np.float16) for n in (130, 200, 200))
    close(run("attention", q, k, v, causal=causal)[0], PLAIN["attention"](q, k, v, causal=causal), "float16")


@pytest.mark.parametrize("run", [*PORTABLE[1:], *HOPPER], indirect=True)
@pytest.mark.parametrize("causal", [False, True])
def test_results_on_a_gpu_are_the_same_bits_at_every_call_and_in_any_batch(run, causal):
    rng = np.random.default_rng(5)
    q, k, v, slope = (rng.normal(size=(4, 8, 515, 64)).astype(np.float16) for _ in range(4))
    out, lse = run("attention_lse", q, k, v, causal=causal)
    found = (out, lse, *run("attention_vjp", q, k, v, out, lse, slope, causal=causal))
    for _ in range(10):
        again = run("attention_vjp", q, k, v, out, lse, slope, causal=causal)
        for one, other in zip(again, found[2:], strict=True):
            np.testing.assert_array_equal(one, other)
    one = (slice(1, 2), slice(3, 4))
    alone = run("attention_lse", q[one], k[one], v[one], causal=causal)
    given = (q[one], k[one], v[one], *alone, slope[one])
    for single, whole in zip((*alone, *run("attention_vjp", *given, causal=causal)), found, strict=True):
        np.testing.assert_array_equal(single, whole[one])


def attention_agrees(run, dtype, options, shape):
    """Hold attention, its lse and its gradient to NumPy's."""
    batch, heads, groups, queries, keys, features, values = shape
    rng = np.random.default_rng(3)
    sizes = (
        (heads, queries, features),
        (groups, keys, features),
        (groups, keys, values),
        (heads, queries, values),
    )
    q, k, v, slope = (rng.normal(size=(batch, *size)).astype(as_dtype(dtype)) for size in sizes)
    given = dict(OPTIONS[options])
    if given.get("mask") == "boolean":
        given["mask"] = rng.random((heads, queries, keys)) < 0.7
    elif "mask" in given:
        given["mask"] = np.where(rng.random((1, keys)) < 0.8, rng.normal(size=(1, keys)), -np.inf).astype(
            q.dtype
        )
    out, lse = PLAIN["attention_lse"](q, k, v, **given)
    got, got_lse = run("attention_lse", q, k, v, **given)
    assert (got.dtype, got_lse.dtype) == (q.dtype, as_dtype(lse_dtype(dtype)))
    close(got, out, dtype)
    np.testing.assert_array_equal(np.isneginf(got_lse), np.isneginf(lse))
    np.testing.assert_allclose(got_lse, lse, rtol=1e-5, atol=1e-5)
    expected = PLAIN["attention_vjp"](q, k, v, out, lse, slope, **given)
    for one, other in zip(run("attention_vjp", q, k, v, out, lse, slope, **given), expected, strict=True):
        assert one.shape == other.shape
        close(one, other, dtype)


def test_what_the_kernels_do_not_take_is_refused_in_a_sentence():
    with Worker(named("triton-interpreter")) as worker:
        q = np.zeros((1, 1, 2, 257), np.float32)
        assert "at most 256 features, not 257" in worker.call(Call("attention", (q, q, q), {})).message


@pytest.mark.parametrize("op", ["softmax", "attention"])
def test_formats_that_the_kernels_do_not_know_are_refused(op):
    with Worker(named("triton-interpreter")) as worker:
        x = np.zeros((1, 1, 2, 16))
        given = Call(op, (x,)) if op == "softmax" else Call(op, (x, x, x), {})
        assert "not float64" in worker.call(given).message


@pytest.mark.parametrize("backend", PORTABLE)
@pytest.mark.parametrize(
    ("op", "dtype", "clauses"),
    [
        ("softmax", "float32", ("accuracy", "simplex", "translation")),
        ("softmax_vjp", "bfloat16", ("jacobian", "purity")),
        ("attention_lse", "bfloat16", ("attention.definition", "attention.causal", "attention.empty-rows")),
    ],
)
def test_clauses_hold(backend, op, dtype, clauses):
    name = named(backend)
    # A machine that has a GPU may lack the libraries of the judge.
    pytest.importorskip("flint")
    from softcert import check

    run = check(name, ops=op, dtypes=dtype, clauses=clauses, profile="smoke")
    assert {verdict.status for verdict in run.verdicts} == {"pass"}


@pytest.mark.parametrize(
    ("backend", "device"),
    [("triton-interpreter", "cpu"), pytest.param("triton", "cuda", marks=pytest.mark.gpu)],
)
def test_operators_of_pytorch_differentiate_compile_and_pack(backend, device):
    named(backend)
    program = [sys.executable, Path(__file__).parent / "triton_operators.py", device]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
