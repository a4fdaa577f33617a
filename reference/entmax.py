"""alpha-entmax, sparse for alpha > 1: p_i = max((alpha - 1) x_i - tau, 0)^(1 / (alpha - 1)), summing to 1.

B. Peters, V. Niculae and A. Martins, Sparse sequence-to-sequence models, arXiv:1905.05702 (2019), definition
of entmax and propositions 1 and 2. alpha = 1 is softmax and alpha = 2 sparsemax. For alpha = 1.5 the values
lie in the field of rationals and one square root; for others tau is enclosed by a bracket, at whose ends the
sum is certainly above and below 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference import entmax_mp, power_oracle
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.gradients import paired
from softcert.reference.interval import ZERO, Interval, from_fraction, hull, multiply
from softcert.reference.operands import Floats, as_floats, rows_along
from softcert.reference.oracles import by_mpmath
from softcert.reference.softmax import (
    axis_restored,
    exact_factor,
    first_precision,
    rowwise,
    softmax,
    specials,
)
from softcert.reference.sparsemax import sparsemax, sparsemax_vjp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Where a bracket is parted: the sum is certainly on one side of 1 in all but one of them.
_PARTS = (Fraction(1, 2), Fraction(5, 16), Fraction(11, 16))
_ONE_AND_A_HALF = Fraction(3, 2)
#: Steps from the precision of floats to thousands of bits.
_NEWTON = 12


def entmax(x: ArrayLike, axis: int = -1, alpha: float | Fraction = 1.5, method: str = "auto") -> Enclosure:
    """argmax over p in the simplex of <p, x> + H(p), H the Tsallis entropy of order alpha.

    Parameters
    ----------
    x : (..., n) along `axis`, n >= 1, any supported dtype.
    alpha : at least 1, the exact real of the number given.
    method : "mpmath" for halving with powers by mpmath; "auto", "arb" and "fast" are what is said above.

    Returns
    -------
    Enclosure of x's shape. A NaN or +inf logit, or none finite, gives NaN throughout; -inf among finite ones
    gives exactly 0.

    Raises
    ------
    DomainError : alpha < 1 or not finite; x is no array of supported floats, has no such axis, or is empty
        along it.
    ValueError : no such method.
    """
    order, second = order_of(alpha), by_mpmath(method)
    if order == 1:
        return softmax(x, axis, method=method)
    if order == 2:
        return sparsemax(x, axis, method)
    return rowwise(
        x, axis, "entmax", partial(_entmax_row, order=order, placed=_halved if second else _placed)
    )


def entmax_vjp(
    y: ArrayLike, dy: ArrayLike, axis: int = -1, alpha: float | Fraction = 1.5, method: str = "auto"
) -> Enclosure:
    """s_i (dy_i - sum_k s_k dy_k / sum_k s_k), s_i = y_i^(2 - alpha) where y_i > 0 and else 0.

    The Jacobian at the output y is diag(s) - s s^T / sum(s), symmetric, so this is the product with a tangent
    too. It divides by the sum of s, so that y need not sum to 1, for alpha = 1 neither.

    Parameters
    ----------
    y, dy : (..., n) along `axis`, n >= 1, of one shape. alpha, method : as for `entmax`.

    Returns
    -------
    Enclosure of y's shape. A row with anything not finite, or without a positive y, gives NaN throughout.

    Raises
    ------
    DomainError : alpha < 1 or not finite; shapes that differ, unsupported dtypes, no such axis or an empty
        one.
    ValueError : no such method.
    """
    order, second = order_of(alpha), by_mpmath(method)
    if order == 2:
        return sparsemax_vjp(y, dy, axis, method)
    product = _product_by_mpmath if second else _product
    outputs, slopes = paired(y, dy, axis)
    (rows, shape), (directions, _) = rows_along(outputs, axis, "y"), rows_along(slopes, axis, "dy")
    prec = first_precision(as_floats(y)[1])
    cells, index = Cells(), np.empty(rows.shape, dtype=np.int64)
    for i, pair in enumerate(zip(rows, directions, strict=True)):
        index[i] = _product_row(cells, *pair, partial(product, exponent=2 - order, prec=prec))
    return Enclosure(cells, axis_restored(index, shape, axis))


def order_of(alpha: float | Fraction) -> Fraction:
    """Exact real of an order alpha.

    Raises
    ------
    DomainError : below 1, or not finite.
    """
    order = exact_factor(alpha)
    if order < 1:
        raise DomainError(f"alpha={alpha!r} is below 1, where entmax is not defined")
    return order


def _entmax_row(
    cells: Cells, row: list[float], *, order: Fraction, placed: Callable[..., list[int]], prec: int
) -> list[int]:
    special, finite = specials(row)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(row)
    top = max(row[i] for i in finite)
    depths = {v: (order - 1) * (Fraction(v) - Fraction(top)) for v in {row[i] for i in finite}}
    # The largest alone would sum to 1 at tau = -1: what lies as deep has no share.
    values = sorted((v for v, depth in depths.items() if depth > -1), reverse=True)
    counts = [row.count(v) for v in values]
    places = placed(cells, [depths[v] for v in values], counts, order, prec)
    zero = cells.add_exact(ZERO)
    return [dict(zip(values, places, strict=True)).get(v, zero) for v in row]


def _placed(cells: Cells, depths: list[Fraction], counts: list[int], order: Fraction, prec: int) -> list[int]:
    """Cells of the distinct values that may have a share, the largest first."""
    if order == _ONE_AND_A_HALF:
        return _placed_by_a_root(cells, depths, counts, prec)
    exponent = 1 / (order - 1)
    size = _support(depths, counts, exponent, prec)
    places = [cells.add_exact(ZERO)] * len(depths)
    places[:size] = _above(cells, depths[:size], counts[:size], exponent, prec)
    return places


def _above(
    cells: Cells, depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int
) -> list[int]:
    """Cells of the distinct values, all of which have a share."""
    if len(depths) == 1:
        return [cells.add_exact(Fraction(1, counts[0]))]
    exact = _rational_shares(depths, counts, exponent, prec)
    if exact is not None:
        return [cells.add_exact(share) for share in exact]
    start = cells.add_block(partial(_bracketed, depths, counts, exponent), prec)
    return list(range(start, start + len(depths)))


def _support(depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int) -> int:
    """How many of the distinct values have a share: those at whose depth the sum is below 1."""
    low, high = 1, len(depths)
    while low < high:
        middle = (low + high + 1) // 2
        below = _side(depths[: middle - 1], counts[: middle - 1], exponent, depths[middle - 1], prec) < 0
        low, high = (middle, high) if below else (low, middle - 1)
    return low


def _side(depths: list[Fraction], counts: list[int], exponent: Fraction, tau: Fraction, prec: int) -> int:
    """Sign of the sum of (depth - tau)^exponent, less 1, whatever the precision that takes."""
    exact = power_oracle.rational_powers([depth - tau for depth in depths], exponent)
    if exact is not None:
        excess = sum((c * power for c, power in zip(counts, exact, strict=True)), Fraction(-1))
        return (excess > 0) - (excess < 0)
    # Radicals of different classes are independent over the rationals: such a sum is not 1.
    while not (side := power_oracle.sum_against_one(depths, counts, exponent, tau, prec)):
        prec *= 2
    return side


def _halved(cells: Cells, depths: list[Fraction], counts: list[int], order: Fraction, prec: int) -> list[int]:
    """The same by the second path."""
    start = cells.add_block(partial(entmax_mp.entmax_shares, depths, counts, 1 / (order - 1)), prec)
    return list(range(start, start + len(depths)))


# --- alpha = 1.5 -------------------------------------------------------------------------------------


def _placed_by_a_root(cells: Cells, depths: list[Fraction], counts: list[int], prec: int) -> list[int]:
    """p = (z - tau)^2 with tau = mean - sqrt(radicand), both rational, of those above tau."""
    size = sum_ = squares = Fraction(0)
    mean = radicand = Fraction(0)
    for depth, count in zip(depths, counts, strict=True):
        # The sum at tau = depth says on which side of it the solution lies.
        if squares - 2 * depth * sum_ + size * depth**2 >= 1:
            break
        size, sum_, squares = size + count, sum_ + count * depth, squares + count * depth**2
        mean = sum_ / size
        radicand = (1 - (squares - size * mean**2)) / size
    root = _rational_root(radicand)
    places = []
    for depth in depths:
        offset = depth - mean
        if offset < 0 and offset**2 >= radicand:
            places.append(cells.add_exact(ZERO))
        elif root is not None or offset == 0:
            places.append(cells.add_exact((offset + root) ** 2 if root is not None else radicand))
        else:
            places.append(cells.add_block(partial(_squared, offset, radicand), prec))
    return places


def _rational_root(value: Fraction) -> Fraction | None:
    n, d = isqrt(value.numerator), isqrt(value.denominator)
    return Fraction(n, d) if n * n == value.numerator and d * d == value.denominator else None


def _squared(offset: Fraction, radicand: Fraction, prec: int) -> list[Interval]:
    """(offset + sqrt(radicand))^2, of a root that is irrational, and of a positive sum."""
    # From (root^2 - offset^2) / (root - offset), which cancels nothing, where the offset is below 0.
    wp = prec + 16
    shift = max(0, wp + (radicand.denominator.bit_length() - radicand.numerator.bit_length()) // 2 + 1)
    floor = isqrt((radicand.numerator << 2 * shift) // radicand.denominator)
    low, high = Fraction(floor, 1 << shift), Fraction(floor + 1, 1 << shift)
    if offset < 0:
        product = radicand - offset**2
        low, high = product / (high - offset), product / (low - offset)
    else:
        low, high = low + offset, high + offset
    base = hull(from_fraction(low, wp), from_fraction(high, wp))
    return [multiply(base, base, wp)]


# --- any alpha -----------------------------------------------------------------------------------------


def _bracketed(depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int) -> list[Interval]:
    """(depth - tau)^exponent, by a bracket of tau."""
    low, high = _bracket(depths, counts, exponent, prec)
    zero = Fraction(0)
    ends = [(max(depth - high, zero), max(depth - low, zero)) for depth in depths]
    return [power_oracle.power_between(*pair, exponent, prec) for pair in ends]


def _rational_shares(
    depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int
) -> list[Fraction] | None:
    """The shares where tau and they are rational of modest size: no bracket would tell a midpoint."""
    low, high = _bracket(depths, counts, exponent, 2 * prec)
    # Two rationals of such denominators lie farther apart than the ends.
    tau = ((low + high) / 2).limit_denominator(1 << prec - 1)
    shares = power_oracle.rational_powers([max(depth - tau, Fraction(0)) for depth in depths], exponent)
    if shares is None or sum(c * s for c, s in zip(counts, shares, strict=True)) != 1:
        return None
    return shares


def _bracket(
    depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int
) -> tuple[Fraction, Fraction]:
    """Two numbers between which the sum falls through 1, about 2^-prec apart."""
    width = Fraction(1, 1 << prec)
    tau = _near(depths, counts, exponent)
    for _ in range(_NEWTON):
        before, tau = tau, power_oracle.newton_step(depths, counts, exponent, tau, prec + 32)
        # The error is about the square of the step before.
        if abs(tau - before) ** 2 < width / 256:
            ends = tau - width, tau + width
            sides = [power_oracle.sum_against_one(depths, counts, exponent, end, prec + 32) for end in ends]
            if sides == [1, -1]:
                return ends
    return _halved_bracket(depths, counts, exponent, prec)


def _near(depths: list[Fraction], counts: list[int], exponent: Fraction) -> Fraction:
    """The tau of floats."""
    offsets, weights, power = np.array([float(d) for d in depths]), np.array(counts), float(exponent)
    low, high = -1.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2.0
        over = (weights * np.maximum(offsets - middle, 0.0) ** power).sum() > 1.0
        low, high = (middle, high) if over else (low, middle)
    return Fraction(low)


def _halved_bracket(
    depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int
) -> tuple[Fraction, Fraction]:
    """The same, in any case."""
    low, high = Fraction(-1), Fraction(0)
    while high - low > Fraction(1, 1 << prec):
        for part in _PARTS:
            middle = low + part * (high - low)
            side = power_oracle.sum_against_one(depths, counts, exponent, middle, prec + 32)
            if side:
                low, high = (middle, high) if side > 0 else (low, middle)
                break
        else:
            return low, high
    return low, high


# --- the derivative ------------------------------------------------------------------------------------


def _product_row(
    cells: Cells,
    outputs: Floats,
    slopes: Floats,
    product: Callable[[Cells, list[Fraction], list[Fraction]], list[int]],
) -> list[int]:
    support = np.flatnonzero(outputs > 0).tolist()
    if not (np.isfinite(outputs).all() and np.isfinite(slopes).all() and support):
        return [cells.add_exact(math.nan)] * len(outputs)
    index = [cells.add_exact(ZERO)] * len(outputs)
    numbers = ([Fraction(float(values[i])) for i in support] for values in (outputs, slopes))
    for i, place in zip(support, product(cells, *numbers), strict=True):
        index[i] = place
    return index


def _product(
    cells: Cells, outputs: list[Fraction], slopes: list[Fraction], *, exponent: Fraction, prec: int
) -> list[int]:
    """Cells of the product at outputs above 0."""
    weights = power_oracle.Weights.of(outputs, exponent)
    if weights.rational:
        return [cells.add_exact(value) for value in weights.exact_products(slopes)]
    # Powers of different classes are independent over the rationals: what is the mean of each is that of all.
    mean = weights.common_mean(slopes)
    some = [k for k, slope in enumerate(slopes) if slope != mean]
    places = [cells.add_exact(ZERO)] * len(slopes)
    if some:
        start = cells.add_block(partial(weights.products, slopes, some), prec)
        for place, k in enumerate(some):
            places[k] = start + place
    return places


def _product_by_mpmath(
    cells: Cells, outputs: list[Fraction], slopes: list[Fraction], *, exponent: Fraction, prec: int
) -> list[int]:
    start = cells.add_block(partial(entmax_mp.entmax_product, outputs, slopes, exponent), prec)
    return list(range(start, start + len(slopes)))
