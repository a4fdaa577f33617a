"""The hierarchical softmax: the probability of a leaf by the path to it, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from softcert.backends.trees import heap_paths
from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import one_call
from softcert.conformance.inputs.trees import Paths, chain_paths, every_leaf, tree_operands, zipf_paths
from softcert.conformance.judging.evidence import broken, ordinary, relation_finding
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import TREE_OPS, Clause, Seedling

#: Classes of small trees, on either side of powers of two.
_CLASSES = (2, 3, 4, 5, 8, 9, 17, 40)
_KINDS: Mapping[str, Callable[[int], Paths]] = {
    "balanced": heap_paths,
    "words": zipf_paths,
    "chain": chain_paths,
}
#: Nodes of one path, beyond those of any balanced tree.
_DEEP = 200
_FAMILIES = ("normal", "wide", "equal")
#: What a score off the path may be.
_ANYTHING = (np.nan, np.inf, -np.inf, 3e4)
#: Allowance for the sum of exponentials in binary64.
_SLACK = 2.0**-44


def _trees() -> Iterator[tuple[str, Paths]]:
    for classes in _CLASSES:
        for kind, paths in _KINDS.items():
            if classes > 2 or kind == "balanced":
                yield kind, paths(classes)


def _leaves(context: Context) -> Iterator[Seedling]:
    """Every leaf of trees of each kind, and the ends and the middle of a long chain."""
    for kind, paths in _trees():
        nodes = len(paths[0]) - 2
        for family in _FAMILIES:
            s = make_row(family, nodes, nodes, 2.0, context.dtype)
            yield every_leaf(context, s, paths, f"{kind}, {family}")
    s = np.stack([make_row("normal", _DEEP, seed, 1.0, context.dtype) for seed in range(4)])
    yield Seedling(tree_operands(context.op, s, 1, chain_paths(_DEEP + 1)), family="long chain")


def _off_path(context: Context) -> Iterator[Seedling]:
    """Rows in which every score off the path of their leaf is something else."""
    for kind, paths in _trees():
        nodes = len(paths[0]) - 2
        for value in _ANYTHING:
            s = make_row("normal", nodes, nodes, 2.0, context.dtype)
            seedling = every_leaf(context, s, paths, f"{kind}, {value:g} off the path")
            scores, target, *rest = seedling.operands
            on = _on_path(paths, nodes)
            spoilt = np.where(on[target], scores, as_dtype(context.dtype).type(value))
            yield Seedling((spoilt, target, *rest), family=seedling.family)


def _on_path(paths: Paths, nodes: int) -> Array:
    """Whether a node is on the path of a class, (K, nodes)."""
    starts, which, _ = paths
    on = np.zeros((nodes + 1, nodes), dtype=np.bool_)
    on[np.repeat(np.arange(nodes + 1), np.diff(starts)), which] = True
    return on


def _infinite(context: Context) -> Iterator[Seedling]:
    """Every leaf where one score is an infinity: of its sign, which decides nothing more, or against it."""
    for kind, paths in _trees():
        nodes = len(paths[0]) - 2
        for place in sorted({0, nodes // 2, nodes - 1}):
            for value in (np.inf, -np.inf):
                s = make_row("normal", nodes, nodes, 2.0, context.dtype)
                s[place] = value
                yield every_leaf(context, s, paths, f"{kind}, {value:g} on the path")


def _holds_every_leaf(call: Call) -> bool:
    """Whether the rows are one and the same, with each leaf once: a smaller witness may have lost some."""
    s, target = call.operands[:2]
    if target.ndim != 1 or not np.array_equal(np.sort(target), np.arange(s.shape[-1] + 1)):
        return False
    return bool((s.astype(np.float64) == s[:1].astype(np.float64)).all())


def _judge_sum(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """The probabilities of all leaves within the sum of their bounds of 1, then each within its own."""
    (call,), (logs,) = trial.calls, results
    values = logs.astype(np.float64)
    bounds = context.absolute_bound(call)
    if _holds_every_leaf(call) and ordinary(call) and not np.isnan(values).any():
        exact = context.truth(call).to_float64()
        with np.errstate(over="ignore", under="ignore"):
            total = math.fsum(np.exp(values).tolist())
            most = math.fsum((np.exp(exact) * np.expm1(bounds)).tolist()) + _SLACK
        if abs(total - 1.0) > most:
            message = f"the probabilities of all leaves sum to {total:.9g}, and may be {most:.3g} from 1"
            return broken(relation_finding(0, None, "sum over the leaves", repr(total), message), values.size)
    return judge_values(trial, results, context)


CLAUSES = (
    Clause(
        id="hierarchical.path",
        statement="the log-probability of a leaf is the sum over its path, whatever the tree",
        mathematics="log p = sum over n of the path of log sigma(t), t = sign_n s_n; slope sign_n sigma(-t)",
        source="F. Morin & Y. Bengio, AISTATS 2005; T. Mikolov et al., arXiv:1310.4546, section 2.1",
        in_practice="a branch's sign the wrong way round, a path cut at the depth of a balanced tree, "
        "the node of another leaf",
        ops=TREE_OPS,
        directed=_leaves,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="hierarchical.off-path",
        statement="a score off the path of a row's leaf changes nothing, NaN included, and has the slope 0",
        mathematics="d log p / d s_n = 0 for every n off the path",
        source="derivation: no such score is in the product",
        in_practice="all nodes computed and masked by a product with 0, which NaN and infinity survive",
        ops=TREE_OPS,
        directed=_off_path,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="hierarchical.infinities",
        statement="an infinity against the branch's sign gives -inf, and one of its sign adds exactly 0",
        mathematics="sigma(inf) = 1, sigma(-inf) = 0, log 0 = -inf",
        source="limits of sigma; IEEE 754-2019 section 9.2.1 for log 0",
        in_practice="inf - inf from log1p(exp(t)) - t; a logarithm clipped at 1e-7",
        ops=TREE_OPS,
        directed=_infinite,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="hierarchical.sum",
        statement="the probabilities of all leaves of a tree sum to 1",
        mathematics="sum over w of p(w) = 1, by induction over the nodes: sigma(s) + sigma(-s) = 1",
        source="F. Morin & Y. Bengio, AISTATS 2005; derivation in docs/explanation/hierarchical.md",
        in_practice="scores of a node that its two branches round differently",
        ops=("hierarchical_log_softmax",),
        directed=_leaves,
        grow=one_call,
        judge=_judge_sum,
    ),
)
