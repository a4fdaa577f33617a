"""Known and likely defects of cross-entropy exceed the bounds, also the looser one of the form "any"."""

from __future__ import annotations

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.cross_entropy import (
    cross_entropy_bound,
    cross_entropy_vjp_bound,
    losses_of,
)
from softcert.conformance.bounds.softmax import log_softmax_bound
from softcert.conformance.inputs.families import make_row

f32 = np.float32
NONE = {"label_smoothing": 0.0, "z_loss": 0.0}
SMOOTH = {"label_smoothing": 0.1, "z_loss": 0.0}
LIFTED = {"label_smoothing": 0.0, "z_loss": 1e-4}
BOTH = {"label_smoothing": 0.1, "z_loss": 1e-4}
ROW = make_row("normal", 33, 1, 2.0, "float32")
SURE = np.array([12.0, 0.0, -1.0], dtype=f32)
LOST = np.array([0.0, 30.0, 29.0], dtype=f32)


def lse(x):
    return x.max() + np.log(np.exp(x - x.max()).sum(dtype=f32))


def logs(x):
    return (x - x.max()) - np.log(np.exp(x - x.max()).sum(dtype=f32))


def softmax(x):
    w = np.exp(x - x.max())
    return w / w.sum(dtype=f32)


def own(x, t):
    return (np.arange(len(x)) == t).astype(f32)


def right(x, t, s, z):
    return (1 - s) * -logs(x)[t] + s / len(x) * -logs(x).sum() + z * lse(x) ** 2


def right_gradient(x, t, s, z):
    return softmax(x) * (1 + 2 * z * lse(x)) - (1 - s) * own(x, t) - s / len(x)


LOSSES = {
    "another class": (ROW, NONE, lambda x, t, s, z: right(x, t + 1, s, z)),
    "binary logarithm": (ROW, NONE, lambda x, t, s, z: right(x, t, s, z) * f32(np.log2(np.e))),
    "last class dropped": (ROW, NONE, lambda x, t, s, z: right(x[:-1], t, s, z)),
    "log of p plus an epsilon": (LOST, NONE, lambda x, t, s, z: -np.log(softmax(x)[t] + f32(1e-10))),
    "p clipped": (LOST, NONE, lambda x, t, s, z: -np.log(np.maximum(softmax(x)[t], f32(1e-7)))),
    "log of a p that underflows": (f32(4) * LOST, NONE, lambda x, t, s, z: -np.log(softmax(x)[t])),
    "lse in bfloat16": (ROW, NONE, lambda x, t, s, z: lse(x).astype(as_dtype("bfloat16")).astype(f32) - x[t]),
    "no shift": (ROW + f32(100), NONE, lambda x, t, s, z: np.log(np.exp(x).sum()) - x[t]),
    "smoothed over the others alone": (
        ROW,
        SMOOTH,
        lambda x, t, s, z: (1 - s) * -logs(x)[t] + s / (len(x) - 1) * -np.delete(logs(x), t).sum(),
    ),
    "smoothing added": (ROW, SMOOTH, lambda x, t, s, z: -logs(x)[t] + s / len(x) * -logs(x).sum()),
    "smoothing not divided": (ROW, SMOOTH, lambda x, t, s, z: (1 - s) * -logs(x)[t] + s * -logs(x).sum()),
    "smoothing ignored": (ROW, SMOOTH, lambda x, t, s, z: right(x, t, 0, z)),
    "z-loss ignored": (ROW, LIFTED, lambda x, t, s, z: right(x, t, s, 0)),
    "z-loss of the shifted sum": (
        ROW,
        LIFTED,
        lambda x, t, s, z: right(x, t, s, 0) + z * (lse(x) - x.max()) ** 2,
    ),
    "z-loss not squared": (ROW, LIFTED, lambda x, t, s, z: right(x, t, s, 0) + z * np.abs(lse(x))),
    "z-loss smoothed": (ROW, BOTH, lambda x, t, s, z: right(x, t, s, (1 - s) * z)),
}


