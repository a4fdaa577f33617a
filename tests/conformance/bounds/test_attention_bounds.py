"""No correct kernel of attention exceeds a bound, and the worst of them come near it.

The kernels of benchmarks/simulated_attention.py and simulated_backward.py run on machines that err as far
as their model lets them. The exact values are computed in binary64; what that may be off by is bounded by
the same bounds for binary64, held against Arb here, and added to every error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_facts import Operands, weighted_growth
from softcert.conformance.bounds.attention_forward import attention_bounds, vacuous
from softcert.conformance.bounds.attention_rises import add_rises
from softcert.conformance.inputs.attention_families import KINDS, Shape, make_operands
from softcert.conformance.model import RequestError
from softcert.reference import format_of

DTYPES = ("bfloat16", "float16", "float32")
SMALL = Shape(heads=2, groups=1, queries=9, keys=26, features=12, values=5)
DOUBLE = attention_arithmetic(Contract(), "float64")


def held(study):
    """Worst ratios of a study, none of which may pass 1."""
    for name, (ratio, where) in study.worst.items():
        assert ratio <= 1.0, (name, ratio, where)
    return {name: ratio for name, (ratio, _) in study.worst.items()}


# --- sound and sharp ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kernel_exceeds_its_bound(simulated, kind, dtype):
    causal = (False, "bottom-right", "top-left")[sorted(KINDS).index(kind) % 3]
    ratios = held(simulated.program.study(kind, dtype, SMALL, causal=causal))
    if dtype != "float32" and kind != "ties":
        assert min(ratios[name] for name in ("out", "dk given", "dv given", "dv")) > 0.2
        assert min(ratios[name] for name in ("dq given", "dq", "dk")) > 0.03
    assert min(ratios.values()) > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kernel_exceeds_its_bound_on_long_rows(simulated, kind, dtype):
    held(simulated.program.study(kind, dtype, Shape(2, 2, 12, 300, 16, 8), seed=1))


def masks(shape):
    rng = np.random.default_rng(3)
    seen = rng.random((shape.heads, shape.queries, shape.keys)) < 0.6
    seen[:, 2], seen[:, :, 4] = False, False  # a query that sees nothing, a key that none sees
    slopes = -0.25 * np.abs(np.arange(shape.keys) - np.arange(shape.queries)[:, None]).astype(float)
    return {
        "shown": seen,
        "added": np.where(seen, slopes, -np.inf),
        "offset": np.where(seen[0], -200.0, -np.inf),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["shown", "added", "offset"])
def test_no_kernel_exceeds_its_bound_under_a_mask(simulated, name, dtype):
    program, shape = simulated.program, replace(SMALL, groups=2)
    operands = make_operands("normal", dtype, shape, mask=masks(shape)[name], causal="bottom-right")
    study = program.Study(
        operands, attention_arithmetic(Contract(), dtype), program.cotangent(dtype, operands)
    )
    study.forward(simulated.forward.PROGRAMS, simulated.machine.WAYS)
    study.backward(simulated.machine.WAYS)
    held(study)
    assert (study.bounds.out[:, 2] == 0.0).all()
    assert (study.bounds.lse[:, 2] == 0.0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("declared", "least"),
    [
        ({"scores": "input"}, 0.1),
        ({"scaled": "input"}, 0.1),
        ({"flush_subnormals": True}, 0.2),
        ({"compute": "input"}, 0.001),
        ({"exp_ulp": 1500.0}, 0.2),
        ({"weights": "float32"}, 0.2),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_no_kernel_exceeds_the_bound_of_what_it_declares(simulated, declared, least, dtype):
    program = simulated.program
    named = {name: dtype if value == "input" else value for name, value in declared.items()}
    contract = Contract(**{n: v for n, v in named.items() if n in {"flush_subnormals", "compute", "exp_ulp"}})
    formats = {n: v for n, v in named.items() if n in {"scores", "scaled", "weights"}}
    a = attention_arithmetic(contract, dtype, **formats)
    worst = 0.0
    for kind in ("4x scores", "float16 underflow"):
        operands = make_operands(kind, dtype, SMALL, causal=True)
        study = program.Study(operands, a, program.cotangent(dtype, operands))
        study.forward(simulated.forward.PROGRAMS, simulated.machine.WAYS)
        study.backward(simulated.machine.WAYS)
        worst = max(worst, held(study)["out"])
    assert worst > least


def test_a_declared_block_limits_the_rescales_in_any_order(simulated):
    program = simulated.program
    operands = make_operands("increasing", "float32", Shape(1, 1, 4, 64, 4, 4))
    strict = attention_arithmetic(Contract(), "float32")
    declared = replace(strict, block=16, contiguous=False)
    loose, tight = (attention_bounds(operands, a).out for a in (strict, declared))
    assert (tight < 0.9 * loose).all()
    study = program.Study(operands, declared, program.cotangent("float32", operands))
    online = {n: p for n, p in simulated.forward.PROGRAMS.items() if p.block and p.block >= 16}
    study.forward(online, simulated.machine.WAYS)
    held(study)


# --- the exact values ---


@pytest.mark.parametrize("kind", KINDS)
def test_values_in_binary64_are_within_their_own_bounds_of_the_certified_ones(simulated, kind):
    shape = Shape(heads=2, groups=1, queries=4, keys=7, features=4, values=3)
    operands = make_operands(kind, "float16", shape, causal=True)
    given = (operands.q, operands.k, operands.v)
    bounds = attention_bounds(operands, DOUBLE)
    out, lse = reference.attention_lse(*given, causal=True, method="arb")
    for exact, value, bound in ((out, bounds.exact_out, bounds.out), (lse, bounds.exact_lse, bounds.lse)):
        below, above = decimal_ends(exact)
        assert np.maximum(above - value, value - below).max() <= bound.max()
        assert (np.maximum(above - value, value - below) <= bound).all()
    dout = simulated.program.cotangent("float16", operands)
    cotangents = Cotangents(bounds.exact_out, bounds.exact_lse, dout)
    exact = reference.attention_vjp(
        *given, bounds.exact_out, bounds.exact_lse, dout, causal=True, method="arb"
    )
    own = attention_backward_bounds(operands, cotangents, DOUBLE)
    ours = simulated.program.exact_gradients(operands, cotangents)
    for enclosure, value, bound in zip(exact, ours, (own.dq, own.dk, own.dv), strict=True):
        below, above = decimal_ends(enclosure)
        assert (np.maximum(above - value, value - below) <= bound).all()


def decimal_ends(enclosure):
    """Ends of an enclosure in longdouble, widened by far more than their conversion errs."""
    low, high = (np.asarray(end).astype(np.longdouble) for end in enclosure.bounds_decimal(40))
    width = (np.abs(low) + np.abs(high)) * np.longdouble(2.0) ** -61
    return low - width, high + width


# --- parts ---


def brute_force_rises(scores, direction, start, stop, block):
    """Rises of the running maximum that each key meets, for one scan of one stretch in blocks."""
    order = list(range(len(scores)))[start:stop][::direction]
    met, top = {}, -np.inf
    for at in range(0, len(order), block):
        keys = order[at : at + block]
        new = max(top, *(scores[k] for k in keys))
        if new > top:
            met = {key: count + 1 for key, count in met.items()}
        met |= dict.fromkeys(keys, 0)
        top = new
    return met


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_no_scan_raises_the_maximum_more_often_than_is_counted(noise):
    rng = np.random.default_rng(int(10 * noise))
    reached = 0
    for _ in range(60):
        n = int(rng.integers(1, 12))
        exact, bounds = rng.integers(-4, 5, n).astype(float), rng.uniform(0.0, noise, n)
        theta = bounds[None].copy()
        weights = np.ones((1, n))
        most = add_rises(exact[None], theta, weights, 1.0, np.full((1, 1), 1e9))
        counted = theta[0] - bounds
        assert most[0, 0] == pytest.approx(counted.max())
        for _ in range(20):
            computed = exact + bounds * rng.choice([-1.0, 0.0, 1.0], n)
            direction, block = int(rng.choice([-1, 1])), int(rng.integers(1, 4))
            start = int(rng.integers(0, n))
            for key, met in brute_force_rises(computed, direction, start, n, block).items():
                assert met <= counted[key] + 1e-9
                reached += met > counted[key] - 0.5 and met > 0
    assert reached > 100


def test_rises_leave_hidden_keys_out_and_respect_the_limit():
    scores = np.array([[0.0, 5.0, 1.0, 2.0, 3.0]])
    weights = np.array([[1.0, 0.0, 1.0, 1.0, 1.0]])
    theta = np.zeros((1, 5))
    assert add_rises(scores, theta, weights, 1.0, np.full((1, 1), 2.0)).item() == 2.0
    assert theta.tolist() == [[2.0, 0.0, 2.0, 1.0, 0.0]]


@pytest.mark.parametrize("largest", [0.5, 0.999, 30.0, 300.0, 800.0])
def test_weighted_growth_is_never_below_the_exact_product(largest):
    exponents = np.linspace(0.0, largest, 1001)
    logs = -np.linspace(0.0, 900.0, 1001)
    with np.errstate(over="ignore", divide="ignore"):
        grown = weighted_growth(np.exp(logs), logs, exponents.copy())
        exact = np.exp(logs.astype(np.longdouble)) * np.expm1(exponents.astype(np.longdouble))
    shown = np.exp(logs) > 1e-300
    assert (grown[shown] * (1 + 2.0**-30) >= exact[shown]).all()
    assert (grown[shown] <= 1.2 * exact[shown] + 1e-300).all()


def test_a_matrix_unit_errs_less_than_its_sum_is_counted(simulated):
    """The model of docs/explanation/attention-bounds.md, on terms that cancel, swamp and truncate."""
    machine = simulated.machine.Machine(attention_arithmetic(Contract(), "bfloat16"), order="unit")
    rng = np.random.default_rng(0)
    worst = 0.0
    for count in (1, 2, 15, 16, 17, 64, 100):
        terms = rng.standard_normal((count, 2000)) * np.exp2(rng.integers(-30, 3, (count, 2000)))
        terms = terms.astype(np.float32).astype(np.float64)
        error = np.abs(machine.total(terms) - terms.astype(np.longdouble).sum(axis=0))
        bound = np.expm1(machine.a.sum_length(count) * machine.a.u_sum) * np.abs(terms).sum(axis=0)
        worst = max(worst, float((error / bound).max()))
    assert 0.05 < worst <= 1.0


# --- vacuous bounds, and what has none ---


def test_a_bound_that_accepts_anything_is_vacuous():
    normal = make_operands("normal", "float16", SMALL)
    a = attention_arithmetic(Contract(), "float16")
    assert not attention_bounds(normal, a).out_vacuous.any()
    assert not attention_bounds(normal, a).lse_vacuous.any()
    coarse = attention_arithmetic(Contract(exp_ulp=1e7), "float16")
    assert attention_bounds(normal, coarse).out_vacuous.all()
    assert attention_bounds(normal, coarse).lse_vacuous.all()
    long = make_operands("normal", "float16", Shape(1, 1, 1, 5000, 4, 4))
    narrow = replace(a, accumulator=format_of("float16"))  # n u >= 1
    assert attention_bounds(long, narrow).out_vacuous.all()
    gone = make_operands("float16 underflow", "float16", SMALL)
    assert attention_bounds(gone, a).out_vacuous.all()  # all that counts may be lost
    assert vacuous(np.array([np.nan, np.inf, 1.0, 0.5]), np.array([1.0, 1.0, 1.0, 1.0])).tolist() == [
        True,
        True,
        True,
        False,
    ]
    assert not vacuous(np.array([1e-9]), np.array([0.0])).any()


def test_backward_bounds_that_accept_anything_are_vacuous(simulated):
    operands = make_operands("normal", "float16", SMALL)
    dout = simulated.program.cotangent("float16", operands)
    for exp_ulp, expected in ((3.0, False), (1e7, True)):
        a = attention_arithmetic(Contract(exp_ulp=exp_ulp), "float16")
        forward = attention_bounds(operands, a)
        given = Cotangents(forward.exact_out, forward.exact_lse, dout)
        for found in attention_backward_bounds(operands, given, a, forward).vacuous:
            assert (found == expected).all()


def test_what_is_no_number_has_no_bound_where_it_counts_and_does_not_matter_where_it_is_hidden(simulated):
    q, k, v = (
        x.copy()
        for x in vars(make_operands("normal", "float32", Shape(1, 1, 6, 6, 4, 4))).values()
        if isinstance(x, np.ndarray)
    )
    a = attention_arithmetic(Contract(), "float32")
    clean = attention_bounds(Operands(q, k, v, causal=True), a)
    k[0, 4, 1], v[0, 5, 2] = np.nan, np.inf
    operands = Operands(q, k, v, causal=True)
    dirty = attention_bounds(operands, a)
    assert np.isnan(dirty.out[0, 4:]).all()
    assert np.isnan(dirty.lse[0, 4:]).all()
    assert (dirty.out[0, :4] == clean.out[0, :4]).all()
    assert dirty.out_vacuous[0, 4:].all()
    given = Cotangents(clean.exact_out, clean.exact_lse, np.ones_like(q))
    backward = attention_backward_bounds(operands, given, a, dirty)
    assert np.isnan(backward.dq[0, 4:]).all()
    assert np.isfinite(backward.dq[0, :4]).all()
    assert np.isnan(backward.dk).all()  # queries 4 and 5 see every key


def test_queries_before_the_first_key_have_nothing_to_err_on(simulated):
    operands = make_operands("normal", "float16", Shape(2, 2, 300, 7, 4, 3), causal=True)
    a = attention_arithmetic(Contract(), "float16")
    forward = attention_bounds(operands, a)
    dout = simulated.program.cotangent("float16", operands)
    given = Cotangents(forward.exact_out, forward.exact_lse, dout)
    backward = attention_backward_bounds(operands, given, a, forward)
    for bound in (forward.out, forward.lse, backward.dq):
        assert (bound[:, :293] == 0.0).all()
        assert (bound[:, 293:] > 0.0).all()
    assert (forward.exact_lse[:, :293] == -np.inf).all()
    assert not forward.out_vacuous.any()


def test_a_query_whose_keys_are_all_hidden_has_nothing_to_err_on_beside_others(simulated):
    mask = np.ones((4, 6), dtype=bool)
    mask[1] = False
    operands = make_operands("normal", "float16", Shape(1, 1, 4, 6, 4, 3), mask=mask)
    a = attention_arithmetic(Contract(), "float16")
    forward = attention_bounds(operands, a)
    given = Cotangents(forward.exact_out, forward.exact_lse, simulated.program.cotangent("float16", operands))
    backward = attention_backward_bounds(operands, given, a, forward)
    for found in (forward.out, forward.lse, forward.exact_out, forward.out_size, backward.dq):
        assert (found[0, 1] == 0.0).all()
        assert (found[0, [0, 2, 3]] != 0.0).all()
    assert forward.exact_lse[0, 1] == -np.inf
    assert all(np.isfinite(found).all() for found in (backward.dk, backward.dv))


def test_bounds_grow_by_what_binary64_errs_in_evaluating_large_scores():
    """A weight of score 1e12 is evaluated to 0.002: the bound is e^(4 times that) larger than it scales."""
    a = attention_arithmetic(Contract(), "float64")

    def bound(score):
        one = np.full((1, 1, 1), score**0.5)
        return attention_bounds(Operands(one, one, np.ones((1, 1, 1)), 1.0), a).lse.item() / score

    assert bound(1e12) / bound(1e6) == pytest.approx(np.exp(4 * 9 * 2.0**-52 * 1e12), rel=1e-4)


def test_one_visible_key_gives_its_value_back_within_a_few_roundings():
    operands = make_operands("normal", "float32", Shape(1, 1, 1, 5, 4, 4), causal="top-left")
    bounds = attention_bounds(operands, attention_arithmetic(Contract(), "float32"))
    assert (np.abs(bounds.exact_out - operands.v[:, :1]) <= 1e-15).all()
    assert (bounds.out <= 32 * 2.0**-24 * np.abs(bounds.exact_out) + 1e-40).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"causal": "left"}, "causal='left' is not"),
        ({"k": np.zeros((1, 3, 5))}, "q, k and v have shapes"),
        ({"v": np.zeros((1, 2, 4))}, "q, k and v have shapes"),
        ({"q": np.zeros((4, 4))}, "q, k and v have shapes"),
        ({"k": np.zeros((2, 3, 4)), "v": np.zeros((2, 3, 4))}, "q, k and v have shapes"),
        ({"k": np.zeros((0, 3, 4)), "v": np.zeros((0, 3, 4))}, "q, k and v have shapes"),
    ],
)
def test_operands_that_do_not_fit_are_refused(change, message):
    arrays = {"q": np.zeros((1, 2, 4)), "k": np.zeros((1, 3, 4)), "v": np.zeros((1, 3, 4))}
    with pytest.raises(RequestError, match=message):
        Operands(**(arrays | change))


def test_cotangents_that_do_not_fit_are_refused():
    operands = make_operands("normal", "float32", Shape(1, 1, 2, 3, 4, 4))
    given = Cotangents(np.zeros((1, 2, 4)), np.zeros((1, 2)), np.zeros((1, 2, 3)))
    with pytest.raises(RequestError, match=r"of shape \(1, 2, 4\), and lse of \(1, 2\)$"):
        attention_backward_bounds(operands, given, DOUBLE)
