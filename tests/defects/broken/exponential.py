"""Softmax kernels with a poor exponential or one of too few bits."""

import numpy as np


def _softmax(x, exp):
    e = exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _split(d, log2e=1.4426950408889634):
    """2**k * 2**f of exp(d), with f in [0, 1)."""
    t = np.maximum(d * d.dtype.type(log2e), d.dtype.type(-1200))
    k = np.floor(t)
    return k, t - k


def _scale(value, k):
    """value * 2**k, NaN kept."""
    return np.ldexp(value, np.where(np.isnan(k), 0, k).astype(np.int32))


def degree_three(x):
    """2**f by a polynomial of degree three, 13.5 bits."""

    def exp(d):
        k, f = _split(d)
        c = [d.dtype.type(v) for v in (0.077119089663, 0.227564394474, 0.695146143436, 1.0)]
        return _scale(((c[0] * f + c[1]) * f + c[2]) * f + c[3], k)

    return _softmax(x, exp)


def taylor_degree_five(x):
    """exp(r) on |r| <= ln(2)/2 by a Taylor sum of degree five, about 20 ulp of float32."""

    def exp(d):
        d = np.maximum(d, d.dtype.type(-800))
        k = np.rint(d * d.dtype.type(1.4426950408889634))
        r = (d - k * d.dtype.type(0.693145751953125)) - k * d.dtype.type(1.42860682030941723212e-6)
        total = np.ones_like(r)
        for order in (5, 4, 3, 2, 1):
            total = total * r / order + 1
        return _scale(total, k)

    return _softmax(x, exp)


def short_log2e(x):
    """log2(e) with seven digits."""
    return _softmax(x, lambda d: np.exp2(d * d.dtype.type(1.442695)))


def short_log2e_four_digits(x):
    """log2(e) with five digits."""
    return _softmax(x, lambda d: np.exp2(d * d.dtype.type(1.4427)))


def one_part_reduction(x):
    """Argument reduction with a float16 ln 2 and no low part."""

    def exp(d):
        d = np.maximum(d, d.dtype.type(-800))
        k = np.rint(d * d.dtype.type(1.4426950408889634))
        return _scale(np.exp(d - k * d.dtype.type(np.float16(0.6931472))), k)

    return _softmax(x, exp)


def schraudolph(x):
    """The exponent-field trick of 1999, 3 per cent off."""

    def exp(d):
        bits = np.maximum(
            d.astype(np.float32) * np.float32(12102203.0) + np.float32(1064866805.0), np.float32(0)
        )
        whole = np.where(np.isnan(bits), np.float32(2143289344.0), bits).astype(np.int32)
        return whole.view(np.float32).astype(d.dtype)

    return _softmax(x, exp)


def table_of_256(x):
    """2**f from a table of 256 entries without interpolation."""

    def exp(d):
        k, f = _split(d)
        return _scale(np.exp2(np.floor(f * 256) / 256).astype(d.dtype), k)

    return _softmax(x, exp)


def table_interpolated(x):
    """2**f from 64 entries with linear interpolation, 1.5e-5 relative."""

    def exp(d):
        k, f = _split(d)
        i = np.floor(f * 64)
        low, high = np.exp2(i / 64), np.exp2((i + 1) / 64)
        return _scale((low + (high - low) * (f * 64 - i)).astype(d.dtype), k)

    return _softmax(x, exp)


def single_precision_inside(x, axis=-1):
    """A float64 row is computed in float32 and cast back."""
    y = x.astype(np.float32)
    e = np.exp(y - y.max(axis=axis, keepdims=True))
    return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype)


def single_precision_exp(x):
    """Only the exponential of a float64 row is float32."""
    return _softmax(x, lambda d: np.exp(d.astype(np.float32)).astype(d.dtype))


def half_precision_inside(x):
    """A row is computed in float16 and cast back."""
    y = x.astype(np.float16)
    return _softmax(y, np.exp).astype(x.dtype)


def half_precision_exp(x):
    """Only the exponential is float16, and flushes 17 below the maximum."""
    return _softmax(x, lambda d: np.exp(d.astype(np.float16)).astype(d.dtype))


def expm1_plus_one(x):
    """expm1(d) + 1 has an absolute error of u, so small probabilities lose all digits."""
    return _softmax(x, lambda d: np.expm1(d) + 1)


def reciprocal_exp(x):
    """1 / exp(-d) overflows where exp(d) is subnormal."""
    return _softmax(x, lambda d: 1 / np.exp(-d))


def power_of_rounded_e(x):
    """Raises 2.71828183 to a power."""
    return _softmax(x, lambda d: np.power(d.dtype.type(2.71828183), d))


def limit_definition(x):
    """(1 + d/1024)**1024 in place of exp(d)."""
    return _softmax(x, lambda d: np.maximum(1 + d / 1024, 0) ** 1024)


def repeated_squaring(x):
    """exp(d/1024) squared ten times: 1024 rounding errors."""

    def exp(d):
        e = np.exp(d / 1024)
        for _ in range(10):
            e = e * e
        return e

    return _softmax(x, exp)


def sinh_cosh(x):
    """exp(d) as cosh(d) + sinh(d), which cancels for negative d."""
    return _softmax(x, lambda d: np.cosh(d) + np.sinh(d))


def zero_below_minus_twenty(x):
    """The exponential gives 0 below -20."""
    return _softmax(x, lambda d: np.where(d < -20, d.dtype.type(0), np.exp(d)))


def zero_below_float32_range(x):
    """The exponential gives 0 where the result would be a float32 subnormal, float64 rows included."""
    return _softmax(x, lambda d: np.where(d < -87.3365, d.dtype.type(0), np.exp(d)))


def sigmoid_of_each(x):
    """A logistic function of each logit, normalised."""
    return _softmax(x, lambda d: 1 / (1 + np.exp(-d)))
