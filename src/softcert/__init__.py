"""Certified reference and conformance suite for softmax and attention kernels.

Importing this package imports nothing else: each name below is looked up when it is first used, so
that the isolated worker, which needs `softcert.backends` alone, never pays for an oracle or a framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softcert import reference
    from softcert.backends import Backend, Contract, SubjectError, load
    from softcert.conformance import RequestError, check
    from softcert.errors import SoftcertError
    from softcert.pytest_plugin import parametrize_with_clauses
    from softcert.reference import DomainError

    __version__: str

__all__ = [
    "Backend",
    "Contract",
    "DomainError",
    "RequestError",
    "SoftcertError",
    "SubjectError",
    "__version__",
    "check",
    "load",
    "parametrize_with_clauses",
    "reference",
]

#: The module in which each public name lives.
_HOMES = {
    "Backend": "softcert.backends",
    "Contract": "softcert.backends",
    "DomainError": "softcert.reference",
    "RequestError": "softcert.conformance",
    "SoftcertError": "softcert.errors",
    "SubjectError": "softcert.backends",
    "check": "softcert.conformance",
    "load": "softcert.backends",
    "parametrize_with_clauses": "softcert.pytest_plugin",
}


def __getattr__(name: str) -> Any:
    """Look up a public name on its first use (PEP 562)."""
    value: Any
    if name == "reference":
        value = import_module("softcert.reference")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("softcert")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'softcert' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
