"""Kinds of arrays that a function may want: NumPy's, PyTorch's, lists, or those of an array API namespace.

Every kind but three is called by the module whose arrays it means, `jax.numpy` for one. PyTorch's may lie on
a device, `torch:cuda`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, MappingProxyType, ModuleType
from typing import Any

#: Libraries whose arrays belong to a namespace of another name than their own.
_NAMESPACES: Mapping[str, str] = MappingProxyType(
    {"jax": "jax.numpy", "jaxlib": "jax.numpy", "cupyx": "cupy"}
)
#: What the kind of tensors on a device begins with.
ON_DEVICE = "torch:"
#: Kinds that a function may want although nothing in it says so: it imports them when it is called.
_GUESSED = ("torch", "jax.numpy", "cupy")


def array_kinds(first: str = "") -> Iterator[str]:
    """Kinds of arrays to offer a function, the likeliest first; lists are left to the caller.

    Parameters
    ----------
    first : what the function more likely wants than NumPy's arrays, as `preferred_kind` says. A device is
        declared: other kinds would make it another kernel, and are not offered.
    """
    if first:
        yield first
    if first.startswith(ON_DEVICE):
        return
    yield "numpy"
    # Asked after NumPy was tried, since a function may import its library only when it is called.
    yield from (kind for kind in _GUESSED if kind != first and kind in sys.modules)
    # Kernels for a GPU refuse the tensors of a CPU; those that take both are judged on the CPU.
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        yield f"{ON_DEVICE}cuda"


def preferred_kind(function: Callable[..., Any], place: str = "") -> str:
    """Which arrays a function looks to want, empty for NumPy's; the first call still tries others.

    Parameters
    ----------
    place : the module or file that the subject names.
    """
    while isinstance(function, functools.partial):
        function = function.func
    homes = (str(getattr(function, "__module__", "")), type(function).__module__, place)
    of_homes = _kinds_of(homes)
    if of_homes:
        return of_homes[0]
    plain = inspect.unwrap(function)
    code, scope = getattr(plain, "__code__", None), getattr(plain, "__globals__", {})
    if "torch" in sys.modules and _speaks_torch(plain, code):
        return "torch"
    modules = {name: value.__name__ for name, value in scope.items() if isinstance(value, ModuleType)}
    used = [modules[name] for name in _names_in(code) if name in modules] if code is not None else []
    for names in (used, modules.values()):
        kinds = _kinds_of(names)
        if any(_root(name) == "numpy" for name in names):
            return ""
        if kinds:
            return kinds[0]
    return ""


def _speaks_torch(function: Callable[..., Any], code: CodeType | None) -> bool:
    annotations = getattr(function, "__annotations__", {})
    if any("Tensor" in str(annotation) for annotation in annotations.values()):
        return True
    return code is not None and "dim" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _kinds_of(modules: Iterable[str]) -> list[str]:
    """Kinds of arrays of those modules that have one and are loaded; NumPy's is none of them."""
    roots = (_root(name) for name in modules)
    kinds = dict.fromkeys(_NAMESPACES.get(root, root) for root in roots)
    return [kind for kind in kinds if kind == "torch" or _is_namespace(kind)]


def _is_namespace(name: str) -> bool:
    """Whether a loaded module makes arrays as the array API standard has it."""
    module = sys.modules.get(name)
    makers = ("asarray", "from_dlpack")
    return name != "numpy" and all(callable(getattr(module, maker, None)) for maker in makers)


def _names_in(code: CodeType) -> Iterator[str]:
    """Global names that a function and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _root(name: str) -> str:
    return name.partition(".")[0]
