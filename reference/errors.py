"""The ways in which the reference refuses to answer."""

from __future__ import annotations

from softcert.errors import SoftcertError


class DomainError(SoftcertError):
    """An input that has no exact meaning here; the message is one sentence."""


class UndecidedRounding(ArithmeticError):  # noqa: N818 - it names the outcome, not a mistake of the caller
    """The precision cap was reached before an enclosure lay on one side of a rounding boundary."""


class OracleDisagreement(RuntimeError):  # noqa: N818 - it names what was observed between two oracles
    """Two independent oracles gave enclosures that do not overlap: one of them is wrong."""


class AlteredArithmetic(RuntimeError):  # noqa: N818 - it names what was found
    """The processor does not compute as IEEE 754 says, on which a proof rests."""
