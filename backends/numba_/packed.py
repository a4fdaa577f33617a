"""Attention in numba of sequences of different lengths that lie end to end, each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.numba_ import attention
from softcert.backends.ops import lse_dtype
from softcert.backends.types import Array


def attention_packed(
    q: Array,
    k: Array,
    v: Array,
    q_starts: Array,
    k_starts: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> tuple[Array, Array]:
    """Scaled dot-product attention within each of several sequences, and the log-sum-exp of its scores.

    Parameters
    ----------
    q : (rows, H, D) of a floating dtype.
    k, v : (rows, G, D) and (rows, G, Dv), G a divisor of H.
    q_starts, k_starts : (B + 1,) integers, the first row of each sequence, behind them the number of rows.
    scale, causal : those of `attention_lse`; a causal mask is that of each sequence, aligned bottom-right.

    Returns
    -------
    out (rows, H, Dv) of the dtype of `q`, and lse (H, rows): the bits that `attention_lse` gives of each
    sequence alone.

    Raises
    ------
    ValueError : the starts are not those of as many sequences of q as of k, or the shapes do not go together.
    """
    out = np.empty((*q.shape[:2], v.shape[2]), q.dtype)
    lse = np.empty(q.shape[1::-1], lse_dtype(q.dtype.name))
    for rows, columns in _sequences(q, k, q_starts, k_starts):
        given = (a.swapaxes(0, 1) for a in (q[rows], k[columns], v[columns]))
        result, lse[:, rows] = attention.attention_lse(*given, scale=scale, causal=causal)
        out[rows] = result.swapaxes(0, 1)
    return out, lse


def attention_packed_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    dout: Array,
    q_starts: Array,
    k_starts: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> tuple[Array, Array, Array]:
    """Gradients of `attention_packed`, functions of the out and lse that are given.

    Parameters
    ----------
    q, k, v, q_starts, k_starts, scale, causal : those of `attention_packed`.
    out, lse : its results. dout : cotangent of `out`.

    Returns
    -------
    dq, dk, dv, of the shapes and dtypes of q, k and v.

    Raises
    ------
    ValueError : the starts are not those of as many sequences of q as of k, or the shapes do not go together.
    """
    dq, dk, dv = (np.empty(a.shape, a.dtype) for a in (q, k, v))
    for rows, columns in _sequences(q, k, q_starts, k_starts):
        queries, keys, values, result, slopes = (
            a.swapaxes(0, 1) for a in (q[rows], k[columns], v[columns], out[rows], dout[rows])
        )
        found = attention.attention_vjp(
            queries, keys, values, result, lse[:, rows], slopes, scale=scale, causal=causal
        )
        dq[rows], dk[columns], dv[columns] = (a.swapaxes(0, 1) for a in found)
    return dq, dk, dv


def _sequences(q: Array, k: Array, q_starts: Array, k_starts: Array) -> Iterator[tuple[slice, slice]]:
    """Rows of q, and of k and v, of each sequence.

    Raises
    ------
    ValueError : the starts do not cut q and k into as many sequences.
    """
    pairs = (("q", q, q_starts), ("k", k, k_starts))
    for name, array, starts in pairs:
        if len(starts) == 0 or starts[0] != 0 or starts[-1] != len(array) or np.any(np.diff(starts) < 0):
            raise ValueError(
                f"starts {list(starts)} do not cut the {len(array)} rows of {name} into sequences"
            )
    if len(q_starts) != len(k_starts):
        raise ValueError(f"{len(q_starts) - 1} sequences of q cannot see {len(k_starts) - 1} of k")
    for place in range(len(q_starts) - 1):
        yield slice(*q_starts[place : place + 2]), slice(*k_starts[place : place + 2])
