"""How far the logits of each row lie apart, and how large they are: what errors are plotted against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softcert.backends.contract import Contract
from softcert.backends.ops import ATTENTION_OPS
from softcert.backends.types import Call
from softcert.conformance.judging.attention_truth import exact_operands
from softcert.conformance.judging.batches import alike_batches
from softcert.conformance.spec import LOSS_OPS, TREE_OPS, rows_last

Float = NDArray[np.float64]


class Extent(NamedTuple):
    """Extent of the finite logits of each row.

    Attributes
    ----------
    spread : largest less smallest; 0 where fewer than two are finite.
    magnitude : largest absolute one; 0 where none is finite.
    """

    spread: Float
    magnitude: Float


def logit_extent(call: Call, contract: Contract) -> Extent:
    """Extent of what a call takes the exponentials of.

    Returns
    -------
    Of a softmax op beta x, of a loss, a leaf of a tree and their gradients the logits, of other gradients the
    (co)tangent, one number a row: (...) without the reduced axis. Of attention its scores with what a mask
    adds, hidden ones left out, of a merge the two lse: one number a query, (..., L).
    """
    if call.op == "attention_merge":
        pair = np.stack([call.operands[1], call.operands[3]], axis=-1)
        return _of_rows(pair.astype(np.float64))
    if call.op in ATTENTION_OPS:
        return _of_scores(call, contract)
    last = call.operands[0 if call.op in (*LOSS_OPS, *TREE_OPS) else -1]
    rows = rows_last(last, int(call.params["axis"])) if last.ndim else last.reshape(1)
    return _of_rows(rows.astype(np.float64) * float(call.params.get("beta", 1.0)))


def _of_rows(rows: Float) -> Extent:
    finite = np.isfinite(rows)
    highest = np.where(finite, rows, -np.inf).max(axis=-1, initial=-np.inf)
    lowest = np.where(finite, rows, np.inf).min(axis=-1, initial=np.inf)
    some = highest >= lowest
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.where(some, highest - lowest, 0.0)
    return Extent(spread, np.where(some, np.maximum(np.abs(highest), np.abs(lowest)), 0.0))


def _of_scores(call: Call, contract: Contract) -> Extent:
    alike = alike_batches(call)
    if alike is not None:
        fewer = _of_scores(alike.one_of_each(call), contract)
        return Extent(*(e[alike.place] for e in fewer))
    operands = exact_operands(call, contract)
    shape = call.operands[0].shape[:-1]
    spread, magnitude = np.zeros(operands.q.shape[:2]), np.zeros(operands.q.shape[:2])
    for head in range(len(operands.q)):
        for tile in operands.tiles(head):
            spread[head, tile.rows], magnitude[head, tile.rows] = _of_rows(tile.scores)
    return Extent(spread.reshape(shape), magnitude.reshape(shape))
