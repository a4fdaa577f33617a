"""The laws of what `gumbel.py` computes, over the noise: densities on the simplex, distribution functions.

`gumbel_derivation.py` proves them from the law of the noise, P(g <= t) = exp(-exp(-t)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.gumbel import rows_of_two, temperature
from softcert.reference.interval import ZERO, Interval, below
from softcert.reference.operands import as_floats
from softcert.reference.power_oracle import rational_power
from softcert.reference.reals import Real, Reals, add_formula, evaluate, known_method, summed
from softcert.reference.softmax import exact_factor, first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: exp(-exp(64)) < 2^-(2^92), which is what encloses the law of noise below -64.
_DEEPEST = -64.0
_VANISHING = Interval(0, 1, -(1 << 92), open_lo=True)


def concrete_log_density(
    y: ArrayLike, x: ArrayLike, tau: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """Logarithm of the density of `gumbel_softmax` at y, over the noise, by its first n - 1 coordinates.

    log[(n - 1)! tau^(n - 1) (sum_i pi_i y_i^-tau)^-n prod_i pi_i y_i^-(tau + 1)] with pi_i = exp(x_i) (Jang
    et al., appendix B; Maddison et al., definition 1); one factor for all pi changes nothing.

    Parameters
    ----------
    y : (..., n) along `axis`, n >= 1, above 0: the formula at the numbers given, which need not sum to 1.
    x : logits of y's shape.

    Returns
    -------
    Enclosure of y's shape without `axis`. A row with a logit that is not finite, or with a y that is not
    positive and finite, gives NaN.

    Raises
    ------
    DomainError, ValueError : as `gumbel_softmax`.

    Notes
    -----
    exp of the value is an algebraic number times exponentials of distinct algebraic ones, so that the value
    is transcendental or 0 (Lindemann and Weierstrass). It is 0 only where all logits are alike, and told
    exactly where all y^tau are rational, as for every integer tau.
    """
    known_method(method)
    return _reduced(y, x, axis, "y", partial(_density_cell, scale=temperature(tau), method=method))


def exp_concrete_log_density(
    w: ArrayLike, x: ArrayLike, tau: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """Logarithm of the density of w = log y, by n - 1 coordinates: nothing under- or overflows.

    log[(n - 1)! tau^(n - 1)] + sum_i u_i - n log sum_i exp(u_i), u_i = x_i - tau w_i (Maddison et al., on
    ExpConcrete variables): the density of y times the product of all y_i.

    Parameters, result and errors as `concrete_log_density`, w being any finite numbers.
    """
    known_method(method)
    return _reduced(w, x, axis, "w", partial(_log_density_cell, scale=temperature(tau), method=method))


def pair_cdf(
    t: ArrayLike, gap: float | Fraction, tau: float | Fraction = 1.0, method: str = "auto"
) -> Enclosure:
    """P(y_i / (y_i + y_j) <= t) over the noise, gap = x_i - x_j: sigma(tau logit(t) - gap), for any n.

    tau log(y_i / y_j) = gap + g_i - g_j, and the difference of two Gumbel variables is logistic. For n = 2
    this is the law of y_1 itself.

    Parameters
    ----------
    t : array of any shape; below 0 gives exactly 0, above 1 exactly 1, NaN itself.
    gap : exact real of the number given, finite.

    Raises
    ------
    DomainError, ValueError : as `gumbel_softmax`.
    """
    known_method(method)
    offset, scale = exact_factor(gap), temperature(tau)

    def place(cells: Cells, value: float, prec: int) -> int:
        if not 0 < value < 1:
            return _beyond(cells, value)
        odds = (1 - Fraction(value)) / Fraction(value)
        power = rational_power(odds, scale) if not offset else None
        if power is not None:
            return cells.add_exact(1 / (1 + power))
        return cells.add_block(partial(_pair_entries, odds, offset, scale, method), prec)

    return _elementwise(t, place)


def gumbel_cdf(t: ArrayLike, method: str = "auto") -> Enclosure:
    """exp(-exp(-t)), the law of the noise; 0 at -inf and 1 at +inf.

    Below -64, where it is no number that any format or plot knows, its enclosure is one that is not narrowed.

    Raises
    ------
    DomainError : unsupported dtype. ValueError : no such method.
    """
    known_method(method)

    def entries(value: Fraction, prec: int) -> list[Interval]:
        (law,) = evaluate(lambda reals: [reals.exp_of(-reals.exp(-value))], method, 1, prec)
        return [below(law, 1, 0)]

    def place(cells: Cells, value: float, prec: int) -> int:
        if not math.isfinite(value):
            return _beyond(cells, value)
        if value < _DEEPEST:
            return cells.add_exact(_VANISHING)
        return cells.add_block(partial(entries, Fraction(value)), prec)

    return _elementwise(t, place)


# --- arrays ------------------------------------------------------------------------------------------


def _reduced(
    point: ArrayLike,
    x: ArrayLike,
    axis: int,
    name: str,
    cell_of: Callable[[Cells, list[float], list[float], int], int],
) -> Enclosure:
    rows, others, shape = rows_of_two(point, x, axis, (name, "x"))
    cells, prec = Cells(), first_precision(as_floats(point)[1])
    index = [cell_of(cells, *pair, prec) for pair in zip(rows.tolist(), others.tolist(), strict=True)]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape[:-1]))


def _elementwise(t: ArrayLike, place: Callable[[Cells, float, int], int]) -> Enclosure:
    values, fmt = as_floats(t, "t")
    cells, prec = Cells(), first_precision(fmt)
    index = [place(cells, value, prec) for value in values.ravel().tolist()]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(values.shape))


def _pair_entries(
    odds: Fraction, offset: Fraction, scale: Fraction, method: str, prec: int
) -> list[Interval]:
    def formula(reals: Reals) -> list[Real]:
        exponent = reals.rational(offset) + reals.rational(scale) * reals.log(reals.rational(odds))
        one = reals.rational(Fraction(1))
        return [one / (one + reals.exp_of(exponent))]

    return [below(value, 1, 0) for value in evaluate(formula, method, 2, prec)]


def _beyond(cells: Cells, value: float) -> int:
    """Place of a distribution's value where the argument is below, above or no number."""
    if math.isnan(value):
        return cells.add_exact(value)
    return cells.add_exact(Interval(1, 1, 0) if value > 0 else ZERO)


