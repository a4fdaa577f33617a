"""The fast path says what the oracles say, decides what it claims, and refuses altered arithmetic."""

import os
import re
import subprocess
import sys

import ml_dtypes
import mpmath
import numpy as np
import pytest

from softcert import reference
from softcert.reference.fast import double_word, narrow, oracle, rows
from softcert.reference.fast.compiled import compiled

RNG = np.random.default_rng(12)
FORMATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _masked():
    x = RNG.normal(size=(20, 30))
    return np.where(RNG.random(x.shape) < 0.3, -np.inf, x)


FAMILIES = {
    "normal": RNG.normal(size=(20, 50)),
    "wide": RNG.normal(size=(20, 50)) * 300,
    "huge": RNG.normal(size=(6, 20)) * 1e306,
    "ties": np.repeat(RNG.normal(size=(6, 5)), 4, axis=1),
    "equal": np.array([[1e300] * 8, [-3.5] * 8, [0.0] * 8]),
    "thirds": np.ones((2, 3)),
    "near ties": np.array([[0.0, 2.0**-52], [0.0, 2.0**-1074], [1.0, 1.0 + 2.0**-52]]),
    "far below": -np.abs(RNG.normal(size=(5, 30))) * 1e5,
    "masked": _masked(),
    "special": np.array([[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf] * 3, [1.0, 2.0, 3.0]]),
    "gap sweep": -np.linspace(0, 800, 300)[None],
    "underflow": np.array(
        [[0, -745.13, -745.2, -708.3], [0, -1e4, -1e6, -1e300], [0, -640, -641, -1048576.0]]
    ),
    "one": np.array([[3.0], [-1e308]]),
    "nearly equal": 1.0 + np.arange(16)[None] * 2.0**-52,
}


