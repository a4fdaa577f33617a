"""The Boltzmann distribution p_i = exp(-beta E_i)/Z: what its partition function says, as enclosures.

Energies and inverse temperatures are exact: the floats given, or Fractions. With beta = 1/(k T) the mean
energy is -d log Z / d beta and the heat capacity C = d <E> / d T = k beta^2 d^2 log Z / d beta^2, both proven
by sympy in `boltzmann_derivation`.

Theorem. With beta rational and not 0, and two energies or more that differ, log Z, the mean energy and
C / k are transcendental, so that every rounding of them is decided at some precision.

Proof. Let E_1 < ... < E_m be the distinct energies and n_k their degeneracies, and let r be algebraic. By
Lindemann and Weierstrass (see `exactness`) a sum of algebraic multiples of exponentials of distinct rationals
vanishes only with all its coefficients. <E> = r gives n_k (E_k - r) = 0 for every k, hence m = 1.
log Z = r gives exp(r) = sum n_k exp(-beta E_k), hence m = 1. C / k = r gives an equality in which
exp(-2 beta E_1) occurs in r Z^2 alone, with the coefficient r n_1^2; so r = 0, but the variance is
positive. QED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference import boltzmann_arb, boltzmann_mp
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.exactness import Logits, group
from softcert.reference.formats import FORMATS
from softcert.reference.interval import Interval, above, below
from softcert.reference.operands import as_floats, rows_along
from softcert.reference.oracles import oracle
from softcert.reference.softmax import exact_factor, first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Clip = Callable[[Logits, Interval], Interval]

_ORACLES: Mapping[str, ModuleType] = MappingProxyType(
    {"auto": boltzmann_arb, "arb": boltzmann_arb, "mpmath": boltzmann_mp}
)


def log_partition_function(
    energies: ArrayLike, beta: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """log Z = log sum_i exp(-beta E_i), which is the logsumexp of -beta E.

    Parameters
    ----------
    energies : (..., n) along `axis`, n >= 1, finite, any supported dtype.
    beta : inverse temperature 1/(k T), the exact real of the number given; negative ones too.
    method : "arb", "mpmath" or "auto", which is Arb.

    Returns
    -------
    Enclosure of the shape of `energies` without `axis`.

    Raises
    ------
    DomainError : energies that are not finite floats, no such axis, or none along it.
    ValueError : no such method.
    """
    return _reduced(energies, beta, axis, method, "log_partition")


def mean_energy(
    energies: ArrayLike, beta: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """<E> = sum_i E_i p_i = -d log Z / d beta.

    Returns
    -------
    Enclosure of the shape of `energies` without `axis`; exact where all energies are alike or beta is 0.

    Raises
    ------
    DomainError, ValueError : as `log_partition_function`.
    """
    return _reduced(energies, beta, axis, method, "mean_energy")


def heat_capacity(
    energies: ArrayLike, beta: float | Fraction = 1.0, axis: int = -1, method: str = "auto"
) -> Enclosure:
    """C / k = beta^2 (<E^2> - <E>^2) = beta^2 d^2 log Z / d beta^2.

    Returns
    -------
    Enclosure of the shape of `energies` without `axis`; exactly 0 where all energies are alike or beta is 0.

    Raises
    ------
    DomainError, ValueError : as `log_partition_function`.
    """
    return _reduced(energies, beta, axis, method, "heat_capacity")


def largest_mean_gap(count: int, method: str = "auto") -> Enclosure:
    """W((n - 1)/e), the most that beta (max x - <x>) can be under the softmax of n values, W e^W = t.

    With d_i = beta (max x - x_i), one of them 0, and w = W((n - 1)/e), so that (n - 1) e^-(1 + w) = w: each
    of the n - 1 others has (d - w) e^-d <= e^-(1 + w), attained at d = 1 + w. Their sum is at most w, which
    is sum d_i e^-d_i <= w (1 + sum e^-d_i): the mean of d is at most w, attained where all of them are 1 + w.

    Returns
    -------
    Enclosure without axes; exactly 0 for one value.

    Raises
    ------
    DomainError : not a count of at least one value. ValueError : no such method.
    """
    oracle(method)
    given: object = count
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or count < 1:
        raise DomainError(f"count={count!r} is not a number of values, at least 1")
    cells = Cells()
    if count == 1:
        return Enclosure(cells, np.array(cells.add_exact(Fraction(0))))

    def entry(prec: int) -> list[Interval]:
        return [_ORACLES[method].largest_mean_gap(int(count), prec)]

    return Enclosure(cells, np.array(cells.add_block(entry, first_precision(FORMATS["binary64"]))))


def _reduced(energies: ArrayLike, beta: float | Fraction, axis: int, method: str, name: str) -> Enclosure:
    """Enclosure of one number of each row."""
    oracle(method)
    values, fmt = as_floats(energies, "energies")
    rows, shape = rows_along(values, axis, "energies")
    if shape[-1] == 0:
        raise DomainError(f"there are no energies along axis {axis}")
    if not np.isfinite(rows).all():
        raise DomainError("an energy is not finite")
    factor, cells = exact_factor(beta), Cells()
    index = [_cell(cells, row, factor, (method, name), first_precision(fmt)) for row in rows.tolist()]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape[:-1]))


def _cell(cells: Cells, row: list[float], beta: Fraction, what: tuple[str, str], prec: int) -> int:
    method, name = what
    if beta == 0 or len(set(row)) == 1:
        exact = _RATIONAL[name](row, beta)
        if exact is not None:
            return cells.add_exact(exact)
    levels, _ = group(row if beta else [0.0] * len(row), -beta)
    return cells.add_block(partial(_entry, getattr(_ORACLES[method], name), _CLIPS.get(name), levels), prec)


def _entry(
    function: Callable[[Logits, int], Interval], clip: Clip | None, levels: Logits, prec: int
) -> list[Interval]:
    value = function(levels, prec)
    return [value if clip is None or len(levels.values) == 1 else clip(levels, value)]


def _single_log(row: list[float], beta: Fraction) -> Fraction | None:
    """-beta E of one state alone; the logarithm of several is transcendental."""
    return -beta * Fraction(row[0]) if len(row) == 1 else None


def _plain_mean(row: list[float], _beta: Fraction) -> Fraction:
    """Mean where all states are equally likely."""
    return sum(map(Fraction, row), Fraction(0)) / len(row)


def _dyadic(value: Fraction) -> tuple[int, int] | None:
    power = value.denominator.bit_length() - 1
    return (value.numerator, -power) if value.denominator == 1 << power else None


def _clip_log(levels: Logits, value: Interval) -> Interval:
    """Use that log Z exceeds -beta E of the ground state strictly; only a dyadic one can be an end."""
    end = _dyadic(levels.beta * Fraction(levels.values[levels.top]))
    return value if end is None else above(value, *end)


def _clip_mean(levels: Logits, value: Interval) -> Interval:
    """Use that the mean is not the ground state's energy, however near: above it, or below for beta < 0."""
    return (above if levels.beta < 0 else below)(value, *levels.top_dyadic)


_RATIONAL: Mapping[str, Callable[[list[float], Fraction], Fraction | None]] = MappingProxyType(
    {
        "log_partition": _single_log,
        "mean_energy": _plain_mean,
        "heat_capacity": lambda _row, _beta: Fraction(0),
    }
)
_CLIPS: Mapping[str, Clip] = MappingProxyType({"log_partition": _clip_log, "mean_energy": _clip_mean})