# --- densities ---------------------------------------------------------------------------------------


def density_formula(logits: Sequence[Real], scale: Fraction, logs: Sequence[Real], reals: Reals) -> Real:
    """Logarithm of the density at exp(logs), without its product of 1 / y: that of logs.

    Parameters
    ----------
    logits, logs : numbers of the kind that `reals` computes with; Arb's complex balls go with its real ones.
    """
    n = len(logits)
    exponents = [x - reals.rational(scale) * w for x, w in zip(logits, logs, strict=True)]
    total = summed([reals.exp_of(u) for u in exponents])
    constant = reals.log(reals.rational(factorial(n - 1) * scale ** (n - 1)))
    return constant + summed(exponents) - reals.rational(Fraction(n)) * reals.log(total)


def _density_cell(
    cells: Cells, point: list[float], logits: list[float], prec: int, *, scale: Fraction, method: str
) -> int:
    if not all(0 < y < math.inf for y in point) or not all(map(math.isfinite, logits)):
        return cells.add_exact(math.nan)
    values, exact = [Fraction(x) for x in logits], [Fraction(y) for y in point]
    if len(set(values)) == 1 and _is_one(exact, scale):
        return cells.add_exact(ZERO)

    def formula(reals: Reals) -> list[Real]:
        logs = [reals.log(reals.rational(y)) for y in exact]
        return [density_formula([reals.rational(x) for x in values], scale, logs, reals) - summed(logs)]

    return cells.add_block(partial(evaluate, formula, method, 4 * len(exact)), prec)


def _is_one(point: Sequence[Fraction], scale: Fraction) -> bool:
    """Whether the density for equal logits is certainly 1."""
    n, powers = len(point), [rational_power(y, scale) for y in point]
    known = [p for p in powers if p is not None]
    if len(known) < n:
        return False
    product = math.prod(1 / (p * y) for p, y in zip(known, point, strict=True))
    return factorial(n - 1) * scale ** (n - 1) * product == sum(1 / p for p in known) ** n


def _log_density_cell(
    cells: Cells, point: list[float], logits: list[float], prec: int, *, scale: Fraction, method: str
) -> int:
    if not all(map(math.isfinite, point + logits)):
        return cells.add_exact(math.nan)
    n = len(point)
    exponents = [Fraction(x) - scale * Fraction(w) for x, w in zip(logits, point, strict=True)]
    largest = max(exponents)
    gaps = [u - largest for u in exponents]

    def formula(reals: Reals) -> list[Real]:
        weights = summed([reals.exp(gap) for gap in gaps])
        # One logarithm where all are alike, so that the rationals see a density of 1.
        ratio = reals.rational(factorial(n - 1) * scale ** (n - 1)) / _power(weights, n)
        return [reals.log(ratio) + reals.rational(sum(gaps, Fraction(0)))]

    return add_formula(cells, formula, method, 4 * n, prec)[0]


def _power(value: Real, n: int) -> Real:
    """Product of n >= 1 alike."""
    return math.prod([value] * (n - 1), start=value)
