"""Findings that compare replies with each other: each relation is taken again from the replies themselves.

The numbers of a reply are rational, so that sums, products and orders of them are exact here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from distributions import (
    DIGITS,
    check_capacity,
    check_distance,
    check_draws,
    check_free,
    check_mean,
    check_slope,
    check_tropical,
    exp_of,
    log_of,
    require_inside,
)
from exact_rows import (
    FORMATS,
    Interval,
    UnknownError,
    exact_element,
    in_digits,
    overflow_threshold,
    ulp_at,
)
from mean_errors import check_mean as check_mean_error
from witness_record import (
    FalseError,
    Record,
    Tensor,
    check_bound,
    read_number,
)

Check = Callable[[Record], str]
Matrix = list[list[Fraction]]

# --- ratios ---


def check_ratio(record: Record) -> str:
    """Luce's ratio of two outputs of a row against exp(beta (x_i - x_j)), in ulps of 1 of its logarithm."""
    names = re.findall(r"\[([^]]*)\]", str(record.finding["quantity"]))
    first, second = ([int(k) for k in name.split(",")] for name in names)
    call, reply = record.position, record.reply(record.position)
    axis, x = record.axis(call), record.operands(call)[0]
    if tuple(first) != record.index or {*enumerate(first)} ^ {*enumerate(second)} != {
        (axis, first[axis]),
        (axis, second[axis]),
    }:
        raise FalseError("the two elements are not two of one row, the first that of the finding")
    upper, lower = reply.at(first), reply.at(second)
    stated = [read_number(part) for part in str(record.finding["observed"]).split("/")]
    if stated != [upper, lower]:
        raise FalseError(f"observed is stated as {record.finding['observed']}, not {upper!r} / {lower!r}")
    gap = record.beta(call) * (Fraction(x.at(first)) - Fraction(x.at(second)))
    require_inside(exp_of(gap, DIGITS), record.finding.get("exact"), "the exact ratio")
    error = check_bound(record.finding)
    if error is None:
        raise UnknownError("the finding states no error")
    if upper < 0 or lower < 0 or not math.isfinite(lower) or math.isnan(upper) or upper == lower == 0:
        raise FalseError(f"{upper!r} / {lower!r} has no logarithm")
    if lower == 0 or upper in (0, math.inf):
        return f"the ratio is {upper!r} / {lower!r}, infinitely far from the exact one"
    logs = [log_of(Fraction(v), DIGITS) for v in (upper, lower)]
    unit = Fraction(2) ** (FORMATS[reply.dtype][0] - 1)
    spread = Interval((logs[0].lo - logs[1].hi - gap) * unit, (logs[0].hi - logs[1].lo - gap) * unit)
    if not spread.inside(*error):
        raise FalseError(f"the ratio is {in_digits(spread.lo)} ulps of 1 away, outside the interval stated")
    return f"the ratio is {in_digits(spread.lo)} ulps of 1 from exp of the gap {in_digits(gap)}"


# --- order, range, limits: one output against its row ---


def check_order(record: Record) -> str:
    """Another logit of the row is not larger, and its output is."""
    (row,), place = record.rows(record.position, record.index)
    beta, mine = record.beta(record.position), record.observed()
    logits = [beta * Fraction(v) if math.isfinite(v) else v for v in row]
    replies = record.reply(record.position).row(record.index, record.axis(record.position))
    higher = [k for k, v in enumerate(replies) if logits[k] <= logits[place] and v > mine]
    if not higher:
        raise FalseError("no logit that is not larger has a larger output")
    worst = max(higher, key=lambda k: replies[k])
    return f"logit {row[place]!r} gets {mine!r} while {row[worst]!r} gets {replies[worst]!r}"


