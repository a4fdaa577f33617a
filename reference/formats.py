"""Binary floating-point formats as exact integers: decode, encode, neighbours, ulp exponents.

Nothing here computes in floating point. A Python float only carries a value, exactly: each format
is a subset of binary64. Encodings: IEEE 754-2019 for binary64/32/16; bfloat16 is binary32 cut to 16
bits; E4M3 and E5M2 as in the OCP 8-bit Floating Point Specification (OFP8), 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from softcert.reference.errors import DomainError


@dataclass(frozen=True)
class FloatFormat:
    """One binary floating-point format with gradual underflow.

    Attributes
    ----------
    name : the standard's name, ``binary32``.
    dtype : the array libraries' name, ``float32``.
    precision : p, significand bits, the implicit one included.
    emin, emax : exponents of the smallest and the largest normal binade.
    exponent_bits : width of the exponent field.
    has_inf : False for E4M3 (``fn``), which has no infinities and overflows to NaN.
    """

    name: str
    dtype: str
    precision: int
    emin: int
    emax: int
    exponent_bits: int
    has_inf: bool = True

    @property
    def bits(self) -> int:
        """Width of an encoding."""
        return self.precision + self.exponent_bits

    @property
    def eta_exponent(self) -> int:
        """Exponent of the smallest subnormal: eta = 2**eta_exponent."""
        return self.emin - self.precision + 1

    @property
    def eta(self) -> float:
        """Smallest positive number."""
        return math.ldexp(1.0, self.eta_exponent)

    @property
    def unit_roundoff(self) -> float:
        """u = 2**-p, half the distance from 1 to the next number."""
        return math.ldexp(1.0, -self.precision)

    @property
    def min_normal(self) -> float:
        """Smallest positive normal number."""
        return math.ldexp(1.0, self.emin)

    @property
    def max_significand(self) -> int:
        """Largest integer significand in the top binade; E4M3 gives its largest one to NaN."""
        return (1 << self.precision) - (1 if self.has_inf else 2)

    @property
    def max_finite(self) -> float:
        """Largest finite number."""
        return math.ldexp(self.max_significand, self.emax - self.precision + 1)

    def ulp_exponent(self, binade: int) -> int:
        """Exponent of the spacing that belongs to 2**binade <= |t| < 2**(binade + 1).

        Below emin it is eta's exponent, beyond emax the top binade's: the spacing of numbers that exist.
        """
        return max(min(binade, self.emax), self.emin) - self.precision + 1

    def decode(self, encoding: int) -> float:
        """Value of an encoding, exactly (NaN payloads are not kept).

        Raises
        ------
        DomainError : `encoding` is not an unsigned integer of `bits` bits.
        """
        if not 0 <= encoding < 1 << self.bits:
            raise DomainError(f"encoding={encoding:#x} is not a {self.bits}-bit pattern of {self.name}")
        fraction_bits = self.precision - 1
        fraction = encoding & ((1 << fraction_bits) - 1)
        field = (encoding >> fraction_bits) & ((1 << self.exponent_bits) - 1)
        sign = -1.0 if encoding >> (self.bits - 1) else 1.0
        top = (1 << self.exponent_bits) - 1
        if field == top and self.has_inf:
            return math.nan if fraction else sign * math.inf
        if field == top and fraction == (1 << fraction_bits) - 1:
            return math.nan
        significand = fraction + ((1 << fraction_bits) if field else 0)
        return sign * math.ldexp(significand, max(field, 1) - 1 + self.eta_exponent)

    def encode(self, value: float) -> int:
        """Encoding of a value that the format holds; NaN gives the positive quiet NaN.

        Raises
        ------
        DomainError : the format does not hold `value`.
        """
        sign = (1 << (self.bits - 1)) if math.copysign(1.0, value) < 0 else 0
        fraction_bits = self.precision - 1
        top = ((1 << self.exponent_bits) - 1) << fraction_bits
        if math.isnan(value):
            return top | ((1 << (fraction_bits - 1)) if self.has_inf else (1 << fraction_bits) - 1)
        if math.isinf(value):
            if not self.has_inf:
                raise DomainError(f"{self.name} has no infinity")
            return sign | top
        if value == 0:
            return sign
        mantissa, exponent = dyadic(abs(value))
        unit = max(mantissa.bit_length() + exponent - 1, self.emin) - self.precision + 1
        if exponent < unit or abs(value) > self.max_finite:
            raise DomainError(f"{self.name} does not hold {value.hex()}")
        significand = mantissa << (exponent - unit)
        # the implicit bit of a normal number adds the one that its exponent field is ahead by
        return sign | (((unit - self.eta_exponent) << fraction_bits) + significand)

    def next_up(self, value: float) -> float:
        """Least number above `value`; the largest finite one is followed by +inf, or by NaN in E4M3."""
        if math.isnan(value) or value == math.inf:
            return value
        if value == 0:
            return self.eta
        if value == self.max_finite:
            return math.inf if self.has_inf else math.nan
        return self.decode(self.encode(value) + (1 if value > 0 else -1))

    def next_down(self, value: float) -> float:
        """Greatest number below `value`."""
        return -self.next_up(-value)


def dyadic(value: float) -> tuple[int, int]:
    """(m, e) with value == m * 2**e exactly and m odd, or (0, 0)."""
    numerator, denominator = value.as_integer_ratio()
    if denominator > 1 or numerator == 0:
        return numerator, 1 - denominator.bit_length()
    trailing = (numerator & -numerator).bit_length() - 1
    return numerator >> trailing, trailing


_ALL = (
    FloatFormat("binary64", "float64", 53, -1022, 1023, 11),
    FloatFormat("binary32", "float32", 24, -126, 127, 8),
    FloatFormat("binary16", "float16", 11, -14, 15, 5),
    FloatFormat("bfloat16", "bfloat16", 8, -126, 127, 8),
    FloatFormat("float8_e4m3fn", "float8_e4m3fn", 4, -6, 8, 4, has_inf=False),
    FloatFormat("float8_e5m2", "float8_e5m2", 3, -14, 15, 5),
)

#: Every format, by the standard's name and by the dtype name.
FORMATS: Mapping[str, FloatFormat] = MappingProxyType(
    {fmt.name: fmt for fmt in _ALL} | {fmt.dtype: fmt for fmt in _ALL}
)


def format_of(dtype: object) -> FloatFormat:
    """Return the format of a dtype, of a scalar type, or of a name.

    Parameters
    ----------
    dtype : a FloatFormat, a name (``float32``, ``binary32``, ``torch.float32``), an object with such a
        `name` (NumPy, ml_dtypes and JAX dtypes), a scalar type (``numpy.float32``), or ``float``.

    Raises
    ------
    DomainError : none of the known formats.
    """
    if isinstance(dtype, FloatFormat):
        return dtype
    if dtype is float:
        return FORMATS["binary64"]
    name = (
        dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    )
    found = FORMATS.get(str(name if name is not None else dtype).removeprefix("torch."))
    if found is None:
        known = ", ".join(fmt.dtype for fmt in _ALL)
        raise DomainError(f"dtype {name or dtype!s} is not one of the formats known here: {known}")
    return found
