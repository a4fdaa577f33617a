"""The `softcert` command: its subcommands, and how every error becomes one sentence and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from softcert.cli import signals, streams
from softcert.cli.errors import INTERNAL, REQUEST, explain
from softcert.cli.lazy import LazyCommands


class _Carried(Exception):  # noqa: N818 -- no error of its own: its cause is
    """Takes an error past click, which would end the process or print something of its own."""


class SoftcertGroup(click.Group):
    """A click group that ends each error in one sentence on stderr and the documented exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; unless `standalone_mode` is off, end the process with its exit status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        # Without arguments given, they are the process's own, and so are its signals and streams.
        own_process = args is None
        if own_process:
            streams.occupy()
            signals.listen()
        try:
            result = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            status = result if isinstance(result, int) else 0
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- each ends in a sentence
            status = _tell(error.__cause__ or error if isinstance(error, _Carried) else error)
        if own_process:
            signals.ignore()
            streams.settle()
        sys.exit(status)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the group's own options; see `click.Command.make_context`."""
        with _carrying():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; see `click.Command.invoke`."""
        with _carrying():
            return super().invoke(ctx)


@contextmanager
def _carrying() -> Iterator[None]:
    try:
        yield
    except (OSError, KeyboardInterrupt) as error:
        raise _Carried from error


def _tell(error: BaseException) -> int:
    """Say what is wrong on stderr, if that takes it; return the exit status."""
    with contextlib.suppress(OSError):
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            return REQUEST
    sentence, status = explain(error)
    with contextlib.suppress(OSError):
        if sentence:
            click.echo(f"softcert: {sentence}", err=True)
        if status == INTERNAL and os.environ.get("SOFTCERT_DEBUG"):
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return status


@click.group(
    cls=SoftcertGroup,
    commands=LazyCommands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="softcert", message="softcert %(version)s")
def main() -> None:
    """Certify the accuracy of softmax implementations.

    Exit status: 0 conforms; 1 a clause is broken; 2 the request is wrong; 3 softcert itself failed.
    """
