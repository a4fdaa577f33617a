"""The numba backend: the definition to within rounding, whatever the layout, the batch and the threads."""

import subprocess
import sys

import numpy as np
import pytest

import softcert
from softcert import reference
from softcert.backends import DTYPES, as_dtype, load
from softcert.backends.numba_ import caches, packed, threads

OPS = load("numba").ops
PLAIN = load("numpy").ops
RNG = np.random.default_rng(12)
SOFTMAX = ("softmax", "log_softmax", "logsumexp")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (5, 7), (2, 3, 40), (3, 1001), (700, 129)])
def test_rows_along_any_axis_are_those_of_numpy(dtype, shape):
    x = (RNG.normal(size=shape) * 3.0).astype(as_dtype(dtype))
    for axis in range(-len(shape), 0):
        for op in SOFTMAX:
            got, expected = OPS[op](x, axis), PLAIN[op](x, axis)
            assert got.dtype == x.dtype
            tolerance = 4.0 * float(np.finfo(np.float64 if dtype == "float64" else np.float32).eps)
            wide = (
                4.0 * 2.0**-8 if dtype == "bfloat16" else 4.0 * 2.0**-11 if dtype == "float16" else tolerance
            )
            np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=wide, atol=4 * wide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", SOFTMAX)
def test_rows_with_infinities_and_nan(dtype, op):
    inf, nan = np.inf, np.nan
    rows = [
        [0, -inf, 1, 2],
        [nan, 0, 0, 0],
        [inf, 0, 0, 0],
        [-inf] * 4,
        [inf, nan, 0, 0],
        [-inf, nan, -inf, 0],
    ]
    x = np.array(rows, as_dtype(dtype))
    expected = PLAIN[op](x).astype(float)
    if op == "logsumexp":
        expected[2] = inf  # the limit; NumPy's way meets it too
    np.testing.assert_allclose(OPS[op](x).astype(float), expected, rtol=0.01)


#: Long rows, whose chunks are taken from different largest logits, by what they are made of normal numbers.
LONG_ROWS = {
    "normal": lambda x: 3 * x,
    "increasing": lambda x: np.sort(9 * x),
    "decreasing": lambda x: -np.sort(9 * x),
    "far apart": lambda x: np.where(np.arange(x.size) < x.size // 2, x - 88, x),
    "nothing at first": lambda x: np.where(np.arange(x.size) < 9000, -np.inf, x - 1e5),
    "nothing at last": lambda x: np.where(np.arange(x.size) < 9000, x + 1e5, -np.inf),
    "the last alone": lambda x: np.where(np.arange(x.size) < x.size - 1, x - 70, 30),
}


@pytest.mark.parametrize("family", LONG_ROWS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [1 << 15, 40001])
def test_long_rows_are_within_the_bound_of_short_ones(family, dtype, n):
    rng = np.random.default_rng(n)
    x = np.stack([LONG_ROWS[family](rng.normal(size=n)) for _ in range(2)]).astype(as_dtype(dtype))
    got, exact = OPS["softmax"](x), load("certified").ops["softmax"](x.astype(float))
    smallest = 2.0**-149 if dtype == "float32" else 2.0**-133
    precision = 24 if dtype == "float32" else 8
    ulp = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(exact, 1e-300))) + 1 - precision), smallest)
    bound = 7.2 if dtype == "float32" else 0.51
    assert np.max(np.abs(got.astype(float) - exact) / ulp) <= bound
    np.testing.assert_array_equal(OPS["softmax"](x[:1]), got[:1])


@pytest.mark.parametrize("place", [0, 20000, -1])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("filled", [0.0, -np.inf])
def test_one_special_logit_spoils_the_whole_of_a_long_row_and_no_other(place, number, filled):
    x = np.full((3, 40001), filled, np.float32)
    x[:, 77] = 1.0
    x[1, place] = number
    got = OPS["softmax"](x)
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[[0, 2]]).all()
    assert np.isnan(OPS["softmax"](np.full((1, 40001), -np.inf, np.float32))).all()


def test_no_bit_depends_on_the_batch_or_the_threads(monkeypatch):
    x = RNG.normal(size=(2048, 130)).astype(np.float32)
    whole = OPS["softmax"](x)
    monkeypatch.setattr(threads, "processors", lambda: 1)
    np.testing.assert_array_equal(OPS["softmax"](x), whole)
    np.testing.assert_array_equal(np.concatenate([OPS["softmax"](row[None]) for row in x]), whole)


