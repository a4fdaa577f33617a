"""Inputs of the hierarchical softmax: trees of classes, and leaves of rows of scores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from softcert import reference
from softcert.backends.trees import heap_paths
from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.spec import Seedling

Paths = tuple[Array, Array, Array]

#: From so many classes on a tree is balanced alone: a chain of them would be as long as they are many.
_MANY = 512


def chain_paths(classes: int) -> Paths:
    """Paths of a tree in which every node has a leaf: that of counts which double, the longest there are."""
    return _huffman(tuple(2**k for k in range(classes)))


def zipf_paths(classes: int) -> Paths:
    """Paths of the Huffman tree of counts that fall as 1/rank, as those of words do."""
    return _huffman(tuple(1 + 2**20 // (k + 1) for k in range(classes)))


@lru_cache(maxsize=64)
def _huffman(counts: tuple[int, ...]) -> Paths:
    starts, nodes, signs = (a.astype(np.int64) for a in reference.huffman_tree(list(counts)))
    return starts, nodes, signs


def paths_of(classes: int, kind: int) -> Paths:
    """A balanced tree, one of words or a chain, in turn; of very many classes a balanced one."""
    if kind % 3 == 0 or classes > _MANY:
        return heap_paths(classes)
    return zipf_paths(classes) if kind % 3 == 1 else chain_paths(classes)


def tree_operands(op: str, s: Array, seed: int, paths: Paths | None = None) -> tuple[Array, ...]:
    """Operands of an op of trees from scores: a leaf a row, for a gradient a cotangent a row, and a tree.

    Parameters
    ----------
    s : scores (..., n) of the n nodes of a tree of n + 1 classes, n along the last axis.
    seed : of leaves and cotangents; and of the kind of tree, where none is given.
    """
    *batch, n = s.shape
    count = int(np.prod(batch))
    tree = paths_of(n + 1, seed) if paths is None else paths
    rng = np.random.default_rng([seed, s.size, 5])
    target = rng.integers(0, n + 1, count).reshape(batch)
    if op == "hierarchical_log_softmax":
        return (s, target, *tree)
    return (s, target, (rng.standard_normal(count) * 4.0).astype(s.dtype).reshape(batch), *tree)


def every_leaf(context: Context, s: Array, paths: Paths, family: str) -> Seedling:
    """One row of scores, as often as its tree has leaves, each leaf once.

    Parameters
    ----------
    s : (n,).
    """
    classes = len(s) + 1
    given = tree_operands(context.op, np.broadcast_to(s, (classes, len(s))).copy(), classes, paths)
    return Seedling((given[0], np.arange(classes), *given[2:]), family=family)
