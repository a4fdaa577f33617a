"""Derivatives: the Jacobian that vjp and jvp act by, and the gradient of logsumexp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row, output_near, probabilities
from softcert.conformance.inputs.growing import call_of, trial_of
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.evidence import broken, relation_finding
from softcert.conformance.judging.judge import judge_values, quantity
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import PRODUCT_OPS, Clause, Seedling
from softcert.reference import softmax

Matrix = list[list[Fraction]]


def _grow_jacobian(seedling: Seedling, context: Context) -> Trial:
    """One call with every unit vector: its rows are the rows of the Jacobian at y."""
    y, _ = seedling.operands
    n = y.shape[-1]
    eye = np.eye(n).astype(y.dtype)
    tiled = np.ascontiguousarray(np.broadcast_to(y, (n, n)))
    return trial_of(seedling, call_of(seedling, context, (tiled, eye)))


def _grow_simplex(seedling: Seedling, context: Context) -> Trial | None:
    """The Jacobian at a y that sums to exactly 1, which smaller ones need not do."""
    y, _ = seedling.operands
    if sum((Fraction(float(v)) for v in y.ravel()), Fraction(0)) != 1:
        return None
    return _grow_jacobian(seedling, context)


def _rows(context: Context) -> Iterator[Seedling]:
    for n in (1, 2, 3, 5, 8):
        for family in ("normal", "equal", "one-hot", "ties", "increasing"):
            y = output_near(context.op, make_row(family, n, n, 2.0, context.dtype))
            yield Seedling((y, np.zeros_like(y)), family=family)
        yield _dyadic(context, n)


def _dyadic(context: Context, n: int) -> Seedling:
    """Probabilities that sum to exactly 1."""
    y = (2.0 ** -np.minimum(np.arange(1, n + 1), max(n - 1, 1))).astype(as_dtype(context.dtype))
    if n == 1:
        y = np.ones_like(y)
    return Seedling((y, np.zeros_like(y)), family="dyadic")


def _dyadic_rows(context: Context) -> Iterator[Seedling]:
    return (_dyadic(context, n) for n in (1, 2, 3, 5, 8))


def _exact(a: Array) -> Matrix:
    return [[Fraction(float(v)) for v in row] for row in a]


def _slack(call: Call, context: Context) -> Matrix:
    """Absolute bound of each entry, as rationals."""
    return _exact(context.absolute_bound(call))


Relation = Callable[[Matrix, Matrix], tuple[tuple[int, int], str] | None]


def _relate(relation: Relation) -> Callable[[Trial, tuple[Array, ...], Context], Judgement]:
    """Judge the entries, then a relation among them, in rational arithmetic."""

    def judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
        call, value = trial.calls[0], results[0]
        if not np.isfinite(value.astype(np.float64)).all():
            return judge_values(trial, results, context)
        broken_at = relation(_exact(value), _slack(call, context))
        if broken_at is None:
            return judge_values(trial, results, context)
        at, message = broken_at
        return broken(relation_finding(0, at, quantity(call, at), value[at], message), int(value.size))

    return judge


def _asymmetry(jacobian: Matrix, slack: Matrix) -> tuple[tuple[int, int], str] | None:
    for i, row in enumerate(jacobian):
        for j in range(i):
            if abs(row[j] - jacobian[j][i]) > slack[i][j] + slack[j][i]:
                return (
                    i,
                    j,
                ), f"J[{i}, {j}] = {float(row[j]):.9g} but J[{j}, {i}] = {float(jacobian[j][i]):.9g}"
    return None


def _row_sum(jacobian: Matrix, slack: Matrix) -> tuple[tuple[int, int], str] | None:
    for i, row in enumerate(jacobian):
        if abs(sum(row, Fraction(0))) > sum(slack[i], Fraction(0)):
            return (i, 0), f"row {i} of the Jacobian sums to {float(sum(row)):.4g}, not 0"
    return None


def _indefinite(jacobian: Matrix, slack: Matrix) -> tuple[tuple[int, int], str] | None:
    """v^T J v for v = unit vectors and their differences; on the simplex it is a variance, never negative."""
    n = len(jacobian)
    for i in range(n):
        if jacobian[i][i] < -slack[i][i]:
            return (i, i), f"J[{i}, {i}] = {float(jacobian[i][i]):.4g} is negative"
        for j in range(i):
            form: Fraction = jacobian[i][i] + jacobian[j][j] - jacobian[i][j] - jacobian[j][i]
            if form < -(slack[i][i] + slack[j][j] + slack[i][j] + slack[j][i]):
                return (i, j), f"the quadratic form of e_{i} - e_{j} is {float(form):.4g}, which is negative"
    return None


def _grow_adjoint(seedling: Seedling, _context: Context) -> Trial:
    y, dx = seedling.operands
    dy = np.ascontiguousarray(dx[..., ::-1])
    params = {"axis": -1}
    calls = Call("softmax_vjp", (y, dy), params), Call("softmax_jvp", (y, dx), params)
    return trial_of(seedling, *calls)


def _judge_adjoint(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """<vjp(dy), dx> = <dy, jvp(dx)>, exactly summed, within the two weighted bounds."""
    if not all(np.isfinite(r.astype(np.float64)).all() for r in results):
        return judge_values(trial, results, context)
    pullback, pushforward = trial.calls
    pairs = ((results[0], pushforward.operands[1], pullback), (results[1], pullback.operands[1], pushforward))
    sides: list[Fraction] = []
    slack = Fraction(0)
    for value, other, call in pairs:
        weights = [Fraction(float(v)) for v in other.ravel()]
        terms = (Fraction(float(v)) * w for v, w in zip(value.ravel(), weights, strict=True))
        sides.append(sum(terms, Fraction(0)))
        allowed = _slack_of_row(call, context)
        slack += sum((s * abs(w) for s, w in zip(allowed, weights, strict=True)), Fraction(0))
    if abs(sides[0] - sides[1]) <= slack:
        return judge_values(trial, results, context)
    message = f"<vjp(dy), dx> = {float(sides[0]):.9g} but <dy, jvp(dx)> = {float(sides[1]):.9g}"
    finding = relation_finding(
        0, None, "<vjp(dy), dx> - <dy, jvp(dx)>", f"{float(sides[0] - sides[1])!r}", message
    )
    return broken(finding, int(results[0].size))


def _slack_of_row(call: Call, context: Context) -> list[Fraction]:
    return [Fraction(float(v)) for v in context.absolute_bound(call).ravel()]


def _tangents(context: Context) -> Iterator[Seedling]:
    for n in (2, 3, 8, 17):
        for family in ("normal", "one-hot", "ties"):
            y = probabilities(make_row(family, n, n, 2.0, context.dtype))
            yield Seedling((y, make_row("normal", n, n + 1, 3.0, context.dtype)), family=family)


def _grow_gradient(seedling: Seedling, context: Context) -> Trial | None:
    """The row, and the row with one logit raised by an exact step."""
    (x,) = seedling.operands
    place, step = int(seedling.extra["place"]), float(seedling.extra["step"])
    raised = x.copy()
    raised[place] = x[place] + x.dtype.type(step)
    if Fraction(float(raised[place])) != Fraction(float(x[place])) + Fraction(step):
        return None
    relation = {"place": place, "step": step}
    return trial_of(
        seedling, call_of(seedling, context), call_of(seedling, context, (raised,)), relation=relation
    )


def _judge_gradient(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """lse is convex with gradient softmax: its difference quotient lies between the two probabilities."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    place, step = int(trial.relation["place"]), Fraction(float(trial.relation["step"]))
    rise = Fraction(float(results[1])) - Fraction(float(results[0]))
    slack = Fraction(0)
    for call in trial.calls:
        slack += Fraction(context.absolute_bound(call).item())
    low, high = (softmax(call.operands[0])[place].bounds_decimal(30) for call in trial.calls)
    floor, ceiling = Fraction(str(low[0])) * step - slack, Fraction(str(high[1])) * step + slack
    if floor <= rise <= ceiling:
        return values
    return combine([broken(_gradient_finding(trial, results, place, rise / step), values.elements)])


