"""How every error becomes one sentence on stderr and an exit status."""

from __future__ import annotations

from pathlib import Path

import click

from softcert.cli.signals import Terminated
from softcert.cli.streams import is_unwritable
from softcert.errors import OracleError, RequestError, SubjectError, UnfinishedError

#: Exit statuses: the request is wrong; softcert itself failed.
REQUEST, INTERNAL = 2, 3
#: As a shell gives them for the signals SIGINT, SIGPIPE and SIGTERM.
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143

ISSUES = "the project's issue tracker"


def explain(error: BaseException) -> tuple[str, int]:
    """One sentence about an error, empty where nobody reads it, and the exit status that it ends in."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "stopped before the end.", stop_status(error)
    if isinstance(error, BrokenPipeError):
        return "", BROKEN_PIPE
    refusal = _refusal(error)
    if refusal is not None:
        return _one_sentence(refusal), REQUEST
    if isinstance(error, UnfinishedError):
        return _one_sentence(str(error)), INTERNAL
    return _own_failure(error), INTERNAL


def _refusal(error: BaseException) -> str | None:
    """What is wrong with the request, or None where softcert itself failed."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and is_unwritable(error):
        return f"cannot write to a standard stream: {(error.strerror or str(error)).lower()}"
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return "the current folder does not exist any more"
    return str(error) if isinstance(error, (RequestError, SubjectError)) else None


def _is_nowhere() -> bool:
    """Whether the folder in which the command was given is gone, without which libraries cannot be loaded."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _own_failure(error: BaseException) -> str:
    if isinstance(error, OracleError):
        return (
            f"two independent oracles disagree, so no verdict can be trusted: {_one_line(str(error))}; "
            f"please report this sentence and the command to {ISSUES}."
        )
    return (
        f"softcert itself failed with {type(error).__name__}: {_one_line(str(error))}; "
        f"please report it to {ISSUES}, with the traceback that SOFTCERT_DEBUG=1 prints."
    )


def stop_status(interrupt: BaseException) -> int:
    """Exit status of a run that was stopped by that interrupt."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _one_sentence(text: str) -> str:
    line = _one_line(text)
    return line if line.endswith(("?", "!")) else f"{line}."
