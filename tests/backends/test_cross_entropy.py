"""Cross-entropy of the backends: within the derived bounds of the certified values, whatever the layout."""

from __future__ import annotations

import numpy as np
import pytest

import softcert
from softcert import reference
from softcert.backends import DTYPES, as_dtype, numpy_cross_entropy
from softcert.backends.contract import Contract
from softcert.backends.isolation import Worker
from softcert.backends.numba_ import cross_entropy as numba_cross_entropy
from softcert.backends.numba_ import threads
from softcert.backends.types import Call
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.cross_entropy import (
    cross_entropy_bound,
    cross_entropy_vjp_bound,
    losses_of,
)
from softcert.conformance.inputs.families import make_row

RNG = np.random.default_rng(21)
INF, NAN = np.inf, np.nan
OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 1e-2},
    {"label_smoothing": 0.75, "z_loss": 0.25},
    {"label_smoothing": 1.0},
]
FAMILIES = ("wide", "near-overflow", "normal", "ties", "one-hot", "offset-up", "gap-sweep", "equal")


def ours(module):
    return {name: getattr(module, name) for name in ("cross_entropy", "cross_entropy_vjp")}


#: Kernels, and what is promised of them.
OURS = {
    "numpy": (lambda: ours(numpy_cross_entropy), Contract(form="division")),
    "numba": (lambda: ours(numba_cross_entropy), Contract(form="division", exp_ulp=1.0)),
}


def rows(dtype, n, families=FAMILIES):
    return np.stack([make_row(family, n, n + k, 2.0, dtype) for k, family in enumerate(families)])


def largest_ratios(kernels, contract, x, target, dloss, options):
    """Largest error / bound of losses, and of gradients where there are some."""
    a = arithmetic(contract, x.dtype.name)
    losses = losses_of(x.astype(float), target, any_order=contract.form == "any", **options)
    loss = kernels["cross_entropy"](x, target, **options)
    found = [(loss, reference.cross_entropy(x, target, **options), cross_entropy_bound(losses, a)[..., 0])]
    if "cross_entropy_vjp" in kernels:
        slopes = kernels["cross_entropy_vjp"](x, target, dloss, **options)
        bound = cross_entropy_vjp_bound(losses, dloss.astype(float)[..., None], a)
        found.append((slopes, reference.cross_entropy_vjp(x, target, dloss, **options), bound))
    ratios = []
    fmt = reference.format_of(x.dtype)
    for got, exact, bound in found:
        assert (got.dtype, got.shape) == (x.dtype, exact.shape)
        size = np.clip(np.abs(exact.to_float64()), 2.0**fmt.emin, 2.0**fmt.emax)
        ulp = 2.0 ** (np.floor(np.log2(size)) - fmt.precision + 1)
        # 0 where an infinity is what the exact value overflows to
        error = exact.error_ulp(got)[0] * ulp
        ratios.append(float(np.max(error / np.maximum(bound, 5e-324), initial=0.0)))
    return ratios


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OURS)
def test_ours_stay_within_their_bounds(name, dtype, options):
    make, contract = OURS[name]
    for n in (1, 2, 7, 40):
        # Sums and squares of the largest numbers overflow, which is outside the model.
        x = rows(dtype, n, FAMILIES[2:] if options else FAMILIES)
        target = RNG.integers(0, n, len(x))
        target[-1] = -100
        dloss = RNG.normal(size=len(x)).astype(x.dtype)
        promised = Contract(**{**vars(contract), "compute": "float32" if x.dtype.itemsize == 2 else None})
        ratios = largest_ratios(make(), promised, x, target, dloss, options)
        assert max(ratios) <= 1.0, (n, ratios)


@pytest.mark.parametrize("name", [*OURS, "torch"])
def test_special_rows(name):
    if name not in OURS:
        pytest.importorskip(name)
    kernels = OURS[name][0]() if name in OURS else softcert.load(name).ops
    x = np.array(
        [
            [0, 1, -INF],
            [0, 1, -INF],
            [-INF] * 3,
            [0, INF, 1],
            [NAN, 0, 0],
            [-INF, 3, -INF],
            [NAN, INF, 0],
        ]
    )
    target = np.array([2, 0, 0, 0, 1, 1, -100])
    for smoothing in (0.0, 0.25, 1.0):
        options = {"label_smoothing": smoothing}
        if name not in OURS and smoothing == 1.0:
            continue  # 0 times infinity is NaN there
        exact = reference.cross_entropy(x, target, **options).round("float64")
        np.testing.assert_allclose(kernels["cross_entropy"](x, target, **options), exact, rtol=1e-12)
        if name in OURS:
            got = kernels["cross_entropy_vjp"](x, target, np.ones(7), **options)
            slopes = reference.cross_entropy_vjp(x, target, np.ones(7), **options).round("float64")
            np.testing.assert_allclose(got, slopes, rtol=1e-12, atol=1e-15)


def test_torch_gives_nan_for_the_gradient_of_an_ignored_row_with_nan():
    """Why `reference.cross_entropy_vjp` differs from it there: a constant has the gradient 0."""
    pytest.importorskip("torch")
    x, target = np.array([[NAN, 0.0]]), np.array([-100])
    kernels = softcert.load("torch").ops
    assert kernels["cross_entropy"](x, target).tolist() == [0.0]
    assert np.isnan(kernels["cross_entropy_vjp"](x, target, np.ones(1))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OURS)