def _same(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beta", [1.0, 2.5, -0.7, 2.0**-40])
def test_it_rounds_and_measures_as_arb_does(family, beta):
    x = FAMILIES[family]
    fast, slow = (reference.softmax(x, beta=beta, method=method) for method in ("fast", "arb"))
    for fmt in FORMATS:
        assert _same(fast.round(fmt), slow.round(fmt)).all(), fmt
    assert fast.overlaps(slow).all()
    for fmt in ("float64", "float32", "bfloat16"):
        y = np.nan_to_num(slow.round(fmt).astype(np.float64) * 1.25, nan=0.5).astype(slow.round(fmt).dtype)
        ours, theirs = fast.error_ulp(y), slow.error_ulp(y)
        assert ((ours[0] <= theirs[1]) & (theirs[0] <= ours[1])).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("op", [reference.log_softmax, reference.logsumexp])
def test_logarithms_are_those_of_arb(op, family):
    fast, slow = (op(FAMILIES[family], method=method) for method in ("fast", "arb"))
    for fmt in FORMATS:
        assert _same(fast.round(fmt), slow.round(fmt)).all(), fmt
    assert fast.overlaps(slow).all()
    with np.errstate(over="ignore"):
        y = np.nan_to_num(slow.round("float64")) * 1.25
    ours, theirs = fast.error_ulp(y), slow.error_ulp(y)
    assert ((ours[0] <= theirs[1]) & (theirs[0] <= ours[1])).all()


Y = reference.softmax(RNG.normal(size=(20, 40)) * 3).round("float64")
COTANGENTS = {
    "normal": RNG.normal(size=Y.shape),
    "constant": np.ones(Y.shape),
    "tiny": RNG.normal(size=Y.shape) * 1e-300,
    "huge": RNG.normal(size=Y.shape) * 1e300,
    "cancelling": 1e8 + RNG.normal(size=Y.shape),
    "special": np.where(RNG.random(Y.shape) < 0.1, np.nan, 1.0),
}


@pytest.mark.parametrize("name", COTANGENTS)
def test_products_with_the_jacobian_are_the_exact_ones(name):
    d = COTANGENTS[name]
    fast, exact = (reference.softmax_vjp(Y, d, axis=0, method=method) for method in ("fast", "arb"))
    for fmt in FORMATS:
        assert _same(fast.round(fmt), exact.round(fmt)).all(), fmt
    assert fast.overlaps(exact).all()
    if name in {"normal", "cancelling"}:
        assert fast.undecided == 0


def test_errors_near_the_largest_number_overflow_in_silence():
    """The error of y (d - sum(y d)) is near 2**1022 here, and four times that is no number of binary64."""
    y, d = [2.0**103, 1.0], [2.0**918, 1.0]
    fast, exact = (reference.softmax_vjp(y, d, method=method) for method in ("fast", "arb"))
    assert _same(fast.round("float64"), exact.round("float64")).all()


@pytest.mark.parametrize("gap", [20.0, 36.5, 37.5, 38.0, 41.6, 50.0, 60.0, 67.0, 68.0, 70.0, 500.0])
def test_errors_beside_one_are_counted_from_the_exact_value(gap):
    """1 - exp(-gap), which binary64 does not tell from 1, and the errors of its neighbours."""
    x = np.array([[0.0, -gap]])
    fast, slow = (reference.softmax(x, method=method) for method in ("fast", "arb"))
    for y in (slow.round("float64"), np.nextafter(slow.round("float64"), 0.0)):
        ours, theirs = fast.signed_error_ulp(y), slow.signed_error_ulp(y)
        assert ((ours[0] <= theirs[1]) & (theirs[0] <= ours[1])).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("op", [reference.softmax, reference.log_softmax, reference.logsumexp])
def test_errors_below_an_ulp_are_those_of_arb(op, family):
    fast, slow = (op(FAMILIES[family], method=method) for method in ("fast", "arb"))
    y = slow.round("float64")
    ours, theirs = fast.signed_error_ulp(y), slow.signed_error_ulp(y)
    assert ((ours[0] <= theirs[1]) & (theirs[0] <= ours[1])).all()


NARROW = ["float32", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("beta", [1.0, 0.37, -3.0, 2.0**-60, 1e30])
def test_narrow_inputs_are_the_reals_that_they_are(dtype, beta):
    x = (RNG.normal(size=(40, 33)) * 20).astype(dtype)
    x[3, 5] = 2.0**-14
    fast, slow = (reference.softmax(x, beta=beta, method=method) for method in ("fast", "arb"))
    for fmt in FORMATS:
        assert _same(fast.round(fmt), slow.round(fmt)).all(), fmt


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beta", [1.0, 2.5, -0.7])
def test_binary64_alone_decides_as_arb_does(family, beta):
    with np.errstate(over="ignore", under="ignore"):
        x = FAMILIES[family].astype(np.float32)
    fast, slow = (reference.softmax(x, beta=beta, method=method) for method in ("fast", "arb"))
    for fmt in FORMATS[1:]:
        assert _same(fast.round(fmt), slow.round(fmt)).all(), fmt


@pytest.mark.parametrize("op", [reference.log_softmax, reference.logsumexp])
@pytest.mark.parametrize("dtype", NARROW)
def test_logarithms_of_narrow_inputs(op, dtype):
    x = RNG.normal(size=(9, 33)).astype(dtype)
    fast, slow = (op(x, method=method) for method in ("fast", "arb"))
    for fmt in FORMATS:
        assert _same(fast.round(fmt), slow.round(fmt)).all(), fmt


@pytest.mark.parametrize("op", [reference.softmax, reference.log_softmax, reference.logsumexp])
@pytest.mark.parametrize("length", [1 << 14, 1 << 15])
def test_auto_is_the_fast_path_for_many_elements(op, length):
    x = np.random.default_rng(2).normal(size=(1, length)).astype(np.float32)
    auto, slow = op(x), op(x, method="arb")
    assert (auto._fast is not None) == (length >= 1 << 15)
    np.testing.assert_array_equal(auto.round("float32"), slow.round("float32"))
    assert auto.overlaps(slow).all()


def test_shapes_axes_and_parts():
    x = RNG.normal(size=(3, 4, 5))
    for axis in (-1, 0, 1):
        fast, slow = (reference.softmax(x, axis=axis, method=method) for method in ("fast", "arb"))
        np.testing.assert_array_equal(fast.round("float64"), slow.round("float64"))
        np.testing.assert_array_equal(fast[1, ::2].round("float32"), slow[1, ::2].round("float32"))
        assert fast[0, 0, 0].digits(40) == slow[0, 0, 0].digits(40)
        assert fast.shape == slow.shape
        assert fast.size == slow.size


@pytest.mark.parametrize("x", [np.float64(1.0), np.zeros((2, 0)), np.arange(3), [[1.0, 2.0], [3.0]]])
def test_what_it_does_not_take_is_answered_as_without_it(x):
    def outcome(method):
        try:
            return reference.softmax(x, method=method).round("float64").tolist()
        except reference.DomainError as error:
            return str(error)

    assert outcome("fast") == outcome("arb")


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    x = RNG.normal(size=(300, 257))
    results = []
    for count in ("1", "2", "3", "7"):
        monkeypatch.setenv("SOFTCERT_THREADS", count)
        whole = reference.softmax(x, method="fast")
        results.append((whole.round("float64"), *whole.error_ulp(whole.round("float64"))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


FORKED = """
import os, sys, warnings
import numpy as np
from softcert import reference

x = np.random.default_rng(0).normal(size=(300, 400))
expected = reference.softmax(x, method="fast").round("float64")
warnings.simplefilter("ignore")  # from Python 3.12 on, of a fork beside threads
if os.fork() == 0:
    same = np.array_equal(reference.softmax(x, method="fast").round("float64"), expected)
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_process_starts_threads_of_its_own():
    """It has none of its parent's, and would wait for them without end."""
    variables = os.environ | {"SOFTCERT_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKED], env=variables, timeout=120, check=False)
    assert done.returncode == 0


def test_undecided_roundings_are_counted_and_right():
    # 1/2 + d/4 - d^3/48 with d = 2**-52: next to a midpoint, which 98 bits do not tell from it.
    pair = reference.softmax(np.array([[0.0, 2.0**-52]]), method="fast")
    np.testing.assert_array_equal(
        pair.round("float64"),
        reference.softmax(np.array([[0.0, 2.0**-52]]), method="mpmath").round("float64"),
    )
    assert pair.undecided > 0
    many = reference.softmax(RNG.normal(size=(500, 400)), method="fast")
    many.round("float64")
    assert many.undecided == 0


@compiled
def _exponentials(gaps, rests, high, low, exponent):
    for i in range(gaps.size):
        high[i], low[i], exponent[i] = double_word.exp_dw(gaps[i], rests[i], 0.0)


def test_the_exponential_keeps_its_bound():
    gaps = np.concatenate(
        [
            -np.linspace(0.0, 700.0, 1500),
            -np.exp(RNG.uniform(-40, np.log(2.0**20), 1500)),
            -(np.arange(200) + 0.5) * np.log(2.0) / 256,
        ]
    )
    rests = gaps * 2.0**-54
    high, low, exponent = np.empty(gaps.size), np.empty(gaps.size), np.empty(gaps.size, dtype=np.int64)
    _exponentials(gaps, rests, high, low, exponent)
    worst = 0.0
    with mpmath.workprec(400):
        for g, r, h, l, k in zip(gaps, rests, high, low, exponent, strict=True):  # noqa: E741
            exact = mpmath.exp(mpmath.mpf(float(g)) + mpmath.mpf(float(r)))
            value = (mpmath.mpf(float(h)) + mpmath.mpf(float(l))) * mpmath.mpf(2) ** int(k)
            worst = max(worst, float(abs(value / exact - 1)))
    assert worst < double_word.EXP_ERROR
    assert worst > double_word.EXP_ERROR / 64  # else the bound says little


@pytest.mark.parametrize(
    ("beta", "bound"), [(1.0, narrow.NARROW_ERROR), (0.3, narrow.SCALED_ERROR), (3.3, narrow.SCALED_ERROR)]
)
def test_binary64_alone_keeps_its_bound(beta, bound):
    x = (RNG.normal(size=(20, 100)) * 30).astype(np.float32)
    values, error = np.empty(x.shape), np.empty(x.shape)
    narrow.softmax_plain(x, beta, values, error)
    exact = reference.softmax(x, beta=beta).to_float64()
    kept = exact > 1e-60
    off = np.abs(values - exact)
    assert (off <= error)[kept].all()
    assert 0 < (off / exact)[kept].max() < bound


KERNELS = {
    "weights": (rows.weights, (np.zeros(8), 0.0, 1.0, np.empty(8), np.empty(8))),
    "quotients": (rows.quotients, (np.ones(8), np.zeros(8), 1.0, 0.0, oracle.ERROR, np.empty(8))),
    "narrow_weights": (narrow.narrow_weights, (np.zeros(8, np.float32), 0.0, 1.0, np.empty(8))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_no_operation_may_be_rearranged(name):
    kernel, arguments = KERNELS[name]
    kernel(*arguments)
    kernel.recompile()  # what is kept on disk has no text
    text = kernel.inspect_llvm(kernel.signatures[0])
    arithmetic = re.findall(r"= (?:tail )?(?:fadd|fsub|fmul|fdiv|call [^@]*@llvm\.fma)[^\n]*", text)
    assert arithmetic
    for line in arithmetic:
        assert not re.search(r"\b(fast|reassoc|contract|nnan|ninf|nsz|arcp|afn)\b", line), line


@compiled
def _loses_nothing(a, b):
    return double_word.two_sum(a, b)


def test_error_free_transformations_are_error_free():
    assert _loses_nothing(1.0, 1e-20) == (1.0, 1e-20)
    assert _loses_nothing(2.0**60, 1.0 + 2.0**-52) == (2.0**60, 1.0 + 2.0**-52)


# --- near the largest numbers ---


def _extreme(rng, shape):
    """Numbers of ordinary size, and among them some near the largest and some near the smallest."""
    largest = np.finfo(np.float64).max
    kind = rng.random(shape)
    scale = np.where(kind < 0.3, 2.0 ** rng.integers(400, 520, shape), 1.0)
    scale = np.where((kind >= 0.3) & (kind < 0.6), largest * rng.choice([0.3, 0.9, 1.0], shape), scale)
    scale = np.where(kind > 0.9, 2.0 ** -rng.integers(400, 1070, shape), scale)
    with np.errstate(over="ignore"):
        return np.clip(rng.standard_normal(shape) * scale, -largest, largest)


@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp", "softmax_vjp", "softmax_jvp"])
def test_steps_that_overflow_are_left_to_arb(op):
    """x - max may be finite where a step of its error-free form is not: NaN is no log-probability."""
    rng = np.random.default_rng(5)
    function = getattr(reference, op)
    for _ in range(120):
        x = _extreme(rng, (2, 5))
        x[0, rng.integers(5)] = np.finfo(np.float64).max
        operands = (x, _extreme(rng, (2, 5))) if op in {"softmax_vjp", "softmax_jvp"} else (x,)
        exact, fast = (function(*operands, method=m) for m in ("arb", "fast"))
        assert exact.overlaps(fast).all()
        assert not np.isnan(fast.to_float64()).any()
        lower, upper = fast.error_ulp(exact.round("float64"))
        assert (upper <= 0.5 + 2.0**-20).all()
        assert (lower <= upper).all()
