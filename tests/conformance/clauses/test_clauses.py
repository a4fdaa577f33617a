"""Every clause owns a wrong kernel that it catches, and lets the exact one pass."""

from __future__ import annotations

import os
from functools import partial
from itertools import count

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.ops import OPS as EVERY_OP
from softcert.backends.ops import ROW_OPS as OPS
from softcert.backends.types import Backend, Call
from softcert.conformance import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.judging.controls import CONTROLS
from softcert.conformance.model import Trial

GOOD = numpy_.numpy_backend().ops
BY_ID = {clause.id: clause for clause in CLAUSES}
#: The others have mutants in test_attention_clauses.py.
OF_SOFTMAX = [clause.id for clause in CLAUSES if set(clause.ops) & set(OPS)]
GROUPS = (
    "simplex accuracy translation bias order permutation limits logistic luce "
    "boltzmann sampling gumbel jacobian sparse cross-entropy hierarchical stability attention "
    "attention-gradient memory determinism purity"
)


def checked(clause, op, kernel, **contract):
    """Verdicts of one clause on one kernel, beside the good kernels of the other ops."""
    promised = Contract(form="division", **contract)
    good = {name: GOOD[name] for name in OPS}
    backend = Backend("mutant", {**good, op: kernel}, ("float32",), promised, beta=True)
    run = softcert.check(backend, ops=[op], dtypes=["float32"], clauses=[clause], profile="smoke")
    (verdict,) = run.verdicts
    return verdict


# --- the specification ---


def test_ids_are_unique_and_lie_in_the_groups_of_the_specification():
    assert len(BY_ID) == len(CLAUSES)
    assert list(dict.fromkeys(clause.group for clause in CLAUSES)) == GROUPS.split()
    for clause in CLAUSES:
        group, _, name = clause.id.partition(".")
        assert clause.id == f"{group}.{name}" == clause.id.lower()
        assert name.replace("-", "").isalnum()


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda c: c.id)
def test_a_clause_says_what_it_requires_why_and_what_breaks_it(clause):
    for text in (clause.statement, clause.mathematics, clause.source, clause.in_practice):
        assert len(text) > 3
        assert text == " ".join(text.split())
    assert "\n" not in clause.statement
    assert set(clause.ops) <= set(EVERY_OP)
    assert clause.ops
    assert (clause.judge is None) != (clause.inspect is None)
    assert clause.effort > 0


# --- wrong kernels ---


def softmax(x, axis=-1, beta=1.0):
    return numpy_.softmax(x, axis, beta)


def doubled(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta) * x.dtype.type(2)


