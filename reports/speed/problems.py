"""What is timed: shapes and ladders of them, inputs drawn anew for every call, and what a call has to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.numpy_attention import attention_lse
from softcert.backends.ops import ATTENTION_OPS, AXES, OPERANDS, has_tree, operand_dtype
from softcert.backends.trees import heap_paths
from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.inputs.families import output_near
from softcert.conformance.judging.shapes import expected_results
from softcert.conformance.spec import LOSS_OPS, SPARSE_DERIVATIVE_OPS, TREE_OPS

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape = tuple[int, ...]

#: Rows and lengths: short rows, rows of a small vocabulary, one long row; 2 MiB in float32.
SHAPES: tuple[Shape, ...] = ((4096, 128), (512, 1024), (4, 131072))
#: Heads, queries, keys, features: a prompt, and one step of decoding.
ATTENTION_SHAPES: tuple[Shape, ...] = ((8, 512, 512, 64), (8, 1, 8192, 64))
#: The same, and lengths that grow while all else stays, so that the growth of the time can be fitted.
LADDER: tuple[Shape, ...] = (*SHAPES, *((64, 4**k) for k in range(4, 8)))
ATTENTION_LADDER: tuple[Shape, ...] = (
    *((8, n, n, 64) for n in (128, 256, 512, 1024)),
    *((8, 1, n, 64) for n in (512, 2048, 8192)),
)

#: Products of matrices in units of L S D: T. Dao et al., arXiv:2205.14135 (2022), algorithms 1 and 4.
_PRODUCTS: Mapping[str, int] = MappingProxyType({"attention": 2, "attention_lse": 2, "attention_vjp": 5})
#: Operations an element by the definitions, an exponential as one: compare, subtract, exp, add, divide.
_PER_ELEMENT: Mapping[str, int] = MappingProxyType(
    {
        "softmax": 5,
        "log_softmax": 5,
        "logsumexp": 4,
        "softmax_vjp": 4,
        "softmax_jvp": 4,
        "cross_entropy": 4,
        "cross_entropy_vjp": 5,
    }
)


@dataclass(frozen=True)
class Problem:
    """One op on arrays of one dtype and shape.

    Attributes
    ----------
    shape : (rows, length), of which the last is reduced; of attention (heads, queries, keys, features).
    """

    op: str
    dtype: str
    shape: Shape

    def draw(self, seed: int) -> Call:
        """One call on standard normal numbers that no other seed gives."""
        rng = np.random.default_rng(seed)

        def normal(shape: Shape, dtype: str) -> Array:
            wide = rng.standard_normal(shape, dtype=np.float64 if dtype == "float64" else np.float32)
            return wide.astype(as_dtype(dtype), copy=False)

        if self.op not in ATTENTION_OPS:
            if self.op in (*LOSS_OPS, *TREE_OPS):
                target = rng.integers(0, self.shape[-1], self.shape[:-1])
                cotangents = (normal(self.shape[:-1], self.dtype),) if self.op.endswith("_vjp") else ()
                paths = heap_paths(self.shape[-1] + 1) if self.op in TREE_OPS else ()
                return Call(self.op, (normal(self.shape, self.dtype), target, *cotangents, *paths))
            first, *rest = (normal(self.shape, self.dtype) for _ in OPERANDS[self.op])
            y = output_near(self.op, first) if self.op in SPARSE_DERIVATIVE_OPS else first
            return Call(self.op, (y, *rest))
        sizes = dict(zip("HLSD", self.shape, strict=True)) | {"G": self.shape[0], "E": self.shape[-1]}
        operands = {
            name: normal(tuple(sizes[axis] for axis in AXES[name]), operand_dtype(name, self.dtype))
            for name in OPERANDS[self.op]
        }
        if "dout" in operands:
            # A gradient is asked for at what the forward pass gives.
            operands["out"], operands["lse"] = attention_lse(*(operands[name] for name in "qkv"))
        return Call(self.op, tuple(operands.values()), {})

    def traffic(self, call: Call) -> int:
        """Bytes that a call moves at least: operands read once and results written once; of a tree, paths."""
        read = _read_of_paths(call) if has_tree(call.op) else sum(a.nbytes for a in call.operands)
        return read + sum(math.prod(of) * as_dtype(kind).itemsize for of, kind in expected_results(call))

    @property
    def flops(self) -> int | None:
        """Of attention, its products of matrices, a multiplication and an addition counted as two."""
        products = _PRODUCTS.get(self.op)
        return None if products is None else 2 * products * math.prod(self.shape)

    @property
    def operations(self) -> int | None:
        """`flops`, or the operations of an op of softmax by its definition; None of a merge."""
        per_element = _PER_ELEMENT.get(self.op)
        return self.flops if per_element is None else per_element * math.prod(self.shape)


def _read_of_paths(call: Call) -> int:
    """Bytes of what a row has one of, and of the nodes on the paths: their numbers, branches and scores."""
    s, *one_a_row, starts, nodes, signs = call.operands
    target = one_a_row[0]
    walked = int((starts[target + 1] - starts[target]).sum())
    ends = 2 * starts.itemsize * target.size
    return sum(a.nbytes for a in one_a_row) + ends + walked * (s.itemsize + nodes.itemsize + signs.itemsize)


def shapes_of(op: str, *, ladder: bool = False) -> tuple[Shape, ...]:
    """Shapes on which an op is timed by default; with a `ladder`, those whose lengths grow too."""
    if op in ATTENTION_OPS:
        return ATTENTION_LADDER if ladder else ATTENTION_SHAPES
    return LADDER if ladder else SHAPES
