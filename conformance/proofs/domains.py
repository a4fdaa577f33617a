"""The sets of rows that are small enough to be tried one and all, each numbered from 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from softcert.backends.types import Array, as_dtype
from softcert.conformance.model import RequestError
from softcert.conformance.spec import FORWARD_OPS
from softcert.reference import format_of

#: Encodings of float8 e4m3fn.
_CODES = 256


@dataclass(frozen=True)
class Domain:
    """A finite set of rows of logits.

    Attributes
    ----------
    name : how campaigns call it.
    classes : length of a row.
    dtypes : the dtypes that its rows come in.
    size : number of rows of a dtype.
    make : rows of a dtype by their numbers.
    words : the whole of it, in words.
    """

    name: str
    classes: int
    dtypes: tuple[str, ...]
    size: Callable[[str], int]
    make: Callable[[Array, str], Array]
    words: Callable[[str], str]

    def rows(self, first: int, last: int, dtype: str) -> Array:
        """Rows number `first` to `last` - 1, (last - first, classes)."""
        return self.make(np.arange(first, last, dtype=np.int64), dtype)

    def row(self, number: int, dtype: str) -> Array:
        """One row, (1, classes)."""
        return self.rows(number, number + 1, dtype)


def _bits(dtype: str) -> int:
    return format_of(dtype).bits


def _encodings(numbers: Array, dtype: str) -> Array:
    """Numbers of a dtype by their encodings, NaN and infinities included."""
    unsigned = np.uint16 if _bits(dtype) == 16 else np.uint32
    return numbers.astype(unsigned).view(as_dtype(dtype))


def _pairs(numbers: Array, dtype: str) -> Array:
    width = _bits(dtype)
    return np.stack([_encodings(numbers >> width, dtype), _encodings(numbers, dtype)], axis=1)


def _single(numbers: Array, dtype: str) -> Array:
    x = _encodings(numbers, dtype)
    return np.stack([x, np.zeros_like(x)], axis=1)


def _triples(numbers: Array, dtype: str) -> Array:
    import ml_dtypes

    codes = np.arange(_CODES, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    # Exact: 4 bits, and exponents from -9 to 8, fit into every dtype here; NaN stays NaN.
    values = codes.astype(np.float32).astype(as_dtype(dtype))
    return np.stack([values[(numbers >> shift) & 0xFF] for shift in (16, 8, 0)], axis=1)


DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        domain.name: domain
        for domain in (
            Domain(
                "pairs",
                2,
                ("float16", "bfloat16"),
                lambda dtype: 1 << 2 * _bits(dtype),
                _pairs,
                lambda dtype: f"every ordered pair of {dtype} numbers, NaN and infinities included",
            ),
            Domain(
                "single",
                2,
                ("float16", "bfloat16", "float32"),
                lambda dtype: 1 << _bits(dtype),
                _single,
                lambda dtype: f"(x, 0) for every {dtype} number x, NaN and infinities included",
            ),
            Domain(
                "triples",
                3,
                ("float16", "bfloat16", "float32"),
                lambda _dtype: _CODES**3,
                _triples,
                lambda dtype: f"every ordered triple of float8_e4m3fn numbers, NaN included, as {dtype}",
            ),
        )
    }
)


def domain_of(name: str, op: str, dtype: str) -> Domain:
    """Domain of a name, for an op and a dtype.

    Raises
    ------
    RequestError : no such domain, or an op or dtype that it is not proved for.
    """
    if name not in DOMAINS:
        raise RequestError(f"domain {name!r} is unknown; the domains are {', '.join(DOMAINS)}")
    domain = DOMAINS[name]
    if op not in FORWARD_OPS:
        raise RequestError(
            f"op {op!r} has no proof by exhaustion; those that have are {', '.join(FORWARD_OPS)}"
        )
    if dtype not in domain.dtypes:
        raise RequestError(f"{name} are proved for {', '.join(domain.dtypes)}, not for {dtype!r}")
    return domain


__all__ = ["DOMAINS", "Domain", "domain_of"]
