"""Binary trees of classes for the hierarchical softmax, as plain arrays: balanced and Huffman.

A tree of K classes has the K - 1 nodes 0, ..., K - 2. It is kept as the paths from its root to its leaves,
one after the other, since no more of it enters a probability: whoever computes takes three arrays, and no
code of whoever built them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softcert.reference.errors import DomainError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Tree(NamedTuple):
    """The paths of a binary tree whose leaves are classes.

    Attributes
    ----------
    path_starts : (K + 1,) int64. The path of class w is at path_starts[w]:path_starts[w + 1] of the others.
    path_nodes : (P,) int32. The nodes on it, from the root on, each of 0, ..., K - 2.
    path_signs : (P,) int8. The branch taken there: 1 where its probability is sigma(s) of the node's score s,
        -1 where it is sigma(-s).
    """

    path_starts: NDArray[np.int64]
    path_nodes: NDArray[np.int32]
    path_signs: NDArray[np.int8]

    @property
    def classes(self) -> int:
        """Number of leaves K."""
        return len(self.path_starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Nodes on the path of each class, (K,)."""
        return np.diff(self.path_starts)


def balanced_tree(classes: int) -> Tree:
    """The tree whose paths have floor(log2 K) or ceil(log2 K) nodes: that of a binary heap.

    Parameters
    ----------
    classes : K >= 1.

    Returns
    -------
    Tree. Node 0 is the root, and the children of n are 2n + 1 (branch 1) and 2n + 2 (branch -1), class w
    being called K - 1 + w.

    Raises
    ------
    DomainError : not a positive integer.
    """
    given: Any = classes
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise DomainError(f"classes={classes!r} is not a positive integer")
    children = np.arange(1, 2 * int(classes) - 1, dtype=np.int64)
    parents = np.concatenate([[-1], (children - 1) // 2])
    signs = np.concatenate([[0], np.where(children % 2, 1, -1)])
    return _from_parents(parents, signs, int(classes))


def huffman_tree(counts: ArrayLike) -> Tree:
    """The tree of least expected path length, as word2vec builds it.

    Parameters
    ----------
    counts : (K,), K >= 1, integers of at least 0: how often each class occurs.

    Returns
    -------
    Tree. Nodes are numbered as they are made, so that the root is K - 2; the lighter of the two that a node
    joins is at its branch 1. Which is lighter is always decided: of equal counts a node goes before a class,
    and a later class before an earlier one.

    Raises
    ------
    DomainError : no integers of at least 0, more than one axis, or no class.

    Notes
    -----
    Two queues, each in order of weight: the classes, and the nodes, which are made in that order; a step
    takes the lighter head. Linear time after sorting (J. van Leeuwen, On the construction of Huffman trees,
    ICALP 1976). Ties, numbers and branches are those of `CreateBinaryTree` in word2vec.c (T. Mikolov et al.,
    2013), where classes come by falling count, the second of a pair has code 1, and code c the label 1 - c.
    """
    weights = _counted(counts)
    classes = len(weights)
    # By rising count, the last of equals first: word2vec goes through its sorted vocabulary from the end.
    order = sorted(range(classes), key=lambda w: (weights[w], -w))
    parents, signs = np.full(2 * classes - 1, -1, np.int64), np.zeros(2 * classes - 1, np.int8)
    for node, pair in enumerate(_pairs([weights[w] for w in order])):
        for which, sign in zip(pair, (1, -1), strict=True):
            child = which - classes if which >= classes else classes - 1 + order[which]
            parents[child], signs[child] = node, sign
    return _from_parents(parents, signs, classes)


def _counted(counts: ArrayLike) -> list[int]:
    array: NDArray[Any] = np.asarray(counts)
    if array.dtype.kind == "f" and isinstance(counts, list | tuple) and all(type(c) is int for c in counts):
        # Integers on either side of 2^63 are taken for floats.
        array = np.asarray(counts, dtype=object)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuO":
        raise DomainError("counts have to be a list of at least one integer")
    weights = array.tolist()
    if any(isinstance(w, bool) or not isinstance(w, int) or w < 0 for w in weights):
        raise DomainError("counts have to be integers of at least 0")
    return list(weights)


def _pairs(rising: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The two that each node joins, the lighter first: i is the i-th weight, K + j the j-th node."""
    classes, made = len(rising), list[int]()
    leaf = node = 0
    for _ in range(classes - 1):
        pair = []
        for _ in range(2):
            if leaf < classes and (node == len(made) or rising[leaf] < made[node]):
                pair.append((leaf, rising[leaf]))
                leaf += 1
            else:
                pair.append((classes + node, made[node]))
                node += 1
        made.append(pair[0][1] + pair[1][1])
        yield pair[0][0], pair[1][0]


def _from_parents(parents: NDArray[np.int64], signs: NDArray[Any], classes: int) -> Tree:
    """Paths of a tree of which each node, and then each class, is known by its parent and its branch."""
    leaves = np.arange(classes - 1, 2 * classes - 1, dtype=np.int64)
    lengths = np.zeros(classes, np.int64)
    for active, _ in _upwards(parents, leaves):
        lengths[active] += 1
    starts = np.concatenate([[0], np.cumsum(lengths)])
    nodes, branches = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int8)
    place = starts[1:].copy()
    for active, at in _upwards(parents, leaves):
        place[active] -= 1
        nodes[place[active]], branches[place[active]] = parents[at], signs[at]
    return Tree(starts, nodes, branches)


def _upwards(
    parents: NDArray[np.int64], leaves: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All paths a step at a time: which classes have not reached the root, and where each of them is."""
    active, at = np.arange(len(leaves)), leaves
    while True:
        below = parents[at] >= 0
        active, at = active[below], at[below]
        if not active.size:
            return
        yield active, at
        at = parents[at]


def checked_tree(path_starts: ArrayLike, path_nodes: ArrayLike, path_signs: ArrayLike) -> Tree:
    """The arrays given as a tree, if they are one.

    Raises
    ------
    DomainError : not the paths of a binary tree in which each of the nodes 0, ..., K - 2 has two branches.
    """
    given = [np.asarray(a) for a in (path_starts, path_nodes, path_signs)]
    if any(a.ndim != 1 or a.dtype.kind not in "iu" for a in given):
        raise DomainError("the paths of a tree have to be arrays of integers with one axis")
    starts, nodes, signs = given
    if len(starts) < 2 or starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] != len(nodes):
        raise DomainError("path_starts has to rise from 0 to the length of path_nodes")
    classes = len(starts) - 1
    if len(signs) != len(nodes) or not np.isin(signs, (-1, 1)).all():
        raise DomainError("path_signs has to hold 1 or -1 for each of path_nodes")
    if nodes.size and not (nodes.min() >= 0 and nodes.max() <= classes - 2):
        raise DomainError(f"path_nodes has to hold numbers from 0 to K - 2 = {classes - 2}")
    tree = Tree(starts.astype(np.int64), nodes.astype(np.int32), signs.astype(np.int8))
    if not _is_tree(tree):
        raise DomainError("the paths do not make a binary tree in which each node has two branches")
    return tree


def _is_tree(tree: Tree) -> bool:
    """Whether all paths begin at one root, and each of the two branches of each node leads to one place.

    Then they are the paths of a tree. The 2K - 2 branches lead to all K classes and to the K - 2 nodes that
    are not the root, hence to each of them once and never to the root.
    """
    classes = tree.classes
    if classes == 1 or not tree.lengths.all():
        return classes == 1 and not tree.path_nodes.size
    roots = tree.path_nodes[tree.path_starts[:-1]]
    branches = 2 * tree.path_nodes.astype(np.int64) + (tree.path_signs > 0)
    # What follows each branch: the next node of the path, or the class at its end.
    after = np.append(tree.path_nodes[1:].astype(np.int64), 0)
    after[tree.path_starts[1:] - 1] = classes - 1 + np.arange(classes)
    links = np.unique(np.stack([branches, after]), axis=1)
    wanted = 2 * (classes - 1)
    return bool((roots == roots[0]).all() and links.shape[1] == wanted and len(np.unique(links[0])) == wanted)


__all__ = ["Tree", "balanced_tree", "checked_tree", "huffman_tree"]