def judged(x, t, options, value, gradient, form="any", dtype="float32", compute=None, d=1.0):
    """Largest error / bound."""
    a = arithmetic(Contract(form=form, compute=compute), dtype)
    losses = losses_of(x.astype(np.float64), np.array(t), any_order=form == "any", **options)
    if gradient:
        exact = reference.cross_entropy_vjp(x, t, d, **options).to_float64()
        bound = cross_entropy_vjp_bound(losses, np.array([d]), a)
    else:
        exact = reference.cross_entropy(x, t, **options).to_float64()
        bound = cross_entropy_bound(losses, a)[..., 0]
    return float((np.abs(np.asarray(value, dtype=np.float64) - exact) / bound).max())


def as_given(options):
    return f32(options["label_smoothing"]), f32(options["z_loss"])


@pytest.mark.parametrize("defect", LOSSES)
def test_a_defect_of_the_loss_exceeds_the_bound(defect):
    x, options, wrong = LOSSES[defect]
    s, z = as_given(options)
    for form in ("any", "division"):
        assert judged(x, 0, options, right(x, 0, s, z), gradient=False, form=form) <= 1.0
        with np.errstate(over="ignore", divide="ignore"):
            assert not judged(x, 0, options, wrong(x, 0, s, z), gradient=False, form=form) <= 1.0


GRADIENTS = {
    "weight not taken": (ROW, NONE, lambda x, t, s, z: softmax(x)),
    "p plus the weight": (ROW, NONE, lambda x, t, s, z: softmax(x) + own(x, t)),
    "sign": (ROW, NONE, lambda x, t, s, z: own(x, t) - softmax(x)),
    "mean over classes": (ROW, NONE, lambda x, t, s, z: right_gradient(x, t, s, z) / len(x)),
    "smoothing not taken": (ROW, SMOOTH, lambda x, t, s, z: softmax(x) - (1 - s) * own(x, t)),
    "own share not taken": (
        ROW,
        SMOOTH,
        lambda x, t, s, z: softmax(x) - (1 - s) * own(x, t) - s / len(x) * (1 - own(x, t)),
    ),
    "smoothing ignored": (ROW, SMOOTH, lambda x, t, s, z: right_gradient(x, t, 0, z)),
    "z-loss not taken": (ROW, LIFTED, lambda x, t, s, z: right_gradient(x, t, s, 0)),
    "half of the z-loss": (ROW, LIFTED, lambda x, t, s, z: right_gradient(x, t, s, z / 2)),
    "shares lifted": (
        ROW,
        BOTH,
        lambda x, t, s, z: (softmax(x) - s / len(x)) * (1 + 2 * z * lse(x)) - (1 - s) * own(x, t),
    ),
}


@pytest.mark.parametrize("defect", GRADIENTS)
def test_a_defect_of_the_gradient_exceeds_the_bound(defect):
    """The last is what Liger computed at commit 02e90db9: the shares times 1 + 2 z lse too."""
    x, options, wrong = GRADIENTS[defect]
    s, z = as_given(options)
    for form in ("any", "division"):
        assert judged(x, 0, options, right_gradient(x, 0, s, z), gradient=True, form=form) <= 1.0
        assert judged(x, 0, options, wrong(x, 0, s, z), gradient=True, form=form) > 1.0


def test_p_rounded_to_the_result_before_the_weight_is_taken_exceeds_the_bound():
    """A kernel that keeps p in bfloat16 loses the slope of a class as good as certain."""
    x = SURE.astype(as_dtype("bfloat16"))
    wide, narrow = x.astype(f32), as_dtype("bfloat16")
    kept = (softmax(wide).astype(narrow).astype(f32) - own(x, 0)).astype(narrow)
    whole = (softmax(wide) - own(x, 0)).astype(narrow)
    assert kept[0] == 0.0
    assert judged(x, 0, NONE, kept.astype(float), gradient=True, dtype="bfloat16", compute="float32") > 1.0
    assert judged(x, 0, NONE, whole.astype(float), gradient=True, dtype="bfloat16", compute="float32") <= 1.0


