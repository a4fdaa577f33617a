"""Whether the processor still computes as IEEE 754 says: every conversion and every proof rests on it."""

from __future__ import annotations

from softcert.reference.errors import AlteredArithmetic

#: Kept in a list, so that no compiler computes with them beforehand.
_NUMBERS = [2.0**-1022, 0.5, 1.0, 2.0**-53, 3.0 * 2.0**-54]


def require_ieee() -> None:
    """Make sure that subnormals are kept and results are rounded to nearest, in this thread.

    Raises
    ------
    AlteredArithmetic : another library has changed the floating-point environment.
    """
    tiny, half, one, tie, above = _NUMBERS
    subnormal = tiny * half
    # The first is 0 where results are flushed, the sum where operands are.
    flushed = subnormal == 0.0 or subnormal + subnormal != tiny
    rounded = one + tie != one or one + above == one or -one - tie != -one
    if flushed or rounded:
        altered = [
            what
            for what, so in (("flushes subnormals to zero", flushed), ("does not round to nearest", rounded))
            if so
        ]
        raise AlteredArithmetic(
            f"the processor {' and '.join(altered)}: a library of this process has changed the "
            "floating-point environment, and nothing can be certified by it"
        )