def dithered(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    return y * x.dtype.type(1.001)


def flushed(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    return np.where(y < 2.0**-126, y.dtype.type(0), y)


def wrong_beyond_sixteen(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta) * x.dtype.type(1.01 if x.shape[axis] > 16 else 1)


def one_sum_for_all(x, axis=-1, beta=1.0):
    return (e := np.exp(beta * (x - x.max()))) / e.sum() if x.size else x


def with_a_padded_key(x, axis=-1, beta=1.0):
    """A key scored 0 enters the sum unless it is far below the row."""
    top = x.max(axis=axis, keepdims=True)
    e = np.exp(x - top)
    return e / (e.sum(axis=axis, keepdims=True) + np.exp(np.float32(-30) - top))


def normalised(x, axis=-1, beta=1.0):
    """Logits divided by their range: invariant under scaling."""
    spread = np.ptp(x, axis=axis, keepdims=True)
    return softmax(x / np.where(spread > 0, spread, x.dtype.type(1)), axis, beta)


def truncated(x, axis=-1, beta=1.0):
    """The exact result, rounded towards zero."""
    wide = softmax(x.astype(np.float64), axis, beta)
    near = wide.astype(np.float32)
    return np.where(near > wide, np.nextafter(near, np.float32(0)), near)


def leaning(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta) * np.float32(1 - 2e-6)


def first_of_ties(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta).copy()
    first = np.expand_dims(np.argmax(x, axis=axis), axis)
    np.put_along_axis(y, first, np.take_along_axis(y, first, axis) * np.float32(1.001), axis)
    return y


def growing_with_the_place(x, axis=-1, beta=1.0):
    shape = [1] * x.ndim
    shape[axis] = -1
    return softmax(x + np.arange(x.shape[axis], dtype=x.dtype).reshape(shape) * np.float32(1e-3), axis, beta)


def capped(x, axis=-1, beta=1.0, cap=50.0):
    """Differences beyond a cap are taken for the cap."""
    return softmax(np.maximum(x - x.max(axis=axis, keepdims=True), np.float32(-cap)), axis, beta)


def one_hot_early(x, axis=-1, beta=1.0):
    """An arg max as soon as the largest probability exceeds 0.95."""
    y = softmax(x, axis, beta)
    return np.where(y.max(axis=axis, keepdims=True) > 0.95, (y > 0.95).astype(x.dtype), y)


def half_logits(x, axis=-1, beta=1.0):
    with np.errstate(over="ignore"):
        return softmax(x.astype(np.float16).astype(np.float32), axis, beta)


def never_uniform(x, axis=-1, beta=1.0):
    """beta = 0 taken for a beta that was not given."""
    return softmax(x, axis, beta or 1.0)


def heavy_tail(x, axis=-1, beta=1.0):
    """Every weight but the largest is too heavy by half a unit for each logit: less than a sum may err."""
    e = np.exp(np.float32(beta) * (x - x.max(axis=axis, keepdims=True)))
    e = np.where(e < 1, e * np.float32(1 + x.shape[axis] * 2.0**-24 / 2), e)
    return e / e.sum(axis=axis, keepdims=True)


def warmer(x, axis=-1, beta=1.0):
    """At a temperature one per cent above that of logsumexp."""
    return softmax(x, axis, beta * 0.99)


def naive(x, axis=-1, beta=1.0):
    with np.errstate(all="ignore"):
        e = np.exp(np.float32(beta) * x)
        return e / e.sum(axis=axis, keepdims=True)


def with_an_epsilon(x, axis=-1, beta=1.0):
    with np.errstate(all="ignore"):
        e = np.exp(np.float32(beta) * x - (np.float32(beta) * x).max(axis=axis, keepdims=True))
        return e / (e.sum(axis=axis, keepdims=True) + np.float32(1e-5))


def saturating(x, axis=-1, beta=1.0):
    return capped(x, axis, beta, 8.0)


def without_small_ones(x, axis=-1, beta=1.0):
    """Probabilities below 1e-3 dropped, the rest renormalised."""
    y = softmax(x, axis, beta)
    kept = np.where(y < 1e-3, np.float32(0), y)
    return kept / kept.sum(axis=axis, keepdims=True)


def mixed_with_uniform(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta) * np.float32(0.999) + np.float32(0.001 / x.shape[axis])


def without_subtraction_of_infinities(x, axis=-1, beta=1.0):
    """A running maximum that starts at -inf: NaN where masked logits come first."""
    y = softmax(x, axis, beta)
    first = np.take(x, [0], axis=axis)
    return np.where(np.isneginf(first) & ~np.isnan(y), np.float32(np.nan), y)


def deaf_to_nan(x, axis=-1, beta=1.0):
    return softmax(np.where(np.isnan(x), -np.inf, x).astype(x.dtype), axis, beta)


def one_at_infinity(x, axis=-1, beta=1.0):
    at = np.isposinf(x)
    return np.where(at.any(axis=axis, keepdims=True), at.astype(x.dtype), softmax(x, axis, beta))


def mean_of_nothing(x, axis=-1, beta=1.0):
    nothing = np.isneginf(x).all(axis=axis, keepdims=True)
    return np.where(nothing, np.float32(1 / x.shape[axis]), softmax(x, axis, beta))


def one_row_at_least(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta) if x.size else np.ones((1, *x.shape[1:]), dtype=x.dtype)


_CALLS = count()


def restless(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    return np.nextafter(y, np.float32(1)) if next(_CALLS) % 2 else y


def batch_dependent(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    return np.nextafter(y, np.float32(1)) if x.ndim > 1 and x.shape[0] > 1 else y


def widened(x, axis=-1, beta=1.0):
    return softmax(x, axis, beta).astype(np.float64)


def in_place(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    x -= x.max(axis=axis, keepdims=True)
    return y


def backwards_if_strided(x, axis=-1, beta=1.0):
    y = softmax(x, axis, beta)
    return y if x.flags.c_contiguous else np.flip(y, axis)


def last_axis_only(x, axis=-1, beta=1.0):
    return softmax(x, -1, beta)


_KEPT = {}


def remembering(x, axis=-1, beta=1.0):
    """A cache by shape and first element."""
    key = (x.shape, axis, float(x.flat[0]) if x.size else 0.0)
    return _KEPT.setdefault(key, softmax(x, axis, beta)).copy()


def product_only(y, dy, axis=-1):
    return y * dy


def mean_in_place_of_sum(y, dy, axis=-1):
    return y * (dy - (y * dy).mean(axis=axis, keepdims=True))


def lopsided(y, dy, axis=-1):
    """A Jacobian whose rows are off by their place."""
    scale = np.float32(1) + np.arange(y.shape[axis], dtype=y.dtype) * np.float32(0.01)
    shape = [1] * y.ndim
    shape[axis] = -1
    return numpy_.softmax_vjp(y, dy, axis) * scale.reshape(shape)


def negated(y, dy, axis=-1):
    return -numpy_.softmax_vjp(y, dy, axis)


def nudged_by_the_sum(y, dy, axis=-1):
    return y * (dy - np.float32(1.001) * (y * dy).sum(axis=axis, keepdims=True))


def binary_lse(x, axis=-1):
    return numpy_.logsumexp(x, axis) * np.float32(1 / np.log(2))


def lse_of_the_others(x, axis=-1):
    """The first logit left out of the sum."""
    return numpy_.logsumexp(x[..., 1:] if x.shape[-1] > 1 else x, axis)


def never_zero(x, axis=-1):
    return GOOD["sparsemax"](x, axis) + x.dtype.type(1e-9)


def of_half_the_logits(x, axis=-1, alpha=1.5):
    return GOOD["entmax"](x / 2, axis, alpha)


def of_the_class_before(x, target, **options):
    return GOOD["cross_entropy"](x, np.where(target > 0, target - 1, target), **options)


def kept_where_ignored(x, target, dloss, axis=-1, ignore_index=-100, **options):
    kept = np.where(target == ignore_index, 0, target)
    return GOOD["cross_entropy_vjp"](x, kept, dloss, axis=axis, ignore_index=-100, **options)


def smoothed_over_the_others(x, target, axis=-1, label_smoothing=0.0, **options):
    n = x.shape[axis]
    spread = min(label_smoothing * n / max(n - 1, 1), 1.0)
    return GOOD["cross_entropy"](x, target, axis=axis, label_smoothing=spread, **options)


def halved_z_loss(x, target, z_loss=0.0, **options):
    return GOOD["cross_entropy"](x, target, z_loss=z_loss / 2, **options)


def pushing_all_alike(x, target, dloss, **options):
    slopes = GOOD["cross_entropy_vjp"](x, target, dloss, **options)
    return (slopes + np.float32(1e-3)).astype(x.dtype)


def of_the_leaf_before(s, target, *paths, **options):
    return GOOD["hierarchical_log_softmax"](s, np.where(target > 0, target - 1, target), *paths, **options)


def spoilt_by_any_nan(s, target, dlogp, *paths, axis=-1):
    slopes = GOOD["hierarchical_log_softmax_vjp"](s, target, dlogp, *paths, axis=axis)
    return slopes + s * np.float32(0.0)


def kept_above_a_small_probability(s, target, *paths, axis=-1):
    return np.maximum(GOOD["hierarchical_log_softmax"](s, target, *paths, axis=axis), np.float32(-16.1))


def a_little_likelier(s, target, *paths, axis=-1):
    return GOOD["hierarchical_log_softmax"](s, target, *paths, axis=axis) * np.float32(0.99)


def drawn_where(change):
    """The good sampler with its soft or one-hot sample changed."""

    def kernel(x, axis=-1, *, tau=1.0, hard=0, seed=0):
        y = GOOD["gumbel_softmax"](x, axis, tau=tau, hard=hard, seed=seed)
        return change(y, x, axis, hard).astype(x.dtype)

    return kernel


def of_double_noise(x, axis=-1, *, tau=1.0, hard=0, seed=0):
    return GOOD["gumbel_softmax"](x / 2, axis, tau=tau / 2, hard=hard, seed=seed)


def upside_down(x, axis=-1, *, tau=1.0, hard=0, seed=0):
    return GOOD["gumbel_softmax"](x, axis, tau=1 / tau, hard=hard, seed=seed)


def of_noise_by_temperature(x, axis=-1, *, tau=1.0, hard=0, seed=0):
    return GOOD["gumbel_softmax"](x, axis, tau=tau, hard=hard, seed=seed + int(tau > 1))


def of_one_seed(x, axis=-1, *, tau=1.0, hard=0, seed=0):
    return GOOD["gumbel_softmax"](x, axis, tau=tau, hard=hard)


def of_any_seed(x, axis=-1, *, tau=1.0, hard=0, seed=0):
    return GOOD["gumbel_softmax"](x, axis, tau=tau, hard=hard, seed=next(_CALLS))


def aborting_on_nothing(x, axis=-1):
    if x.shape[axis] == 0:
        os.abort()
    return softmax(x, axis)


#: Clause, and the op and the kernel (with what it promises) that it must catch.
_LEAKED = []


def leaking(x, axis=-1, beta=1.0):
    _LEAKED.append(np.ones(4096))
    return numpy_.softmax(x, axis, beta)


MUTANTS = {
    "memory.leak": ("softmax", leaking, {}),
    "simplex.range": ("softmax", doubled, {}),
    "simplex.sum": ("softmax", dithered, {}),
    "simplex.positive": ("softmax", flushed, {}),
    "accuracy.certified": ("softmax", dithered, {}),
    "accuracy.length": ("softmax", wrong_beyond_sixteen, {}),
    "accuracy.batch": ("softmax", one_sum_for_all, {}),
    "translation.exact-shift": ("softmax", with_a_padded_key, {}),
    "translation.derivative": ("softmax_vjp", product_only, {}),
    "translation.scaling": ("softmax", normalised, {}),
    "bias.repeated-maximum": ("softmax", truncated, {}),
    "bias.random": ("softmax", leaning, {}),
    "order.monotone": ("softmax", first_of_ties, {}),
    "permutation.equivariance": ("softmax", growing_with_the_place, {}),
    "limits.argmax": ("softmax", capped, {}),
    "limits.argmin": ("softmax", capped, {}),
    "limits.near-ties": ("softmax", half_logits, {}),
    "limits.uniform": ("softmax", never_uniform, {}),
    "limits.expectation": ("softmax", heavy_tail, {}),
    "limits.diagonal": ("softmax", naive, {}),
    "limits.tropical": ("logsumexp", binary_lse, {}),
    "logistic.two-classes": ("softmax", saturating, {}),
    "logistic.one-class": ("softmax", with_an_epsilon, {}),
    "luce.ratio": ("softmax", without_small_ones, {}),
    "boltzmann.heat-capacity": ("softmax", heavy_tail, {}),
    "boltzmann.free-energy": ("softmax", warmer, {}),
    "boltzmann.mean-energy": ("logsumexp", binary_lse, {}),
    "sampling.actions": ("softmax", one_hot_early, {}),
    "gumbel.choice": ("gumbel_softmax", of_double_noise, {}),
    "gumbel.law": ("gumbel_softmax", upside_down, {}),
    "gumbel.independent": ("gumbel_softmax", of_one_seed, {}),
    "gumbel.special": ("gumbel_softmax", drawn_where(lambda y, *_: np.nan_to_num(y)), {}),
    "gumbel.temperature": ("gumbel_softmax", of_noise_by_temperature, {}),
    "gumbel.hard": (
        "gumbel_softmax",
        drawn_where(lambda y, _x, axis, hard: np.flip(y, axis) if hard else y),
        {},
    ),
    "gumbel.seed": ("gumbel_softmax", of_any_seed, {}),
    "gumbel.simplex": ("gumbel_softmax", drawn_where(lambda y, *_: y * 1.001), {}),
    "jacobian.symbolic": ("softmax_vjp", mean_in_place_of_sum, {}),
    "jacobian.symmetric": ("softmax_vjp", lopsided, {}),
    "jacobian.rows-sum-to-zero": ("softmax_vjp", product_only, {}),
    "jacobian.positive-semidefinite": ("softmax_vjp", negated, {}),
    "jacobian.adjoint": ("softmax_vjp", nudged_by_the_sum, {}),
    "jacobian.lse-gradient": ("logsumexp", lse_of_the_others, {}),
    "sparse.support": ("sparsemax", never_zero, {}),
    "sparse.two-classes": ("entmax", of_half_the_logits, {}),
    "sparse.fixed-points": ("sparsemax", softmax, {}),
    "cross-entropy.target": ("cross_entropy", of_the_class_before, {}),
    "cross-entropy.ignored": ("cross_entropy_vjp", kept_where_ignored, {}),
    "cross-entropy.smoothing": ("cross_entropy", smoothed_over_the_others, {}),
    "cross-entropy.z-loss": ("cross_entropy", halved_z_loss, {}),
    "cross-entropy.gradient-sum": ("cross_entropy_vjp", pushing_all_alike, {}),
    "hierarchical.path": ("hierarchical_log_softmax", of_the_leaf_before, {}),
    "hierarchical.off-path": ("hierarchical_log_softmax_vjp", spoilt_by_any_nan, {}),
    "hierarchical.infinities": ("hierarchical_log_softmax", kept_above_a_small_probability, {}),
    "hierarchical.sum": ("hierarchical_log_softmax", a_little_likelier, {}),
    "stability.magnitude": ("softmax", naive, {}),
    "stability.subnormal": ("softmax", flushed, {}),
    "stability.nan": ("softmax", deaf_to_nan, {}),
    "stability.plus-inf": ("softmax", one_at_infinity, {}),
    "stability.minus-inf": ("softmax", without_subtraction_of_infinities, {}),
    "stability.all-minus-inf": ("softmax", mean_of_nothing, {}),
    "stability.empty-batch": ("softmax", one_row_at_least, {}),
    "stability.empty-axis": ("softmax", aborting_on_nothing, {}),
    "determinism.repeat": ("softmax", restless, {}),
    "determinism.batch-invariance": ("softmax", batch_dependent, {"batch_invariant": True}),
    "purity.shape-dtype": ("softmax", widened, {}),
    "purity.side-effects": ("softmax", in_place, {}),
    "purity.layout": ("softmax", backwards_if_strided, {}),
    "purity.axis": ("softmax", last_axis_only, {}),
    "purity.stateless": ("softmax", remembering, {}),
}
MORE = (
    ("luce.ratio", "softmax", mixed_with_uniform),
    ("limits.argmax", "softmax", one_hot_early),
    ("order.monotone", "softmax", growing_with_the_place),
    ("simplex.sum", "softmax", with_an_epsilon),
    ("gumbel.seed", "gumbel_softmax", of_one_seed),
)


def test_every_clause_that_speaks_of_softmax_owns_a_mutant():
    assert set(MUTANTS) == set(OF_SOFTMAX)


@pytest.mark.parametrize("clause", MUTANTS)
def test_a_clause_catches_its_mutant(clause):
    op, kernel, promised = MUTANTS[clause]
    verdict = checked(clause, op, kernel, **promised)
    assert verdict.status == ("error" if BY_ID[clause].observes else "fail"), verdict.message
    assert verdict.witness is not None
    assert verdict.witness.clause == clause
    assert verdict.message == verdict.witness.finding.message


@pytest.mark.parametrize(("clause", "op", "kernel"), MORE)
def test_other_mutants_of_a_clause(clause, op, kernel):
    assert checked(clause, op, kernel).status == "fail"


@pytest.fixture(scope="module")
def exact_run():
    """The safe kernels of NumPy under every clause that is quick to examine."""
    backend = Backend(
        "exact",
        {name: GOOD[name] for name in OPS},
        ("float32",),
        Contract(form="division", batch_invariant=True),
        beta=True,
    )
    return partial(softcert.check, backend, dtypes=["float32"], profile="smoke")


@pytest.mark.parametrize("clause", OF_SOFTMAX)
def test_the_exact_backend_passes_every_clause(exact_run, clause):
    run = exact_run(clauses=[clause], ops=[MUTANTS[clause][0]])
    (verdict,) = run.verdicts
    assert verdict.status == "pass", verdict.message
    assert verdict.cases > 0
    assert verdict.margin <= 1.0
    if BY_ID[clause].judge is None:
        assert verdict.controls == {}
    else:
        assert set(verdict.controls) <= set(CONTROLS)
        assert "caught" in verdict.controls.values()
        passed = [name for name, hit in verdict.controls.items() if hit == "passed"]
        assert all(name in verdict.message for name in passed)


def test_rows_past_the_reach_of_16_bits_are_judged():
    def wrapping(x, axis=-1, beta=1.0):
        result = numpy_.softmax(x, axis=axis, beta=beta)
        result[1 << 16 :] = result[: max(len(result) - (1 << 16), 0)]
        return result

    backend = Backend("mutant", {"softmax": wrapping}, ("float32",), Contract(form="division"), beta=True)
    for profile, status in (("smoke", "pass"), ("quick", "fail")):
        run = softcert.check(backend, ops=["softmax"], clauses=["accuracy.batch"], profile=profile)
        assert [v.status for v in run.verdicts] == [status]


def test_a_clause_in_which_no_control_is_caught_is_vacuous():
    verdict = checked("simplex.positive", "softmax", softmax, exp_ulp=1e45)
    assert set(verdict.controls.values()) == {"passed"}
    assert verdict.status == "vacuous"


def test_a_bound_that_accepts_anything_is_never_a_pass():
    verdict = checked("accuracy.batch", "softmax", softmax, exp_ulp=1e9)
    assert verdict.status == "vacuous"


def test_what_an_empty_axis_gives_is_reported():
    verdict = checked("stability.empty-axis", "logsumexp", numpy_.logsumexp)
    assert verdict.status == "pass"
    assert verdict.message == (
        "observed: logsumexp of shape (0,) gives float32 -inf; "
        "logsumexp of shape (2, 0) gives float32 [-inf, -inf]"
    )


@pytest.mark.parametrize(("declared", "status"), [(True, "pass"), (False, "fail")])
def test_a_lone_subnormal_logit_may_be_flushed_where_that_is_declared(declared, status):
    def flushing(x, axis=-1):
        return numpy_.logsumexp(np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x), axis)

    verdict = checked("logistic.one-class", "logsumexp", flushing, flush_subnormals=declared)
    assert verdict.status == status


@pytest.mark.parametrize("beta", [10.0, -10.0])
def test_logits_whose_products_with_beta_round_to_one_number_keep_their_order(beta):
    """The nearest results tell them apart, and are no fall."""
    x = np.array([float.fromhex("0x1.999999999999dp-4"), float.fromhex("0x1.999999999999cp-4")])
    assert beta * x[0] == beta * x[1]
    right = softcert.reference.softmax(x, beta=beta).round("float64")
    assert right[0] != right[1]
    trial = Trial((Call("softmax", (x,), {"axis": -1, "beta": beta}),))
    context = Context(op="softmax", dtype="float64", contract=Contract(order_bitwise=True), ops=("softmax",))
    judge = BY_ID["order.monotone"].judge
    assert judge(trial, (right,), context).finding is None
    assert judge(trial, (right[::-1].copy(),), context).finding is not None
