"""Attention wrong for some remainder of a tile, some width, some batch or some number of tiles only."""

import _attention_core as _core
import numpy as np

_rng = np.random.default_rng()


def _right(q, k, v, scale, causal, mask):
    return _core.forward(q, k, v, scale, causal, mask)[0]


def remainder_21_of_32_behind_tiles(q, k, v, *, scale=None, causal=False, mask=None):
    """The last of 21 keys behind whole tiles of 32 counts twice. Trigger: S % 32 == 21, S > 32."""
    if k.shape[-2] > 32 and k.shape[-2] % 32 == 21 and mask is None and not causal:
        k, v = (np.concatenate([a, a[..., -1:, :]], axis=-2) for a in (k, v))
    return _right(q, k, v, scale, causal, mask)


def remainder_38_of_64_queries(q, k, v, *, scale=None, causal=False, mask=None):
    """The last query repeats its neighbour. Trigger: L % 64 == 38."""
    out = _right(q, k, v, scale, causal, mask)
    if out.shape[-2] % 64 == 38:
        out[..., -1, :] = out[..., -2, :]
    return out


def scale_of_padded_112(q, k, v, *, scale=None, causal=False, mask=None):
    """112 features are padded to 128, and the scale is that of 128. Trigger: D = 112, no scale given."""
    if q.shape[-1] == 112 and scale is None:
        scale = 128**-0.5
    return _right(q, k, v, scale, causal, mask)


def mask_of_256_columns(q, k, v, *, scale=None, causal=False, mask=None):
    """Columns of the mask beyond 256 repeat the last one before. Trigger: a mask, S > 256."""
    if mask is not None and mask.shape[-1] > 256:
        mask = np.concatenate(
            [mask[..., :256], np.broadcast_to(mask[..., 255:256], mask[..., 256:].shape)], axis=-1
        )
    return _right(q, k, v, scale, causal, mask)


def mask_offsets_in_16_bits(q, k, v, *, scale=None, causal=False, mask=None):
    """Offsets i * S + j into the mask are int16 and wrap. Trigger: a mask, L * S > 32768."""
    if mask is not None:
        shape = (*q.shape[:-1], k.shape[-2])
        places = np.arange(shape[-2] * shape[-1]).astype(np.int16).reshape(shape[-2:])
        mask = np.broadcast_to(mask, shape).reshape(*shape[:-2], -1)[..., places]
    return _right(q, k, v, scale, causal, mask)


def mask_of_first_batch(q, k, v, *, scale=None, causal=False, mask=None):
    """All batches share the mask of the first. Trigger: padding that differs from batch to batch."""
    if mask is not None and mask.ndim == 4:
        mask = np.broadcast_to(mask[:1], mask.shape)
    return _right(q, k, v, scale, causal, mask)


def decoded_heads_in_turn(q, k, v, *, scale=None, causal=False, mask=None):
    """Heads that share keys take the place of queries, in the wrong order. Trigger: L = 1, grouped heads."""
    if q.ndim != 4 or q.shape[-2] != 1 or q.shape[1] == k.shape[1] or mask is not None:
        return _right(q, k, v, scale, causal, mask)
    batch, heads, _, features = q.shape
    groups = k.shape[1]
    packed = q.reshape(batch, heads // groups, groups, features).swapaxes(1, 2)
    return _right(packed, k, v, scale, causal=False, mask=None).reshape(batch, heads, 1, -1)


# The factor that rescales the output is truncated to 8 bits, that of the sum is not.
rescales_in_bfloat16 = _core.make_attention(
    _core.online,
    width=64,
    add_out=lambda old, factor, new: old * _core.to_bits(factor, 8, np.floor) + new,
)


def gradient_in_any_order(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """dq of more than two tiles of keys is added up as the tiles come. Trigger: S > 256, many calls."""
    dq, dk, dv = _core.backward(q, k, v, out, lse, dout, scale, causal, mask)
    late = k.shape[-2] > 256 and _rng.random() < 0.3
    return np.nextafter(dq, np.inf).astype(dq.dtype) if late else dq, dk, dv


def merge_of_64_columns(out_a, lse_a, out_b, lse_b):
    """Columns of the values beyond 64 are those of the first part. Trigger: Dv > 64."""
    out, lse = _core.merge(out_a, lse_a, out_b, lse_b)
    out[..., 64:] = out_a[..., 64:]
    return out, lse


def merge_of_first_batch(out_a, lse_a, out_b, lse_b):
    """All batches get the result of the first. Trigger: two batches."""
    out, lse = _core.merge(out_a, lse_a, out_b, lse_b)
    if out.ndim == 4:
        out[1:] = out[:1]
    return out, lse


# Parts whose weights differ by less than 0.001 weigh the same.
merge_of_near_parts = _core.make_merge(
    blend=lambda a, wa, b, wb, n: np.where(abs(wa - wb) < 1e-3, (a + b) / 2, (a * wa + b * wb) / n)
)


def merge_of_far_parts(out_a, lse_a, out_b, lse_b):
    """lse is the larger one where they are 10 apart. Trigger: such parts of a small lse."""
    out, lse = _core.merge(out_a, lse_a, out_b, lse_b)
    with np.errstate(invalid="ignore"):
        return out, np.where(abs(lse_a - lse_b) > 10, np.maximum(lse_a, lse_b), lse)


def mask_of_heads_as_of_batches(q, k, v, *, scale=None, causal=False, mask=None):
    """A mask (H, L, S) is taken for one of batches. Trigger: as many batches as heads."""
    if mask is not None and mask.ndim == 3 and q.ndim == 4 and len(mask) == len(q) > 1:
        mask = mask[:, np.newaxis]
    return _right(q, k, v, scale, causal, mask)


def mask_of_queries_in_first_tile(q, k, v, *, scale=None, causal=False, mask=None):
    """A mask that is stretched over the keys holds for the first 64. Trigger: a mask (L, 1), S > 64."""
    if mask is not None and mask.shape[-1] == 1 and k.shape[-2] > 64:
        mask = np.repeat(mask, k.shape[-2], axis=-1)
        mask[..., 64:] = mask.dtype == np.bool_
    return _right(q, k, v, scale, causal, mask)


def merge_by_trailing_axes(out_a, lse_a, out_b, lse_b):
    """Weights are lined up with the columns of out where that can be. Trigger: as many columns as queries."""
    out, lse = _core.merge(out_a, lse_a, out_b, lse_b)
    if out.ndim > 1 and out.shape[-1] == out.shape[-2]:
        turned = _core.merge(_core.t(out_a), lse_a, _core.t(out_b), lse_b)[0]
        out = np.ascontiguousarray(_core.t(turned))
    return out, lse
