"""The example of docs/how-to/certify-a-classifier.md: what is called certain, and what the page shows."""

from __future__ import annotations

import importlib.util
import re
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest

from softcert import reference

pytest.importorskip("sklearn")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def certify():
    path = ROOT / "docs" / "examples" / "softmax_regression" / "certify.py"
    spec = importlib.util.spec_from_file_location("certify", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(certify):
    x, y = certify.problem()
    return x, y, certify.newton(x, y)


def mp_gradient(x, y, w):
    """Gradient of F and its Hessian at mpmath's weights, from the definition."""
    features, classes = x.shape[1], w.cols
    g, h = mpmath.zeros(features * classes, 1), mpmath.eye(features * classes)
    for row, k in zip(x.tolist(), y.tolist(), strict=True):
        z = [mpmath.fsum(mpmath.mpf(v) * w[a, c] for a, v in enumerate(row)) for c in range(classes)]
        total = mpmath.fsum(map(mpmath.exp, z))
        p = [mpmath.exp(v) / total for v in z]
        for a in range(features):
            for c in range(classes):
                g[a * classes + c] += mpmath.mpf(row[a]) * (p[c] - (c == k))
        for a in range(features):
            for b in range(features):
                for c in range(classes):
                    for e in range(classes):
                        h[a * classes + c, b * classes + e] += row[a] * row[b] * p[c] * ((c == e) - p[e])
    for a in range(features):
        for c in range(classes):
            g[a * classes + c] += w[a, c]
    return g, h


def test_the_true_optimum_lies_as_near_as_is_said(certify, trained):
    """One more step of Newton's in 50 digits comes to the optimum within the square of the distance."""
    x, y, w = trained
    entries = certify.gradient(x, y, w)
    radius = certify.norm_above(entries)
    with mpmath.workdps(50):
        g, h = mp_gradient(x, y, mpmath.matrix(w.tolist()))
        for (low, high), exact in zip(entries, g, strict=True):
            assert mpmath.mpf(low.numerator) / low.denominator <= exact + mpmath.mpf("1e-40")
            assert exact - mpmath.mpf("1e-40") <= mpmath.mpf(high.numerator) / high.denominator
            assert high - low < Fraction(1, 10**35)
        distance = mpmath.norm(mpmath.lu_solve(h, g))
        bound = mpmath.mpf(radius.numerator) / radius.denominator
        assert distance <= bound < mpmath.mpf("1e-12")
        assert bound < 1e4 * distance


def test_weights_beside_the_optimum_are_not_called_near(certify, trained):
    x, y, w = trained
    moved = w.copy()
    moved[2, 1] += 1e-9
    assert certify.norm_above(certify.gradient(x, y, moved)) >= Fraction(1, 10**9)
    best, worse = certify.objective(x, y, w), certify.objective(x, y, moved)
    # strong convexity, from both sides
    assert Fraction(1, 2 * 10**18) / 2 <= worse[0] - best[1]
    assert worse[1] - worse[0] < Fraction(1, 10**30)
    wrong, undecided = certify.surely_wrong(x, y, w, Fraction(1, 5))
    assert wrong <= 2
    assert undecided > 0


def test_on_logits_that_are_floats_it_is_the_gradient_of_cross_entropy(certify):
    rng = np.random.default_rng(8)
    x, w = rng.integers(-8, 9, (12, 3)) / 8.0, rng.integers(-8, 9, (3, 3)) / 4.0
    y = rng.integers(0, 3, 12)
    slopes = reference.cross_entropy_vjp(x @ w, y, np.ones(12))
    lower = np.vectorize(Fraction)(slopes.bounds_decimal(40)[0])
    entries = certify.gradient(x, y, w)
    for a in range(3):
        for k in range(3):
            low, high = entries[3 * a + k]
            wanted = sum(
                (Fraction(v) * s for v, s in zip(x[:, a].tolist(), lower[:, k], strict=True)),
                Fraction(w[a, k]),
            )
            assert low - Fraction(1, 10**30) <= wanted <= high + Fraction(1, 10**30)
    losses = reference.cross_entropy(x @ w, y)
    total = sum(map(Fraction, losses.digits(40).tolist()), Fraction(0)) + sum(
        Fraction(v) ** 2 / 2 for v in w.ravel().tolist()
    )
    low, high = certify.objective(x, y, w)
    assert low - Fraction(1, 10**30) <= total <= high + Fraction(1, 10**30)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "1.3e-03"),
        (2.8e-14, "2.8e-14"),
        (99.91, "1.0e+02"),
        (1, "1.0e+00"),
        (9.99e-5, "1.0e-04"),
        (0, "0.0e+00"),
    ],
)
def test_numbers_are_rounded_up(certify, value, text):
    assert certify.rounded_up(Fraction(str(value))) == text


def figures(text):
    return [float(v) for v in re.findall(r"\b\d+\.\d+e[+-]\d+", text)]


def test_the_page_shows_what_the_program_prints(certify, capsys):
    """Figures to a factor of ten, since they rest on roundings of the machine's libraries."""
    certify.main()
    printed = capsys.readouterr().out
    page = (ROOT / "docs" / "how-to" / "certify-a-classifier.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"\$ python certify.py\n(.*?)```", page, re.DOTALL)
    assert re.sub(r"\d+\.\d+e[+-]\d+", "#", printed) == re.sub(r"\d+\.\d+e[+-]\d+", "#", block)
    got, shown = figures(printed), figures(block)
    assert len(got) == len(shown) == 9
    # Newton's last figures are nothing but rounding; scikit-learn's are those of its version.
    assert all(a < 1e-12 for a in got[:3])
    for a, b in zip(got[3:], shown[3:], strict=True):
        assert b / 30 < a < 30 * b
    for word in (text for text in re.findall(r"\d\.\de-\d\d", page.replace(block, ""))):
        assert word in block
