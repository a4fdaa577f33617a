"""Findings about a row as a distribution: how far it is from arg max, its mean and its energies.

exp and log of rationals are evaluated by the standard library's decimal arithmetic, one rounding each.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

from exact_rows import Interval, UnknownError, in_digits
from witness_record import FalseError, Record, read_ends, read_number

DIGITS = 60
#: Gaps of logits beyond which exp is not evaluated.
_WIDEST = 10**6
#: Chance of accusing a row of actions by bad luck.
_BY_CHANCE = 2.0**-40


def _context(digits: int) -> Context:
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _decimal(value: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def exp_of(value: Fraction, digits: int) -> Interval:
    """exp of a rational: the argument is rounded once, the result once."""
    if abs(value) > _WIDEST:
        raise UnknownError(f"exp({in_digits(value)}) is out of reach")
    context = _context(digits)
    near = Fraction(context.exp(_decimal(value, context)))
    slack = (abs(value) + 1) * 2 * Fraction(10) ** (1 - digits)
    return Interval(near * (1 - slack), near * (1 + slack))


def log_of(value: Fraction, digits: int) -> Interval:
    """Logarithm of a positive rational, its argument rounded once and the result once."""
    context = _context(digits)
    near = Fraction(context.ln(_decimal(value, context)))
    slack = (abs(near) + 2) * 2 * Fraction(10) ** (1 - digits)
    return Interval(near - slack, near + slack)


def require_inside(value: Interval, claimed: object, what: str) -> None:
    """Raise FalseError where an enclosure that a finding states does not hold the exact value."""
    ends = read_ends(claimed)
    if ends and value.inside(*ends) is False:
        raise FalseError(f"the enclosure does not hold {what}, {in_digits(value.lo)}")


def _decay(gap: Fraction) -> Interval:
    """exp(-gap), gap >= 0; of gaps out of reach only that it is next to nothing."""
    if gap > _WIDEST:
        return Interval(Fraction(0), Fraction(1, 10**400))
    return exp_of(-gap, DIGITS)


def _gaps(record: Record) -> list[Fraction]:
    """How far each logit of the finding's row, times beta, lies below the largest."""
    (row,), _ = record.rows(record.position, record.index)
    logits = [record.beta(record.position) * Fraction(v) for v in row]
    top = max(logits)
    return [top - v for v in logits]


def _answers(record: Record) -> list[Fraction]:
    reply = record.reply(record.position).row(record.index, record.axis(record.position))
    if not all(math.isfinite(v) for v in reply):
        raise UnknownError("the outputs are not all finite")
    return [Fraction(v) for v in reply]


def _compared(record: Record, computed: Fraction, exact: Interval, what: str) -> str:
    """What a finding says of a number computed from a row of outputs, which exactly is another."""
    require_inside(exact, record.finding.get("exact"), f"the exact {what}")
    # It need not be a float: it is stated as the nearest double.
    stated = Fraction(read_number(record.finding["observed"]))
    if abs(stated - computed) > abs(computed) * Fraction(1, 2**52):
        raise FalseError(f"observed is stated as {in_digits(stated)}, the {what} is {in_digits(computed)}")
    if exact.lo <= computed <= exact.hi:
        raise FalseError(f"the {what} is the exact one, {in_digits(computed)}")
    return f"the {what} is {in_digits(computed)}, exactly {in_digits(exact.lo)}"


def check_distance(record: Record) -> str:
    """How far the outputs of a row are from arg max: 2R/(m + R), or max(R/m, e^-gap)/(m + R), exactly."""
    gaps, answers = _gaps(record), _answers(record)
    ties = gaps.count(0)
    weights = [_decay(gap) for gap in gaps if gap]
    rest = Interval(sum(w.lo for w in weights), sum(w.hi for w in weights))
    next_one = Interval(max((w.lo for w in weights), default=0), max((w.hi for w in weights), default=0))
    moved = [Fraction(1, ties) - p if gap == 0 else p for gap, p in zip(gaps, answers, strict=True)]
    if str(record.finding["quantity"]).endswith("1-norm"):
        exact = Interval(2 * rest.lo / (ties + rest.lo), 2 * rest.hi / (ties + rest.hi))
        return _compared(record, sum(moved, Fraction(0)), exact, "distance from arg max")
    largest = Interval(max(rest.lo / ties, next_one.lo), max(rest.hi / ties, next_one.hi))
    exact = Interval(largest.lo / (ties + rest.hi), largest.hi / (ties + rest.lo))
    return _compared(record, max(moved), exact, "largest distance from arg max")


