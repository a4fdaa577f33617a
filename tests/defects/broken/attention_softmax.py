"""Maximum, exponential, sum and blocks."""

import _attention_core as _core
import numpy as np


def _coarse(x):
    """exp by a cubic of x / ln 2, its whole part taken out."""
    whole = np.rint(np.maximum(x, -200) / np.log(2)).astype(x.dtype)
    rest = np.maximum(x, -200) - whole * x.dtype.type(np.log(2))
    power = np.exp2(np.where(np.isfinite(x), whole, -np.inf)).astype(x.dtype)
    return (1 + rest * (1 + rest * (0.5 + rest / 6))).astype(x.dtype) * power


# lse is in base 2.
lse_base_two = _core.make_lse(lse=lambda m, n: _core.log_sum(m, n) / np.log(n.dtype.type(2)))

# lse lacks the maximum.
lse_without_max = _core.make_lse(lse=lambda m, n: np.log(n))

# lse is off by ln 2.
lse_off_by_ln2 = _core.make_lse(lse=lambda m, n: _core.log_sum(m, n) + n.dtype.type(np.log(2)))

# lse of a row that sees nothing is +inf.
lse_of_empty_rows_infinite = _core.make_lse(
    lse=lambda m, n: np.where(n == 0, np.inf, _core.log_sum(m, n)).astype(n.dtype)
)

# No maximum is subtracted.
no_max = _core.make_attention(top=lambda s: s.dtype.type(0))

# 0.001 is added to the sum.
epsilon_added = _core.make_attention(total=lambda e: _core.row_sum(e) + e.dtype.type(1e-3))

# Exponents are clamped at -4.
exponent_clamped = _core.make_attention(
    exp=lambda x: np.where(np.isneginf(x), 0, np.exp(np.maximum(x, -4))).astype(x.dtype)
)

# The sum is never divided by.
not_divided = _core.make_attention(divide=lambda acc, n: acc)

# Weights are held in float16.
weights_in_float16 = _core.make_attention(stored=lambda e: e.astype(np.float16).astype(e.dtype))

# Weights are held in bfloat16.
weights_in_bfloat16 = _core.make_attention(stored=lambda e: _core.to_bits(e, 8))

# Weights saturate at 0.9.
weights_saturate = _core.make_attention(stored=lambda e: np.minimum(e, e.dtype.type(0.9)))

# Rows are summed in float16.
sum_in_float16 = _core.make_attention(
    total=lambda e: e.astype(np.float16).sum(axis=-1, keepdims=True, dtype=np.float16).astype(e.dtype)
)

# exp is a cubic raised to the 64th power.
exp_of_degree_three = _core.make_attention(
    exp=lambda x: np.where(x < -20, 0, (1 + x / 64 + (x / 64) ** 2 / 2 + (x / 64) ** 3 / 6) ** 64).astype(
        x.dtype
    )
)

# Weights below exp(-6) come from a cubic.
small_weights_by_a_cubic = _core.make_attention(exp=lambda x: np.where(x > -6, np.exp(x), _coarse(x)))

# Weights below exp(-600) are off by 2^-36.
tiny_weights_rounded = _core.make_attention(exp=lambda x: np.exp(x) * np.where(x < -600, 1 + 2.0**-36, 1))

# A row that sees nothing is NaN.
empty_row_nan = _core.make_attention(divide=lambda acc, n: acc / n)

# The maximum starts at 0 and small weights are flushed.
one_sign_of_scores = _core.make_attention(
    top=lambda s: np.maximum(_core.row_max(s), 0),
    exp=lambda x: np.where(x < -30, 0, np.exp(x)).astype(x.dtype),
)

# The output is truncated to 12 bits.
output_truncated = _core.make_attention(finish=lambda o, d: _core.to_bits(o, 12, np.trunc).astype(d))

# The accumulator is not rescaled.
rescale_of_out_forgotten = _core.make_attention(_core.online, add_out=lambda old, f, new: old + new)

# The sum is not rescaled.
rescale_of_sum_forgotten = _core.make_attention(_core.online, add_sum=lambda old, f, new: old + new)

# The maximum is that of the block, not the running one.
maximum_of_block_only = _core.make_attention(_core.online, maximum=lambda m, own, i: own)

# The partial last block is skipped.
last_block_skipped = _core.make_attention(
    _core.online, starts=lambda s, w: _core.starts_of(s, w)[: max(1, s // w)]
)

# The accumulator and the sum are not rescaled in the last block.
rescale_forgotten_in_last_block = _core.make_attention(
    _core.online, rescale=lambda m, new, last: np.where(last, m.dtype.type(1), _core.rescaling(m, new, last))
)

# exp(m - m) of two maxima that are -inf both is NaN.
leading_hidden_block_nan = _core.make_attention(_core.online, rescale=lambda m, new, last: np.exp(m - new))

# lse comes back as (..., L, H), read as (..., H, L).
lse_of_heads_transposed = _core.make_lse(
    lse=lambda m, n: (
        _core.log_sum(m, n) if n.ndim < 3 else np.swapaxes(_core.log_sum(m, n), -3, -2).reshape(n.shape)
    )
)
