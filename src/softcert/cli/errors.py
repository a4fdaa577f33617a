"""How every error becomes one sentence on stderr and an exit status."""

from __future__ import annotations

import click

#: Exit statuses: the request is wrong; softcert itself failed; stopped by Ctrl-C.
REQUEST, INTERNAL, INTERRUPTED = 2, 3, 130

ISSUES = "the project's issue tracker"


def explain(error: BaseException) -> tuple[str, int]:
    """One sentence about an error, and the exit status that it ends in."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "stopped before the end.", INTERRUPTED
    if isinstance(error, click.ClickException):
        return _one_sentence(error.format_message()), REQUEST
    # Imported only now: an error of these types has already loaded its module, and others are rare.
    from softcert.backends.types import SubjectError
    from softcert.conformance.model import OracleError, RequestError

    if isinstance(error, (RequestError, SubjectError)):
        return _one_sentence(str(error)), REQUEST
    if isinstance(error, OracleError):
        return (
            f"two independent oracles disagree, so no verdict can be trusted: {_one_line(str(error))}; "
            f"please report this sentence and the command to {ISSUES}.",
            INTERNAL,
        )
    return (
        f"softcert itself failed with {type(error).__name__}: {_one_line(str(error))}; "
        f"please report it to {ISSUES}, with the traceback that SOFTCERT_DEBUG=1 prints.",
        INTERNAL,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _one_sentence(text: str) -> str:
    line = _one_line(text)
    return line if line.endswith(("?", "!")) else f"{line}."
