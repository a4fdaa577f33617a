"""From a SUBJECT string to a Backend: registered names, modules, files, libraries and commands."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from softcert.backends import command, library, registry
from softcert.backends.contract import Contract, as_contract
from softcert.backends.declaration import declared_by, versions_used
from softcert.backends.functions import from_attribute, from_op_names, on_device
from softcert.backends.modules import import_place
from softcert.backends.ops import OPS
from softcert.backends.rules import shown
from softcert.backends.types import Backend
from softcert.errors import SubjectError

#: What a subject may be, for whoever gave none of them.
FORMS = "a registered name, module:function, file.py:function, a shared library or command:PROGRAM"


def as_subject(subject: object) -> str | Backend | Callable[..., Any]:
    """Subject from what was given: a string, also from a path; a backend; or a function.

    Raises
    ------
    SubjectError : something else.
    """
    given = os.fspath(subject) if isinstance(subject, os.PathLike) else subject
    if inspect.isclass(given):
        raise SubjectError(f"{shown(given)} is a class; give a function or an instance that can be called")
    if isinstance(given, (str, Backend)) or callable(given):
        return given
    raise SubjectError(f"a subject has to be a string, a path, a Backend or a function, not {shown(given)}")


def load(
    subject: str | os.PathLike[str],
    op: str | None = None,
    contract: Contract | Mapping[str, Any] | None = None,
) -> Backend:
    """Backend of a subject.

    Parameters
    ----------
    subject : a registered name; `package.module:function`; `path/to/file.py:function`; a module or
        file, also as a path object, with functions that carry the op names; a shared library with the
        symbols of softcert_backend.h; or `command:PROGRAM ARGUMENTS`, a program that answers frames. A
        function may be any attribute path.
    op : the op that the function computes, where its name does not say; or the one op wanted.
    contract : overrides what the subject declares; a mapping is one of the contract's fields.

    Returns
    -------
    The backend, its functions adapted to `kernel(*operands, axis=..., beta=...) -> ndarray`.

    Raises
    ------
    SubjectError : it cannot be found, imported or adapted; one sentence says why.

    Notes
    -----
    A module may declare itself: `SOFTCERT = {"dtypes": [...], "contract": {...}, "name": "..."}`, and with
    `"device": "cuda"` that its functions take PyTorch's tensors there.
    The subject's code is imported into this process; `Worker` does it in one of its own.
    """
    if op is not None and op not in OPS:
        raise SubjectError(f"op {op!r} is unknown; the ops are {', '.join(OPS)}")
    spec, promised = as_subject(subject), as_contract(contract)
    if not isinstance(spec, str):
        raise SubjectError(f"what is loaded has to be a string or a path, not {shown(spec)}")
    backend = _find(spec, op)
    return backend if promised is None else replace(backend, contract=promised)


def _find(subject: str, op: str | None) -> Backend:
    if not subject.strip():
        raise SubjectError(f"the subject is empty; give {FORMS}")
    if subject.startswith(command.PREFIX):
        return _only(command.load_command(subject), op)
    place, _, attribute = subject.rpartition(":") if ":" in subject else (subject, "", "")
    if not attribute and subject in registry.names():
        return _only(registry.resolve(subject), op)
    if not place:
        raise SubjectError(f"subject {subject!r} names no module or file before the colon")
    if subject.endswith(":"):
        raise SubjectError(f"subject {subject!r} names no function after the colon")
    if ":" in place and not Path(place).exists():
        raise SubjectError(
            f"subject {subject!r} has two colons; give module:function or file.py:function, "
            "and a method as file.py:Class.method"
        )
    if library.is_library(place):
        return _only(library.load_library(place, subject), attribute or op)
    return _of_module(subject, place, attribute, op)


def _of_module(subject: str, place: str, attribute: str, op: str | None) -> Backend:
    module = import_place(place)
    declared = declared_by(module, place)
    device = declared.pop("device", None)
    if attribute:
        backend = from_attribute(module, place, attribute, op, subject)
    else:
        backend = from_op_names(module, place, subject)
    if device is not None:
        backend = replace(backend, ops={name: on_device(k, device) for name, k in backend.ops.items()})
    assumed = "dtypes" not in declared
    told = {"versions": versions_used(module), "assumed": assumed, **declared}
    return _only(replace(backend, **told), op)


def _only(backend: Backend, op: str | None) -> Backend:
    if op is None:
        return backend
    if op not in backend.ops:
        raise SubjectError(f"backend {backend.name!r} has no {op}; it has {', '.join(sorted(backend.ops))}")
    return replace(backend, ops={op: backend.ops[op]}, beta=backend.beta and op == "softmax")
