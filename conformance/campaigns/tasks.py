"""The tasks that campaigns may have: those of softcert by name, and those of others by their place."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from softcert.conformance.campaigns.checking import CHECK
from softcert.conformance.campaigns.task import Task
from softcert.conformance.hunting.islands import SEARCH
from softcert.conformance.model import RequestError
from softcert.conformance.proofs.proof import PROOF

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (CHECK, PROOF, SEARCH)})


def find_task(name: str) -> Task:
    """Return the task of a name of `TASKS`, or of `package.module:NAME`.

    Raises
    ------
    RequestError : there is none.
    """
    if name in TASKS:
        return TASKS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise RequestError(
            f"there is no task {name!r}; the tasks are {', '.join(TASKS)}, or package.module:NAME of your own"
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(f"the task {name!r} cannot be loaded: {error}") from error
    if not isinstance(found, Task):
        raise RequestError(f"{name!r} is no task but a {type(found).__name__}")
    return found
