"""Libraries that only a report page needs, imported when one is made."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from softcert.conformance.model import RequestError


def require(module: str) -> ModuleType:
    """Return a module of the `report` extra.

    Raises
    ------
    RequestError : it is not installed; the message holds the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise RequestError(f"a report page needs {library}: pip install 'softcert[report]'") from error
