"""How scores are made and scaled."""

import _attention_core as _core
import numpy as np

# The scale is one per cent off.
scale_off_by_a_hundredth = _core.make_attention(scale_of=lambda s, q, k, v: _core.factor(s, q, k, v) * 1.01)

# The default scale is that of Dv.
scale_of_dv = _core.make_attention(scale_of=lambda s, q, k, v: 1 / np.sqrt(v.shape[-1]) if s is None else s)

# The scale is applied to q and to the product.
scale_twice = _core.make_attention(scale_of=lambda s, q, k, v: _core.factor(s, q, k, v) ** 2)

# The scale given is ignored.
scale_given_ignored = _core.make_attention(scale_of=lambda s, q, k, v: _core.default_scale(q, k, v))

# A scale of 0 is taken for none.
scale_zero_is_default = _core.make_attention(scale_of=lambda s, q, k, v: _core.factor(s or None, q, k, v))

# There is no default scale.
scale_missing = _core.make_attention(scale_of=lambda s, q, k, v: 1.0 if s is None else s)

# The default scale lacks its root.
scale_without_root = _core.make_attention(scale_of=lambda s, q, k, v: 1 / q.shape[-1] if s is None else s)

# The sign of the scale is lost.
scale_positive = _core.make_attention(scale_of=lambda s, q, k, v: abs(_core.factor(s, q, k, v)))

# The maximum is that of the products, before a scale that may be negative.
largest_of_products = _core.make_attention(
    score=lambda raw, s, b: (raw * s + b) - s * _core.row_max(raw), top=lambda s: 0 * s[..., :1]
)

# The scale passes through float16.
scale_rounded_to_16_bits = _core.make_attention(
    scale_of=lambda s, q, k, v: np.float16(_core.factor(s, q, k, v))
)

# Features are read in pairs.
last_odd_feature_dropped = _core.make_attention(
    raw=lambda q, k: _core.dot(q[..., : q.shape[-1] // 2 * 2], k[..., : q.shape[-1] // 2 * 2])
)

# Only 64 features are read.
features_beyond_64 = _core.make_attention(raw=lambda q, k: _core.dot(q[..., :64], k[..., :64]))

# Scores are held in float16.
scores_in_float16 = _core.make_attention(raw=lambda q, k: _core.dot(q, k).astype(np.float16).astype(q.dtype))

# Scores are held in bfloat16.
scores_in_bfloat16 = _core.make_attention(raw=lambda q, k: _core.to_bits(_core.dot(q, k), 8))

# Scores saturate at 50.
scores_clamped_at_50 = _core.make_attention(score=lambda raw, s, b: np.minimum(raw * s + b, 50))

# Scores are capped as in Gemma 2.
softcap_left_on = _core.make_attention(score=lambda raw, s, b: 50 * np.tanh((raw * s + b) / 50))

# Very negative scores are scaled twice.
magnitude_of_scores = _core.make_attention(
    score=lambda raw, s, b: np.where(raw < -3, raw * s * s, raw * s) + b
)
