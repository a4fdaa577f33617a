"""The oracles by method name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from softcert.reference import arb_oracle, exact_oracle, mp_oracle
from softcert.reference.exactness import Logits
from softcert.reference.interval import Interval


class Oracle(Protocol):
    """What encloses the transcendental functions of one row; `prec` is in bits, relative."""

    def softmax_row(self, row: Logits, prec: int) -> list[Interval]:
        """Softmax at each distinct value."""

    def log_softmax_row(self, row: Logits, prec: int) -> list[Interval]:
        """log_softmax at each distinct value."""

    def logsumexp_row(self, row: Logits, prec: int) -> Interval:
        """Logsumexp of the row."""

    def jacobian_row(self, row: Logits, prec: int) -> list[Interval]:
        """The m diagonal entries of the Jacobian, then those of the pairs a <= b, row by row."""


class ExactOracle(Protocol):
    """What computes the rational functions of one row, exactly."""

    def jvp_row(self, y: list[float], direction: list[float]) -> list[Interval]:
        """y_i (d_i - sum_k y_k d_k)."""

    def sum_row(self, values: list[float]) -> Interval:
        """Sum of the values."""


#: "auto" is Arb, the faster one, for what the fast path is not asked.
METHODS: Mapping[str, Oracle] = MappingProxyType({"auto": arb_oracle, "mpmath": mp_oracle, "arb": arb_oracle})


def oracle(method: str) -> Oracle:
    """Return the oracle of a method.

    Raises
    ------
    ValueError : no such method.
    """
    found = METHODS.get(str(method))
    if found is None:
        raise ValueError(f"method={method!r} is not one of {', '.join(METHODS)}")
    return found


def by_mpmath(method: str) -> bool:
    """Whether a method asks for the second path of an op that has no oracle of its own for each.

    Raises
    ------
    ValueError : no such method.
    """
    return method != "fast" and oracle(method) is mp_oracle


def exact_oracle_of(method: str) -> ExactOracle:
    """Return FLINT's rationals for "arb", else integers.

    Raises
    ------
    ValueError : no such method.
    """
    oracle(method)
    return arb_oracle if method == "arb" else exact_oracle
