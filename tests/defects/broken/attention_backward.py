"""Gradients and merges."""

import _attention_core as _core
import numpy as np

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
