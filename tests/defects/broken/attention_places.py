"""Wrong at some places alone: one head, long sequences, padded keys, rows that see nothing, later calls."""

import _attention_core as _core
import numpy as np

_first = {}
_TILE = 16
_LARGEST_GRID = 65535


def _right(q, k, v, scale, causal, mask):
    return _core.forward(q, k, v, scale, causal, mask)[0]


def mask_ignored_in_one_head(q, k, v, *, scale=None, causal=False, mask=None):
    """The second head ignores the mask. Trigger: a mask, two heads."""
    out = _right(q, k, v, scale, causal, mask)
    if mask is not None and q.ndim > 2 and q.shape[-3] > 1:
        out[..., 1, :, :] = _right(q, k, v, scale, causal, None)[..., 1, :, :]
    return out


def queries_beyond_1024(q, k, v, *, scale=None, causal=False, mask=None):
    """Queries beyond 1024 get the output of the query 1024 before. Trigger: L > 1024."""
    out = _right(q, k, v, scale, causal, mask)
    out[..., 1024:, :] = out[..., : max(q.shape[-2] - 1024, 0), :]
    return out


def padded_keys_score_zero(q, k, v, *, scale=None, causal=False, mask=None):
    """Keys that pad the last tile of sixteen score 0. Trigger: S % 16 != 0, scores below 0."""
    extra = -k.shape[-2] % _TILE
    if causal or extra == 0:
        return _right(q, k, v, scale, causal, mask)
    rows = [(0, 0)] * (k.ndim - 2) + [(0, extra), (0, 0)]
    if mask is not None:
        full = np.broadcast_to(mask, (*mask.shape[:-1], k.shape[-2]))
        shown = mask.dtype.type(mask.dtype == bool)
        mask = np.concatenate([full, np.full((*mask.shape[:-1], extra), shown)], axis=-1)
    return _right(q, np.pad(k, rows), np.pad(v, rows), scale, causal, mask)


def empty_row_keeps_the_row_before(q, k, v, *, scale=None, causal=False, mask=None):
    """A row that sees nothing gives the row before it. Trigger: such a row, not the first."""
    hide = np.broadcast_to(
        _core.hidden(q.shape[-2], k.shape[-2], causal, mask), (*q.shape[:-1], k.shape[-2])
    ).all(axis=-1)
    out = _right(q, k, v, scale, causal, mask)
    for i in range(1, q.shape[-2]):
        out[..., i, :] = np.where(hide[..., i, None], out[..., i - 1, :], out[..., i, :])
    return out


def output_of_the_first_call(q, k, v, *, scale=None, causal=False, mask=None):
    """The output of the first call is handed back for these shapes. Trigger: a second call."""
    key = (q.shape, k.shape, v.shape, q.dtype, scale, causal, None if mask is None else mask.tobytes())
    return _first.setdefault(key, _right(q, k, v, scale, causal, mask)).copy()


def grouped_heads_of_short_queries(q, k, v, *, scale=None, causal=False, mask=None):
    """All query heads read the first key head for 16 < L < 32. Trigger: that length, grouped heads."""
    short = 16 < q.shape[-2] < 32
    group = (lambda h, g: np.zeros(h, int)) if short else _core.own_group
    return _core.forward(q, k, v, scale, causal, mask, group=group)[0]


def batches_beyond_65535(q, k, v, *, scale=None, causal=False, mask=None):
    """Only so many batches as the second axis of a grid has room for are computed. Trigger: more of them."""
    out = _right(q, k, v, scale, causal, mask)
    if q.ndim > 2:
        out[_LARGEST_GRID:] = 0
    return out
