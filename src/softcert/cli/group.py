"""The `softcert` command: its subcommands, and how every error becomes one sentence and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from softcert.cli.check import check
from softcert.cli.errors import INTERNAL, explain
from softcert.cli.evaluate import evaluate
from softcert.cli.listing import backends, spec
from softcert.cli.replay import replay
from softcert.cli.report import report


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
        try:
            status = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except BrokenPipeError:
            _leave_broken_pipe()
        except (Exception, KeyboardInterrupt) as error:
            sentence, status = explain(error)
            click.echo(f"softcert: {sentence}", err=True)
            if status == INTERNAL and os.environ.get("SOFTCERT_DEBUG"):
                raise
        sys.exit(status if isinstance(status, int) else 0)


def _leave_broken_pipe() -> NoReturn:
    """End quietly when the reader of stdout has gone, as `softcert spec | head` makes it."""
    # Python flushes stdout once more at exit; give it somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


@click.group(
    cls=SoftcertGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="softcert", message="softcert %(version)s")
def main() -> None:
    """Certify the accuracy of softmax implementations.

    Exit status: 0 conforms; 1 a clause is broken; 2 the request is wrong; 3 softcert itself failed.
    """


for _command in (check, report, evaluate, spec, backends, replay):
    main.add_command(_command)
