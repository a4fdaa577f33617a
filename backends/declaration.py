"""What a subject says of itself: its name, dtypes, contract, and what its kind of subject may add."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, OPS
from softcert.errors import SubjectError

#: What a subject's module may say of itself, in a mapping of this name.
DECLARATION = "SOFTCERT"
#: What every subject may declare.
_COMMON = ("contract", "dtypes", "name")
#: What a module may declare; its functions tell the rest.
OF_MODULES = (*_COMMON, "device")
#: What a library of another language may declare.
OF_LIBRARIES = (*_COMMON, "beta", "versions")
#: What a command says when it is asked.
OF_COMMANDS = (*OF_LIBRARIES, "ops")


def declared_by(module: ModuleType, place: str) -> dict[str, Any]:
    """Fields of a `Backend` that a module declares, and the device of its functions.

    Raises
    ------
    SubjectError : the declaration cannot be understood.
    """
    declared = getattr(module, DECLARATION, None)
    where = f"{DECLARATION} in {place}"
    return {} if declared is None else read_declaration(declared, where, OF_MODULES)


def read_declaration(declared: object, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a `Backend` from a mapping.

    Parameters
    ----------
    where : what the mapping is, for messages. known : the entries that it may have.

    Raises
    ------
    SubjectError : no mapping, an entry that is unknown, or a value that an entry cannot have.
    """
    if not isinstance(declared, Mapping):
        raise SubjectError(f"{where} is {type(declared).__name__}, not a mapping")
    unknown = sorted(str(key) for key in declared if key not in known)
    if unknown:
        raise SubjectError(f"{where} has an unknown entry {unknown[0]!r}; it can hold {', '.join(known)}")
    return {name: _READERS[name](declared[name], where) for name in known if name in declared}


def _names_of(kind: str, known: tuple[str, ...]) -> Callable[[object, str], tuple[str, ...]]:
    def read(names: object, where: str) -> tuple[str, ...]:
        if not isinstance(names, (list, tuple)) or not names:
            raise SubjectError(f"{kind}s of {where} is not a list of {kind} names")
        for name in names:
            if name not in known:
                raise SubjectError(f"{kind}s of {where} names {name!r}; the {kind}s are {', '.join(known)}")
        return tuple(names)

    return read


def _contract(declared: object, where: str) -> Contract:
    if isinstance(declared, Contract):
        return declared
    if not isinstance(declared, Mapping):
        raise SubjectError(f"contract of {where} is not a mapping")
    try:
        return Contract.from_mapping(declared)
    except SubjectError as error:
        raise SubjectError(f"contract of {where}: {error}") from None


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise SubjectError(f"beta of {where} has to be true or false")
    return value


def _device(value: object, where: str) -> str:
    """A device of PyTorch's that is there."""
    try:
        import torch

        made: Any = torch.empty
        made(0, device=value)
    except Exception as error:  # noqa: BLE001 - each device is missed in a way of its own
        words = str(error).partition("\n")[0]
        raise SubjectError(f"device {value!r} of {where} is none of PyTorch's here: {words}") from None
    return str(value)


def _versions(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise SubjectError(f"versions of {where} is not a mapping")
    return {str(name): str(version) for name, version in value.items()}


_READERS: Mapping[str, Callable[[object, str], Any]] = MappingProxyType(
    {
        "beta": _switch,
        "contract": _contract,
        "device": _device,
        "dtypes": _names_of("dtype", DTYPES),
        "name": lambda value, _: str(value),
        "ops": _names_of("op", OPS),
        "versions": _versions,
    }
)


def versions_used(module: ModuleType) -> dict[str, str]:
    """Versions of the libraries that a module uses, as far as its names show."""
    modules = [module, *(value for value in vars(module).values() if isinstance(value, ModuleType))]
    roots = {str(m.__name__).partition(".")[0] for m in modules}
    found: dict[str, str] = {}
    for root in sorted(roots):
        version = getattr(sys.modules.get(root), "__version__", None)
        if isinstance(version, str) and root != "softcert" and root not in sys.stdlib_module_names:
            found[root] = version
    return found
