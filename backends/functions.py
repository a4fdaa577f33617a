"""Functions of Python modules as kernels of the ops."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from softcert.backends import registry
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.adapt_attention import AdaptedAttention
from softcert.backends.array_kinds import ON_DEVICE, preferred_kind
from softcert.backends.ops import ATTENTION_OPS, OPS
from softcert.backends.types import Backend, Kernel
from softcert.errors import SubjectError

#: A longer list of functions says less than its length.
_MOST_LISTED = 12


def from_attribute(module: ModuleType, place: str, attribute: str, op: str | None, subject: str) -> Backend:
    """Backend of what a module holds under an attribute path: a function, or a backend itself.

    Raises
    ------
    SubjectError : there is nothing, the op is not known, or the function cannot be called as it.
    """
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = f" ({place} is a registered backend too)" if place in registry.names() else ""
            there = _functions_there(value, part)
            raise SubjectError(f"{place} has no attribute {attribute!r}{hint}{there}") from None
    if isinstance(value, Backend):
        return value
    last = attribute.rpartition(".")[2]
    chosen = op or (last if last in OPS else None)
    if chosen is None:
        raise SubjectError(f"the op that {subject} computes must be given: one of {', '.join(OPS)}")
    kernel = _adapted(value, chosen, place, attribute)
    return Backend(name=subject, ops={chosen: kernel}, beta=kernel.beta)


def _functions_there(holder: Any, name: str) -> str:
    """Which functions a module or class has of its own, or the nearest of all that it has, as a hint."""
    functions = {
        k: v for k, v in getattr(holder, "__dict__", {}).items() if callable(v) and not k.startswith("_")
    }
    near = get_close_matches(name, functions, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    home = getattr(holder, "__name__", None)
    own = [k for k, v in functions.items() if inspect.isfunction(v) and v.__module__ == home]
    return f"; its functions are {', '.join(own)}" if 0 < len(own) <= _MOST_LISTED else ""


def from_op_names(module: ModuleType, place: str, subject: str) -> Backend:
    """Backend of the functions of a module that carry the names of ops.

    Raises
    ------
    SubjectError : it has none, or one that cannot be called as its op.
    """
    kernels: dict[str, Kernel] = {}
    beta = False
    for op in OPS:
        function = getattr(module, op, None)
        if callable(function):
            kernel = _adapted(function, op, place, op)
            kernels[op] = kernel
            beta = beta or kernel.beta
    if not kernels:
        raise SubjectError(f"{place} has no function called {', '.join(OPS[:-1])} or {OPS[-1]}")
    return Backend(name=subject, ops=kernels, beta=beta)


def adapted(function: Callable[..., Any], op: str, place: str = "") -> AdaptedKernel | AdaptedAttention:
    """Kernel over a function that computes an op.

    Parameters
    ----------
    place : the module or file that holds the function, where that is known.

    Raises
    ------
    SubjectError : it cannot be called as the op.
    """
    kind = preferred_kind(function, place)
    return AdaptedAttention(function, op, kind) if op in ATTENTION_OPS else AdaptedKernel(function, op, kind)


def on_device(kernel: Kernel, device: str) -> Kernel:
    """Kernel over the same function, which is given PyTorch's tensors on a device and nothing else."""
    if isinstance(kernel, (AdaptedKernel, AdaptedAttention)):
        return replace(kernel, first_kind=f"{ON_DEVICE}{device}")
    return kernel


def _adapted(function: object, op: str, place: str, attribute: str) -> AdaptedKernel | AdaptedAttention:
    if not callable(function):
        raise SubjectError(f"{place}:{attribute} is {type(function).__name__}, not a function")
    if inspect.isclass(function):
        raise SubjectError(
            f"{place}:{attribute} is a class; give a function or an instance that can be called"
        )
    try:
        return adapted(function, op, place)
    except SubjectError as error:
        raise SubjectError(f"{place}:{attribute} cannot be called as {op}: {error}") from None