def test_an_offset_costs_the_form_any_alone():
    """lse - x_t at an offset of 1e6 is off by more than the division form allows."""
    x = f32(1e6) + np.array([0.0, 1.0, 2.0], dtype=f32)
    value = lse(x) - x[0]
    assert judged(x, 0, NONE, value, gradient=False, form="any") <= 1.0
    assert judged(x, 0, NONE, value, gradient=False, form="division") > 1.0


@pytest.mark.parametrize("form", ["any", "division"])
def test_without_options_the_bound_is_that_of_log_softmax_or_of_the_fused_form(form):
    a = arithmetic(Contract(form=form), "float32")
    losses = losses_of(ROW.astype(float), np.array(7), any_order=form == "any")
    ours, theirs = cross_entropy_bound(losses, a).item(), log_softmax_bound(losses.rows, a)[7].item()
    assert ours == pytest.approx(theirs, rel=1e-12) if form == "division" else ours >= theirs


def test_what_is_exact_or_infinite_has_no_error():
    x = np.array([[0.0, 1.0, -np.inf], [0.0, -np.inf, -np.inf], [np.nan, np.inf, 0.0]])
    target = np.array([0, 1, -5])
    for smoothing, losses_are_numbers in ((0.0, [True, False, False]), (0.1, [False, False, False])):
        losses = losses_of(x, target, label_smoothing=smoothing, ignore_index=-5, z_loss=0.5, any_order=True)
        a = arithmetic(Contract(), "float32")
        assert (cross_entropy_bound(losses, a)[:, 0] > 0).tolist() == losses_are_numbers
        slopes = cross_entropy_vjp_bound(losses, np.ones((3, 1)), a) > 0
        masked = smoothing > 0
        assert slopes.tolist() == [[True, True, masked], [True, True, masked], [False] * 3]


@pytest.mark.parametrize("form", ["any", "division"])
def test_what_binary64_cannot_hold_has_no_bound_and_never_one_that_is_nan(form):
    x = np.array([1.7e308, -1.7e308, -1.7e308, -1.6e308, 0.0])
    a = arithmetic(Contract(form=form), "float64")
    for options in (NONE, SMOOTH, LIFTED, BOTH):
        losses = losses_of(x, np.array(1), any_order=form == "any", **options)
        assert np.isposinf(cross_entropy_bound(losses, a)).all()
        assert (cross_entropy_vjp_bound(losses, np.ones(1), a) > 0).all()


def test_many_rows_are_bounded_as_each_alone():
    x = np.array([[0.5, -2.25, 3.0], [1.0, -1.5, 2.5], [-1.0, 0.0, 1.0]])
    target, d = np.array([2, 0, 1]), np.array([[1.0], [-3.0], [0.25]])
    for form in ("any", "division"):
        a, wide = arithmetic(Contract(form=form), "float16"), form == "any"
        whole = losses_of(x, target, any_order=wide, **BOTH)
        for k in range(3):
            alone = losses_of(x[k], target[k], any_order=wide, **BOTH)
            np.testing.assert_allclose(cross_entropy_bound(whole, a)[k], cross_entropy_bound(alone, a))
            np.testing.assert_allclose(
                cross_entropy_vjp_bound(whole, d, a)[k], cross_entropy_vjp_bound(alone, d[k], a)
            )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_stays_within_the_bound(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    for n, spread, offset in ((2, 1.0, 0.0), (10, 3.0, 50.0), (1000, 2.0, -20.0), (7, 30.0, 0.0)):
        x = (rng.normal(size=n) * spread + offset).astype(as_dtype(dtype))
        for options in (NONE, SMOOTH):
            logits = torch.tensor(x.astype(f32)).to(getattr(torch, dtype)).requires_grad_()
            loss = torch.nn.functional.cross_entropy(
                logits, torch.tensor(1), label_smoothing=options["label_smoothing"]
            )
            (slopes,) = torch.autograd.grad(loss, logits)
            assert judged(x, 1, options, loss.item(), gradient=False, dtype=dtype) <= 1.0
            assert judged(x, 1, options, slopes.double().numpy(), gradient=True, dtype=dtype) <= 1.0
