"""Kernels that keep every bound and err to one side."""

import _attention_core as _core
import numpy as np

# Weights are cut to bfloat16 in place of rounded.
weights_truncated = _core.make_attention(stored=lambda e: _core.to_bits(e, 8, np.trunc))

# exp is always 2^-17 too high.
exp_a_little_high = _core.make_lse(exp=lambda x: np.exp(x) * x.dtype.type(1 + 2.0**-17))

# Weights made anew for dv are cut to bfloat16.
gradient_weights_truncated = _core.make_vjp(for_dv=lambda p: _core.to_bits(p, 8, np.trunc))

# The sum of weighted values is cut to bfloat16 before it is divided.
output_truncated_before_division = _core.make_attention(
    mix=lambda e, v, hide: _core.to_bits(_core.product(e, v, hide), 8, np.trunc)
)

# The unnormalized output is stored in bfloat16, correctly rounded, before it is divided.
output_stored_before_division = _core.make_attention(
    mix=lambda e, v, hide: _core.to_bits(_core.product(e, v, hide), 8)
)
