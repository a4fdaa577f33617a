"""Errors of short rows are enclosed as the exact oracle measures them, and what is a hair off is decided."""

from __future__ import annotations

import ml_dtypes
import mpmath
import numpy as np
import pytest

from softcert import reference
from softcert.reference import format_of
from softcert.reference.fast.compiled import compiled
from softcert.reference.fast.short_rows import ERROR, SHORT_OPS, log1p_plain, short_row_errors

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype("f4"),
}
RNG = np.random.default_rng(20)


def encodings(dtype, count, n):
    bits = 8 * DTYPES[dtype].itemsize
    return RNG.integers(0, 1 << bits, (count, n), dtype=f"u{bits // 8}")


def finite(x):
    with np.errstate(invalid="ignore"):
        return x[np.isfinite(x.astype(np.float64)).all(axis=1)]


def pairs(dtype):
    """Any two numbers; near neighbours; moderate gaps; powers of two beside what is next to nothing."""
    bits = encodings(dtype, 1200, 2)
    bits[::3, 1] = bits[::3, 0] + RNG.integers(0, 4, len(bits[::3])).astype(bits.dtype)
    numbers = finite(bits.view(DTYPES[dtype]))
    moderate = (RNG.normal(size=(300, 2)) * 6).astype(DTYPES[dtype])
    powers = np.ldexp(1.0, RNG.integers(-13, 15, (300, 2))) * RNG.choice([-1, 1, 0], (300, 2))
    return np.concatenate([numbers, moderate, powers.astype(DTYPES[dtype])])


def singles():
    x = finite(encodings("float32", 900, 1).view(np.float32))
    x = np.concatenate([x, (RNG.normal(size=(600, 1)) * 10).astype(np.float32)])
    return np.concatenate([x, np.zeros_like(x)], axis=1)


def triples(dtype):
    codes = RNG.integers(0, 256, (1500, 3), dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    return finite(codes.astype(np.float32).astype(DTYPES[dtype]))


ROWS = {
    "float16 pairs": pairs("float16"),
    "bfloat16 pairs": pairs("bfloat16"),
    "float32 single": singles(),
    "float16 triples": triples("float16"),
    "bfloat16 triples": triples("bfloat16"),
    "float32 triples": triples("float32"),
}


def answers(truth, dtype):
    """Right ones, their neighbours on both sides, far ones, and no numbers."""
    with np.errstate(all="ignore"):
        right = truth.round(dtype)
        step = np.where(RNG.random(right.shape) < 0.5, 1, -1)
        near = (right.view(f"i{right.dtype.itemsize}") + step).astype(f"i{right.dtype.itemsize}")
        far = (right.astype(np.float64) * RNG.uniform(-0.5, 2.0, right.shape)).astype(right.dtype)
        no = RNG.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0], right.shape).astype(right.dtype)
    return right, near.view(right.dtype), far, no


def agree(ours, exact):
    """Intervals that overlap, or are the same infinity."""
    return ((ours[0] <= exact[1]) & (exact[0] <= ours[1])) | ((ours[0] == exact[0]) & (ours[1] == exact[1]))


@pytest.mark.parametrize("op", SHORT_OPS)
@pytest.mark.parametrize("rows", ROWS)
def test_errors_are_those_of_the_exact_oracle(rows, op):
    x = ROWS[rows]
    dtype = rows.split()[0]
    truth = getattr(reference, op)(x, method="arb")
    for y in answers(truth, dtype):
        with np.errstate(invalid="ignore"):
            given = y.astype(np.float64).reshape(len(x), -1)
        errors = short_row_errors(op, x.astype(np.float64), given, format_of(dtype))
        exact = [end.reshape(given.shape) for end in truth.error_ulp(y)]
        left_open = np.isnan(errors.upper)
        with np.errstate(invalid="ignore"):
            assert (agree((errors.lower, errors.upper), exact) | left_open).all()
            narrow = np.isinf(errors.upper) | (errors.upper - errors.lower <= 2e-4 + 1e-13 * errors.upper)
        assert (narrow | left_open).all()
        assert left_open.sum() <= 2