def check_range(record: Record) -> str:
    """A probability outside [0, 1], or a log-probability above 0 or infinite."""
    value, op = record.observed(), record.op(record.position)
    (row,), place = record.rows(record.position, record.index)
    if op == "log_softmax" and value == -math.inf:
        exact = exact_element(op, [row], place, record.beta(record.position))(DIGITS)
        if row[place] == -math.inf or exact.lo <= -overflow_threshold(record.reply(record.position).dtype):
            raise FalseError("the reply is -inf, which the exact value rounds to")
        return f"-inf where the exact value is {in_digits(exact.lo)}"
    if value <= 0 if op == "log_softmax" else 0 <= value <= 1:
        raise FalseError(f"the reply {value!r} lies in the range of {op}")
    return f"{value!r} lies outside the range of {op}"


# --- derivatives ---


def _jacobian(record: Record) -> tuple[Matrix, Matrix]:
    """The Jacobian as computed and as it is, of a call that asks for it with every unit vector."""
    y, unit = (operand.matrix() for operand in record.operands(record.position))
    n = len(unit)
    if unit != [[Fraction(i == j) for j in range(n)] for i in range(n)] or y != [y[0]] * n:
        raise FalseError("the call does not ask for the rows of a Jacobian")
    exact = [[y[0][i] * ((i == j) - y[0][j]) for j in range(n)] for i in range(n)]
    record.observed()
    return record.reply(record.position).matrix(), exact


def check_symmetry(record: Record) -> str:
    """Two entries that the diagonal mirrors differ."""
    computed, exact = _jacobian(record)
    i, j = record.index
    if computed[i][j] == computed[j][i]:
        raise FalseError(f"J[{i}, {j}] and J[{j}, {i}] are the same")
    value, ulp = exact[i][j], ulp_at(Interval(exact[i][j], exact[i][j]), record.reply(record.position).dtype)
    errors = [in_digits(abs(computed[a][b] - value) / (ulp or 1)) for a, b in ((i, j), (j, i))]
    return f"J[{i}, {j}] and J[{j}, {i}] differ, {' and '.join(errors)} ulp from {in_digits(value)}"


def check_row_sum(record: Record) -> str:
    """A row of the Jacobian does not sum to 0, although the exact one does."""
    computed, exact = _jacobian(record)
    i = record.index[0]
    total, true = sum(computed[i], Fraction(0)), sum(exact[i], Fraction(0))
    if true:
        raise FalseError(f"the exact row {i} sums to {in_digits(true)} itself, not to 0")
    if not total:
        raise FalseError(f"row {i} sums to 0")
    return f"row {i} of the Jacobian sums to {in_digits(total)}, the exact one to 0"


def check_definite(record: Record) -> str:
    """The quadratic form of a unit vector, or of the difference of two, is negative."""
    matrices = _jacobian(record)
    i, j = record.index
    forms = [m[i][i] if i == j else m[i][i] + m[j][j] - m[i][j] - m[j][i] for m in matrices]
    if forms[1] < 0:
        raise FalseError(f"the exact quadratic form is {in_digits(forms[1])}, negative itself")
    if forms[0] >= 0:
        raise FalseError(f"the quadratic form is {in_digits(forms[0])}, which is not negative")
    return f"the quadratic form is {in_digits(forms[0])}, the exact one {in_digits(forms[1])}"


def check_adjoint(record: Record) -> str:
    """Pullback and pushforward of one row pair differently with each other's vectors."""
    (y, dy), (again, dx) = (record.operands(k) for k in (0, 1))
    if [record.op(k) for k in (0, 1)] != ["softmax_vjp", "softmax_jvp"] or not y.same(again):
        raise FalseError("the calls are not a vjp and a jvp at the same probabilities")
    sides = [
        sum((Fraction(a) * Fraction(b) for a, b in zip(p.values, q.values, strict=True)), Fraction(0))
        for p, q in ((record.reply(0), dx), (record.reply(1), dy))
    ]
    if sides[0] == sides[1]:
        raise FalseError(f"both sides are {in_digits(sides[0])}")
    if read_number(record.finding["observed"]) != Fraction(float(sides[0] - sides[1])):
        raise FalseError(f"the difference is {in_digits(sides[0] - sides[1])}, not what is stated")
    return f"<vjp(dy), dx> = {in_digits(sides[0])} but <dy, jvp(dx)> = {in_digits(sides[1])}"


