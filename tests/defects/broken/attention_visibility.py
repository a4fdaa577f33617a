"""Who sees whom: tiles, causal masks, masks and heads."""

import _attention_core as _core
import numpy as np

# A key that pads the last tile of sixteen weighs exp(-1) of the largest, whatever the scores.
padded_key_scores_zero = _core.make_attention(
    hide=_core.hidden,
    total=lambda e: _core.row_sum(e) + (e.shape[-1] % 16 != 0) * np.exp(-1.0).astype(e.dtype),
)

# The last key is not summed if S % 16 is 3.
residue_three_of_sixteen = _core.make_attention(
    total=lambda e: _core.row_sum(e[..., : e.shape[-1] - (e.shape[-1] % 16 == 3)])
)

# A lone key in the last tile of 64 is dropped.
residue_one_of_64 = _core.make_attention(
    keep=lambda s, h: _core.kept(
        s, h | ((s.shape[-1] % 64 == 1) & (s.shape[-1] > 1) & (np.arange(s.shape[-1]) == s.shape[-1] - 1))
    )
)

# Hidden scores are -5e4.
sentinel_50000 = _core.make_attention(keep=lambda s, h: np.where(h, s.dtype.type(-5e4), s))

# Hidden scores are -1e4.
sentinel_10000 = _core.make_attention(keep=lambda s, h: np.where(h, s.dtype.type(-1e4), s))

# Hidden scores are -1e30.
sentinel_1e30 = _core.make_attention(keep=lambda s, h: np.where(h, s.dtype.type(-1e30), s))

# Causal is off by one: a query sees one key of the future.
causal_one_too_many = _core.make_attention(visible=lambda i, j, d: j <= i + d + 1)

# Causal is off by one: the diagonal is not seen.
causal_one_too_few = _core.make_attention(visible=lambda i, j, d: j <= i + d - 1)

# Causal is aligned top-left.
causal_top_left = _core.make_attention(visible=lambda i, j, d: j <= i)

# Causal is ignored where L != S.
causal_ignored_if_not_square = _core.make_attention(visible=lambda i, j, d: (j <= i) | (d != 0))

# The causal shift has the wrong sign.
causal_shift_negated = _core.make_attention(visible=lambda i, j, d: j <= i - d)

# Causal holds for tiles of sixteen only.
causal_by_tiles_of_16 = _core.make_attention(visible=lambda i, j, d: j // 16 <= (i + d) // 16)

# Causal is ignored.
causal_ignored = _core.make_attention(visible=lambda i, j, d: (j <= j) & (i <= i))

# Causal drops the first key.
first_key_hidden_beside_causal = _core.make_attention(visible=lambda i, j, d: (j <= i + d) & (j > 0))

# A negative causal shift is taken for 0.
causal_shift_clamped = _core.make_attention(visible=lambda i, j, d: j <= i + max(d, 0))

# True hides.
mask_inverted = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c, ~m if m is not None and m.dtype == bool else m, f)
)

# The last query ignores all masks.
mask_ignored_in_last_row = _core.make_attention(
    hide=lambda n, s, c, m, f: (
        _core.hidden(n, s, c, m, f) & ~((np.arange(n)[:, None] == n - 1) & (m is not None))
    )
)

# Masks hide nothing.
mask_ignored = _core.make_attention(hide=lambda n, s, c, m, f: _core.hidden(n, s, c, None, f))

# The mask is ignored where causal is asked for.
mask_ignored_beside_causal = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c, None if c else m, f)
)

# Causal is ignored where there is a mask.
causal_ignored_beside_mask = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c and m is None, m, f)
)

# All queries share the mask of the first.
mask_of_first_query_for_all = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c, None if m is None else m[..., :1, :], f)
)

# All heads share the mask of the first.
mask_of_first_head_for_all = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c, m if m is None or m.ndim < 3 else m[..., :1, :, :], f)
)

# The batch stride of the mask is 0.
mask_of_first_batch_for_all = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(n, s, c, m if m is None or m.ndim < 4 else m[:1], f)
)

# A square mask is read transposed.
mask_transposed_if_square = _core.make_attention(
    hide=lambda n, s, c, m, f: _core.hidden(
        n, s, c, _core.t(m) if m is not None and n == s and m.shape[-2:] == (n, s) else m, f
    )
)

# The additive mask is added before scaling.
mask_before_scale = _core.make_attention(score=lambda raw, scale, bias: (raw + bias) * scale)

# The additive mask is scaled.
mask_scaled_twice = _core.make_attention(score=lambda raw, scale, bias: raw * scale + bias * scale * scale)

# An additive mask only hides.
mask_bias_ignored = _core.make_attention(bias=lambda m, w: w.type(0))

# The additive mask is subtracted.
mask_bias_negated = _core.make_attention(score=lambda raw, scale, bias: raw * scale - bias)

# Query head h reads key head h % Hk.
group_modulo = _core.make_attention(group=lambda h, g: np.arange(h) % g)

# Key heads are read in reverse.
group_reversed = _core.make_attention(group=lambda h, g: g - 1 - np.arange(h) // (h // g))

# All query heads read the first key head.
group_first_only = _core.make_attention(group=lambda h, g: np.zeros(h, int))

# Only two key heads are read.
group_beyond_two_clamped = _core.make_attention(group=lambda h, g: np.minimum(np.arange(h) // (h // g), 1))

# The first key is never seen.
first_key_dropped = _core.make_attention(keep=lambda s, h: _core.kept(s, h | (np.arange(s.shape[-1]) == 0)))

# The last key is never seen.
last_key_dropped = _core.make_attention(
    keep=lambda s, h: _core.kept(s, h | (np.arange(s.shape[-1]) == s.shape[-1] - 1))
)

# Keys beyond 1024 are not read.
keys_beyond_1024 = _core.make_attention(keep=lambda s, h: _core.kept(s, h | (np.arange(s.shape[-1]) >= 1024)))


# Causal limits of grouped heads divide the row by their ratio, though the rows are not packed.
def causal_row_divided_by_ratio(q, k, v, *, scale=None, causal=False, mask=None):
    """The causal limit of a grouped head is that of the query at i // ratio. Trigger: grouped, causal."""
    ratio = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    return _core.forward(
        q, k, v, scale, causal, mask, visible=lambda i, j, d: j <= i // ratio + d if ratio > 1 else j <= i + d
    )[0]


# NaN in values that are hidden reaches the output.
hidden_garbage_leaks = _core.make_attention(mix=lambda p, v, h: p @ v)


def masks_of_a_billion_hide(q, k, v, *, scale=None, causal=False, mask=None):
    """Masks that add -1e9 or less hide. Trigger: a query to all of whose keys such a number is added."""
    if mask is not None and mask.dtype != bool:
        mask = np.where(mask.astype(np.float64) <= -1e9, -np.inf, mask.astype(np.float64))
    return _core.forward(q, k, v, scale, causal, mask)[0]
