"""The bounds are what docs/explanation/attention-bounds.md derives, restated here key by key.

The page's formulas are written out with loops in place of matrix products, and no programs shared with the
code that is held against them but the count of rescales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.inputs.attention_families import Shape, make_operands
from softcert.reference import format_of

TAU = 8.0 * np.log(2.0)
SHAPE = Shape(1, 1, 4, 7, 5, 3)
F16, F32, F64 = (format_of(name) for name in ("float16", "float32", "float64"))
MIXED = AttentionArithmetic(F16, F32, F32, F16, F32, F32, F16, F32, block=2, contiguous=False)

#: Fine formats whose small numbers are flushed; one begins so early that its underflow decides the bound.
SHALLOW = replace(F32, emin=-14)
FLUSHED = replace(MIXED, inputs=F32, weights=F32, result=F32, flush=True)

#: One part of the arithmetic in so narrow a format, or so bad, that its terms decide the bound.
LOUD = {
    "strict": MIXED,
    "compute": replace(MIXED, compute=F16, scores=F16, scaled=F16, accumulator=F64, weights=F64),
    "accumulator": replace(MIXED, accumulator=F16, weights=F64, result=F64, lse=F64),
    "weights": replace(MIXED, result=F64),
    "scores": replace(MIXED, scores=F16, weights=F64, result=F64),
    "scaled": replace(MIXED, scaled=F16, weights=F64, result=F64),
    "result": replace(MIXED, weights=F64),
    "exp": replace(MIXED, exp_ulp=3000.0, weights=F64, result=F64),
    "flush": replace(MIXED, flush=True),
    "no merge": replace(MIXED, merges=0, weights=F64, result=F64, lse=F64, compute=F16, scores=F16),
    "fused": replace(MIXED, fused=True, merges=0, compute=F16, scores=F16, weights=F64),
    "stored sums": replace(MIXED, gradient_block=2),
    "fused backward": replace(MIXED, unfused=False),
    "one merge more": replace(MIXED, merges=2, weights=F64, result=F64, compute=F16, scores=F16, scaled=F16),
    "narrow lse": replace(MIXED, lse=F16, weights=F64, result=F64),
    "coarse sums": replace(MIXED, accumulator=replace(F32, precision=4)),
    "lazy": replace(MIXED, compute=F16, scores=F16, scaled=F16, weights=F64, lazy_threshold=8.0, merges=0),
} | {
    f"underflow of {part}": replace(FLUSHED, **{part: SHALLOW})
    for part in ("inputs", "accumulator", "compute", "weights", "scores", "scaled", "result", "lse")
}

#: Errors on errors, where those are large and the formats that slack is given for are not theirs.
GROWTH = {"one merge more": 0.03, "narrow lse": 0.01} | {
    name: 1e-4 for name in LOUD if "underflow of" in name
}


def u(fmt):
    return fmt.unit_roundoff


def tiny(a, fmt, ulps=0.5):
    return fmt.min_normal if a.flush else ulps * fmt.eta


def narrower(fmt, a):
    return u(fmt) if fmt.precision < a.compute.precision else 0.0


def groups(a, n):
    return -(-n // a.group) * a.group


def additions(a, terms, most):
    return min(a.group * terms, groups(a, most)) * u(a.accumulator)


def mass(operands, i, j):
    return np.abs(operands.q[0, i]).sum() + np.abs(operands.k[0]).sum(axis=1).max()


def facts(operands, i, bias):
    q, k, scale = operands.q[0, i], operands.k[0], operands.factor
    s = scale * k @ q + bias
    sizes = abs(scale) * np.abs(k) @ np.abs(q)
    return s, sizes


def score_terms(a, operands, i, sizes, bias):
    """What errors of a score contribute, whether forward or backward."""
    d = operands.q.shape[-1]
    exponent = (groups(a, d) + 1) * u(a.accumulator) + 6 * u(a.compute) + 2 * narrower(a.scaled, a)
    lost = 2 * (tiny(a, a.compute) + tiny(a, a.scaled)) * mass(operands, i, None) + d * tiny(a, a.accumulator)
    lost += (4 + 2 * TAU) * (tiny(a, a.scores) + tiny(a, a.compute))
    return np.expm1(exponent) * sizes + lost + (5 * u(a.compute) + 4 * narrower(a.scores, a)) * np.abs(bias)


def lambdas(a, operands, i, bias):
    s, sizes = facts(operands, i, bias)
    n, m, c = len(s), s.max(), u(a.compute)
    gap, size = m - s, abs(m) + (m - s)
    eps = 2 * a.exp_ulp * c
    stored = max(c, u(a.lse))
    result = score_terms(a, operands, i, sizes, bias) + 5 * c * gap + 10 * c * TAU + eps
    result += (1 if a.fused else 2) * c * size + c * TAU + 4 * narrower(a.scores, a) * size
    lse = 4 * stored * (2 * size + np.log(n) + TAU) + (eps + 2 * c) * (np.log(n) + TAU)
    result += a.merges * (2 * lse + 5 * c * np.log(n) + eps)
    rescales = -(-n // a.block) - 1
    return s, result + rescales * (eps + u(a.accumulator)), rescales


def forward(a, operands, i, bias):
    """Bounds of out and lse of one query, and p, out and lse."""
    s, theta, rescales = lambdas(a, operands, i, bias)
    v, n, c = operands.v[0], len(s), u(a.compute)
    lse = s.max() + np.log(np.exp(s - s.max()).sum())
    p = np.exp(s - lse)
    y = p * np.expm1(theta)
    out, big = p @ v, np.log1p(y.sum())
    log_sum = lse - s.max()
    shift = np.minimum(
        np.sqrt(y.sum() * (y[:, None] * (v - out) ** 2).sum(axis=0)), y @ np.abs(v) + np.abs(out) * y.sum()
    )
    assert (shift >= y @ np.abs(v - out) * (1 - 1e-12)).all()
    sums = additions(a, n, n) + rescales * u(a.accumulator)
    lost_exp = tiny(a, a.compute, a.exp_ulp + 0.5)
    lost = n * lost_exp * np.exp(-log_sum)
    eps = 2 * a.exp_ulp * c
    held = (p + y) @ np.abs(v) * np.exp(big)
    rounded = 2 * max(c, u(a.lse)) * (2 * abs(s.max()) + log_sum + big + sums) + (eps + 2 * c) * log_sum
    logged = rounded + 2 * eps + 6 * c * (np.log(n) + theta.max())
    own = sums + 4 * (1 + a.merges) * c + u(a.accumulator) + u(a.weights)
    under = np.abs(v).sum(axis=0) * (lost_exp + tiny(a, a.weights))
    under = (under + (3 * n + rescales + 4) * tiny(a, a.accumulator)) * np.exp(own + rescales * eps + big)
    whole = np.exp(sums + 3 * c + lost + (logged if a.through_lse and n > 1 else 0.0))
    before = whole * (shift * np.exp(big) + held * np.expm1(own) + under) + (whole - 1) * np.abs(out)
    out_bound = before + u(a.result) * (np.abs(out) + before) + tiny(a, a.result) + 4 * tiny(a, a.compute)
    error = big + sums + lost
    value = abs(s.max()) + log_sum + error
    error += (eps + 2 * c) * (log_sum + TAU + error)
    error += 4 * max(c, u(a.lse)) * (abs(s.max()) + TAU + value + error)
    return out_bound, error + tiny(a, a.lse) + 4 * tiny(a, a.compute), (p, out, lse)


def problem(name, bias_size, shape=SHAPE):
    operands = make_operands("normal", "float16", shape)
    bias = bias_size * np.random.default_rng(0).standard_normal((shape.queries, shape.keys))
    return replace(operands, mask=bias), LOUD[name], bias


@pytest.mark.parametrize("bias_size", [0.0, 5.0])
@pytest.mark.parametrize("name", LOUD)
def test_forward_bounds_are_as_derived(name, bias_size):
    hold_forward(name, bias_size, SHAPE)


@pytest.mark.parametrize("keys", [1, 40])
@pytest.mark.parametrize("name", ["strict", "compute", "accumulator", "narrow lse"])
def test_forward_bounds_of_one_key_and_of_many_are_as_derived(name, keys):
    hold_forward(name, 0.0, replace(SHAPE, keys=keys))


def hold_forward(name, bias_size, shape):
    operands, a, bias = problem(name, bias_size, shape)
    bounds = attention_bounds(operands, a)
    for i in range(4):
        out, lse, _ = forward(a, operands, i, bias[i])
        # 1 - u for e^-u, and the growth of errors on errors: small beside 1, but not beside u
        slack = 1 + 60 * u(a.compute) + 20 * u(a.accumulator) + 4 * u(a.weights) + 1e-6
        slack += 4 * (narrower(a.scores, a) + narrower(a.scaled, a)) + GROWTH.get(name, 0.0)
        if a.exp_ulp > 3:
            slack += 2 * a.exp_ulp * u(a.compute)
        for ours, theirs in ((out, bounds.out[0, i]), (lse, bounds.lse[0, i])):
            assert (theirs >= ours * (1 - 1e-9)).all(), (theirs / ours).min()
            assert (theirs <= ours * slack).all(), (theirs / ours).max()


def rho(a, operands, i, bias, lse, lse_bound):
    s, sizes = facts(operands, i, bias)
    c, stored = u(a.compute), 4 * narrower(a.scores, a)
    result = score_terms(a, operands, i, sizes, bias) + (10 * c + stored) * np.abs(s - lse)
    result += (6 * c + stored) * abs(lse) + 2 * a.exp_ulp * c
    if lse_bound is not None:
        result += lse_bound + 4 * c
    return s, result


def backward(a, operands, bias, given, bounds):
    """Bounds of dq, dk and dv, all heads of q sharing one of k and v."""
    heads, found = len(operands.q), {}
    for h in range(heads):
        of_head = slice(h, h + 1)
        parts = Cotangents(given.out[of_head], given.lse[of_head], given.dout[of_head])
        its = bounds and replace(bounds, **{name: array[of_head] for name, array in vars(bounds).items()})
        one = replace(operands, q=operands.q[of_head])
        for name, (error, value) in head_sums(a, one, bias, parts, its, heads).items():
            if name == "dq":
                found.setdefault(name, []).append(rounded(a, error, value))
            elif heads == 1:
                found[name] = error, value
            else:  # may be stored before they are added
                before = found.get(name, (0.0, 0.0))
                found[name] = before[0] + rounded(a, error, value), before[1] + np.abs(value)
    added = np.expm1((heads + 1) * u(a.accumulator)) if heads > 1 else 0.0
    for name in ("dk", "dv"):
        error, value = found[name]
        found[name] = rounded(a, error + added * (np.abs(value) + error), value)
    return found | {"dq": np.stack(found["dq"])}


def rounded(a, error, value):
    lost = tiny(a, a.inputs) + 4 * tiny(a, a.compute)
    return error + u(a.inputs) * (np.abs(value) + error) + lost


def head_sums(a, operands, bias, given, bounds, heads):
    """Errors of the sums of one of so many heads that share its keys, and their values."""
    q, k, v, scale = operands.q[0], operands.k[0], operands.v[0], abs(operands.factor)
    out, lse, dout = given.out[0], given.lse[0], given.dout[0]
    c, acc, kept = u(a.compute), u(a.accumulator), u(a.weights) if a.unfused else 0.0
    length, count, width = len(q), len(k), v.shape[1]
    error = {name: np.zeros_like(x) for name, x in (("dq", q), ("dk", k), ("dv", v))}
    value = {name: np.zeros_like(x) for name, x in (("dq", q), ("dk", k), ("dv", v))}
    lost_exp, cast = tiny(a, a.compute, a.exp_ulp + 0.5), tiny(a, a.weights)
    sums, stores = {}, {}
    for name, terms in (("dq", count), ("dk", heads * length)):
        stores[name] = 0 if a.gradient_block is None else -(-terms // a.gradient_block) - 1
        around = 8 * c + 2 * narrower(a.scaled, a) + acc + stores[name] * u(a.inputs)
        sums[name] = np.exp(additions(a, terms, terms) + around + u(a.weights))
    product = np.expm1((groups(a, width) + 1) * acc + c)
    for i in range(length):
        s, theta = rho(a, operands, i, bias[i], lse[i], None if bounds is None else bounds.lse[0, i])
        p, sloped = np.exp(s - lse[i]), theta + 2 * c + kept
        x = v @ dout[i] - out[i] @ dout[i]
        e = product * np.abs(v) @ np.abs(dout[i]) + 4 * (tiny(a, a.scores) + tiny(a, a.compute))
        e += np.expm1(2 * narrower(a.scores, a)) * np.abs(v @ dout[i])
        if bounds is None:
            e += product * np.abs(dout[i]) @ np.abs(out[i])
        else:
            held = np.maximum(bounds.out_size[0, i], np.abs(out[i])) + bounds.out[0, i]
            rounded = product + np.expm1(2 * narrower(a.scores, a))
            e += np.abs(dout[i]) @ (bounds.out[0, i] + rounded * held)
        ds = p * np.expm1(sloped) * np.abs(x) + p * np.exp(sloped) * e
        ds += (lost_exp + (cast if a.unfused else 0.0)) * (np.abs(x) + e) + lost_exp
        lost = 4 * (tiny(a, a.scaled) + tiny(a, a.compute)) / min(1.0, scale)
        lost *= scale * p * (np.abs(v) @ np.abs(dout[i]) + np.abs(out[i]) @ np.abs(dout[i]))
        under = (cast + 2 * tiny(a, a.accumulator)) * max(1.0, scale)
        for j in range(count):
            for name, there, other in (("dq", i, k[j]), ("dk", j, q[i])):
                w = sums[name]
                weight = scale * (w * ds[j] + (w - 1) * p[j] * abs(x[j])) + w * under
                error[name][there] += weight * np.abs(other) + lost[j]
                value[name][there] += scale * p[j] * x[j] * other
            w = sums["dk"]
            weight = w * (p[j] * np.expm1(theta[j]) + lost_exp + cast + 2 * tiny(a, a.accumulator))
            error["dv"][j] += (weight + (w - 1) * p[j]) * np.abs(dout[i])
            value["dv"][j] += p[j] * dout[i]
    stored = {name: stores["dq" if name == "dq" else "dk"] * tiny(a, a.inputs) for name in error}
    return {name: (error[name] + stored[name], value[name]) for name in error}


@pytest.mark.parametrize("bias_size", [0.0, 5.0])
@pytest.mark.parametrize("name", LOUD)
@pytest.mark.parametrize("against", ["given", "gradient"])
def test_backward_bounds_are_as_derived(against, name, bias_size):
    hold_backward(against, name, bias_size)


@pytest.mark.parametrize("name", ["strict", "accumulator"])
def test_backward_bounds_of_many_keys_are_as_derived(name):
    hold_backward("given", name, 0.0, keys=40)


def test_backward_bounds_are_none_where_an_operand_is_no_number():
    operands, a, _ = problem("strict", 0.0)
    found = attention_bounds(operands, a)
    given = Cotangents(found.exact_out, found.exact_lse, np.ones(found.out.shape))
    given.lse[0, 1] = np.nan
    bounds = attention_backward_bounds(operands, given, a, None)
    assert np.isnan(bounds.dq[0, 1]).all()
    assert np.isfinite(bounds.dq[0, [0, 2, 3]]).all()
    assert np.isnan(bounds.dk).all()


@pytest.mark.parametrize("mask", [None, np.array([[True, True, False]] * 2)])
def test_backward_bounds_below_binary64_are_those_of_a_rounding_unless_every_term_is_zero(mask):
    """A second key of weight e^-800, and sums of it of which some have zeros alone."""
    q = np.array([[[1.0, 0.0], [1.0, 1.0]]])
    k = np.array([[[0.0, 0.0], [-800.0, 0.0], [0.0, 0.0]]])
    v, dout = np.ones((1, 3, 2)) + np.arange(3)[:, None], np.array([[[2.0, 0.0], [0.0, 0.0]]])
    operands = Operands(q, k, v, 1.0, mask=mask)
    wide = replace(MIXED, accumulator=F64, compute=F64, weights=F64, scores=F64, scaled=F64)
    found = attention_bounds(operands, wide)
    given = Cotangents(found.exact_out, found.exact_lse, dout)
    bounds = attention_backward_bounds(operands, given, wide, None)
    # The first query's q and dout are 0 in one place, and so is all of the second one's dout.
    for second in (bounds.dk[0, 1], bounds.dv[0, 1]):
        assert 0.5 * F16.eta <= second[0] <= 0.5 * F16.eta * (1 + 1e-6)
        assert second[1] < 1e-300
    # Of the keys all but one number is 0.
    assert bounds.dq[0, 0, 0] >= 0.5 * F16.eta
    assert max(bounds.dq[0, 0, 1], *bounds.dq[0, 1]) < 1e-300


def test_backward_bounds_of_scores_that_are_scaled_away_are_finite():
    operands, a, _ = problem("strict", 0.0)
    operands = replace(operands, scale=0.0)
    found = attention_bounds(operands, a)
    given = Cotangents(found.exact_out, found.exact_lse, np.ones(found.out.shape))
    bounds = attention_backward_bounds(operands, given, a, None)
    assert all(np.isfinite(getattr(bounds, name)).all() for name in ("dq", "dk", "dv"))


def hold_backward(against, name, bias_size, **lengths):
    operands, a, bias = problem(name, bias_size, replace(SHAPE, **lengths))
    forward_bounds = attention_bounds(operands, a)
    bounds = forward_bounds if against == "gradient" else None
    dout = np.random.default_rng(2).standard_normal(forward_bounds.out.shape)
    given = Cotangents(forward_bounds.exact_out, forward_bounds.exact_lse, dout)
    found = attention_backward_bounds(operands, given, a, bounds)
    slack = 1 + 60 * u(a.compute) + 40 * u(a.accumulator) + 8 * u(a.weights) + 8 * u(a.inputs)
    slack += GROWTH.get(name, 0.0)
    if a.exp_ulp > 3:
        slack += 2 * a.exp_ulp * u(a.compute)
    for gradient, ours in backward(a, operands, bias, given, bounds).items():
        theirs = getattr(found, gradient)
        assert (theirs >= ours * (1 - 1e-9)).all(), (gradient, (theirs / ours).min())
        assert (theirs <= ours * slack).all(), (gradient, (theirs / ours).max())


@pytest.mark.parametrize(
    "name", ["strict", "accumulator", "coarse sums", "stored sums", "underflow of inputs"]
)
def test_bounds_of_heads_that_share_their_keys_are_as_derived(name):
    hold_backward("given", name, 0.0, heads=3)