def check_gradient(record: Record) -> str:
    """The slope of logsumexp along one logit lies outside the two probabilities between which it must."""
    place, step = int(record.relation["place"]), Fraction(record.relation["step"])
    before, after = ([Fraction(v) for v in record.operands(k)[0].values] for k in (0, 1))
    if step <= 0 or after != [v + step * (k == place) for k, v in enumerate(before)]:
        raise FalseError(f"the second row is not the first with logit {place} raised by {step}")
    replies = [Fraction(record.reply(k).at(())) for k in (1, 0)]
    stated = [read_number(part) for part in str(record.finding["observed"]).split(" - ")]
    if stated != replies:
        raise FalseError(f"observed is stated as {record.finding['observed']}, which is not in the replies")
    slope = (replies[0] - replies[1]) / step
    rows = [record.operands(k)[0].values for k in (0, 1)]
    low, high = (exact_element("softmax", [row], place, Fraction(1))(DIGITS) for row in rows)
    if low.lo <= slope <= high.hi:
        raise FalseError(f"the slope {in_digits(slope)} lies between the two probabilities")
    return f"the slope is {in_digits(slope)}, outside [{in_digits(low.lo)}, {in_digits(high.hi)}]"


# --- bits ---


def _different(first: Tensor, place: int, second: Tensor, other: int, what: str) -> str:
    if first.bits(place) == second.bits(other):
        raise FalseError(f"{what}: both are {first.values[place]!r}, bit for bit")
    return f"{what}: {first.values[place]!r} and {second.values[other]!r}"


def check_repeats(record: Record) -> str:
    """An earlier repetition of the call gave other bits than the last."""
    last = record.reply(record.position)
    if "distinct" not in record.replies[record.position]:
        raise FalseError("the reply records no repetition with other bits")
    earlier = Tensor.read(record.replies[record.position]["distinct"])
    stated = str(record.finding["observed"])
    held = " | ".join(t.at(record.index).hex() for t in (earlier, last))
    if stated != held:
        raise FalseError(f"observed is stated as {stated}, the repetitions hold {held}")
    if (earlier.dtype, earlier.shape) != (last.dtype, last.shape):
        return f"{earlier.dtype} {earlier.shape} once and {last.dtype} {last.shape} another time"
    return _different(earlier, earlier.place(record.index), last, last.place(record.index), "repetitions")


def check_state(record: Record) -> str:
    """The first call of the trial, made again after others, gave other bits."""
    last = record.position
    record.observed()
    first, again = record.calls[0], record.calls[last]
    same = all(first.get(key) == again.get(key) for key in ("op", "params", "layout"))
    if not same or not all(map(Tensor.same, record.operands(0), record.operands(last))) or not last:
        raise FalseError("the call is not the first one made again")
    replies = record.reply(0), record.reply(last)
    place = replies[1].place(record.index)
    return _different(replies[0], place, replies[1], place, "the first call and the same again")


def check_batch(record: Record) -> str:
    """A row of the batch, the first call, gave other bits than the same row alone."""
    row = record.position - 1
    record.observed()
    if row < 0 or record.axis(0) == 0:
        raise FalseError("the second call's operand is no row of the first: the axis reduced was cut")
    for whole, alone in zip(record.operands(0), record.operands(record.position), strict=True):
        size = len(alone.values)
        places = range(row * size, (row + 1) * size)
        if whole.shape[1:] != alone.shape[1:] or alone.shape[0] != 1 or places.stop > len(whole.values):
            raise FalseError(f"the operand is not of the shape of row {row} of the batch")
        if any(whole.bits(k) != alone.bits(k - places.start) for k in places):
            raise FalseError(f"the operand is not row {row} of the batch")
    together, alone = record.reply(0), record.reply(record.position)
    place = together.place((row, *record.index[1:]))
    return _different(together, place, alone, alone.place(record.index), f"row {row} in the batch and alone")


