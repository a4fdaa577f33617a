"""A-priori rounding-error bounds of the merge of two partial results of attention (split-KV decoding).

Two parts are two keys of one query, whose scores are their lse and whose values are their outputs: the
merge is attention over these, and has its bounds (T. Dao et al., arXiv:2205.14135, section 3.1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic
from softcert.conformance.bounds.attention_facts import Float, Operands
from softcert.conformance.bounds.attention_forward import attention_bounds

#: Queries of one block; each sees two keys of twice as many, so that larger ones would be mostly hidden.
_ROWS = 64


def merge_bounds(lse: Float, out: Float, a: AttentionArithmetic) -> tuple[Float, Float, Float]:
    """Bounds of the merged out (N, Dv) and lse (N,), and the size of what out sums.

    Parameters
    ----------
    lse : (2, N), -inf where a part is empty. out : (2, N, Dv).
    a : arithmetic of attention; nothing is multiplied by a matrix here, nor stored on the way.
    """
    a = replace(a, weights=a.compute, scores=a.compute, group=1)
    if a.lse.precision > a.compute.precision:
        a = replace(a, compute=a.lse, accumulator=a.lse)
    count, width = out.shape[1:]
    bounds = np.zeros((count, width)), np.zeros(count), np.zeros((count, width))
    for start in range(0, count, _ROWS):
        rows = slice(start, min(start + _ROWS, count))
        found = attention_bounds(_as_keys(lse[:, rows], out[:, rows]), a)
        for held, made in zip(bounds, (found.out, found.lse, found.out_size), strict=True):
            held[rows] = made[0]
    return bounds


def _as_keys(lse: Float, out: Float) -> Operands:
    """Queries of which each sees the two keys that are its parts, without those that are empty."""
    shown = lse > -np.inf
    mask = np.concatenate([np.diag(part) for part in shown], axis=1)
    keys = np.where(shown, lse, 0.0).reshape(1, -1, 1)
    return Operands(np.ones((1, lse.shape[1], 1)), keys, out.reshape(1, -1, out.shape[-1]), 1.0, mask=mask)