def test_any_axis_and_any_ignored_index(name, dtype):
    kernels = OURS[name][0]()
    x = (3 * RNG.normal(size=(4, 9, 5))).astype(as_dtype(dtype))
    target, dloss = RNG.integers(0, 9, (4, 5)), RNG.normal(size=(4, 5)).astype(x.dtype)
    options = {"ignore_index": 2, "label_smoothing": 0.2, "z_loss": 0.01}
    target[0, 0] = 2
    for given in (x, x[::-1], np.asfortranarray(x)):
        loss = kernels["cross_entropy"](given, target, axis=1, **options)
        slopes = kernels["cross_entropy_vjp"](given, target, dloss, axis=1, **options)
        moved = np.ascontiguousarray(np.moveaxis(given, 1, -1))
        for got, wanted in (
            (loss, kernels["cross_entropy"](moved, target, **options)),
            (np.moveaxis(slopes, 1, -1), kernels["cross_entropy_vjp"](moved, target, dloss, **options)),
        ):
            # NumPy adds in another order where numbers lie in another one.
            np.testing.assert_allclose(got.astype(float), wanted.astype(float), rtol=1e-5, atol=1e-6)
        assert not loss[target == 2].any()
        assert not np.moveaxis(slopes, 1, -1)[target == 2].any()
    assert kernels["cross_entropy"](x[:0], target[:0], axis=1).shape == (0, 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fused_kernel_writes_the_loss_and_nothing_beside_its_rows(dtype):
    """Targets at every lane: one that stands in the middle of a vector is written by itself."""
    n = 37
    x = (3 * RNG.normal(size=(n, n))).astype(as_dtype(dtype))
    target, dloss = np.arange(n), np.ones(n, x.dtype)
    loss, slopes = numba_cross_entropy.cross_entropy_with_gradient(x, target, dloss)
    np.testing.assert_array_equal(loss, numba_cross_entropy.cross_entropy(x, target))
    plain = numpy_cross_entropy.cross_entropy_vjp(x, target, dloss).astype(float)
    within = {"float64": 1e-14, "float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(slopes.astype(float), plain, rtol=within, atol=within / 100)


def test_a_class_as_good_as_certain_keeps_its_slope():
    """p - 1 of a p rounded first is 0 from a gap of 37 in float64; the kernel takes what p lacks."""
    x = np.array([[0.0, -60.0]])
    got = numba_cross_entropy.cross_entropy_vjp(x, np.array([0]), np.ones(1))
    np.testing.assert_allclose(got, [[-np.exp(-60.0), np.exp(-60.0)]], rtol=1e-12)
    assert numba_cross_entropy.cross_entropy(x, np.array([0])) == pytest.approx(np.exp(-60.0), rel=1e-12)


def test_the_slope_of_one_of_many_ties_is_p_of_what_the_z_loss_lifts_it_by():
    """Not the rest of 1 - (1 - p), which loses as many digits as p is small by."""
    x = np.repeat(np.linspace(40.0, 90.0, 20)[:, None], 500, axis=1)
    target, dloss = np.zeros(20, np.int64), np.ones(20)
    got = numba_cross_entropy.cross_entropy_vjp(x, target, dloss, z_loss=0.5)[:, 0]
    exact = reference.cross_entropy_vjp(x, target, dloss, z_loss=0.5)[:, 0]
    assert exact.error_ulp(got)[0].max() <= 16.0


def test_no_bit_depends_on_the_batch_or_the_threads(monkeypatch):
    x, target = RNG.normal(size=(1500, 130)).astype(np.float32), RNG.integers(0, 130, 1500)
    dloss = RNG.normal(size=1500).astype(np.float32)
    whole = numba_cross_entropy.cross_entropy_with_gradient(x, target, dloss, z_loss=0.1)
    monkeypatch.setattr(threads, "processors", lambda: 1)
    alone = numba_cross_entropy.cross_entropy_with_gradient(x, target, dloss, z_loss=0.1)
    single = numba_cross_entropy.cross_entropy_with_gradient(x[7:8], target[7:8], dloss[7:8], z_loss=0.1)
    for a, b, c in zip(whole, alone, single, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[7:8], c)


@pytest.mark.parametrize("name", OURS)
def test_targets_that_are_no_classes_are_refused(name):
    kernels = OURS[name][0]()
    x = np.zeros((2, 3))
    for target in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="neither one of 3 classes nor -100"):
            kernels["cross_entropy"](x, np.array(target))
        with pytest.raises(ValueError, match="neither one of 3 classes nor -100"):
            kernels["cross_entropy_vjp"](x, np.array(target), np.ones(2))
    with pytest.raises(ValueError, match="target has shape"):
        kernels["cross_entropy"](x, np.array([0]))


def test_the_log_loss_of_scikit_learn_is_clipped():
    pytest.importorskip("sklearn")
    log_loss = softcert.load("sklearn").ops["cross_entropy"]
    x, target = RNG.normal(size=(6, 4)), np.array([0, 1, 2, 3, 3, 0])
    np.testing.assert_allclose(log_loss(x, target), numpy_cross_entropy.cross_entropy(x, target), rtol=1e-9)
    far = np.array([[0.0, 50.0]])
    assert log_loss(far, np.array([0])) == pytest.approx(36.0437, abs=1e-4)
    assert log_loss(far.astype(np.float32), np.array([0])) == pytest.approx(15.9424, abs=1e-4)


def test_a_target_outside_reaches_the_loss_of_optax():
    """Why it is not asked for ignored rows: -100 counts from the end, or gives NaN."""
    pytest.importorskip("optax")
    x = np.zeros((1, 3), np.float32)
    # In a process of its own: functions are tried on arrays of every library that is imported.
    with Worker("optax") as worker:
        right, outside = (worker.call(Call("cross_entropy", (x, np.array([t])))).value for t in (1, -100))
    np.testing.assert_allclose(right, np.log(3.0), rtol=1e-6)
    assert outside.tolist() != [0.0]
