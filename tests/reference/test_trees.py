"""Trees of classes: balanced to one node, Huffman's of least expected length, and arrays that are none."""

import heapq
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from softcert.reference import DomainError, balanced_tree, huffman_tree
from softcert.reference.trees import checked_tree

RNG = np.random.default_rng(3)
COUNTS = {
    "one": [5],
    "two": [1, 9],
    "equal": [3] * 13,
    "dyadic": [1, 1, 2, 4, 8, 16],
    "fibonacci": [1, 1, 2, 3, 5, 8, 13, 21, 34, 55],
    "zeros": [0, 0, 7, 0, 1],
    "beyond 64 bits": [2**70, 2**69, 1, 2**69 + 1],
    "about 2^63": [2**63, 2**62, 1],
    "zipf": [10**6 // k for k in range(1, 400)],
    "random": RNG.integers(0, 1000, 300).tolist(),
    "unsorted ties": RNG.integers(0, 4, 100).tolist(),
}


def least_length(counts):
    """Sum of count times path length of the best tree: that of all nodes' weights, from a heap."""
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, joined)
        total += joined
    return total


@pytest.mark.parametrize("name", COUNTS)
def test_huffman_trees_have_the_least_expected_length(name):
    counts = COUNTS[name]
    tree = huffman_tree(counts)
    checked_tree(*tree)
    total = sum(c * n for c, n in zip(counts, tree.lengths.tolist(), strict=True))
    assert total == least_length(counts)
    if len(counts) > 1:
        shares = [Fraction(c, sum(counts)) for c in counts if c]
        entropy = -sum(float(p) * math.log2(p) for p in shares)
        assert entropy - 1e-12 <= total / sum(counts) < entropy + 1


def test_no_tree_of_a_few_classes_is_shorter():
    """Kraft: the lengths of any binary tree satisfy sum 2^-n = 1."""
    counts = [1, 2, 3, 5, 9]
    possible = (n for n in itertools.product(range(1, 5), repeat=5) if sum(Fraction(1, 2**k) for k in n) == 1)
    best = min(sum(c * k for c, k in zip(counts, n, strict=True)) for n in possible)
    assert (np.array(counts) * huffman_tree(counts).lengths).sum() == best


def word2vec(counts):
    """Nodes and codes of each word of a vocabulary by falling count, from a plain reading of word2vec.c."""
    size = len(counts)
    weight = [*counts, *[10**15] * size]
    parent, binary = [0] * (2 * size), [0] * (2 * size)
    word, inner = size - 1, size
    for a in range(size - 1):
        found = []
        for _ in range(2):
            if word >= 0 and weight[word] < weight[inner]:
                found.append(word)
                word -= 1
            else:
                found.append(inner)
                inner += 1
        weight[size + a] = weight[found[0]] + weight[found[1]]
        parent[found[0]] = parent[found[1]] = size + a
        binary[found[1]] = 1
    paths = []
    for a in range(size):
        code, point, b = [], [], a
        while b != 2 * size - 2:
            code.append(binary[b])
            b = parent[b]
            point.append(b - size)
        paths.append((point[::-1], code[::-1]))
    return paths


@pytest.mark.parametrize("name", ["two", "equal", "dyadic", "fibonacci", "zipf", "unsorted ties"])
def test_huffman_trees_are_those_of_word2vec(name):
    counts = sorted(COUNTS[name], reverse=True)
    tree = huffman_tree(counts)
    for w, (nodes, codes) in enumerate(word2vec(counts)):
        path = slice(tree.path_starts[w], tree.path_starts[w + 1])
        assert tree.path_nodes[path].tolist() == nodes
        assert tree.path_signs[path].tolist() == [1 - 2 * c for c in codes]


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 7, 8, 9, 100, 1 << 12])
def test_paths_of_a_balanced_tree_differ_by_one_node_at_most(classes):
    tree = checked_tree(*balanced_tree(classes))
    assert tree.classes == classes
    assert set(tree.lengths.tolist()) <= {math.floor(math.log2(classes)), math.ceil(math.log2(classes))}
    assert sum(Fraction(1, 2**n) for n in tree.lengths.tolist()) == 1


def moved(tree, field, place, value):
    arrays = [a.copy() for a in tree]
    arrays[field][place] = value
    return arrays


TREE = balanced_tree(4)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ([[0.0, 1.0], [0], [1]], "integers"),
        ([[0, 2], [0], [1]], "rise"),
        ([[0, 2, 1, 2], [0, 1], [1, 1]], "rise"),
        (moved(TREE, 2, 0, 0), "1 or -1"),
        (moved(TREE, 1, 0, 3), "numbers from"),
        # two classes behind one branch; a branch that leads to two places; a node that leads to itself
        (moved(TREE, 2, 1, -1), "two branches"),
        (moved(TREE, 1, 1, 2), "two branches"),
        (moved(TREE, 1, 1, 0), "two branches"),
        (moved(TREE, 2, 0, -1), "two branches"),
        # another root for one class
        (moved(TREE, 1, 0, 1), "two branches"),
        # a path without its beginning
        ([[0, 2, 3, 4], [0, 1, 1, 0], [1, 1, -1, -1]], "two branches"),
        # a path of no node, and a single class with one
        ([[0, 0, 1], [0], [1]], "two branches"),
        ([[0, 1], [0], [1]], "numbers from"),
    ],
)
def test_arrays_that_are_no_tree_are_refused(arrays, words):
    with pytest.raises(DomainError, match=words):
        checked_tree(*arrays)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: balanced_tree(0), "positive"),
        (lambda: balanced_tree(classes=True), "positive"),
        (lambda: balanced_tree(2.0), "positive"),
        (lambda: huffman_tree([]), "at least one integer"),
        (lambda: huffman_tree([[1, 2]]), "at least one integer"),
        (lambda: huffman_tree([1.0, 2.0]), "at least one integer"),
        (lambda: huffman_tree([1, -2]), "at least 0"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()