@pytest.mark.parametrize("op", SHORT_OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_an_ulp_is_exceeded_or_not_as_the_rounding_says(op, dtype):
    """Ties of the gap itself, which what the other logit adds settles: e^-2049 of an ulp decides."""
    p = format_of(dtype).precision
    odd = 2 * RNG.integers(2 ** (p - 1), 2**p, 300) + 1  # p + 1 bits: a midpoint
    gap = np.ldexp(odd.astype(np.float64), RNG.integers(-p, 15 - p, 300))
    top = np.ldexp(1.0, np.floor(np.log2(gap)).astype(int))
    x = np.stack([top, top - gap], axis=1).astype(DTYPES[dtype])
    kept = (x.astype(np.float64)[:, 0] - x.astype(np.float64)[:, 1]) == gap
    x = np.concatenate([x[kept], x[kept][:, ::-1]])
    truth = getattr(reference, op)(x, method="arb")
    right = truth.round(dtype)
    for y in (right, *answers(truth, dtype)[1:2]):
        given = y.astype(np.float64).reshape(len(x), -1)
        errors = short_row_errors(op, x.astype(np.float64), given, format_of(dtype))
        assert not np.isnan(errors.upper).any()
        assert ((errors.upper <= 0.5) == (given == right.astype(np.float64).reshape(given.shape))).all()
    assert kept.sum() > 100


@pytest.mark.parametrize("op", SHORT_OPS)
def test_half_an_ulp_and_less_than_the_oracle_knows_is_left_open(op):
    """Answers of no format, half an ulp from what binary64 holds of the exact value."""
    x = (RNG.normal(size=(300, 2)) * 3).astype(np.float32)
    exact = getattr(reference, op)(x, method="arb").to_float64().reshape(300, -1)
    known = short_row_errors(op, x.astype(np.float64), exact, format_of("float32"))
    half = np.ldexp(0.5, known.unit)
    errors = short_row_errors(op, x.astype(np.float64), exact + half, format_of("float32"))
    assert np.isnan(errors.upper).mean() > 0.5  # next to a number that is exact more is known
    for share, answer in ((0.999, "within"), (1.001, "beyond")):
        settled = short_row_errors(op, x.astype(np.float64), exact + share * half, format_of("float32"))
        assert ((settled.upper <= 0.5) == (answer == "within")).all()


@pytest.mark.parametrize(("dtype", "top"), [("float16", 65504.0), ("bfloat16", float.fromhex("0x1.fep127"))])
def test_an_infinite_answer_is_right_from_half_an_ulp_beyond_the_largest_number(dtype, top):
    """65504 + 16 rounds to infinity, since the other logit adds something; 65504 + 15.99 does not."""
    half = format_of(dtype).ulp_exponent(format_of(dtype).emax) - 1
    below = np.ldexp([0.0, 0.5, 0.99, 1.0, 1.01, 2.0], half)
    x = np.stack([np.full(6, top), -below], axis=1).astype(DTYPES[dtype])
    beyond = below >= np.ldexp(1.0, half)
    for row in (x, x[:, ::-1]):
        errors = short_row_errors(
            "log_softmax", row.astype(np.float64), np.full(x.shape, -np.inf), format_of(dtype)
        )
        lower = errors.upper[np.arange(6), row.astype(np.float64).argmin(axis=1)]
        np.testing.assert_array_equal(lower, np.where(beyond, 0.0, np.inf))
        exact = reference.log_softmax(row, method="arb").error_ulp(np.full(x.shape, -np.inf, DTYPES[dtype]))[
            1
        ]
        np.testing.assert_array_equal(errors.upper, exact)
    plus = short_row_errors("log_softmax", x.astype(np.float64), np.full(x.shape, np.inf), format_of(dtype))
    assert np.isinf(plus.lower).all()


def test_the_probabilities_are_as_good_as_promised():
    x = ROWS["float32 single"]
    x = x[np.abs(x[:, 0]) < 150]
    truth = reference.softmax(x, method="arb")
    errors = short_row_errors("softmax", x.astype(np.float64), truth.to_float64(), format_of("float32"))
    off = np.abs(errors.share / truth.to_float64() - 1)
    assert 2.0**-54 < off.max() < ERROR


def test_the_logarithm_is_as_good_as_promised():
    @compiled
    def logs(z, out):
        for k in range(z.size):
            out[k] = log1p_plain(z[k])

    z = np.concatenate([RNG.random(400), np.ldexp(RNG.random(100), RNG.integers(-300, 0, 100)), [0.0, 1.0]])
    out = np.empty_like(z)
    logs(z, out)
    with mpmath.workprec(200):
        off = [
            float(abs(mpmath.mpf(float(o)) / mpmath.log1p(mpmath.mpf(float(v))) - 1))
            for v, o in zip(z, out, strict=True)
            if v
        ]
    assert 2.0**-55 < max(off) < 2.0**-50
    assert out[-2] == 0.0


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4), "float16"), ((4, 1), "float16"), ((4, 2), "float64")])
def test_rows_that_are_not_short_are_refused(shape, dtype):
    with pytest.raises(ValueError, match="none of short rows"):
        short_row_errors("softmax", np.zeros(shape), np.zeros(shape), format_of(dtype))
