"""Kernels over torch with precision, axis, aliasing and processor-mode mistakes."""

import numpy as np
import torch


def _tensor(x):
    return torch.from_numpy(np.array(x))


def bfloat16_inside(x):
    """Autocast to bfloat16 is left on."""
    return torch.softmax(_tensor(x).bfloat16(), -1).to(_tensor(x).dtype).numpy()


def half_inside(x, dim=-1):
    """Computed in half precision."""
    t = _tensor(x)
    return torch.softmax(t.half(), dim).to(t.dtype).numpy()


def float_inside(x, dim=-1):
    """A double row is computed with .float()."""
    t = _tensor(x)
    return torch.softmax(t.float(), dim).to(t.dtype).numpy()


def first_dimension(x):
    """dim=0 whatever the shape."""
    return torch.softmax(_tensor(x), 0).numpy() if x.ndim > 1 else torch.softmax(_tensor(x), -1).numpy()


def works_in_shared_memory(x):
    """sub_ on a tensor that shares the caller's memory."""
    t = torch.from_numpy(x) if all(s >= 0 for s in x.strides) else _tensor(x)
    t.sub_(t.amax(-1, keepdim=True)) if t.numel() else t
    return torch.softmax(t, -1).numpy()


def leaves_flush_to_zero(x):
    """The processor is left flushing subnormals to zero."""
    torch.set_flush_denormal(True)
    return torch.softmax(_tensor(x), -1).numpy()


def safe_softmax(x):
    """torch._safe_softmax: a row of -inf gives zeros, undeclared."""
    return torch._safe_softmax(_tensor(x), -1).numpy()


def log_of_softmax(x, dim=-1):
    """torch.log of torch.softmax."""
    return torch.log(torch.softmax(_tensor(x), dim)).numpy()


def lse_over_all(x):
    """logsumexp over every dimension but the first."""
    t = _tensor(x)
    return torch.logsumexp(t, tuple(range(min(1, t.ndim - 1), t.ndim))).numpy()


def vjp_through_float(y, dy):
    """The sum of a double row is made in float."""
    a, b = _tensor(y), _tensor(dy)
    return (a * (b - (a * b).float().sum(-1, keepdim=True).to(a.dtype))).numpy()
