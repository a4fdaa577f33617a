"""The ops: their names, operands, results and keywords, in one table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The operands of each op, in the order in which a kernel takes them. Those of an op of rows are of one shape
#: (..., n, ...) along `axis`, but those of `ONE_A_ROW` and `OF_TREES`; those of attention have the axes that
#: `AXES` names.
OPERANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "softmax": ("x",),
        "log_softmax": ("x",),
        "logsumexp": ("x",),
        "softmax_vjp": ("y", "dy"),
        "softmax_jvp": ("y", "dx"),
        "sparsemax": ("x",),
        "sparsemax_vjp": ("y", "dy"),
        "entmax": ("x",),
        "entmax_vjp": ("y", "dy"),
        "cross_entropy": ("x", "target"),
        "cross_entropy_vjp": ("x", "target", "dloss"),
        "hierarchical_log_softmax": ("s", "target", "path_starts", "path_nodes", "path_signs"),
        "hierarchical_log_softmax_vjp": ("s", "target", "dlogp", "path_starts", "path_nodes", "path_signs"),
        "gumbel_softmax": ("x",),
        "attention": ("q", "k", "v"),
        "attention_lse": ("q", "k", "v"),
        "attention_vjp": ("q", "k", "v", "out", "lse", "dout"),
        "attention_merge": ("out_a", "lse_a", "out_b", "lse_b"),
    }
)
OPS: tuple[str, ...] = tuple(OPERANDS)
#: What each op of attention gives back, in order; every op of rows gives one array.
RESULTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attention": ("out",),
        "attention_lse": ("out", "lse"),
        "attention_vjp": ("dq", "dk", "dv"),
        "attention_merge": ("out", "lse"),
    }
)
ATTENTION_OPS: tuple[str, ...] = tuple(RESULTS)
ROW_OPS: tuple[str, ...] = tuple(op for op in OPS if op not in RESULTS)
#: Those whose result is drawn, so that no value of it is exact. The keyword `seed` fixes the noise: two calls
#: of one seed on operands of one shape have the same, whatever the other keywords are.
SAMPLERS: frozenset[str] = frozenset({"gumbel_softmax"})
#: Those whose result lacks `axis`.
REDUCING_OPS: frozenset[str] = frozenset({"logsumexp", "cross_entropy", "hierarchical_log_softmax"})
#: Operands of ops of rows that lack `axis`: one number a row.
ONE_A_ROW: frozenset[str] = frozenset({"target", "dloss", "dlogp"})
#: Operands that all rows share, in this order: the tree whose leaves are the classes, and whose nodes, one
#: less, a row has the scores of.
OF_TREES: tuple[str, ...] = ("path_starts", "path_nodes", "path_signs")
#: Operands that are integers, whatever the dtype of the others is.
INTEGERS: frozenset[str] = frozenset({"target", *OF_TREES})
_OF_LOSSES: Mapping[str, float] = MappingProxyType(
    {"label_smoothing": 0.0, "ignore_index": -100, "z_loss": 0.0}
)
#: Keywords of the ops of rows that change what is computed, with the value that goes without saying; one that
#: is an integer there always is.
ROW_OPTIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "softmax": {"beta": 1.0},
        "entmax": {"alpha": 1.5},
        "entmax_vjp": {"alpha": 1.5},
        "cross_entropy": _OF_LOSSES,
        "cross_entropy_vjp": _OF_LOSSES,
        "gumbel_softmax": {"tau": 1.0, "hard": 0, "seed": 0},
    }
)
#: The last axes of each array of attention: H heads of q and G of k and v, L queries, S keys, D features,
#: E columns of v. Axes before these are batches, alike in all arrays; an array without batches may lack
#: the axis of heads too.
AXES: Mapping[str, str] = MappingProxyType(
    {
        "q": "HLD",
        "k": "GSD",
        "v": "GSE",
        "out": "HLE",
        "lse": "HL",
        "dout": "HLE",
        "dq": "HLD",
        "dk": "GSD",
        "dv": "GSE",
        "mask": "HLS",
        "out_a": "HLE",
        "lse_a": "HL",
        "out_b": "HLE",
        "lse_b": "HL",
    }
)
#: Keywords of the ops of attention that take scores; a subject may lack some.
ATTENTION_OPTIONS: tuple[str, ...] = ("scale", "causal", "mask")
#: The dtypes that an op may be asked to take, widest first.
DTYPES: tuple[str, ...] = ("float64", "float32", "float16", "bfloat16")


def lse_dtype(dtype: str) -> str:
    """Dtype in which lse goes with operands of `dtype`: float32 for 16-bit ones, else their own."""
    return "float32" if dtype in {"float16", "bfloat16"} else dtype


def operand_dtype(name: str, dtype: str) -> str:
    """Dtype of an operand or result of an op on arrays of `dtype`."""
    if name in INTEGERS:
        return "int64"
    return lse_dtype(dtype) if name.startswith("lse") else dtype


def operand_dtypes(op: str, dtype: str) -> tuple[str, ...]:
    """Dtypes of the operands of an op, where the first is of `dtype`."""
    return tuple(operand_dtype(name, dtype) for name in OPERANDS[op])


def without_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape of one number a row of an array."""
    place = axis % len(shape)
    return shape[:place] + shape[place + 1 :]


def has_axis(name: str) -> bool:
    """Whether an operand of an op of rows has the axis that the op goes along."""
    return name not in ONE_A_ROW and name not in OF_TREES


def axis_moved(
    op: str, operands: Sequence[NDArray[Any]], source: int, destination: int
) -> tuple[NDArray[Any], ...]:
    """Operands of an op of rows with one axis elsewhere, those that have it."""
    return tuple(
        a if not has_axis(name) else np.moveaxis(a, source, destination)
        for name, a in zip(OPERANDS[op], operands, strict=True)
    )


def own_changed(
    op: str, operands: Sequence[NDArray[Any]], change: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[NDArray[Any], ...]:
    """Operands of an op of rows, those changed that rows do not share."""
    return tuple(a if name in OF_TREES else change(a) for name, a in zip(OPERANDS[op], operands, strict=True))


def has_tree(op: str) -> bool:
    """Whether an op is about the leaves of a tree, which its last operands are."""
    return op in OPS and OPERANDS[op][-len(OF_TREES) :] == OF_TREES


def takes_scores(op: str) -> bool:
    """Whether an op takes q, k and v, and with them the keywords of attention."""
    return op in ATTENTION_OPS and op != "attention_merge"


def order_of(op: str, options: Mapping[str, float]) -> float:
    """The alpha of sparsemax, entmax or their derivatives under the keywords of a call."""
    return float(options.get("alpha", ROW_OPTIONS.get(op, {}).get("alpha", 2.0)))


def options_known(op: str) -> tuple[str, ...]:
    """Keywords, `axis` apart, that an op has and a subject may lack."""
    return ATTENTION_OPTIONS if takes_scores(op) else tuple(ROW_OPTIONS.get(op, ()))
