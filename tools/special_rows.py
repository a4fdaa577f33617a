"""Rows with NaN or infinities: they have no exact value, and a finding says by which rule it judges them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from exact_rows import UnknownError
from witness_record import FalseError

DERIVATIVES = frozenset({"softmax_vjp", "softmax_jvp"})

#: Whether a reply keeps to a rule: the reply, the limit that its op gives beside +inf, whether the
#: logit at its place is +inf, and the length of the row.
Rule = Callable[[float, float, bool, int], bool]

RULES: Mapping[str, Rule] = {
    "NaN": lambda v, *_: math.isnan(v),
    "-inf": lambda v, *_: v == -math.inf,
    "NaN or -inf": lambda v, *_: math.isnan(v) or v == -math.inf,
    "0": lambda v, *_: v == 0.0,
    "1/n": lambda v, _limit, _top, n: math.isclose(v * n, 1.0, abs_tol=1e-2),
    "+inf or NaN": lambda v, *_: math.isnan(v) or v == math.inf,
    "NaN at +inf, and NaN or the limit elsewhere": lambda v, limit, top, _n: (
        math.isnan(v) or (not top and v == limit)
    ),
}
#: The rules that a contract may declare for a kind of row, the strict one first.
DECLARABLE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("+inf", "logsumexp"): ("+inf or NaN",),
    ("+inf", "softmax"): ("NaN at +inf, and NaN or the limit elsewhere",),
    ("+inf", "log_softmax"): ("NaN at +inf, and NaN or the limit elsewhere",),
    ("-inf only", "logsumexp"): ("-inf",),
    ("-inf only", "log_softmax"): ("NaN or -inf",),
    ("-inf only", "softmax"): ("NaN", "0", "1/n"),
}


def scaled(row: Sequence[float], beta: Fraction) -> list[float]:
    """The logits as far as their infinities and NaNs go; beta 0 turns an infinity into NaN."""
    sign = (beta > 0) - (beta < 0)
    return [v if math.isfinite(v) else v * sign for v in row]


def kind_of(op: str, rows: Sequence[Sequence[float]], beta: Fraction) -> str | None:
    """What makes a row special; None where its result has an exact value."""
    if op in DERIVATIVES:
        return None if all(math.isfinite(v) for row in rows for v in row) else "NaN"
    logits = scaled(rows[0], beta)
    if any(math.isnan(v) for v in logits):
        return "NaN"
    if math.inf in logits:
        return "+inf"
    return "-inf only" if all(v == -math.inf for v in logits) else None


def check_rule(op: str, row: Sequence[float], place: int, kind: str, reply: float, message: str) -> str:
    """Check that a reply breaks the rule for its row that the finding's message names.

    Parameters
    ----------
    row : the logits, times the sign of beta where they are infinite.
    kind : what makes the row special.
    message : of the finding; where it names no rule, the strict one is taken.

    Raises
    ------
    FalseError : the reply keeps to the rule, or no contract may declare this rule for such a row.
    """
    allowed = ("NaN",) if kind == "NaN" else DECLARABLE.get((kind, op), ())
    if not allowed:
        raise UnknownError(f"there is no rule for {op} of a row with {kind}")
    named = re.search(r"where it must give ([^;]+)", message)
    rule = named[1] if named else allowed[0]
    if rule not in allowed:
        raise FalseError(f"no contract asks for {rule} of a row with {kind}")
    limit = 0.0 if op == "softmax" else -math.inf
    if RULES[rule](reply, limit, op != "logsumexp" and row[place] == math.inf, len(row)):
        raise FalseError(f"the reply is {reply!r}, which is the right value")
    return f"{reply!r} where the rules ask for {rule}"
