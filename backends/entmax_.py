"""The package `entmax` of the authors of alpha-entmax: exact thresholds for orders 1.5 and 2, else halving.

The derivatives are the package's own backward passes, which work from the output alone. Its bisection takes
no maximum from the logits, so that its error grows with an offset: the contract promises no form.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.types import Array, Backend


def entmax_backend() -> Backend:
    """Backend `entmax`: sparsemax, entmax15, entmax_bisect and their backward passes, on the CPU."""
    import entmax
    import torch
    from entmax.activations import Entmax15Function, SparsemaxFunction
    from entmax.root_finding import EntmaxBisectFunction

    def sparsemax(x: Array, axis: int = -1) -> Array:
        return from_torch(entmax.sparsemax(to_torch(x), dim=axis))

    def of_order(x: Array, axis: int = -1, alpha: float = 1.5) -> Array:
        logits = to_torch(x)
        exact = alpha == 1.5
        found = entmax.entmax15(logits, dim=axis) if exact else entmax.entmax_bisect(logits, alpha, dim=axis)
        return from_torch(found)

    def sparsemax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
        output = to_torch(y)
        size = (output > 0).sum(dim=axis, keepdim=True)
        return _pulled_back(SparsemaxFunction, to_torch(dy), axis, saved_tensors=(size, output))

    def of_order_vjp(y: Array, dy: Array, axis: int = -1, alpha: float = 1.5) -> Array:
        output = to_torch(y)
        function = Entmax15Function if alpha == 1.5 else EntmaxBisectFunction
        order = torch.tensor(alpha, dtype=output.dtype)
        facts = {"saved_tensors": (output,), "alpha": order, "needs_input_grad": (True, False)}
        return _pulled_back(function, to_torch(dy), axis, **facts)

    return Backend(
        name="entmax",
        ops={
            "sparsemax": sparsemax,
            "sparsemax_vjp": sparsemax_vjp,
            "entmax": of_order,
            "entmax_vjp": of_order_vjp,
        },
        dtypes=("float64", "float32"),
        contract=Contract(),
        versions={"entmax": entmax.__version__, "torch": torch.__version__},
    )


def _pulled_back(function: Any, cotangent: Tensor, axis: int, **facts: Any) -> Array:
    """What the backward pass of an autograd function gives, from what its forward pass would have kept."""
    return from_torch(function.backward(SimpleNamespace(dim=axis, **facts), cotangent)[0])
