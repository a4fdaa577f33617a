"""Gradients and merges."""

import itertools

import _attention_core as _core
import numpy as np

_calls = itertools.count(1)
_deltas = {}

# D is forgotten.
delta_forgotten = _core.make_vjp(delta=lambda g, o: 0 * _core.row_dot(g, o))

# D is that of the row before.
delta_of_wrong_row = _core.make_vjp(delta=lambda g, o: np.roll(_core.row_dot(g, o), 1, axis=-2))

# D is added.
delta_added = _core.make_vjp(ds=lambda p, dp, d: p * (dp + d))

# dP has the wrong sign.
dp_negated = _core.make_vjp(dp=lambda g, v: -_core.dot(g, v))

# dq lacks its scale.
dq_without_scale = _core.make_vjp(dq_of=lambda ds, k, scale, h: _core.product(ds, k, h))

# dk lacks its scale.
dk_without_scale = _core.make_vjp(dk_of=lambda ds, q, scale: _core.t(ds) @ q)

# Causal is ignored in the backward pass.
no_causal = _core.make_vjp(visible=lambda i, j, d: (j <= j) & (i <= i))

# Causal is aligned top-left in the backward pass.
causal_top_left_backward = _core.make_vjp(visible=lambda i, j, d: j <= i)

# Hidden scores and the lse of empty rows are -1e4 in the backward pass.
sentinel_backward = _core.make_vjp(
    keep=lambda s, h: np.where(h, s.dtype.type(-1e4), s),
    weights=lambda s, lse: np.exp(s - np.maximum(lse, s.dtype.type(-1e4))),
)

# Rows that see nothing give NaN.
nan_for_empty_rows = _core.make_vjp(weights=lambda s, lse: np.exp(s - lse))

# lse is not used.
lse_not_used = _core.make_vjp(weights=lambda s, lse: np.exp(s) / 2 + 0 * lse)

# Weights for dv are held in float16.
dv_in_float16 = _core.make_vjp(for_dv=lambda p: p.astype(np.float16).astype(p.dtype))

# dk takes the first query head of a group only.
grouped_keys_not_summed = _core.make_vjp(
    gather_k=lambda a, k: a if a.ndim < 3 else a[..., :: a.shape[-3] // k.shape[-3], :, :]
)

# dv takes the first query head of a group only.
grouped_values_not_summed = _core.make_vjp(
    gather_v=lambda a, k: a if a.ndim < 3 else a[..., :: a.shape[-3] // k.shape[-3], :, :]
)

# dv is doubled if S % 16 is 3.
padded_key_in_dv = _core.make_vjp(dv_of=lambda p, g: _core.t(p) @ g * (1 + (p.shape[-1] % 16 == 3)))

# dP is divided by the row sum once more.
dp_normalized_again = _core.make_vjp(ds=lambda p, dp, d: p * (dp * p.max(axis=-1, keepdims=True) - d))

# lse is taken without its maximum.
lse_without_max = _core.make_vjp(
    weights=lambda s, lse: _core.weights_from_lse(s, np.where(np.isneginf(lse), lse, lse - _core.row_max(s)))
)


def _padding_overflows(ds, k, scale, hide, lse):
    padded = np.exp(0 - np.where(np.isneginf(lse), 0, lse)) * 0 if k.shape[-2] % 128 == 64 else 0
    return _core.product(ds, k, hide) * scale + padded


def padded_keys_score_zero_backward(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Keys that pad a tile of 128 score 0: exp(0 - lse) * 0 is NaN in dq. Trigger: S % 128 == 64, low lse."""
    last = lse.astype(_core.wide(q.dtype))[..., None]
    return _core.backward(
        q,
        k,
        v,
        out,
        lse,
        dout,
        scale,
        causal,
        mask,
        dq_of=lambda ds, kw, f, h: _padding_overflows(ds, kw, f, h, last),
    )


# The weights of a single query are exp(s) / exp(lse).
single_query_unshifted = _core.make_vjp(
    weights=lambda s, lse: np.exp(s) / np.exp(lse) if s.shape[-2] == 1 else _core.weights_from_lse(s, lse)
)

# One query with one key gives 0 / 0 in dq.
lone_key_nan = _core.make_vjp(
    dq_of=lambda ds, k, scale, h: (
        _core.product(ds, k, h) * scale * (ds / ds if ds.shape[-2:] == (1, 1) else 1)
    )
)


def layout_of_dout_ignored(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """The memory layout of dout is taken for C. Trigger: dout in Fortran order."""
    read = dout.ravel(order="K").reshape(dout.shape)
    return _core.backward(q, k, v, out, lse, read, scale, causal, mask)


def order_of_dq_changes(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """dq is summed in an order that changes from call to call, as atomics do. Trigger: two calls."""
    order = np.random.default_rng(next(_calls)).permutation(k.shape[-2])

    def shuffled(ds, kw, f, hide):
        total = np.zeros((*ds.shape[:-1], kw.shape[-1]), ds.dtype)
        for j in order:
            total += ds[..., j, None] * kw[..., j, None, :]
        return total * f

    return _core.backward(q, k, v, out, lse, dout, scale, causal, mask, dq_of=shuffled)


def delta_of_the_first_call(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """D of the first call of this shape is used for ever. Trigger: a second call."""

    def stale(g, o):
        return _deltas.setdefault((g.shape, g.dtype), _core.row_dot(g, o))

    return _core.backward(q, k, v, out, lse, dout, scale, causal, mask, delta=stale)


def gradients_beyond_65535(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """dk of more batches than the second axis of a grid has room for is left out. Trigger: more of them."""
    dq, dk, dv = _core.backward(q, k, v, out, lse, dout, scale, causal, mask)
    if q.ndim > 2:
        dk[65535:] = 0
    return dq, dk, dv


# lse is the larger of the two.
lse_of_b_ignored = _core.make_merge(lse=lambda m, n: m)

# No maximum is subtracted.
no_max_in_merge = _core.make_merge(reference=lambda a, b: 0 * np.where(np.isneginf(a), 0, a))

# Both parts weigh the same.
equal_weights = _core.make_merge(exp=lambda x: np.where(np.isneginf(x), 0, 1).astype(x.dtype))

# Two empty parts give NaN.
two_empties_nan = _core.make_merge(blend=lambda a, wa, b, wb, n: (a * wa + b * wb) / n)

# The second part's weight is not divided.
asymmetric = _core.make_merge(blend=lambda a, wa, b, wb, n: a + (b - a) * wb)