def check_mean(record: Record) -> str:
    """The mean of the logits under the outputs of a row, normalised, below the maximum."""
    gaps, answers = _gaps(record), _answers(record)
    if not sum(answers):
        raise UnknownError("the outputs sum to 0")
    computed = sum((g * p for g, p in zip(gaps, answers, strict=True)), Fraction(0)) / sum(answers)
    weights = [_decay(gap) for gap in gaps]
    low, high = (
        sum((g * end for g, end in zip(gaps, ends, strict=True)), Fraction(0))
        for ends in ([w.lo for w in weights], [w.hi for w in weights])
    )
    exact = Interval(low / sum(w.hi for w in weights), high / sum(w.lo for w in weights))
    return _compared(record, computed, exact, "mean below the maximum")


def check_tropical(record: Record) -> str:
    """Logsumexp below max + log m, or above max + log(m + (n - m) e^-gap), m maxima of n logits."""
    (row,), _ = record.rows(record.position, record.index)
    value, top = Fraction(record.observed()), Fraction(max(row))
    below = [top - Fraction(v) for v in row if v < max(row)]
    ties = len(row) - len(below)
    share = _decay(min(below)).hi * len(below) if below else Fraction(0)
    floor, ceiling = top + log_of(Fraction(ties), DIGITS).lo, top + log_of(ties + share, DIGITS).hi
    if floor <= value <= ceiling:
        raise FalseError("the reply lies between max + log m and max + log(m + (n - m) e^-gap)")
    return f"{in_digits(value)} lies outside [{in_digits(floor)}, {in_digits(ceiling)}]"


def check_capacity(record: Record) -> str:
    """The variance of the logits under the outputs of a row, normalised."""
    gaps, answers = _gaps(record), _answers(record)
    if not sum(answers):
        raise UnknownError("the outputs sum to 0")
    weights = [_decay(gap) for gap in gaps]
    first = sum((g * p for g, p in zip(gaps, answers, strict=True)), Fraction(0)) / sum(answers)
    computed = sum(((g - first) ** 2 * p for g, p in zip(gaps, answers, strict=True)), Fraction(0))
    # sum over a < b of w_a w_b (g_a - g_b)^2, equal gaps together, over the square of the sum of the weights
    levels = {gap: gaps.count(gap) for gap in gaps}
    ends = []
    for low in (True, False):
        w = {g: n * (_decay(g).lo if low else _decay(g).hi) for g, n in levels.items()}
        ends.append(sum((w[a] * w[b] * (a - b) ** 2 for a in w for b in w if a < b), Fraction(0)))
    low_sum, high_sum = sum(w.lo for w in weights), sum(w.hi for w in weights)
    exact = Interval(ends[0] / high_sum**2, ends[1] / low_sum**2)
    return _compared(record, computed / sum(answers), exact, "variance of the logits")


def check_slope(record: Record) -> str:
    """The slope of log Z lies outside minus the mean energies at the two inverse temperatures."""
    low, high = (Fraction(record.relation[name]) for name in ("low", "high"))
    energies = [Fraction(float.fromhex(e)) for e in record.relation["energies"]]
    for call, coldness in enumerate((low, high)):
        if [Fraction(v) for v in record.operands(call)[0].values] != [-coldness * e for e in energies]:
            raise FalseError(f"the logits of call {call} are not -{in_digits(coldness)} times the energies")
    if low >= high:
        raise FalseError("the inverse temperatures do not rise")
    replies = [Fraction(record.reply(call).at(())) for call in (0, 1)]
    means = [_mean_energy(energies, coldness) for coldness in (low, high)]
    exact = Interval(-means[0].hi, -means[1].lo)
    return _compared(record, (replies[1] - replies[0]) / (high - low), exact, "slope of log Z")


