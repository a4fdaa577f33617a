"""Error bounds for log-sum-exp and softmax as P. Blanchard, D. J. Higham & N. J. Higham print them.

Accurately computing the log-sum-exp and softmax functions, IMA J. Numer. Anal. 41(4), 2021, 2311-2330,
doi:10.1093/imanum/draa038. Each bound is a number of unit roundoffs u, to first order: the theorems end in
"+ O(u^2)". y = log sum exp(x_i), s = sum of exp(x_i - x_max) but for one largest x_i, and errors of softmax
are max |error| / max value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
#: What is computed, by the algorithms of `bhh_algorithms.py`.
Quantity = Literal[
    "lse",
    "softmax",
    "alternative",
    "log1p",
    "shifted lse",
    "shifted softmax",
    "shifted alternative",
]
#: Quantities whose errors are bounded absolutely; of all others it is relative errors.
ABSOLUTE: frozenset[Quantity] = frozenset({"log1p"})


@dataclass(frozen=True)
class Facts:
    """What the bounds need to know of rows of n logits, from certified values.

    Attributes
    ----------
    y, log_sum : (rows,), log-sum-exp, and log(1 + s) = y - x_max.
    top, bottom : (rows,), x_max and x_min.
    """

    n: int
    y: Float
    log_sum: Float
    top: Float
    bottom: Float

    @property
    def size(self) -> Float:
        """|y|, (rows,)."""
        return np.abs(self.y)

    @property
    def spread(self) -> Float:
        """x_max - x_min, (rows,)."""
        return self.top - self.bottom

    @property
    def farthest(self) -> Float:
        """max_j |x_j - y|, (rows,): y is no less than any x_j, so the least of them is it."""
        return self.y - self.bottom

    @property
    def shifted(self) -> Float:
        """|y + n - x_min|, (rows,)."""
        return np.abs(self.y + self.n - self.bottom)


@dataclass(frozen=True)
class Theorem:
    """One printed bound.

    Attributes
    ----------
    number : of the theorem or equation.
    quantity : what its error is of.
    statement : the computed expression, in words for readers.
    formula : the bound over u, in words for readers.
    bound : the bound over u, (rows,).
    repaired, repaired_formula : both with the rounding of y, u |y|, added, where the printed bound omits it.
    """

    number: str
    quantity: Quantity
    statement: str
    formula: str
    bound: Callable[[Facts], Float]
    repaired: Callable[[Facts], Float] | None = None
    repaired_formula: str = ""


def _shifted_absolute(facts: Facts) -> Float:
    # s / (1 + s) = 1 - exp(-log(1 + s)), without cancellation.
    return facts.log_sum - np.expm1(-facts.log_sum) * (facts.n + facts.spread)


def _shifted_alternative(facts: Facts) -> Float:
    return 1.0 + facts.farthest + facts.shifted


def _constant(facts: Facts, value: float) -> Float:
    return np.full(facts.y.shape, value)


#: Equation (4.8) is the step before theorem 4.2, and has every term of the error of the logarithm; what the
#: theorem lacks is the rounding of the addition that follows.
THEOREMS: tuple[Theorem, ...] = (
    Theorem("3.2", "lse", "y = log(sum exp(x))", "1 + (n + 1) / |y|", lambda f: 1.0 + (f.n + 1) / f.size),
    Theorem("3.3", "softmax", "exp(x) / sum exp(x)", "n + 3", lambda f: _constant(f, f.n + 3)),
    Theorem(
        "3.4",
        "alternative",
        "exp(x - y), y of 3.2",
        "|y| + max|x_j - y| + n + 2",
        lambda f: f.size + f.farthest + f.n + 2,
    ),
    Theorem(
        "(4.8)",
        "log1p",
        "log(1 + s), absolute",
        "log(1+s) + s/(1+s) (n + x_max - x_min)",
        _shifted_absolute,
    ),
    Theorem(
        "4.2",
        "shifted lse",
        "y = x_max + log(1 + s)",
        "|y + n - x_min| / |y|",
        lambda f: f.shifted / f.size,
        lambda f: f.shifted / f.size + 1.0,
        "|y + n - x_min| / |y| + 1",
    ),
    Theorem(
        "4.3",
        "shifted softmax",
        "exp(x - x_max) / (1 + s)",
        "n + 2 + 2 (x_max - x_min)",
        lambda f: f.n + 2 + 2.0 * f.spread,
    ),
    Theorem(
        "4.4",
        "shifted alternative",
        "exp(x - y), y of 4.2",
        "1 + max|x_j - y| + |y + n - x_min|",
        _shifted_alternative,
        lambda f: _shifted_alternative(f) + f.size,
        "1 + |y| + max|x_j - y| + |y + n - x_min|",
    ),
)