# --- the reply as a whole ---


def check_shape(record: Record) -> str:
    """The reply has another shape or dtype than its op gives."""
    operand, reply = record.calls[record.position]["operands"][0], record.replies[record.position]
    if "failure" in reply:
        raise UnknownError(f"the reply is not recorded ({reply['failure']})")
    shape = [int(n) for n in operand["shape"]]
    if record.op(record.position) == "logsumexp":
        del shape[record.axis(record.position)]
    given = f"{reply['dtype']} {tuple(int(n) for n in reply['shape'])}"
    wanted = f"{operand['dtype']} {tuple(shape)}"
    stated = str(record.finding["observed"])
    if stated != given:
        raise FalseError(f"observed is stated as {stated}, the reply is {given}")
    if given == wanted:
        raise FalseError(f"the reply is {given}, as it must be")
    return f"{given} where the op gives {wanted}"


def check_effects(record: Record) -> str:
    """The reply records each side effect that the finding names."""
    named = [name.strip() for name in str(record.finding["observed"]).split(",")]
    recorded = record.replies[record.position].get("side_effects", [])
    missing = [name for name in named if name not in recorded]
    if missing:
        raise FalseError(f"the reply does not record {missing[0] or 'any side effect'}")
    return f"the reply records {', '.join(named)}"


def check_failure(record: Record) -> str:
    """Nothing can be computed of a call that failed, but the reply must say the same."""
    reply, kind = record.replies[record.position], record.finding["observed"]
    if reply.get("failure") != kind:
        raise FalseError(f"the finding says {kind}, the reply {reply.get('failure', 'is an array')}")
    raise UnknownError(f"the call failed ({kind})")


#: By what the finding speaks of.
BY_QUANTITY: Mapping[str, Check] = {
    r"softmax\([^()]*\)\[[^]]+\] / softmax\([^()]*\)\[[^]]+\]": check_ratio,
    r"mean over [0-9]+ rows of the row's mean signed error": check_mean_error,
    r"distance of softmax\(x\) from arg max, (1-norm|maximum norm)": check_distance,
    r"max\(x\) - the mean of x under softmax\(x\)": check_mean,
    r"beta\^2 \(<E\^2> - <E>\^2\) under softmax\(-beta E\)": check_capacity,
    r"number of draws of one action": check_draws,
    r"slope of log Z between two inverse temperatures": check_slope,
    r"log Z \+ sum p log p \+ beta <E>": check_free,
    r"<vjp\(dy\), dx> - <dy, jvp\(dx\)>": check_adjoint,
    r"shape and dtype": check_shape,
    r"side effects": check_effects,
    r"the call itself": check_failure,
}
#: By clause, where the finding names an element and states neither an enclosure nor an error of it:
#: those that compare bits or several replies, for which the element need not be a number...
BY_CLAUSE_ANY: Mapping[str, Check] = {
    "determinism.repeat": check_repeats,
    "determinism.batch-invariance": check_batch,
    "purity.stateless": check_state,
    "jacobian.lse-gradient": check_gradient,
}
#: ...and those that compare it with others of its row or call, and where NaN is a finding by itself.
BY_CLAUSE_NUMBER: Mapping[str, Check] = {
    "order.monotone": check_order,
    "simplex.range": check_range,
    "limits.tropical": check_tropical,
    "jacobian.symmetric": check_symmetry,
    "jacobian.rows-sum-to-zero": check_row_sum,
    "jacobian.positive-semidefinite": check_definite,
}


def relation_of(record: Record) -> Check | None:
    """The check of a finding by what it speaks of; None where it speaks of one element or of a sum."""
    quantity = str(record.finding["quantity"])
    found = next((check for words, check in BY_QUANTITY.items() if re.fullmatch(words, quantity)), None)
    return found or (BY_CLAUSE_ANY.get(record.clause) if record.bare else None)