def _mean_energy(energies: list[Fraction], coldness: Fraction) -> Interval:
    ground = min(energies, key=lambda e: coldness * e)
    weights = [_decay(coldness * (e - ground)) for e in energies]
    total = Interval(sum(w.lo for w in weights), sum(w.hi for w in weights))
    above = [
        sorted((w.lo * (e - ground), w.hi * (e - ground))) for w, e in zip(weights, energies, strict=True)
    ]
    ends = sum((a[0] for a in above), Fraction(0)), sum((a[1] for a in above), Fraction(0))
    quotients = [end / t for end in ends for t in (total.lo, total.hi)]
    return Interval(ground + min(quotients), ground + max(quotients))


def check_free(record: Record) -> str:
    """log Z less the maximum, plus the mean gap, less the entropy of the outputs, which exactly is 0."""
    gaps, answers = _gaps(record), _answers(record)
    if [record.op(call) for call in (0, 1)] != ["softmax", "logsumexp"]:
        raise FalseError("the calls are not a softmax and a logsumexp")
    if not record.operands(0)[0].same(record.operands(1)[0]):
        raise FalseError("the two calls are not of the same logits")
    if min(answers) < 0:
        raise UnknownError("an output is negative")
    top = max(Fraction(v) for v in record.operands(0)[0].values)
    entropy = [-p * log_of(p, DIGITS).lo for p in answers if p]
    mean = sum((g * p for g, p in zip(gaps, answers, strict=True)), Fraction(0))
    computed = Fraction(record.reply(1).at(())) - top + mean - sum(entropy, Fraction(0))
    slack = Fraction(1, 2**48) * (1 + sum(entropy, Fraction(0)))
    stated = Fraction(read_number(record.finding["observed"]))
    if abs(stated - computed) > slack:
        raise FalseError(f"observed is stated as {in_digits(stated)}, it is {in_digits(computed)}")
    if abs(computed) <= slack:
        raise FalseError(f"log Z + sum p log p + beta <E> is {in_digits(computed)}, next to 0")
    return f"log Z + sum p log p + beta <E> is {in_digits(computed)}, exactly 0"


def check_draws(record: Record) -> str:
    """How often an action is drawn by inversion of the outputs, against the binomial of its probability.

    Chernoff: a count so far off has at most the chance exp(-draws D), D the relative entropy of two coins.
    """
    gaps, answers = _gaps(record), _answers(record)
    _, place = record.rows(record.position, record.index)
    draws, seed = int(record.relation["draws"]), int(record.relation["seed"])
    generator = random.Random(seed)  # noqa: S311 - a statistic, not a secret
    edges = list(itertools.accumulate(float(p) for p in answers))[:-1]
    chosen = (bisect.bisect_right(edges, generator.random()) for _ in range(draws))
    count = sum(action == place for action in chosen)
    if read_number(record.finding["observed"]) != count:
        raise FalseError(f"observed is stated as {record.finding['observed']}, {count} draws are counted")
    weights = [_decay(gap) for gap in gaps]
    p = Interval(
        weights[place].lo / sum(w.hi for w in weights), weights[place].hi / sum(w.lo for w in weights)
    )
    rate = Fraction(count, draws)
    if p.lo <= rate <= p.hi:
        raise FalseError(f"{count} of {draws} is what is expected")
    near = p.hi if rate > p.hi else p.lo
    chance = math.exp(-draws * _coins(float(rate), float(near)))
    if chance > _BY_CHANCE / (2 * len(answers)):
        raise FalseError(f"{count} of {draws} happens by chance, as often as {chance:.3g}")
    return (
        f"{count} draws of {draws} where {in_digits(near * draws)} are expected: by chance below {chance:.3g}"
    )


def _coins(rate: float, p: float) -> float:
    terms = ((rate, p), (1 - rate, 1 - p))
    return sum(a * math.log(a / b) if b else math.inf for a, b in terms if a)
