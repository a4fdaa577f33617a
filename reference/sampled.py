"""Softmax losses over a sample of the classes: of one sample, exactly as it was drawn.

S. Jean, K. Cho, R. Memisevic and Y. Bengio, arXiv:1412.2007 (2014), section 3, for target sampling; the
corrections by expected counts are those of TensorFlow's sampled_softmax_loss and its note on candidate
sampling. What the samples average to is in `sampled_moments.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.interval import Interval, above
from softcert.reference.operands import as_floats
from softcert.reference.reals import Real, Reals, evaluate, known_method, summed
from softcert.reference.softmax import exact_factor, first_precision, softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def target_sampling(scores: ArrayLike, target: int, subset: Sequence[int], method: str = "auto") -> Enclosure:
    """Softmax over the target and a subset of the classes, as if there were no others.

    exp(s_k) / sum_{j in V'} exp(s_j), V' = {target} and the subset. No entry is less than the class's share
    of the whole softmax, whose denominator has more terms; where V' is every class they are equal.

    Parameters
    ----------
    scores : (K,), K >= 1, of all classes; those in V' finite.
    target, subset : indices into `scores`; the subset may name a class twice, or the target.

    Returns
    -------
    Enclosure (n,) of the classes of V' in ascending order.

    Raises
    ------
    DomainError : scores of another shape or not finite, or an index that no class has.
    ValueError : no such method.
    """
    values, _ = score_values(scores)
    members = sorted({class_of(k, len(values)) for k in (target, *subset)})
    _require_finite(values, members)
    return softmax([values[k] for k in members], method=method)


def sampled_softmax_loss(
    scores: ArrayLike,
    target: int,
    sample: Sequence[int],
    expected_counts: Sequence[float | Fraction],
    method: str = "auto",
    *,
    remove_accidental_hits: bool = True,
) -> Enclosure:
    """Cross-entropy of the target among itself and a sample, each score less the log of its expected count.

    log(1 + sum_j exp(s_j - s_t) c_t / c_j) over the sample's classes j, as often as each is in it; an
    accidental hit is the target in the sample, and is left out or counts as another class.

    Parameters
    ----------
    scores : (K,), K >= 1, of all classes.
    sample : indices into `scores`, with repeats.
    expected_counts : (K,), above 0, exact reals of the numbers given; of the classes at hand alone they
        matter, and only by their ratios. All alike, nothing is corrected.

    Returns
    -------
    Enclosure without axes; exactly 0 where the sample is empty or all hits.

    Raises
    ------
    DomainError : as `target_sampling`, or counts of another length or not above 0.
    ValueError : no such method.
    """
    known_method(method)
    values, prec = score_values(scores)
    counts = [exact_factor(count) for count in expected_counts]
    if len(counts) != len(values) or min(counts) <= 0:
        raise DomainError(f"expected_counts needs {len(values)} numbers above 0, one for each class")
    truth = class_of(target, len(values))
    drawn = [class_of(k, len(values)) for k in sample]
    others = [k for k in drawn if k != truth or not remove_accidental_hits]
    _require_finite(values, [truth, *others])
    terms = collected(
        [(Fraction(0), Fraction(1))]
        + [(Fraction(values[k]) - Fraction(values[truth]), counts[truth] / counts[k]) for k in others]
    )
    cells = Cells()
    if terms == {Fraction(0): Fraction(1)}:
        place = cells.add_exact(Fraction(0))
    else:
        place = cells.add_block(partial(_log_of_sum, terms, method), prec)
    return Enclosure(cells, np.array(place, dtype=np.int64))


def collected(terms: Iterable[tuple[Fraction, Fraction]]) -> dict[Fraction, Fraction]:
    """Sum of coefficient exp(exponent), of pairs (exponent, coefficient), with equal exponents together."""
    sums: dict[Fraction, Fraction] = {}
    for exponent, coefficient in terms:
        sums[exponent] = sums.get(exponent, Fraction(0)) + coefficient
    return sums


def score_values(scores: ArrayLike) -> tuple[list[float], int]:
    """Scores of the classes, and the precision at which what depends on them is first evaluated.

    Raises
    ------
    DomainError : not one axis with at least one score, or an unsupported dtype.
    """
    values, fmt = as_floats(scores, "scores")
    if values.ndim != 1 or not values.size:
        raise DomainError(f"scores has shape {values.shape} and needs one axis with at least one class")
    return values.tolist(), first_precision(fmt)


def class_of(k: object, classes: int) -> int:
    """Index of a class.

    Raises
    ------
    DomainError : no class has it.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k < classes:
        raise DomainError(f"{k!r} is none of the classes 0 to {classes - 1}")
    return int(k)


def _require_finite(values: list[float], members: list[int]) -> None:
    if not all(math.isfinite(values[k]) for k in members):
        raise DomainError("the score of a class in the sample is not finite")


def _log_of_sum(terms: dict[Fraction, Fraction], method: str, prec: int) -> list[Interval]:
    """Logarithm of a sum of exponentials with coefficients above 0, of which one is 1 at least.

    No rational: exp(r) equal to a sum of two exponentials, or to a rational above 1, contradicts Lindemann
    and Weierstrass.
    """
    top = max(terms)
    weight = terms[top]
    rest = [(exponent - top, value / weight) for exponent, value in terms.items() if exponent != top]

    def formula(reals: Reals) -> list[Real]:
        parts = [reals.rational(top)]
        if weight != 1:
            parts.append(reals.log(reals.rational(weight)))
        if rest:
            parts.append(reals.log1p(summed([reals.rational(c) * reals.exp(gap) for gap, c in rest])))
        return [summed(parts)]

    (value,) = evaluate(formula, method, len(terms), prec)
    # The rest may be smaller than any precision reaches: that it is above 0 decides the rounding then.
    if weight == 1 and top.denominator & (top.denominator - 1) == 0:
        value = above(value, top.numerator, 1 - top.denominator.bit_length())
    return [value]
