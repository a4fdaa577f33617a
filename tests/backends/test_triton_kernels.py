"""The portable Triton kernels, interpreted: NumPy's results to within rounding, and clauses that hold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softcert import check
from softcert.backends import Call, Output, Worker, as_dtype, available, load
from softcert.backends.ops import lse_dtype

if not available()["triton-interpreter"].runs:
    pytest.skip(available()["triton-interpreter"].detail, allow_module_level=True)

DTYPES = ("float32", "float16", "bfloat16")
PLAIN = load("numpy").ops
SOFTMAX = ("softmax", "log_softmax", "logsumexp")
#: Of small sums, relative to the largest result.
TOLERANCES = {"float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}


@pytest.fixture(scope="module")
def run():
    """Call a kernel in a process where Triton interprets."""
    with Worker("triton-interpreter") as worker:

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
    batch, heads, groups, queries, keys, features, values = SHAPES[shape]
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
    with Worker("triton-interpreter") as worker:
        q = np.zeros((1, 1, 2, 257), np.float32)
        assert "at most 256 features, not 257" in worker.call(Call("attention", (q, q, q), {})).message


@pytest.mark.parametrize("op", ["softmax", "attention"])
def test_formats_that_the_kernels_do_not_know_are_refused(op):
    with Worker("triton-interpreter") as worker:
        x = np.zeros((1, 1, 2, 16))
        given = Call(op, (x,)) if op == "softmax" else Call(op, (x, x, x), {})
        assert "not float64" in worker.call(given).message


@pytest.mark.parametrize(
    ("op", "dtype", "clauses"),
    [
        ("softmax", "float32", ("accuracy", "simplex", "translation")),
        ("softmax_vjp", "bfloat16", ("jacobian", "purity")),
        ("attention_lse", "bfloat16", ("attention.definition", "attention.causal", "attention.empty-rows")),
    ],
)
def test_clauses_hold(op, dtype, clauses):
    run = check("triton-interpreter", ops=op, dtypes=dtype, clauses=clauses, profile="smoke")
    assert {verdict.status for verdict in run.verdicts} == {"pass"}


def test_operators_of_pytorch_differentiate_compile_and_pack():
    program = Path(__file__).parent / "triton_operators.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
