"""Whether a process may be forked to serve a backend."""

from __future__ import annotations

import sys

from softcert.backends.array_kinds import preferred_kind
from softcert.backends.types import Backend
from softcert.errors import SubjectError


def require_forkable(backend: Backend) -> None:
    """Make sure that a fork of this process could call the backend's kernels.

    Raises
    ------
    SubjectError : they are jax's, whose threads run already and do not exist in a fork, which would wait
        for them for ever.
    """
    if _jax_runs() and any(_kind(kernel) == "jax.numpy" for kernel in backend.ops.values()):
        raise SubjectError(
            f"{backend.name} cannot be judged in a fork, since jax has started its threads in this process; "
            "give it as module:function or file.py:function, which gets a process of its own"
        )


def _kind(kernel: object) -> str:
    adapted = getattr(kernel, "first_kind", None)
    return adapted if adapted is not None else preferred_kind(kernel) if callable(kernel) else ""


def _jax_runs() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    # Not public, and not to be missed where it is gone: then the call ends as a hang.
    asked = getattr(bridge, "backends_are_initialized", None)
    return asked is not None and bool(asked())
