"""What Hypothesis may draw: within the promises of each op, and every kind of it reached."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs import attention_strategies as of_attention
from softcert.conformance.inputs.attention_families import KINDS
from softcert.conformance.inputs.families import FAMILIES, Scale
from softcert.conformance.inputs.features import OTHER_WIDTHS
from softcert.conformance.inputs.storage import fixed_draws
from softcert.conformance.inputs.strategies import (
    LENGTHS,
    cotangents,
    logits,
    product_is_ordinary,
    seedlings,
    specials,
)

DTYPES = ("float64", "float32", "float16", "bfloat16")
DRAWS = settings(derandomize=True, database=None, deadline=None, phases=[Phase.generate])
LACKING = {OTHER_WIDTHS: "no"}


def draws(strategy, most=300):
    """What the strategy gives, the same on every run."""
    found = []

    @given(strategy)
    @settings(DRAWS, max_examples=most)
    def collect(value):
        found.append(value)

    # As the suite itself draws: the modules that other tests have loaded would have a say in it otherwise.
    with fixed_draws():
        collect()
    return found


def context_of(op, dtype="float32", **facts):
    return Context(op=op, dtype=dtype, contract=Contract(), ops=(op,), **facts)


def missed(found, properties):
    """Names of the properties that none of what was drawn has."""
    return [name for name, has in properties.items() if not any(has(value) for value in found)]


@functools.cache
def of_softmax(op, dtype="float32"):
    return draws(seedlings(context_of(op, dtype, beta=True), most=5))


@functools.cache
def operands_of_attention(op, *, alike=False):
    return draws(of_attention.drawn_operands(context_of(op, "float16", lacks=LACKING if alike else {})))


# --- softmax ---


def test_lengths_lie_around_powers_of_two():
    around = {2**k + d for k in range(9) for d in (-1, 0, 1)} - {0}
    assert set(LENGTHS) == (around | {100}) - {256}


@pytest.mark.parametrize(
    ("dtype", "largest", "smallest", "epsilon"),
    [
        ("float64", np.finfo(np.float64).max, 5e-324, 2.0**-52),
        ("float32", float(np.finfo(np.float32).max), 2.0**-149, 2.0**-23),
        ("float16", 65504.0, 2.0**-24, 2.0**-10),
        ("bfloat16", 3.3895313892515355e38, 2.0**-133, 2.0**-7),
    ],
)
def test_the_special_points_of_a_format_are_among_the_logits(dtype, largest, smallest, epsilon):
    points = specials(dtype)
    threshold = -np.log(smallest)  # exp(-threshold) is the smallest subnormal
    wanted = [0.0, 1.0, 10.0, smallest, epsilon, threshold / 2, threshold, 88.5, 120.0, largest / 2, largest]
    wanted.append(threshold - np.log(2.0) * (1 - np.log2(epsilon)))
    rounded = [float(as_dtype(dtype).type(w)) for w in wanted]
    assert set(points) == {s * w for w in rounded for s in (1.0, -1.0)}
    assert len(points) == 2 * len(wanted) + 2
    assert sorted(np.signbit([p for p in points if p == 0.0])) == [False, False, True, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_are_finite_numbers_of_every_size(dtype):
    largest, found = Scale.of(dtype).largest, draws(logits(dtype))
    assert all(abs(value) <= largest for value in found)
    others = [value for value in found if value not in specials(dtype)]
    assert not missed(found, {"largest": lambda v: v == largest, "least": lambda v: v == -largest})
    sizes = {
        "moderate": lambda v: 2.0 < v <= 32.0,
        "negative": lambda v: -32.0 <= v < -2.0,
        "large": lambda v: abs(v) > 100.0,
    }
    assert not missed(others, sizes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tangents_are_a_quarter_of_the_largest_float_at_most(dtype):
    limit, found = Scale.of(dtype).largest / 4, draws(cotangents(dtype))
    assert all(abs(value) <= limit for value in found)
    ends = {"most": lambda v: v == limit, "least": lambda v: v == -limit, "other": lambda v: abs(v) == 1.0}
    assert not missed(found, ends)


@pytest.mark.parametrize(
    ("op", "dtype"),
    [("softmax", "float32"), ("softmax", "float16"), ("softmax_vjp", "float32"), ("softmax_vjp", "float16")],
)
def test_a_seedling_is_a_row_or_a_small_batch_of_the_dtype(op, dtype):
    for seedling in of_softmax(op, dtype):
        x = seedling.operands[0]
        assert len(seedling.operands) == (2 if op.endswith(("vjp", "jvp")) else 1)
        assert all(a.dtype == as_dtype(dtype) and a.shape == x.shape for a in seedling.operands)
        assert x.ndim == 1 or (seedling.family == "drawn" and x.shape[0] in {2, 3})
        assert x.shape[-1] in LENGTHS if seedling.family != "drawn" else 1 <= x.shape[-1] <= 5
        assert not any(np.isnan(a.astype(np.float64)).any() for a in seedling.operands)
        assert product_is_ordinary(x, seedling.beta, dtype) or seedling.beta == 1.0


def test_derivatives_are_taken_at_probabilities():
    for seedling in of_softmax("softmax_vjp"):
        y, tangent = (a.astype(np.float64) for a in seedling.operands)
        assert (y >= 0.0).all()
        assert np.allclose(y.sum(axis=-1), 1.0, atol=1e-4)
        assert np.isfinite(tangent).all()
    families = {"normal", "ties", "one-hot", "equal", "increasing", "drawn"}
    assert {seedling.family for seedling in of_softmax("softmax_vjp")} == families


@pytest.mark.parametrize("op", ["softmax", "softmax_vjp"])
def test_small_and_large_seedlings_are_both_drawn(op):
    drawn = [s.operands[0] for s in of_softmax(op) if s.family == "drawn"]
    shapes = {
        "one": lambda x: x.shape == (1,),
        "five": lambda x: x.shape == (5,),
        "two rows": lambda x: x.ndim == 2 and len(x) == 2,
        "three rows": lambda x: x.ndim == 2 and len(x) == 3,
        "rows differ": lambda x: x.ndim == 2 and (x[0] != x[1]).any(),
    }
    assert not missed(drawn, shapes)
    large = [s for s in of_softmax(op) if s.family != "drawn"]
    assert 50 < len(large) < 450
    assert len({s.size for s in large}) > 12


def test_seedlings_keep_to_the_families_and_lengths_asked_for():
    strategy = seedlings(
        context_of("softmax", beta=True), families=("ties", "masked"), lengths=(3, 6), most=2
    )
    found = draws(strategy)
    for seedling in found:
        assert seedling.family in {"drawn", "ties", "masked"}
        assert seedling.operands[0].shape[-1] in ({1, 2} if seedling.family == "drawn" else {3, 6})
    betas = {s.beta for s in found if s.family == "ties"}
    assert betas <= {1.0, 2.0, 0.5, 0.1, 1.7, 10.0, -1.0, -0.7}
    assert {-1.0, -0.7} <= betas
    assert len(betas) > 5
    assert len({s.beta for s in found if s.family == "masked"}) > 3
    assert len({s.family for s in of_softmax("softmax")} & {"drawn", *FAMILIES}) > 14
    rows = [
        s.operands[0] for s in draws(seedlings(context_of("softmax"), ("normal",), (33,))) if s.size == 33
    ]
    assert len({row.tobytes() for row in rows}) > 20
    spreads = [float(np.abs(row).max()) for row in rows]
    assert min(spreads) < 0.01
    assert any(60.0 < size < 200.0 for size in spreads)


@pytest.mark.parametrize(("op", "beta"), [("softmax", False), ("log_softmax", True), ("softmax_vjp", True)])
def test_only_a_softmax_that_takes_a_temperature_is_given_one(op, beta):
    assert {seedling.beta for seedling in draws(seedlings(context_of(op, beta=beta)), 100)} == {1.0}


@pytest.mark.parametrize(
    ("x", "beta", "ordinary"),
    [
        ([1.0, 2.0], 10.0, True),
        ([1.0, -np.inf], 10.0, True),
        ([1.0, -np.inf], 0.0, True),
        ([1.0, -np.inf], -1.0, False),
        ([1.0, 2.0], -1.0, True),
        ([65504.0, 0.0], 1.0, True),
        ([-65504.0, 0.0], 0.5, True),
        ([32752.0, 0.0], 2.0, True),
        ([-32752.0, 0.0], -2.0, True),
        ([32768.0, 0.0], 2.0, False),
        ([0.0, -32768.0], -2.0, False),
    ],
)
def test_a_temperature_that_overflows_or_unmasks_is_not_ordinary(x, beta, ordinary):
    assert product_is_ordinary(np.array(x, dtype=np.float16), beta, "float16") is ordinary


# --- attention ---


@pytest.mark.parametrize(("op", "alike"), [("attention", False), ("attention_vjp", True)])
def test_operands_of_attention_fit_together(op, alike):
    for seedling in operands_of_attention(op, alike=alike):
        q, k, v = seedling.operands[:3]
        assert all(a.dtype == np.float16 and np.isfinite(a).all() for a in seedling.operands)
        assert (q.shape[-1], k.shape[:-1]) == (k.shape[-1], v.shape[:-1])
        assert q.shape[0] % k.shape[0] == 0
        assert not alike or v.shape[-1] == k.shape[-1]
        assert seedling.family in {"drawn", *KINDS}
        if seedling.family == "drawn":
            assert q.shape[-2] <= 4
            assert k.shape[-2] <= 6
            assert max(k.shape[-1], v.shape[-1]) <= 3
            assert max(float(np.abs(a).max()) for a in (q, k, v)) <= 30.0
        if op == "attention_vjp":
            assert seedling.operands[3].shape == (*q.shape[:-1], v.shape[-1])
        else:
            assert len(seedling.operands) == 3


def test_every_arrangement_of_attention_is_drawn():
    found = operands_of_attention("attention")
    assert len({s.family for s in found} & set(KINDS)) > 6
    assert {(s.family == "drawn", s.causal) for s in found} == {
        (f, c) for f in (False, True) for c in (False, True)
    }
    small = [s.operands for s in found if s.family == "drawn"]
    assert {o[0].shape[-2] for o in small} == {1, 2, 3, 4}
    assert {o[1].shape[-2] for o in small} == {1, 2, 3, 4, 5, 6}
    assert {o[0].shape[-1] for o in small} == {1, 2, 3}
    assert {o[2].shape[-1] for o in small} == {1, 2}
    assert {o[0].shape[0] for o in small} == {1}
    numbers = {float(v) for o in small for a in o for v in a.ravel()}
    assert numbers >= {0.0, 1.0, -1.0, 0.5, 30.0, -30.0, float(np.float16(1e-3))}
    assert any(16.0 > v > 5.0 and v % 1.0 for v in numbers)
    assert any(-16.0 < v < -5.0 and v % 1.0 for v in numbers)
    large = [s.operands for s in found if s.family != "drawn"]
    assert len(large) > 50
    heads = {(o[0].shape[0], o[1].shape[0]) for o in large}
    assert heads == {(1, 1), (2, 2), (2, 1), (4, 2), (3, 1)}
    widths = {1, 2, 3, 4, 7, 8, 16, 17, 32, 64}
    lengths = {1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129}
    for sizes, allowed in ((lengths_of(large, -2), lengths), (lengths_of(large, -1), widths)):
        assert all(found <= allowed and len(found) > len(allowed) // 2 for found in sizes)
    assert any(o[0].shape[-1] != o[2].shape[-1] for o in large)
    assert any(o[0].shape[-2] != o[1].shape[-2] for o in large)


def lengths_of(operands, axis):
    """Lengths of an axis of q, and of the one of k or v that may differ from it."""
    other = 1 if axis == -2 else 2
    return {o[0].shape[axis] for o in operands}, {o[other].shape[axis] for o in operands}


def whole(seedling):
    q, k = seedling.operands[:2]
    return (*q.shape[:-1], k.shape[-2])


def test_masks_are_of_every_shape_and_kind():
    found = draws(of_attention.drawn_masks(context_of("attention")))
    for seedling in found:
        assert np.broadcast_shapes(seedling.mask.shape, whole(seedling)) == whole(seedling)
        assert seedling.mask.dtype in {np.dtype(bool), np.dtype(np.float32)}
        assert seedling.mask.dtype == bool or (seedling.mask < np.inf).all()
    shapes = {
        "whole": lambda s: s.mask.shape == whole(s),
        "no heads": lambda s: s.mask.shape == whole(s)[-2:],
        "one head": lambda s: s.mask.shape == (1, *whole(s)[-2:]) != whole(s),
        "keys": lambda s: s.mask.shape == (1, 1, whole(s)[-1]) != whole(s),
    }
    assert not missed(found, shapes)
    large = [s.mask for s in found if s.mask.size > 100]
    booleans, biases = ([m for m in large if (m.dtype == bool) is kind] for kind in (True, False))
    shares = [float(m.mean()) for m in booleans] + [float(np.isfinite(m).mean()) for m in biases]
    assert all(min(abs(share - wanted) for wanted in (0.5, 0.9, 0.1)) < 0.2 for share in shares)
    for masks, shown in ((booleans, np.mean), (biases, lambda m: np.isfinite(m).mean())):
        assert min(map(shown, masks)) < 0.2
        assert max(map(shown, masks)) > 0.8
    sizes = [float(np.std(m[np.isfinite(m)])) for m in biases]
    assert {round(float(np.log10(size))) for size in sizes} == {0, 1}


def test_shifted_scores_are_shifted_either_way():
    found = draws(of_attention.drawn_shifts(context_of("attention")))
    shifts = {float(s.operands[0].flat[-1]) * float(s.operands[1].flat[-1]) * s.scale for s in found}
    for wanted in (-120.0, 120.0, -1000.0, 1000.0, -40.0, 40.0, -1e4, 1e4):
        assert any(abs(shift / wanted - 1.0) < 0.2 for shift in shifts), wanted


def test_merges_are_of_parts_of_which_one_may_be_empty():
    found = draws(of_attention.drawn_merges(context_of("attention_merge")), 120)
    for seedling in found:
        out_a, lse_a, out_b, lse_b = seedling.operands
        assert out_a.shape == out_b.shape
        assert lse_a.shape == lse_b.shape == out_a.shape[:-1]
        assert lse_a.shape[-1] <= 33
        assert not (np.isneginf(lse_a) & np.isneginf(lse_b)).any()
    parts = {
        "none before": lambda s: np.isneginf(s.operands[1]).all(),
        "none after": lambda s: np.isneginf(s.operands[3]).all(),
        "both": lambda s: np.isfinite(s.operands[1]).all() and np.isfinite(s.operands[3]).all(),
        "long": lambda s: s.operands[1].shape[-1] == 33,
        "short": lambda s: s.operands[1].shape[-1] == 1,
    }
    assert not missed(found, parts)
    assert len({s.family for s in found} & set(KINDS)) > 5