def _gradient_finding(trial: Trial, results: tuple[Array, ...], place: int, slope: Fraction) -> Finding:
    message = (
        f"logsumexp rises by {float(slope):.9g} per unit of logit {place}, outside the softmax at both ends"
    )
    observed = " - ".join(float(r).hex() for r in reversed(results))
    return relation_finding(1, (), quantity(trial.calls[1], ()), observed, message)


def _raised(context: Context) -> Iterator[Seedling]:
    for n in (1, 2, 3, 7, 16):
        for place in sorted({0, n // 2, n - 1}):
            for step in (0.5, 2.0, 8.0):
                x = np.rint(make_row("normal", n, n, 2.0, context.dtype).astype(np.float64) * 4) / 4
                extra = {"place": place, "step": step}
                yield Seedling((x.astype(as_dtype(context.dtype)),), family="grid", extra=extra)


_SOURCE = "d softmax_i / d x_j = p_i (delta_ij - p_j), derived by sympy for a symbolic number of classes"

CLAUSES = (
    Clause(
        id="jacobian.symbolic",
        statement="vjp and jvp of every unit vector give the rows of the symbolic Jacobian",
        mathematics="J_ij = y_i (delta_ij - y_j); of entmax s_i (delta_ij - s_j / sum_k s_k), "
        "s_i = y_i^(2 - alpha) where y_i > 0 and else 0",
        source=_SOURCE,
        in_practice="the sum term left out, softmax applied twice, a mean in place of a sum",
        ops=PRODUCT_OPS,
        directed=_rows,
        grow=_grow_jacobian,
        judge=judge_values,
    ),
    Clause(
        id="jacobian.symmetric",
        statement="the Jacobian is symmetric",
        mathematics="J_ij = J_ji",
        source=_SOURCE,
        in_practice="a forward-mode rule written as the transpose of another function's",
        ops=PRODUCT_OPS,
        directed=_rows,
        grow=_grow_jacobian,
        judge=_relate(_asymmetry),
        effort=0.5,
    ),
    Clause(
        id="jacobian.rows-sum-to-zero",
        statement="the rows of the Jacobian sum to 0 where the probabilities sum to exactly 1",
        mathematics="sum_j J_ij = y_i (1 - sum_j y_j) = 0, and s_i (1 - 1) = 0",
        source=_SOURCE,
        in_practice="gradients that push all logits the same way",
        ops=PRODUCT_OPS,
        directed=_dyadic_rows,
        grow=_grow_simplex,
        judge=_relate(_row_sum),
        effort=0.5,
    ),
    Clause(
        id="jacobian.positive-semidefinite",
        statement="the Jacobian has no negative direction on the simplex",
        mathematics="v^T J v = Var_y(v) >= 0, with the weights s in place of y the same",
        source=_SOURCE,
        in_practice="a wrong sign",
        ops=PRODUCT_OPS,
        directed=_dyadic_rows,
        grow=_grow_simplex,
        judge=_relate(_indefinite),
        effort=0.5,
    ),
    Clause(
        id="jacobian.adjoint",
        statement="vjp and jvp are adjoint",
        mathematics="<vjp(y, dy), dx> = <dy, jvp(y, dx)>",
        source=_SOURCE,
        in_practice="forward and reverse mode of two different functions",
        ops=("softmax_vjp",),
        directed=_tangents,
        grow=_grow_adjoint,
        judge=_judge_adjoint,
        applies=lambda c: None if "softmax_jvp" in c.ops else "the subject has no softmax_jvp",
    ),
    Clause(
        id="jacobian.lse-gradient",
        statement="the gradient of logsumexp is softmax",
        mathematics="p_i(x) <= (lse(x + h e_i) - lse(x)) / h <= p_i(x + h e_i), lse being convex",
        source="d lse / d x_i = p_i, derived by sympy for a symbolic number of classes",
        in_practice="a logarithm to another base, a term missing from the sum",
        ops=("logsumexp",),
        directed=_raised,
        grow=_grow_gradient,
        judge=_judge_gradient,
    ),
)
