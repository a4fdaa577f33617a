"""PyTorch's softmax kernels, forward and backward, called as autograd calls them.

Of 16-bit inputs the kernels sum in float32 but round intermediate results to the input's format: a
float16 log_softmax near 0 was seen 6.7 ulp off where float32 throughout gives half an ulp (torch 2.13).
So the contract says no more than the default does.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.ops import DTYPES
from softcert.backends.torch_losses import cross_entropy_ops
from softcert.backends.torch_sampling import gumbel_softmax
from softcert.backends.types import Array, Backend, Kernel


def torch_backend() -> Backend:
    """Backend `torch`: the kernels of the CPU, of softmax, of cross-entropy and of Gumbel-softmax."""
    import torch

    return Backend(
        name="torch",
        ops={**softmax_ops("cpu"), **cross_entropy_ops("cpu"), "gumbel_softmax": gumbel_softmax},
        dtypes=DTYPES,
        contract=Contract(),
        versions={"torch": torch.__version__},
    )


def softmax_ops(device: str) -> dict[str, Kernel]:
    """torch.softmax, log_softmax and logsumexp, and the softmax backward kernel, on a device."""
    import torch

    def there(array: Array) -> Tensor:
        return moved(to_torch(array), device)

    def softmax(x: Array, axis: int = -1) -> Array:
        return from_torch(torch.softmax(there(x), dim=axis))

    def log_softmax(x: Array, axis: int = -1) -> Array:
        return from_torch(torch.log_softmax(there(x), dim=axis))

    def logsumexp(x: Array, axis: int = -1) -> Array:
        return from_torch(torch.logsumexp(there(x), dim=axis))

    def softmax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
        output, cotangent = there(y), there(dy)
        backward = torch.ops.aten._softmax_backward_data  # noqa: SLF001 - the kernel that autograd runs
        return from_torch(backward(cotangent, output, axis, output.dtype))

    return {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_vjp": softmax_vjp,
        # The Jacobian diag(y) - y y^T is symmetric, so the backward kernel is the forward tangent too.
        "softmax_jvp": softmax_vjp,
    }
