"""Cross-entropy and its gradient: the definition, special values, exact cases, and both oracles."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from sympy import KroneckerDelta, Rational

from softcert import reference
from softcert.reference import (
    DomainError,
    OracleDisagreement,
    cross_check,
    cross_entropy,
    cross_entropy_mp,
    cross_entropy_vjp,
    derivation,
    interval,
)

INF, NAN = math.inf, math.nan
SETTINGS = settings(derandomize=True, max_examples=60, deadline=None)
OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 1e-4},
    {"label_smoothing": 0.3, "z_loss": 0.75},
    {"label_smoothing": 1.0},
    {"label_smoothing": Fraction(1, 3), "z_loss": Fraction(1, 7)},
]
BOTH = pytest.mark.parametrize("method", ["arb", "mpmath"])


def exactly(value):
    number = Fraction(value)
    return mpf(number.numerator) / number.denominator


def by_definition(row, t, label_smoothing=0.0, z_loss=0.0):
    """Loss and slopes of a row of finite logits, at the precision in force."""
    s, z, n = exactly(label_smoothing), exactly(z_loss), len(row)
    x = [mpf(v) for v in row]
    lse = mp.log(mp.fsum(map(mp.exp, x)))
    loss = (1 - s) * (lse - x[t]) + s / n * mp.fsum(lse - v for v in x) + z * lse**2
    slopes = [mp.exp(v - lse) * (1 + 2 * z * lse) - (1 - s) * (j == t) - s / n for j, v in enumerate(x)]
    return loss, slopes


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 40.0])
@BOTH
def test_enclosures_hold_what_the_definition_gives(options, spread, method):
    rng = np.random.default_rng(3)
    x, d = rng.normal(scale=spread, size=(7, 5)), rng.normal(size=7)
    target = rng.integers(0, 5, size=7)
    losses = cross_entropy(x, target, **options, method=method)
    slopes = cross_entropy_vjp(x, target, d, **options, method=method)
    with mp.workdps(80):
        wanted = [
            by_definition(row, t, **options) for row, t in zip(x.tolist(), target.tolist(), strict=True)
        ]
        for got, exact in (
            (losses, [loss for loss, _ in wanted]),
            (slopes, [mpf(c) * v for c, (_, row) in zip(d.tolist(), wanted, strict=True) for v in row]),
        ):
            lower, upper = (np.ravel(end).tolist() for end in got.bounds_decimal(30))
            for low, high, value in zip(lower, upper, exact, strict=True):
                slack = abs(value) * mpf("1e-55") + mpf("1e-70")
                assert mpf(low) - slack <= value <= mpf(high) + slack
            np.testing.assert_array_equal(got.round("float64").ravel(), [float(v) for v in exact])


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
def test_torch_says_the_same(options):
    """Its own keywords, on its own z-loss: z logsumexp^2 under autograd."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    x, d = rng.normal(scale=3, size=(4, 6, 5)), rng.normal(size=(4, 5))
    target = rng.integers(0, 6, size=(4, 5))
    target[0, 1:3], target[2] = -7, 3
    logits = torch.tensor(x, requires_grad=True)
    s, z = float(options.get("label_smoothing", 0)), float(options.get("z_loss", 0))
    for ignored in (-7, 3):
        labels = torch.tensor(np.where(target == -7, ignored, target))
        plain = torch.nn.functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=s, ignore_index=ignored
        )
        loss = plain + torch.where(labels == ignored, 0.0, z * torch.logsumexp(logits, 1) ** 2)
        (slopes,) = torch.autograd.grad(loss, logits, torch.tensor(d))
        ours = cross_entropy(x, labels, axis=1, ignore_index=ignored, **options)
        gradient = cross_entropy_vjp(logits, labels, d, axis=1, ignore_index=ignored, **options)
        np.testing.assert_allclose(loss.detach().numpy(), ours.to_float64(), rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(slopes.numpy(), gradient.to_float64(), rtol=1e-12, atol=1e-14)
        assert not ours.round("float64")[(labels == ignored).numpy()].any()


@pytest.mark.parametrize(
    ("row", "target", "smoothing", "loss", "slopes"),
    [
        # a class of probability 0: infinite where it has weight, nothing where it has none
        ([0.0, 0.0, -INF], 2, 0.0, INF, [0.5, 0.5, -1.0]),
        ([0.0, 0.0, -INF], 0, 0.0, math.log(2), [-0.5, 0.5, 0.0]),
        ([0.0, 0.0, -INF], 0, 0.375, INF, [0.5 - 0.75, 0.5 - 0.125, -0.125]),
        ([0.0, -INF], 1, 1.0, INF, [0.5, -0.5]),
        ([-INF, 3.0, -INF], 1, 0.0, 0.0, [0, 0, 0]),
        # no distribution
        ([-INF] * 2, 0, 0.0, NAN, [NAN] * 2),
        ([INF, 0.0], 0, 0.0, NAN, [NAN] * 2),
        ([INF, 0.0], 1, 0.0, NAN, [NAN] * 2),
        ([NAN, 0.0], 1, 0.0, NAN, [NAN] * 2),
        ([NAN, INF], -100, 0.5, 0.0, [0, 0]),
        ([-INF, -INF], -100, 0.5, 0.0, [0, 0]),
    ],
)
@BOTH
def test_special_values(row, target, smoothing, loss, slopes, method):
    options = {"label_smoothing": smoothing, "method": method}
    np.testing.assert_array_equal(cross_entropy(row, target, **options).round("float64"), loss)
    np.testing.assert_array_equal(cross_entropy_vjp(row, target, 1.0, **options).round("float64"), slopes)


def test_cotangents_that_are_zero_or_not_finite():
    x, target = [[1.0, 2.0], [NAN, 2.0], [0.0, 1.0]], [0, -100, 1]
    got = cross_entropy_vjp(x, target, [0.0, NAN, INF])
    np.testing.assert_array_equal(got.round("float64"), [[0, 0], [0, 0], [NAN, NAN]])
    assert got.is_exact().all()


def value_of(enclosure):
    cells = [enclosure.known(k) for k in enclosure.cells_of_elements.tolist()]
    return [c if isinstance(c, Fraction) else Fraction(c.lo) * Fraction(2) ** c.exp for c in cells]


@pytest.mark.parametrize(
    ("row", "options", "loss", "slopes"),
    [
        ([7.5], {}, 0, [0]),
        ([7.5], {"label_smoothing": 0.3, "z_loss": 0.5}, Fraction(225, 8), [Fraction(15, 2)]),
        ([-3.0, -INF], {"z_loss": Fraction(1, 3)}, 3, [-2, 0]),
        ([2.0, 2.0, 2.0], {}, None, [Fraction(-2, 3), Fraction(1, 3), Fraction(1, 3)]),
        ([2.0, 2.0], {"label_smoothing": 0.5}, None, [Fraction(-1, 4), Fraction(1, 4)]),
        ([2.0, 2.0], {"label_smoothing": 1.0}, None, [0, 0]),
        ([2.0, 2.0], {"z_loss": 0.5}, None, [None, None]),
        ([2.0, 3.0, -INF], {}, None, [None, None, 0]),
    ],
)
def test_exact_cases(row, options, loss, slopes):
    losses, gradient = cross_entropy(row, 0, **options), cross_entropy_vjp(row, 0, 2.0, **options)
    assert losses.is_exact().item() == (loss is not None)
    if loss is not None:
        assert value_of(losses) == [loss]
    assert gradient.is_exact().tolist() == [s is not None for s in slopes]
    for got, slope, exact in zip(value_of(gradient), slopes, gradient.is_exact(), strict=True):
        assert not exact or got == 2 * slope


@BOTH
@pytest.mark.parametrize("tail", [-200.0, -1e5, -1e300])
def test_a_vanishing_tail_decides_midpoints(tail, method):
    """z x^2 and z are midpoints of binary32, and L lies above x = 1 by less than any precision tells."""
    midpoint, up, down = 1 + 2.0**-24, 1 + 2.0**-23, 1.0
    row = [1.0, tail]
    loss = cross_entropy(row, 0, z_loss=midpoint, method=method)
    assert not loss.contains(midpoint)
    assert float(loss.round("float32")) == up
    # with x = -1 the loss falls where L rises: 1 + 2 z x < 0
    assert float(cross_entropy([-1.0, tail], 0, z_loss=midpoint, method=method).round("float32")) == down
    # the slope at the target is 2 z x less or more something, as 1 + 2 z x is above or below 2 z
    half = midpoint / 2
    falls = cross_entropy_vjp([1.0, tail], 0, 1.0, z_loss=half, method=method)
    assert float(falls[0].round("float32")) == down
    rises = cross_entropy_vjp([-1.0, tail], 0, -1.0, z_loss=half, method=method)
    assert float(rises[0].round("float32")) == down
    # with 2 z = 1 + 2 z x the change is of second order, and still negative
    second = cross_entropy_vjp([0.0, tail], 0, 1.0, z_loss=0.5, method=method)
    assert float(second[0].round("float64")) <= 0.0
    assert np.signbit(second[0].round("float64"))
    # with 1 + 2 z x = 0 what is added below the top is p times 2 z (L - x), positive and vanishing
    share = 2.0**-53
    lifted = cross_entropy_vjp([-1.0, tail], 1, 1.0, label_smoothing=share, z_loss=0.5, method=method)
    assert float(lifted[1].round("float64")) == share - 1.0
    # below the top a slope is -c plus something
    far = cross_entropy_vjp([0.0, tail], 1, -midpoint, method=method)
    assert float(far[1].round("float32")) == down


@BOTH
def test_a_certain_class_has_a_slope_that_is_relatively_known(method):
    gradient = cross_entropy_vjp([0.0, -1e5], 0, 1.0, method=method)
    with mp.workprec(400):
        # exp(-1e5) / (1 + exp(-1e5)), to far more than these digits
        exponent = mp.floor(-(10**5) / mp.log(10))
        wanted = f"{mp.nstr(mp.exp(-(10**5)) / mpf(10) ** exponent, 12, strip_zeros=False)}e{int(exponent)}"
    assert gradient.digits(12).tolist() == [f"-{wanted}", wanted]
    assert np.signbit(gradient.round("float64")).tolist() == [True, False]


@BOTH
@pytest.mark.parametrize(("gap", "order"), [(20.0, 18), (1e5, 86860)])
def test_a_change_of_second_order_is_relatively_known(gap, order, method):
    """(2 z log(1 + t) - lift t) / (1 + t) with 2 z = lift = 1: -t^2 / 2 to first order, t = exp(-gap)."""
    top = cross_entropy_vjp([0.0, -gap], 0, 1.0, z_loss=0.5, method=method)[0]
    with mp.workdps(120):
        t = mp.exp(-mpf(gap))
        wanted = (mp.log1p(t) - t) / (1 + t) if gap < 100 else -(t**2) / 2
        exponent = mp.floor(mp.log10(-wanted))
        digits = mp.nstr(wanted / mpf(10) ** exponent, 15, strip_zeros=False)
    assert top.digits(15).item() == f"{digits}e{int(exponent)}"
    assert -int(exponent) == order
    assert top.error_ulp(top.round("float64"))[1] <= 0.5


FINITE = st.floats(allow_nan=False, allow_infinity=False)
FAMILIES = {
    "normal": st.lists(st.floats(-8, 8), min_size=1, max_size=7),
    "any": st.lists(FINITE, min_size=1, max_size=5),
    "ties": st.lists(st.sampled_from([0.0, -0.0, 1.0, -3.5]), min_size=1, max_size=6),
    "near ties": st.lists(st.integers(-4, 4).map(lambda k: 1 + k * 2.0**-52), min_size=1, max_size=5),
    "tails": st.lists(st.sampled_from([0.0, -40.0, -746.0, -1e5, -1e300]), min_size=1, max_size=5),
    "specials": st.lists(st.sampled_from([0.0, 3.0, -INF, INF, NAN]), min_size=1, max_size=4),
}
UNIT = st.sampled_from([0.0, 0.1, 0.5, 1.0, Fraction(1, 3), 5e-324])
FACTOR = st.sampled_from([0.0, 1e-4, 0.5, 7.0, 1e300, 5e-324])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracles_agree(family):
    @SETTINGS
    @given(FAMILIES[family], st.integers(0, 6), UNIT, FACTOR, st.sampled_from([1.0, -0.3, 1e300, 5e-324]))
    def check(row, t, smoothing, z, cotangent):
        options = {"label_smoothing": smoothing, "z_loss": z}
        target = t % (len(row) + 1) - 1
        loss = cross_check("cross_entropy", row, target, **options, ignore_index=-1)
        slopes = cross_check("cross_entropy_vjp", row, target, cotangent, **options, ignore_index=-1)
        for e in (loss, slopes):
            for fmt in ("float64", "bfloat16"):
                lower, upper = e.error_ulp(e.round(fmt))
                assert (lower <= 0.5).all()
                assert (upper <= 0.5 + 2.0**-40).all()

    check()


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_slopes_are_those_of_difference_quotients_and_sum_to_that_of_the_z_loss(smoothing):
    row, t, z = [0.25, -1.5, 2.0, 2.0], 1, 0.375
    options = {"label_smoothing": smoothing, "z_loss": z}
    slopes = cross_entropy_vjp(row, t, 1.0, **options)
    with mp.workdps(60):
        step = mpf(2) ** -60
        for j in range(len(row)):
            ahead, behind = (
                by_definition([mpf(v) + s * step * (i == j) for i, v in enumerate(row)], t, **options)[0]
                for s in (1, -1)
            )
            assert abs((ahead - behind) / (2 * step) - mpf(slopes.digits(30)[j])) < mpf("1e-28")
        total = mp.fsum(mpf(d) for d in slopes.digits(40))
        assert abs(total - 2 * z * mpf(reference.logsumexp(row).digits(40).item())) < mpf("1e-37")


PROOF = derivation.cross_entropy_gradient_proof()


@pytest.mark.parametrize("t", range(3))
def test_the_proven_gradient_is_what_is_computed(t):
    row, s, z = [0.25, -1.0, 2.0], Rational(3, 8), Rational(1, 4)
    slopes = cross_entropy_vjp(row, t, 1.0, label_smoothing=0.375, z_loss=0.25)
    for j in range(3):
        places = {derivation.n: 3, derivation.j: j + 1, derivation.t: t + 1}
        values = {derivation.smoothing: s, derivation.z_loss: z}
        derived = PROOF.derived.subs(places).subs(values).doit()
        exact = derived.subs({derivation.x[k + 1]: Rational(v) for k, v in enumerate(row)}).evalf(40)
        assert abs(exact - Rational(slopes[j].digits(30).item())) < 1e-28


def test_a_wrong_gradient_is_not_proven():
    lift = 1 + 2 * derivation.z_loss * derivation.logsumexp_of()
    p, s = derivation.softmax_of(derivation.j), derivation.smoothing / derivation.n
    own = (1 - derivation.smoothing) * KroneckerDelta(derivation.t, derivation.j)
    assert derivation._prove("right", PROOF.derived, p * lift - own - s).difference == 0
    for wrong in (p - own - s, p * lift - own, (p - s) * lift - own, p * lift - own + s):
        assert derivation._prove("wrong", PROOF.derived, wrong).difference != 0


def test_a_wrong_formula_stops_the_run(monkeypatch):
    """The smoothing share times 1 + 2 z lse too, as a fused kernel once had it (Liger at 02e90db9)."""
    honest = cross_entropy_mp.slopes_row
    row, options = [0.5, 2.0, -1.0], {"label_smoothing": 0.1, "z_loss": 1e-4}
    cross_check("cross_entropy_vjp", row, 0, 1.0, **options)
    lse = reference.logsumexp(row).to_float64().item()
    off = interval.from_fraction(Fraction(0.1 / 3 * 2e-4 * lse), 60)

    def scaled(question, prec):
        return [interval.add(v, interval.negate(off), prec) for v in honest(question, prec)]

    monkeypatch.setattr(cross_entropy_mp, "slopes_row", scaled)
    with pytest.raises(OracleDisagreement, match="cross_entropy_vjp at"):
        cross_check("cross_entropy_vjp", row, 0, 1.0, **options)
    monkeypatch.setattr(cross_entropy_mp, "loss_row", lambda question, prec: reference.Interval(1, 2, -60))
    with pytest.raises(OracleDisagreement, match="cross_entropy at"):
        cross_check("cross_entropy", row, 0, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_every_dtype_and_kind_of_index(dtype):
    x = np.array([[0.1, -1.7, 3.3], [2.0, 2.0, -0.5]]).astype(dtype)
    wide = cross_entropy(x.astype(np.float64), [0, 2])
    for index in (np.int8, np.uint64, np.int64):
        narrow = cross_entropy(x, np.array([0, 2], dtype=index))
        assert narrow.digits(30).tolist() == wide.digits(30).tolist()
    columns = cross_entropy(x.T, [0, 2], axis=0)
    assert columns.digits(30).tolist() == wide.digits(30).tolist()
    slopes = cross_entropy_vjp(x.T, [0, 2], np.ones(2, dtype), axis=0)
    assert slopes.shape == (3, 2)
    assert slopes[:, 1].digits(9).tolist() == cross_entropy_vjp(x[1], 2, 1.0).digits(9).tolist()
    assert cross_entropy(np.zeros((0, 3)), np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cross_entropy([0.0, 1.0], 2), "target 2 is neither one of 2 classes nor ignore_index=-100"),
        (lambda: cross_entropy([0.0, 1.0], -1), "target -1 is neither"),
        (lambda: cross_entropy([0.0, 1.0], 1.0), "target is not an array of integers, but of float64"),
        (lambda: cross_entropy([0.0, 1.0], np.ones((), bool)), "it holds True and False"),
        (lambda: cross_entropy([0.0, 1.0], [0, 1]), r"target has shape \(2,\), and the rows of x \(\)"),
        (lambda: cross_entropy([0.0, 1.0], np.uint64(2**63)), "9223372036854775808, which is no index"),
        (lambda: cross_entropy([], 0), "at least one class"),
        (lambda: cross_entropy([0.0], 0, label_smoothing=1.5), "label_smoothing=1.5 is above 1"),
        (lambda: cross_entropy([0.0], 0, label_smoothing=-0.5), "label_smoothing=-0.5 is below 0"),
        (lambda: cross_entropy([0.0], 0, z_loss=-1e-4), "z_loss=-0.0001 is below 0"),
        (lambda: cross_entropy([0.0], 0, z_loss=NAN), "z_loss=nan is not finite"),
        (lambda: cross_entropy([0.0], 0, ignore_index=0.5), "ignore_index=0.5 is not an integer"),
        (lambda: cross_entropy_vjp([[0.0, 1.0]], [0], 1.0), r"dloss has shape \(\), and the losses \(1,\)"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()
    with pytest.raises(ValueError, match="auto, mpmath, arb, fast"):
        cross_entropy([0.0], 0, method="double")
