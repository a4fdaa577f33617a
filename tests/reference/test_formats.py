"""The formats against the encodings that NumPy and ml_dtypes hold."""

import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from softcert.reference import FORMATS, DomainError, format_of
from softcert.reference.formats import dyadic
from softcert.reference.rounding import round_dyadic

DTYPES = {
    "binary64": np.float64,
    "binary32": np.float32,
    "binary16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
NARROW = ("binary16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def as_doubles(array):
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return array.astype(np.float64).tolist()


def all_values(name):
    fmt = FORMATS[name]
    kind = np.uint16 if fmt.bits == 16 else np.uint8
    encodings = np.arange(1 << fmt.bits, dtype=kind)
    return encodings.tolist(), as_doubles(encodings.view(DTYPES[name]))


@pytest.mark.parametrize("name", NARROW)
def test_every_encoding_decodes_to_its_value_and_back(name):
    fmt = FORMATS[name]
    for encoding, value in zip(*all_values(name), strict=True):
        decoded = fmt.decode(encoding)
        if math.isnan(value):
            assert math.isnan(decoded)
            assert math.isnan(fmt.decode(fmt.encode(decoded)))
        else:
            assert decoded == value
            assert math.copysign(1, decoded) == math.copysign(1, value)
            assert fmt.encode(decoded) == encoding


@pytest.mark.parametrize("name", ["binary64", "binary32"])
def test_wide_formats_decode_chosen_encodings(name):
    fmt = FORMATS[name]
    kind = np.uint64 if fmt.bits == 64 else np.uint32
    rng = np.random.default_rng(7)
    chosen = rng.integers(0, 1 << fmt.bits, size=2000, dtype=np.uint64).astype(kind)
    for encoding, value in zip(chosen.tolist(), as_doubles(chosen.view(DTYPES[name])), strict=True):
        if not math.isnan(value):
            assert fmt.decode(encoding) == value
            assert fmt.encode(value) == encoding


@pytest.mark.parametrize("name", DTYPES)
def test_constants_match_finfo(name):
    fmt, info = FORMATS[name], ml_dtypes.finfo(DTYPES[name])
    assert fmt.max_finite == float(info.max)
    assert fmt.min_normal == float(info.smallest_normal)
    assert fmt.eta == float(info.smallest_subnormal)
    assert fmt.unit_roundoff == float(info.eps) / 2
    assert fmt.bits == info.bits


@pytest.mark.parametrize("name", NARROW)
def test_rounding_of_every_value_midpoint_and_their_neighbours(name):
    fmt, dtype = FORMATS[name], DTYPES[name]
    finite = sorted({v for v in all_values(name)[1] if math.isfinite(v)})
    edge = finite[-1] - finite[-2]
    points = np.array([(a + b) / 2 for a, b in itertools.pairwise(finite)] + [finite[-1] + edge / 2])
    # binary32 holds midpoints and their neighbours of bfloat16, through which ml_dtypes casts
    points = points.astype(np.float32)
    near = np.concatenate(
        [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    )
    near = np.concatenate([near, np.array(finite, dtype=np.float32)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = near.astype(dtype).astype(np.float64).tolist()
    for value, wanted in zip(near.tolist(), expected, strict=True):
        if math.isinf(value):
            continue
        got = round_dyadic(*dyadic(value), fmt)
        assert got == wanted or (math.isnan(got) and math.isnan(wanted)), (name, value.hex())


@pytest.mark.parametrize("name", NARROW)
def test_an_infinitesimal_decides_midpoints(name):
    fmt = FORMATS[name]
    finite = sorted({v for v in all_values(name)[1] if math.isfinite(v)})
    for a, b in itertools.pairwise(finite):
        m, e = dyadic((a + b) / 2)
        if m == 0:
            continue
        assert round_dyadic(m, e, fmt, 1) == b
        assert round_dyadic(m, e, fmt, -1) == a


def test_rounding_to_binary32_of_random_doubles():
    fmt, rng = FORMATS["float32"], np.random.default_rng(3)
    doubles = rng.normal(size=4000) * 2.0 ** rng.integers(-160, 130, size=4000)
    with np.errstate(over="ignore", under="ignore"):
        expected = doubles.astype(np.float32).tolist()
    assert [round_dyadic(*dyadic(v), fmt) for v in doubles.tolist()] == expected


@pytest.mark.parametrize("name", NARROW)
def test_neighbours_walk_through_all_values(name):
    fmt = FORMATS[name]
    finite = sorted({v for v in all_values(name)[1] if math.isfinite(v)})
    for a, b in itertools.pairwise(finite):
        assert fmt.next_up(a) == b
        assert fmt.next_down(b) == a
    beyond = fmt.next_up(fmt.max_finite)
    assert beyond == math.inf if fmt.has_inf else math.isnan(beyond)


def test_ulp_exponents_at_the_corners():
    fmt = FORMATS["binary32"]
    assert [fmt.ulp_exponent(b) for b in (0, -1, -126, -127, -5000, 127, 128, 5000)] == [
        -23, -24, -149, -149, -149, 104, 104, 104,
    ]  # fmt: skip


def test_names_by_which_a_format_is_found():
    for key in ("float32", "binary32", np.float32, np.dtype("float32"), "torch.float32", FORMATS["float32"]):
        assert format_of(key) is FORMATS["binary32"]
    assert format_of(float) is FORMATS["float64"]
    assert format_of(ml_dtypes.bfloat16) is format_of(np.dtype(ml_dtypes.bfloat16)) is FORMATS["bfloat16"]


@pytest.mark.parametrize("bad", ["float128", np.int32, None, np.dtype("complex64"), "int8"])
def test_unknown_formats_are_refused(bad):
    with pytest.raises(DomainError, match="not one of the formats"):
        format_of(bad)


def test_what_a_format_does_not_hold_is_refused():
    for name, value in (
        ("float16", 1e-9),
        ("float16", 65536.0),
        ("float8_e4m3fn", math.inf),
        ("bfloat16", 1.001),
    ):
        with pytest.raises(DomainError):
            FORMATS[name].encode(value)
    with pytest.raises(DomainError):
        FORMATS["float8_e5m2"].decode(256)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.75, 5e-324, 1.7976931348623157e308, -6.0, 1e300])
def test_dyadic_is_exact_and_odd(value):
    m, e = dyadic(value)
    assert Fraction(m) * Fraction(2) ** e == Fraction(value)
    assert m & 1 or m == 0
