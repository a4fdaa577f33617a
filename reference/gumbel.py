"""Gumbel-softmax for noise that is given, its derivative, and the laws of its samples.

With g_i independent of law P(g <= t) = exp(-exp(-t)), argmax_i (x_i + g_i) has the law softmax(x) (C.
Maddison, D. Tarlow and T. Minka, A* sampling, arXiv:1411.0030, 2014), and y = softmax((x + g) / tau) is a
smooth stand-in for its one-hot vector (E. Jang, S. Gu and B. Poole, arXiv:1611.01144, 2016; C. Maddison, A.
Mnih and Y. W. Teh, arXiv:1611.00712, 2016, who call its law Concrete).
`gumbel_derivation.py` proves what is used of these laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.attention_scores import Score, ScoreRow, group_scores
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.interval import ZERO, Interval, below, to_fraction
from softcert.reference.operands import Floats, as_floats, rows_along
from softcert.reference.oracles import exact_oracle_of
from softcert.reference.reals import Real, Reals, evaluate, known_method, summed
from softcert.reference.softmax import axis_restored, exact_factor, first_precision, specials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Adds the cells of a row of each operand, and returns the place of each element's.
_RowOfTwo = Callable[[Cells, list[float], list[float], int], list[int]]


def gumbel_softmax(
    x: ArrayLike, g: ArrayLike, tau: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """softmax((x + g) / tau) of the numbers given, as exact reals: the sum is not rounded.

    Parameters
    ----------
    x, g : logits and noise (..., n) along `axis`, n >= 1, of one shape, any supported dtypes.
    tau : temperature, above 0, the exact real of the number given.
    method : "arb" (also "auto") or "mpmath".

    Returns
    -------
    Enclosure of x's shape. A sum that is NaN or +inf, or none finite, gives NaN throughout; -inf among finite
    ones gives exactly 0.

    Raises
    ------
    DomainError : tau is not positive and finite; shapes that differ, unsupported dtypes, no such axis or an
        empty one.
    ValueError : no such method.
    """
    known_method(method)
    row_of = partial(_softmax_row, scale=temperature(tau), method=method)
    return _rowwise(x, g, axis, ("x", "g"), row_of)


def gumbel_softmax_vjp(
    y: ArrayLike, dy: ArrayLike, tau: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """y_i (dy_i - sum_k y_k dy_k) / tau, the cotangent dy times the Jacobian by x, or by g, at the output y.

    The straight-through estimator is `gumbel_one_hot` forward and this at the soft y backward (Jang et al.,
    section 2.2): no derivative of what it computes forward, which is constant almost everywhere.

    Parameters
    ----------
    y, dy : (..., n) along `axis`, n >= 1, of one shape; y need not sum to 1.

    Returns
    -------
    Enclosure of zero width and y's shape. A row with anything not finite gives NaN throughout.

    Raises
    ------
    DomainError, ValueError : as `gumbel_softmax`.
    """
    compute, scale = exact_oracle_of(method).jvp_row, temperature(tau)

    def row_of(cells: Cells, outputs: list[float], slopes: list[float], _: int) -> list[int]:
        if not all(map(math.isfinite, outputs + slopes)):
            return [cells.add_exact(math.nan)] * len(outputs)
        products = compute(outputs, slopes)
        return [cells.add_exact(to_fraction(p.lo, p.exp) / scale) for p in products]

    return _rowwise(y, dy, axis, ("y", "dy"), row_of)


def gumbel_argmax(x: ArrayLike, g: ArrayLike, axis: int = -1) -> NDArray[np.int64]:
    """Index of the largest x_i + g_i, the first of several, exactly: what every tau > 0 has as its argmax.

    Over the noise its law is softmax(x).

    Returns
    -------
    Integers of x's shape without `axis`; -1 where `gumbel_softmax` is NaN.

    Raises
    ------
    DomainError : as `gumbel_softmax`.
    """
    rows, others, shape = rows_of_two(x, g, axis, ("x", "g"))
    index = [_argmax_of_row(*pair) for pair in zip(rows.tolist(), others.tolist(), strict=True)]
    return np.array(index, dtype=np.int64).reshape(shape[:-1])


def gumbel_one_hot(x: ArrayLike, g: ArrayLike, axis: int = -1) -> Enclosure:
    """1 at `gumbel_argmax` and 0 elsewhere: the limit of `gumbel_softmax` as tau falls to 0, but for ties.

    Returns
    -------
    Enclosure of zero width and x's shape; NaN throughout where `gumbel_softmax` is.

    Raises
    ------
    DomainError : as `gumbel_softmax`.
    """

    def row_of(cells: Cells, logits: list[float], noise: list[float], _: int) -> list[int]:
        chosen = _argmax_of_row(logits, noise)
        if chosen < 0:
            return [cells.add_exact(math.nan)] * len(logits)
        index = [cells.add_exact(ZERO)] * len(logits)
        index[chosen] = cells.add_exact(Interval(1, 1, 0))
        return index

    return _rowwise(x, g, axis, ("x", "g"), row_of)


def temperature(tau: float | Fraction) -> Fraction:
    """Exact real of a temperature.

    Raises
    ------
    DomainError : not a positive finite number.
    """
    scale = exact_factor(tau)
    if scale <= 0:
        raise DomainError(f"tau={tau!r} is not above 0")
    return scale


# --- arrays ------------------------------------------------------------------------------------------


def rows_of_two(
    first: ArrayLike, second: ArrayLike, axis: int, names: tuple[str, str]
) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Rows of two operands of one shape, and that shape with `axis` moved last.

    Raises
    ------
    DomainError : shapes that differ, unsupported dtypes, no such axis or an empty one.
    """
    one, other = (as_floats(operand, name)[0] for operand, name in zip((first, second), names, strict=True))
    if one.shape != other.shape:
        raise DomainError(f"{names[0]} has shape {one.shape} and {names[1]} has shape {other.shape}")
    (rows, shape), (others, _) = rows_along(one, axis, names[0]), rows_along(other, axis, names[1])
    if shape[-1] == 0:
        raise DomainError(f"{names[0]} needs at least one element along axis {axis}, and has none")
    return rows, others, shape


