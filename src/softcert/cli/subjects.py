"""The subjects of a command that names none: every backend that runs here."""

from __future__ import annotations

from collections.abc import Sequence

#: Ops that are timed where none is named, of those that there are.
TIMED = ("softmax", "attention", "attention_vjp")


def all_that_run(ops: Sequence[str]) -> tuple[str, ...]:
    """Names of the backends that run here and, where ops are asked for, have one of them; no slow one."""
    from softcert.backends import available, is_slow

    names = tuple(name for name, state in available().items() if state.runs and not is_slow(name))
    return tuple(name for name in names if not ops or set(ops) & set(ops_of(name)))


def ops_of(name: str) -> tuple[str, ...]:
    """Ops of a registered backend; none of one that cannot be loaded."""
    from softcert.backends import SubjectError, Worker

    try:
        with Worker(name) as worker:
            return tuple(worker.description.ops)
    except SubjectError:
        return ()
