"""Optax's cross-entropy of integer targets and its gradient by JAX, compiled by XLA for the CPU.

It subtracts the logit of the target from logsumexp, in the format of the logits.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.jax_ import JaxArray, called
from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Backend


def optax_backend() -> Backend:
    """Backend `optax`: optax.losses.softmax_cross_entropy_with_integer_labels, which has no other option."""
    import jax
    import optax

    loss = optax.losses.softmax_cross_entropy_with_integer_labels

    def slopes(x: JaxArray, target: JaxArray, dloss: JaxArray, axis: int) -> JaxArray:
        return jax.vjp(lambda logits: loss(logits, target, axis), x)[1](dloss)[0]

    forward, backward = called(loss, "axis"), called(slopes, "axis")

    def cross_entropy(x: Array, target: Array, axis: int = -1) -> Array:
        losses: Array = forward(x, target, axis=axis)
        return losses

    def cross_entropy_vjp(x: Array, target: Array, dloss: Array, axis: int = -1) -> Array:
        gradient: Array = backward(x, target, dloss, axis=axis)
        return gradient

    return Backend(
        name="optax",
        ops={"cross_entropy": cross_entropy, "cross_entropy_vjp": cross_entropy_vjp},
        dtypes=DTYPES,
        contract=Contract(flush_subnormals=True),
        versions={"optax": optax.__version__, "jax": jax.__version__},
    )
