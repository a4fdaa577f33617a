"""A-priori rounding-error bounds of the hierarchical softmax: its logarithm, and the derivative by scores.

Written as `softmax.py` is: rigorous, perturbations added as exponents, evaluated in binary64 and inflated by
`_SLACK`. Along a path nothing cancels, so that the bound of a logarithm is nearly relative to it. The
derivation stands in docs/explanation/bounds.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds.arithmetic import Arithmetic

Float = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

_SLACK = 1.0 + 2.0**-30


@dataclass(frozen=True)
class Branches:
    """What the bounds need to know of the paths of chosen leaves.

    Attributes
    ----------
    t : (..., m, L), the score at each node of a path times the sign of its branch; +inf beyond its end, where
        nothing is left to decide.
    length : (..., m), nodes of the path.
    """

    t: Float
    length: Float

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where the logarithm is a finite number, (..., m)."""
        return np.asarray((self.t > -np.inf).all(axis=-1))

    @property
    def less_likely(self) -> Float:
        """Probability of the less likely branch at each node, sigma(-|t|)."""
        with np.errstate(under="ignore"):
            w = np.exp(-np.abs(self.t))
        return np.asarray(w / (1.0 + w))

    @property
    def rest(self) -> Float:
        """log(1 + exp(-|t|)) at each node."""
        with np.errstate(under="ignore"):
            return np.log1p(np.exp(-np.abs(self.t)))

    @property
    def exact(self) -> Float:
        """max(-t, 0) at each node, which is in the format already."""
        return np.where(np.isfinite(self.t), np.maximum(-self.t, 0.0), 0.0)


def branches_of(s: Float, leaves: Integers, starts: Integers, nodes: Integers, signs: Integers) -> Branches:
    """Facts of the paths of `leaves`, (..., m), in scores s, (..., K - 1), of binary64."""
    chosen = np.broadcast_to(leaves, (*s.shape[:-1], leaves.shape[-1]))
    first = starts[:-1][chosen]
    lengths = starts[1:][chosen] - first
    steps = np.arange(int(lengths.max(initial=0)))
    if not steps.size:
        return Branches(np.empty((*chosen.shape, 0)), np.zeros(chosen.shape))
    inside = steps < lengths[..., None]
    place = np.where(inside, first[..., None] + steps, 0)
    rows = np.expand_dims(s, -2)
    scores = np.take_along_axis(rows, nodes[place].reshape(*chosen.shape[:-1], 1, -1), -1)
    t = scores.reshape(place.shape) * signs[place]
    return Branches(np.where(inside, t, np.inf), lengths.astype(np.float64))


def hierarchical_log_bound(branches: Branches, a: Arithmetic) -> Float:
    """Absolute bound of the computed log p, (..., m); 0 where that is -inf.

    Division form (named for the row of softmax that it belongs to): at each node min(t, 0) less
    log1p(exp(-|t|)), relatively accurate however large |t| is. Any form also log(1 + exp(-|t|)), which rounds
    the sum, and another base. log(sigma(t)) is neither: it is -inf where exp(-t) overflows.
    """
    u, finite = a.u_compute, np.isfinite(branches.t)
    argument = (
        np.zeros_like(branches.t) if a.division else 3.0 * u * np.where(finite, np.abs(branches.t), 0.0)
    )
    moved = branches.less_likely * np.expm1(argument + np.where(finite, a.exp_error, 0.0))
    if not a.division:
        moved = moved + np.where(finite, np.expm1(u), 0.0)
    rest, shift = branches.rest.sum(axis=-1), moved.sum(axis=-1)
    logs = shift + np.expm1(a.exp_error) * (rest + shift)
    additions = np.maximum(branches.length - 1.0, 0.0) * a.u_sum
    roundings = (1.0 if a.division else 3.0) * u + additions + (u if a.u_sum < u else 0.0)
    value = branches.exact.sum(axis=-1) + rest
    error = logs + np.expm1(roundings) * (value + logs) + 2.0 * branches.length * a.underflow
    return np.where(branches.known, _rounded(error, value, a), 0.0)


@dataclass(frozen=True)
class Sides:
    """Cotangents of the chosen leaves on either side of each node.

    Attributes
    ----------
    ahead, aside : (..., K - 1), sum of |dy| over the leaves behind branch 1, and behind branch -1.
    count : (..., K - 1), how many they are together.
    """

    ahead: Float
    aside: Float
    count: Float


def sides_of(
    dy: Float, leaves: Integers, starts: Integers, nodes: Integers, signs: Integers
) -> tuple[Sides, Float]:
    """Sides of the cotangents dy, (..., m), and the signed (..., 2, K - 1) sums ahead and aside."""
    classes = len(starts) - 1
    chosen = np.broadcast_to(leaves, dy.shape).reshape(-1, dy.shape[-1])
    slopes = dy.reshape(-1, dy.shape[-1])
    sums = np.zeros((len(slopes), 5, classes - 1))
    for row, (places, values) in enumerate(zip(chosen, slopes, strict=True)):
        for leaf, value in zip(places.tolist(), values.tolist(), strict=True):
            part = slice(starts[leaf], starts[leaf + 1])
            side = (signs[part] < 0).astype(np.int64)
            sums[row, side, nodes[part]] += abs(value)
            sums[row, 2, nodes[part]] += 1.0
            sums[row, 3 + side, nodes[part]] += value
    shaped = sums.reshape(*dy.shape[:-1], 5, classes - 1)
    return Sides(*(shaped[..., k, :] for k in range(3))), shaped[..., 3:, :]


def hierarchical_vjp_bound(s: Float, sides: Sides, signed: Float, a: Arithmetic) -> Float:
    """Absolute bound of A sigma(-s) - B sigma(s), (..., K - 1); 0 at nodes of no chosen path.

    Division form: sigma(s) and sigma(-s) each relatively accurate. Any form also t - sigma(s) with t = 1,
    where 1 - sigma(s) keeps no digit of a small difference, and A - (A + B) sigma(s).
    """
    u = a.u_compute
    with np.errstate(under="ignore"):
        w = np.exp(-np.abs(s))
    small, large = w / (1.0 + w), 1.0 / (1.0 + w)
    forth, back = np.where(s > 0, small, large), np.where(s > 0, large, small)
    size = sides.ahead * forth + sides.aside * back
    additions = np.maximum(sides.count - 1.0, 0.0) * a.u_sum + (u if a.u_sum < u else 0.0)
    error = size * np.expm1(a.exp_error + 3.0 * u + additions)
    if not a.division:
        roundings = 4.0 * u + additions
        argument = a.exp_error + 3.0 * u * np.where(np.isfinite(s), np.abs(s), 0.0)
        wrong = small * np.expm1(argument) * np.exp(roundings)
        error = (sides.ahead + sides.aside) * (wrong + np.expm1(roundings) + np.expm1(additions))
    under = (sides.ahead + sides.aside) * a.underflow + sides.count * a.underflow_product
    value = np.abs(signed[..., 0, :] * forth - signed[..., 1, :] * back)
    return np.where(sides.count > 0, _rounded(error + under, value, a), 0.0)


def _rounded(error: Float, value: Float, a: Arithmetic) -> Float:
    """Absolute error after the rounding to a narrower result."""
    growth = np.expm1(a.u_out) if a.u_out > a.u_compute else 0.0
    tail = (a.lambda_out if a.flush else 0.0) + a.eta_out
    return np.asarray((error + growth * (value + error) + tail) * _SLACK)


__all__ = [
    "Branches",
    "Sides",
    "branches_of",
    "hierarchical_log_bound",
    "hierarchical_vjp_bound",
    "sides_of",
]
