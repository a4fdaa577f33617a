"""Softmax regression on Fisher's irises, and how far from the optimum a trained classifier certainly is.

The objective is F(W) = sum_i (lse(x_i W) - x_i W e_{y_i}) + (c / 2) |W|^2, the sum of the cross-entropies and
an L2 term. Its gradient G is X^T (softmax(X W) - Y) + c W. As lse is convex F is strongly so, with modulus c:
F(V) >= F(W) + <G, V - W> + (c / 2) |V - W|^2. The right side is at least F(W) - |G|^2 / (2 c), so no V does
better than that; and adding the inequality for W and the optimum W* to itself with the two exchanged gives
|W - W*| <= |G| / c. So the gradient at the floats W is all that has to be known. It is enclosed: in exact
rational arithmetic but for the probabilities, which are enclosures.
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import starmap
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from softcert import reference

Matrix = NDArray[np.float64]
#: An interval with rational ends that holds a number for certain.
Range = tuple[Fraction, Fraction]
#: The factor c of the L2 term; scikit-learn calls 1 / c its C.
PENALTY = Fraction(1)


def problem() -> tuple[Matrix, NDArray[np.int64]]:
    """Four lengths and a constant of 150 flowers, and which of three species each is."""
    data = load_iris()
    return np.hstack([data.data, np.ones((150, 1))]), data.target


# --- training, in plain float64 ---


def newton(x: Matrix, y: NDArray[np.int64], steps: int = 12) -> Matrix:
    """Weights (features, classes) after Newton's steps from 0, each a solve with the whole Hessian."""
    classes, one_hot = 3, np.eye(3)[y]
    w = np.zeros((x.shape[1], classes))
    for _ in range(steps):
        z = x @ w
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = x.T @ (p - one_hot) + float(PENALTY) * w
        # d^2 lse = diag(p) - p p^T, the Hessian that the reference proves
        curvature = np.einsum("ij,jk->ijk", p, np.eye(classes)) - np.einsum("ij,ik->ijk", p, p)
        hessian = np.einsum("ia,ijk,ib->ajbk", x, curvature, x).reshape(w.size, w.size)
        w = w - np.linalg.solve(hessian + float(PENALTY) * np.eye(w.size), gradient.ravel()).reshape(w.shape)
    return w


# --- what is certain of given weights ---


def exact(array: Matrix) -> list[list[Fraction]]:
    """The floats as the rationals that they are."""
    return [[Fraction(v) for v in row] for row in array.tolist()]


def ranges(enclosure: reference.Enclosure) -> list[Range]:
    """Ends of each element's enclosure, rounded outward to 40 digits."""
    lower, upper = (np.ravel(end).tolist() for end in enclosure.bounds_decimal(40))
    return list(zip(map(Fraction, lower), map(Fraction, upper), strict=True))


def gradient(x: Matrix, y: NDArray[np.int64], w: Matrix) -> list[Range]:
    """The gradient of F at the floats w, entry by entry.

    Attention with the rows of x as queries, the columns of w as keys, scale 1 and unit vectors as values is
    softmax(x w) of the exact products: the reference does not round the scores.
    """
    classes = w.shape[1]
    p = ranges(reference.attention(x, np.ascontiguousarray(w.T), np.eye(classes), scale=1.0))
    samples, weights = exact(x), exact(w)
    found = []
    for a in range(x.shape[1]):
        for k in range(classes):
            low = high = PENALTY * weights[a][k]
            for i, row in enumerate(samples):
                ends = sorted(row[a] * (end - int(y[i] == k)) for end in p[classes * i + k])
                low, high = low + ends[0], high + ends[1]
            found.append((low, high))
    return found


