"""The hierarchical softmax: log-probabilities of the leaves of a binary tree, and their derivative.

F. Morin and Y. Bengio, Hierarchical probabilistic neural network language model, AISTATS 2005; with a Huffman
tree T. Mikolov et al., arXiv:1301.3781 and arXiv:1310.4546 (2013), section 2.1. At a node of score s the
branch 1 has the probability sigma(s) = 1 / (1 + exp(-s)) and the branch -1 the probability sigma(-s). That of
a leaf is the product along its path. `hierarchical_derivation.py` proves that they sum to 1, and the
derivative.

Theorem. Let t_1, ..., t_d be the finite scores along a path, each times its branch's sign. Then p =
prod sigma(t_k) is algebraic if and only if all t_k are 0, and then 2^-d. log p is algebraic if and only if d
is 0. A sigma(-s) - B sigma(s), s, A and B rational, is algebraic if and only if s = 0 or A + B = 0.

Proof. 1 / p = prod (1 + exp(-t_k)) is a sum of exponentials of rationals, whose largest exponent is
-sum min(t_k, 0) and whose least is -sum max(t_k, 0); each comes with a positive coefficient. They differ
unless all t_k are 0. By Lindemann and Weierstrass (Baker, Transcendental Number Theory, 1975, theorem 1.4)
such a sum is algebraic only if it has no exponent but 0. If log p = r, then exp(r) prod (1 + exp(-t_k)) = 1,
a sum of exponentials again, whose only exponent has to be 0 with coefficient 1: all t_k are 0, then r is, and
2^d = 1. The last is A - (A + B) sigma(s), and sigma(s) is transcendental unless s = 0. QED. So Ziv's loop
ends for all that is not exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.attention_operands import widest
from softcert.reference.attention_scores import beside
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.exactness import Logits
from softcert.reference.formats import FloatFormat
from softcert.reference.interval import ZERO, Interval, add, below, from_fraction, multiply, negate
from softcert.reference.operands import Floats, as_floats
from softcert.reference.oracles import Oracle, oracle
from softcert.reference.softmax import first_precision
from softcert.reference.trees import Tree, checked_tree

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The branches of a path that are no certainty: finite scores times their signs.
_Path = tuple[float, ...]


def hierarchical_log_softmax(
    s: ArrayLike,
    leaves: ArrayLike,
    path_starts: ArrayLike,
    path_nodes: ArrayLike,
    path_signs: ArrayLike,
    method: str = "auto",
) -> Enclosure:
    """log p of chosen leaves, the sum of log sigma(sign s_n) over the nodes n of each one's path.

    Parameters
    ----------
    s : (..., K - 1), scores of the nodes, any supported dtype.
    leaves : (..., m) integers of 0, ..., K - 1, whose leading axes are broadcast to those of s.
    path_starts, path_nodes, path_signs : the tree, as `Tree` describes it.
    method : "arb", "mpmath" or "auto", which is "arb".

    Returns
    -------
    Enclosure (..., m). Scores off the path do not matter, NaN included. On it NaN gives NaN; else an
    infinity against the branch's sign gives -inf, and one with it adds exactly 0. The single leaf of a tree
    without nodes gives exactly 0.

    Raises
    ------
    DomainError : no tree, no such leaf, or shapes that do not fit together.
    ValueError : no such method.
    """
    return _of_paths(_asked(s, leaves, path_starts, path_nodes, path_signs), oracle(method), logarithm=True)


def hierarchical_softmax(
    s: ArrayLike,
    leaves: ArrayLike,
    path_starts: ArrayLike,
    path_nodes: ArrayLike,
    path_signs: ArrayLike,
    method: str = "auto",
) -> Enclosure:
    """p of chosen leaves, the product of sigma(sign s_n) over the nodes n of each one's path.

    Parameters
    ----------
    As `hierarchical_log_softmax`.

    Returns
    -------
    Enclosure (..., m); special values as there, -inf becoming exactly 0.

    Raises
    ------
    DomainError, ValueError : as `hierarchical_log_softmax`.
    """
    return _of_paths(_asked(s, leaves, path_starts, path_nodes, path_signs), oracle(method), logarithm=False)


def hierarchical_log_softmax_vjp(
    s: ArrayLike,
    dy: ArrayLike,
    leaves: ArrayLike,
    path_starts: ArrayLike,
    path_nodes: ArrayLike,
    path_signs: ArrayLike,
    method: str = "auto",
) -> Enclosure:
    """The cotangent dy of the log-probabilities taken back to the scores: sum of dy (t_n - sigma(s_n)).

    t_n is 1 where a leaf's path takes the branch 1 at n and 0 where it takes the other; the sum is over the
    chosen leaves whose path has the node.

    Parameters
    ----------
    s, leaves, path_starts, path_nodes, path_signs, method : as `hierarchical_log_softmax`.
    dy : (..., m).

    Returns
    -------
    Enclosure (..., K - 1). Exactly 0 at nodes of no chosen path, whatever their scores are. At others a score
    that is NaN, or a cotangent that is not finite, gives NaN; sigma is 1 and 0 at the infinities.

    Raises
    ------
    DomainError, ValueError : as `hierarchical_log_softmax`.
    """
    source = oracle(method)
    asked = _asked(s, leaves, path_starts, path_nodes, path_signs)
    slopes, fmt = as_floats(dy, "dy")
    if slopes.shape != asked.shape:
        raise DomainError(f"dy has shape {slopes.shape} and the leaves have shape {asked.shape}")
    prec = first_precision(widest([asked.fmt, fmt]))
    cells, count, paths = Cells(), asked.tree.classes - 1, asked.paths()
    # Nearly all nodes are on no chosen path.
    index = np.full((len(asked.scores), count), cells.add_exact(ZERO), dtype=np.int64)
    for i, row in enumerate(slopes.reshape(len(asked.leaves), asked.shape[-1]).tolist()):
        sides: dict[int, tuple[list[float], list[float]]] = {}
        for leaf, slope in zip(asked.leaves[i].tolist(), row, strict=True):
            for node, sign in paths[leaf]:
                sides.setdefault(node, ([], []))[0 if sign > 0 else 1].append(slope)
        for node, (ahead, aside) in sides.items():
            index[i, node] = _slope_cell(cells, float(asked.scores[i, node]), ahead, aside, source, prec)
    return Enclosure(cells, index.reshape(*asked.shape[:-1], count))


@dataclass(frozen=True)
class _Asked:
    """A checked request.

    Attributes
    ----------
    scores : (rows, K - 1). leaves : (rows, m). shape : (..., m), that of the answer.
    """

    scores: Floats
    leaves: NDArray[np.int64]
    shape: tuple[int, ...]
    tree: Tree
    fmt: FloatFormat

    def paths(self) -> dict[int, list[tuple[int, int]]]:
        """Nodes and signs of each chosen leaf."""
        starts, nodes, signs = (array.tolist() for array in self.tree)
        ends = {w: slice(starts[w], starts[w + 1]) for w in np.unique(self.leaves).tolist()}
        return {w: list(zip(nodes[part], signs[part], strict=True)) for w, part in ends.items()}


def _asked(s: ArrayLike, leaves: ArrayLike, *paths: ArrayLike) -> _Asked:
    """Check and flatten the operands.

    Raises
    ------
    DomainError : no tree, no such leaf, or shapes that do not fit together.
    """
    (scores, fmt), tree, chosen = as_floats(s, "s"), checked_tree(*paths), np.asarray(leaves)
    if scores.ndim == 0 or scores.shape[-1] != tree.classes - 1:
        raise DomainError(f"s has shape {scores.shape}, and a tree of {tree.classes} classes one node less")
    if chosen.ndim == 0 or chosen.dtype.kind not in "iu":
        raise DomainError("leaves has to be an array of integers with one axis or more")
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < tree.classes):
        raise DomainError(f"leaves has to hold classes from 0 to {tree.classes - 1}")
    shape = (*scores.shape[:-1], chosen.shape[-1])
    try:
        chosen = np.broadcast_to(chosen.astype(np.int64), shape)
    except ValueError:
        raise DomainError(f"leaves of shape {chosen.shape} do not fit scores of {scores.shape}") from None
    rows = math.prod(shape[:-1])
    # No rows leave no length to be inferred.
    flat = scores.reshape(rows, scores.shape[-1])
    return _Asked(flat, chosen.reshape(rows, shape[-1]), shape, tree, fmt)


# --- probabilities -----------------------------------------------------------------------------------


def _of_paths(asked: _Asked, source: Oracle, *, logarithm: bool) -> Enclosure:
    cells, index = Cells(), np.empty(asked.leaves.shape, dtype=np.int64)
    evaluate = _logarithms if logarithm else _products
    paths, prec = asked.paths(), first_precision(asked.fmt)
    for i, row in enumerate(asked.scores.tolist()):
        open_places, block = [], []
        for place, leaf in enumerate(asked.leaves[i].tolist()):
            branches = [row[node] * sign for node, sign in paths[leaf]]
            path = tuple(t for t in branches if math.isfinite(t))
            special = _special(branches)
            if special is not None:
                index[i, place] = cells.add_exact(special if logarithm else _exp_of_special(special))
            elif logarithm and not path:
                index[i, place] = cells.add_exact(ZERO)
            elif not logarithm and not any(path):
                index[i, place] = cells.add_exact(Fraction(1, 1 << len(path)))
            else:
                open_places.append(place)
                block.append(path)
        if block:
            start = cells.add_block(partial(evaluate, source, block), prec)
            index[i, open_places] = range(start, start + len(block))
    return Enclosure(cells, index.reshape(asked.shape))


def _special(branches: Sequence[float]) -> float | None:
    """log p where it is no number: NaN, or -inf for a branch that is never taken; else None."""
    if any(map(math.isnan, branches)):
        return math.nan
    return -math.inf if -math.inf in branches else None


def _exp_of_special(special: float) -> Interval | float:
    return special if math.isnan(special) else ZERO


def _logit_pair(size: float) -> Logits:
    """Logits 0 and -size, of a branch and of the less likely one beside it."""
    return Logits((0.0, -size), (1, 1), 0) if size else Logits((0.0,), (2,), 0)


def _sizes(paths: Iterable[_Path]) -> set[float]:
    return {abs(t) for path in paths for t in path}


def _working(paths: Sequence[_Path], prec: int) -> int:
    """Precision at which the roundings of sums and products along a path do not matter."""
    return prec + 12 + max(map(len, paths)).bit_length()


def _logarithms(source: Oracle, paths: Sequence[_Path], prec: int) -> list[Interval]:
    """log p = sum min(t, 0) - sum log(1 + exp(-|t|)): the first exact, the second maybe vanishing."""
    wp = _working(paths, prec)
    logs = {size: source.logsumexp_row(_logit_pair(size), wp) for size in _sizes(paths)}
    entries = []
    for path in paths:
        rest = ZERO
        for t in path:
            rest = add(rest, logs[abs(t)], wp)
        exact = sum((Fraction(t) for t in path if t < 0), Fraction(0))
        entries.append(beside(exact, negate(rest), wp))
    return entries


def _products(source: Oracle, paths: Sequence[_Path], prec: int) -> list[Interval]:
    """p, which is strictly below 2^-z where z of its path's scores are 0 and others are not."""
    wp = _working(paths, prec)
    shares = {size: source.softmax_row(_logit_pair(size), wp) for size in _sizes(paths) if size}
    entries = []
    for path in paths:
        value, ties = Interval(1, 1, 0), path.count(0.0)
        for t in path:
            if t:
                value = multiply(value, shares[abs(t)][int(t < 0)], wp)
        entries.append(below(value._replace(exp=value.exp - ties), 1, -ties))
    return entries