def _rowwise(
    first: ArrayLike, second: ArrayLike, axis: int, names: tuple[str, str], row_of: _RowOfTwo
) -> Enclosure:
    rows, others, shape = rows_of_two(first, second, axis, names)
    cells, prec = Cells(), first_precision(as_floats(first)[1])
    index = np.empty(rows.shape, dtype=np.int64)
    for i, pair in enumerate(zip(rows.tolist(), others.tolist(), strict=True)):
        index[i] = row_of(cells, *pair, prec)
    return Enclosure(cells, axis_restored(index, shape, axis))


# --- rows --------------------------------------------------------------------------------------------


def _sums(logits: Sequence[float], noise: Sequence[float]) -> tuple[float | None, list[int], list[Score]]:
    """What `specials` says of x + g in the extended reals, and the exact sums of the finite ones."""
    # A sum is finite where both parts are, however large: only infinite parts are added as floats.
    sums = [
        0.0 if math.isfinite(a) and math.isfinite(b) else a + b for a, b in zip(logits, noise, strict=True)
    ]
    special, finite = specials(sums)
    return special, finite, [Score(Fraction(0), Fraction(logits[i]) + Fraction(noise[i])) for i in finite]


def _argmax_of_row(logits: Sequence[float], noise: Sequence[float]) -> int:
    special, finite, sums = _sums(logits, noise)
    if special is not None:
        return -1
    largest = max(score.rational for score in sums)
    return next(i for i, score in zip(finite, sums, strict=True) if score.rational == largest)


def _softmax_row(
    cells: Cells, logits: list[float], noise: list[float], prec: int, *, scale: Fraction, method: str
) -> list[int]:
    special, finite, sums = _sums(logits, noise)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(logits)
    row = group_scores(sums, 1)
    gaps = [gap.rational / scale for gap in row.gaps]
    if len(gaps) == 1:
        placed = [cells.add_exact(Fraction(1, row.counts[0]))]
    else:
        # By Lindemann and Weierstrass every entry is transcendental: see `exactness.py`.
        start = cells.add_block(partial(_softmax_entries, row, gaps, method), prec)
        placed = list(range(start, len(cells.values)))
    index = [cells.add_exact(ZERO)] * len(logits)
    for i, k in zip(finite, row.member, strict=True):
        index[i] = placed[k]
    return index


def _softmax_entries(row: ScoreRow, gaps: list[Fraction], method: str, prec: int) -> list[Interval]:
    def formula(reals: Reals) -> list[Real]:
        weights = [reals.exp(gap) for gap in gaps]
        counts = [reals.rational(Fraction(n)) for n in row.counts]
        total = summed([w * n for w, n in zip(weights, counts, strict=True)])
        return [w / total for w in weights]

    entries, n = evaluate(formula, method, len(gaps), prec), row.counts[row.top]
    if n & (n - 1) == 0:  # the largest is strictly below 1/n, however vanishing the others are
        entries[row.top] = below(entries[row.top], 1, 1 - n.bit_length())
    return entries
