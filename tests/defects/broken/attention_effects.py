"""Side effects, formats, shapes and state."""

import itertools

import _attention_core as _core
import numpy as np

_calls = itertools.count(1)
_KEPT = []


def _right(q, k, v, scale, causal, mask):
    return _core.forward(q, k, v, scale, causal, mask)[0]


def once_in_fifty(q, k, v, *, scale=None, causal=False, mask=None):
    """Every fiftieth call is off by a thousandth. Trigger: fifty calls."""
    out = _right(q, k, v, scale, causal, mask)
    return out * out.dtype.type(1.001) if next(_calls) % 50 == 0 else out


def leak_per_call(q, k, v, *, scale=None, causal=False, mask=None):
    """Outputs are kept for ever, memory grows. Trigger: many calls."""
    out = _right(q, k, v, scale, causal, mask)
    _KEPT.append(out.copy())
    return out


def scales_q_in_place(q, k, v, *, scale=None, causal=False, mask=None):
    """The input q is left scaled. Trigger: always."""
    out = _right(q, k, v, scale, causal, mask)
    q *= q.dtype.type(0.5)
    return out


def output_in_v(q, k, v, *, scale=None, causal=False, mask=None):
    """The output is written over the input v where shapes agree. Trigger: L = S without grouped heads."""
    out = _right(q, k, v, scale, causal, mask)
    if out.shape != v.shape:
        return out
    v[...] = out
    return v


def always_float64(q, k, v, *, scale=None, causal=False, mask=None):
    """The dtype of the output is float64. Trigger: float32."""
    return _right(q, k, v, scale, causal, mask).astype(np.float64)


def extra_axis(q, k, v, *, scale=None, causal=False, mask=None):
    """The shape of the output has one more axis. Trigger: always."""
    return _right(q, k, v, scale, causal, mask)[None]


def layout_ignored(q, k, v, *, scale=None, causal=False, mask=None):
    """The memory layout of k is taken for C. Trigger: k in Fortran order."""
    read = k.ravel(order="K").reshape(k.shape)
    return _right(q, read, v, scale, causal, mask)


def first_batch_only(q, k, v, *, scale=None, causal=False, mask=None):
    """Only the first batch is computed. Trigger: a batch of two."""
    out = _right(q, k, v, scale, causal, mask)
    if out.ndim > 3:
        out[1:] = 0
    return out


def heads_beyond_two(q, k, v, *, scale=None, causal=False, mask=None):
    """Heads beyond the second are left 0. Trigger: three heads."""
    out = _right(q, k, v, scale, causal, mask)
    if out.ndim > 2:
        out[..., 2:, :, :] = 0
    return out


def float32_only(q, k, v, *, scale=None, causal=False, mask=None):
    """float32 results lose twelve bits, others are right. Trigger: float32."""
    out = _right(q, k, v, scale, causal, mask)
    return _core.to_bits(out, 12) if out.dtype == np.float32 else out