FORKED = """
import os
import numpy as np
from softcert.backends import load
softmax = load("numba").ops["softmax"]
x = np.random.default_rng(0).normal(size=(2048, 130)).astype(np.float32)
whole = softmax(x)
child = os.fork()
if child == 0:
    os._exit(not np.array_equal(softmax(x), whole))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_process_has_threads_of_its_own():
    # in an interpreter without other libraries, some of which must not be forked
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["0"]


#: Heads of q and of k, queries, keys, features, columns of v.
SHAPES = [
    (4, 2, 5, 7, 3, 6),
    (2, 2, 100, 300, 64, 64),
    (1, 1, 1, 1, 1, 1),
    (2, 1, 130, 60, 16, 40),
    (1, 1, 3, 0, 4, 4),
]


def masks(heads, queries, keys, dtype):
    yield None
    yield RNG.random((queries, keys)) < 0.5
    bias = RNG.normal(size=(heads, queries, keys))
    yield np.where(RNG.random((heads, queries, keys)) < 0.7, bias, -np.inf).astype(as_dtype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_and_its_gradient_are_those_of_numpy(dtype, shape):
    heads, groups, queries, keys, features, columns = shape
    sizes = (
        (heads, queries, features),
        (groups, keys, features),
        (groups, keys, columns),
        (heads, queries, columns),
    )
    q, k, v, dout = (RNG.normal(size=(2, *size)).astype(as_dtype(dtype)) for size in sizes)
    within = {"float64": 1e-13, "float32": 4e-6, "float16": 6e-3, "bfloat16": 5e-2}[dtype]
    for causal in (False, True):
        for mask in masks(heads, queries, keys, dtype):
            options = {"causal": causal, "mask": mask}
            expected = PLAIN["attention_lse"](q, k, v, **options)
            out, lse = OPS["attention_lse"](q, k, v, **options)
            assert (out.dtype, lse.dtype) == (q.dtype, expected[1].dtype)
            np.testing.assert_array_equal(np.isneginf(lse), np.isneginf(expected[1]))
            gradient = OPS["attention_vjp"](q, k, v, *expected, dout, **options)
            expected_gradient = PLAIN["attention_vjp"](q, k, v, *expected, dout, **options)
            for got, right in zip((out, lse, *gradient), (*expected, *expected_gradient), strict=True):
                assert got.shape == right.shape
                scale = max(1.0, np.abs(right[np.isfinite(right)].astype(float)).max(initial=0.0))
                np.testing.assert_allclose(
                    got.astype(float), right.astype(float), rtol=0, atol=within * scale
                )


def test_heads_that_cannot_share_are_refused():
    q, k = np.ones((3, 2, 4), np.float32), np.ones((2, 5, 4), np.float32)
    with pytest.raises(ValueError, match="3 heads of q cannot share 2"):
        OPS["attention"](q, k, k)


@pytest.mark.parametrize("op", ["softmax", "attention_lse"])
def test_the_backend_keeps_its_contract(op):
    run = softcert.check("numba", op=op, dtypes="float32", profile="smoke")
    assert run.conforms, run.broken


@pytest.mark.slow  # five minutes
def test_the_backend_keeps_its_contract_in_every_op_and_dtype():
    run = softcert.check("numba", profile="quick")
    assert run.conforms, run.broken


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_packed_sequences_have_the_bits_of_each_alone(dtype, causal):
    q_starts, k_starts = np.array([0, 5, 5, 140]), np.array([0, 9, 13, 213])
    q, k, v, slope = (
        RNG.normal(size=shape).astype(as_dtype(dtype))
        for shape in ((140, 4, 24), (213, 2, 24), (213, 2, 16), (140, 4, 16))
    )
    out, lse = packed.attention_packed(q, k, v, q_starts, k_starts, causal=causal)
    gradients = packed.attention_packed_vjp(q, k, v, out, lse, slope, q_starts, k_starts, causal=causal)
    for i in range(3):
        rows, columns = slice(*q_starts[i : i + 2]), slice(*k_starts[i : i + 2])
        alone = [np.ascontiguousarray(a.swapaxes(0, 1)) for a in (q[rows], k[columns], v[columns])]
        expected, logs = OPS["attention_lse"](*alone, causal=causal)
        np.testing.assert_array_equal(out[rows].swapaxes(0, 1), expected)
        np.testing.assert_array_equal(lse[:, rows], logs)
        wanted = OPS["attention_vjp"](*alone, expected, logs, slope[rows].swapaxes(0, 1), causal=causal)
        for got, one, part in zip(gradients, wanted, (rows, columns, columns), strict=True):
            np.testing.assert_array_equal(got[part].swapaxes(0, 1), one)


@pytest.mark.parametrize("starts", [[], [1, 3], [0, 2], [0, 2, 1, 3]])
def test_starts_that_cut_nothing_are_refused(starts):
    q = np.zeros((3, 1, 2))
    with pytest.raises(ValueError, match="do not cut the 3 rows of q"):
        packed.attention_packed(q, q, q, np.array(starts), np.array([0, 3]))
    with pytest.raises(ValueError, match="2 sequences of q cannot see 1 of k"):
        packed.attention_packed(q, q, q, np.array([0, 1, 3]), np.array([0, 3]))


def test_blocks_are_as_large_as_the_first_cache_allows_and_change_no_bit(monkeypatch):
    q = RNG.normal(size=(2, 150, 40)).astype(np.float32)
    results = []
    for size, queries in ((1024, 6), (32768, 30), (49152, 48), (1 << 20, 96)):
        monkeypatch.setattr(caches, "first_cache", lambda size=size: size)
        assert caches.queries_of_block(4) == queries
        results.append(OPS["attention_lse"](q, q, q, causal=True))
    for out, lse in results[1:]:
        np.testing.assert_array_equal(out, results[0][0])
        np.testing.assert_array_equal(lse, results[0][1])


def test_the_threshold_of_many_near_ties_is_corrected_once_it_was_passed():
    """Newton's first sums are as large as the row is long, and end some hundred ulps beyond the threshold."""
    rng = np.random.default_rng(2)
    rows = [1.0 + rng.integers(-4, 5, n) * 2.0**-52 for n in (33, 129, 500)]
    rows.append(np.concatenate([np.full(33, 3.0), 3.0 - 1.0 / 33 + np.array([0.0, 4e-16])]))
    for x in rows:
        exact = reference.sparsemax(x)
        large = exact.to_float64() > 0.5 / x.size
        assert exact.error_ulp(OPS["sparsemax"](x))[0][large].max() <= 64.0
