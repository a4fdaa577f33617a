"""Enclosures of attention by the fast path, with an oracle behind them for what it leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softcert.reference.attention_operands import BackwardOperands, Heads
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.lazy import LazyCells
from softcert.reference.operands import Floats

#: The slow path: from cells, a head and a query to the places of its output's elements and of its lse.
Query = Callable[[Cells, int, int], tuple[list[int], int]]
#: The same for a row of one result, given its head and its place.
Row = Callable[[Cells, int, int], list[int]]


def takes(heads: Heads) -> bool:
    """Whether the fast path computes attention of these operands."""
    if 0 in heads.q.shape[:2] or 0 in heads.k.shape[:2]:
        return False
    from softcert.reference.fast.attention import takes as kernels_take

    return kernels_take(heads)


def forward(heads: Heads, query: Query) -> tuple[Enclosure, Enclosure]:
    """Outputs and log-sum-exps of every query."""
    from softcert.reference.fast.attention import Forward, Operands, Result

    length = heads.q.shape[1]
    both = Forward(Operands(heads))

    def output(cells: Cells, row: int) -> list[int]:
        return query(cells, *divmod(row, length))[0]

    def logsumexp(cells: Cells, row: int) -> list[int]:
        return [query(cells, *divmod(row, length))[1]]

    rows, columns = len(heads.q) * length, heads.v.shape[2]
    shape = (*heads.batch, length)
    out = Enclosure(LazyCells(rows, columns, output), (*shape, columns), Result(both, 0))
    lse = Enclosure(LazyCells(rows, 1, logsumexp), shape, Result(both, 1))
    return out, lse


def backward(given: BackwardOperands, rows: tuple[Row, Row, Row]) -> tuple[Enclosure, Enclosure, Enclosure]:
    """Cotangents of q, k and v."""
    from softcert.reference.fast.attention import Operands, Result
    from softcert.reference.fast.attention_gradients import Backward

    heads = given.heads
    all_three = Backward(Operands(heads), given)

    def enclosure(which: int, shape: tuple[int, int, int], batch: tuple[int, ...]) -> Enclosure:
        count, length, width = shape
        cells = LazyCells(count * length, width, lambda new, row: rows[which](new, *divmod(row, length)))
        return Enclosure(cells, (*batch, length, width), Result(all_three, which))

    return (
        enclosure(0, heads.q.shape, heads.batch),
        enclosure(1, heads.k.shape, heads.kv_batch),
        enclosure(2, heads.v.shape, heads.kv_batch),
    )


#: The slow path of a merge: from cells and a query to the places of its output's elements and of its lse.
Merged = Callable[[Cells, int], tuple[list[int], int]]


def merged(parts: Sequence[Floats], query: Merged) -> tuple[Enclosure, Enclosure]:
    """Merge of out_a, lse_a, out_b and lse_b."""
    from softcert.reference.fast.attention import Merge, Result

    shape, columns = parts[1].shape, parts[0].shape[-1]
    rows = parts[1].size
    flat = [a.reshape(rows, columns) if k % 2 == 0 else a.reshape(rows) for k, a in enumerate(parts)]
    both = Merge(*flat)
    out = LazyCells(rows, columns, lambda cells, row: query(cells, row)[0])
    lse = LazyCells(rows, 1, lambda cells, row: [query(cells, row)[1]])
    return Enclosure(out, (*shape, columns), Result(both, 0)), Enclosure(lse, shape, Result(both, 1))