# --- the derivative ----------------------------------------------------------------------------------


def _slope_cell(
    cells: Cells, score: float, ahead: list[float], aside: list[float], source: Oracle, prec: int
) -> int:
    """Cell of A sigma(-s) - B sigma(s), A and B the sums of the cotangents on either side of a node."""
    if math.isnan(score) or not all(map(math.isfinite, (*ahead, *aside))):
        return cells.add_exact(math.nan)
    forth, back = (sum(map(Fraction, slopes), Fraction(0)) for slopes in (ahead, aside))
    # What is left at an infinity on this side of 0: the rest of the value vanishes with sigma(-|s|).
    limit = -back if score > 0 else forth
    if math.isinf(score) or forth + back == 0:
        return cells.add_exact(limit)
    if score == 0:
        return cells.add_exact((forth - back) / 2)
    factor = forth + back if score > 0 else -(forth + back)
    return cells.add_block(partial(_slope, source, abs(score), limit, factor), prec)


def _slope(source: Oracle, size: float, limit: Fraction, factor: Fraction, prec: int) -> list[Interval]:
    """limit + factor sigma(-size)."""
    wp = prec + 8
    rest = multiply(from_fraction(factor, wp), source.softmax_row(_logit_pair(size), wp)[1], wp)
    return [beside(limit, rest, wp)]