def objective(x: Matrix, y: NDArray[np.int64], w: Matrix) -> Range:
    """F at the floats w."""
    _, lse = reference.attention_lse(x, np.ascontiguousarray(w.T), np.eye(w.shape[1]), scale=1.0)
    samples, weights = exact(x), exact(w)
    rest = PENALTY / 2 * sum(v * v for row in weights for v in row)
    for row, k in zip(samples, y.tolist(), strict=True):
        rest -= sum(v * weights[a][k] for a, v in enumerate(row))
    ends = ranges(lse)
    return rest + sum(low for low, _ in ends), rest + sum(high for _, high in ends)


def root_above(value: Fraction) -> Fraction:
    """A number not below the square root, by less than 2^-200 of it."""
    scale = 1 << 400
    return Fraction(isqrt(value.numerator * scale // value.denominator) + 1, 1 << 200)


def norm_above(entries: list[Range]) -> Fraction:
    """A number not below the Euclidean norm of what lies in these ranges."""
    return root_above(sum((max(low * low, high * high) for low, high in entries), Fraction(0)))


def distance_above(w: Matrix, other: Matrix) -> Fraction:
    """A number not below the distance of two matrices of floats."""
    pairs = zip(np.ravel(w).tolist(), np.ravel(other).tolist(), strict=True)
    return norm_above([(d, d) for d in starmap(lambda a, b: Fraction(a) - Fraction(b), pairs)])


def surely_wrong(x: Matrix, y: NDArray[np.int64], w: Matrix, radius: Fraction) -> tuple[int, int]:
    """How many flowers every matrix within `radius` of w takes for another species, and how many are open."""
    wrong = undecided = 0
    weights = exact(w)
    for row, k in zip(exact(x), y.tolist(), strict=True):
        scores = [sum(v * weights[a][c] for a, v in enumerate(row)) for c in range(w.shape[1])]
        # A difference of two scores moves by at most sqrt(2) |x_i| times the change of w.
        slack = root_above(2 * sum(v * v for v in row)) * radius
        margin = scores[k] - max(score for c, score in enumerate(scores) if c != k)
        wrong += margin < -slack
        undecided += abs(margin) <= slack
    return wrong, undecided


def rounded_up(value: Fraction) -> str:
    """Two digits of a number, not below it."""
    exponent = 0
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    while 0 < value < 1:
        value, exponent = value * 10, exponent - 1
    tenths = -(-value * 10 // 1)
    if tenths == 100:
        tenths, exponent = 10, exponent + 1
    return f"{tenths // 10}.{tenths % 10}e{exponent:+03d}"


def main() -> None:
    """Print what is certain of Newton's weights, and of scikit-learn's."""
    x, y = problem()
    best = newton(x, y)
    slope = norm_above(gradient(x, y, best))
    radius, gap = slope / PENALTY, slope**2 / (2 * PENALTY)
    low, _ = objective(x, y, best)
    wrong, undecided = surely_wrong(x, y, best, radius)
    print("Newton, 12 steps")
    print(f"  exact gradient at the floats      below {rounded_up(slope)}")
    print(f"  distance from the optimum         below {rounded_up(radius)}")
    print(f"  F(W) - F(W*)                      below {rounded_up(gap)}")
    print(f"  F(W*)                             {float(low):.12f}")
    print(f"  flowers that the optimum takes for another: {wrong}, undecided: {undecided}")
    print("scikit-learn                   F(W) - F(W*)   distance from the optimum, at most")
    for solver, tol in (("lbfgs", 1e-4), ("lbfgs", 1e-12), ("newton-cg", 1e-4)):
        model = LogisticRegression(
            C=float(1 / PENALTY), solver=solver, tol=tol, fit_intercept=False, max_iter=10_000
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            w = np.asarray(model.fit(x, y).coef_.T, dtype=np.float64)
        above = objective(x, y, w)[1] - low + gap
        far = distance_above(w, best) + radius
        print(f"  {solver:<16} tol={tol:<9g}{rounded_up(above)}        {rounded_up(far)}")


if __name__ == "__main__":
    main()
