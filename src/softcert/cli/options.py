"""What several commands share: options, the checking of names, and files that will be written."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _Text = click.ParamType[str]
else:  # generic from click 8.3 on
    _Text = click.ParamType

Command = Callable[..., Any]


class _NonEmpty(_Text):
    """A text that says something: an empty one is a variable that a script never set."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is."""
        if not value:
            self.fail(f"an empty text is no {self.name}", param, ctx)
        return str(value)


PATH = _NonEmpty("path")
SUBJECT = _NonEmpty("subject")


def suggest(kind: str, given: str, known: Iterable[str]) -> str:
    """One sentence that refuses `given` and names the nearest of `known`, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if near:
        return f"there is no {kind} {given!r}; did you mean {near[0]!r}?"
    return f"there is no {kind} {given!r}; the {kind}s are {', '.join(names)}"


def require_known(kind: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse the first of `given` that is not among `known`.

    Raises
    ------
    click.UsageError : with the nearest known name.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise click.UsageError(suggest(kind, name, names))


def unique(names: Sequence[str]) -> list[str] | None:
    """Return the names without repetitions, in order; None where none was given."""
    return list(dict.fromkeys(names)) or None


def require_writable_file(path: str) -> None:
    """Make sure, before a long run, that `path` can be written; `-` is stdout.

    Raises
    ------
    click.UsageError : it cannot, with the system's reason.
    """
    if path == "-":
        return
    target = Path(path)
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            # Opening a pipe would wait for its reader, and closing it send that away.
            writable = os.access(target, os.W_OK)
        else:
            writable = _opens(target)
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {_reason(error)}") from error
    if not writable:
        raise click.UsageError(f"cannot write {path}: permission denied")


def _opens(target: Path) -> bool:
    new = not target.exists()
    with target.open("ab"):
        pass
    if new:
        target.unlink()
    return True


def require_writable_folder(path: str) -> None:
    """Make sure, before a long run, that the folder `path` is there and takes files.

    Raises
    ------
    click.UsageError : it is not or does not, with the system's reason.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as error:
        raise click.UsageError(f"{path} is not a folder") from error
    except OSError as error:
        raise click.UsageError(f"cannot write into the folder {path}: {_reason(error)}") from error


def write_result(path: str, text: str) -> None:
    """Write a result to a file, whole or not at all; `-` is stdout.

    Raises
    ------
    RequestError, click.ClickException : it cannot be written, with the system's reason.
    BrokenPipeError : nobody reads what it leads to.
    """
    from softcert.conformance.wire.runs import write_text

    target = Path(path)
    if path == "-":
        click.echo(text, nl=False)
    elif target.is_symlink() or (target.exists() and not target.is_file()):
        # A link, pipe or device, such as /dev/stdout, is written through and not replaced.
        try:
            target.write_text(text, encoding="utf-8")
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {_reason(error)}") from error
    else:
        write_text(target, text)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


#: The option of a fixed run.
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Seed of every random choice.",
)


def request_options(profile: str) -> Callable[[Command], Command]:
    """Add the options that say what to judge and how much to try, with `profile` as the default."""
    options = (
        click.option("--op", "ops", multiple=True, metavar="OP", help="Judge this op only; repeatable."),
        click.option(
            "--dtype", "dtypes", multiple=True, metavar="D", help="Judge this dtype only; repeatable."
        ),
        click.option(
            "--clause",
            "clauses",
            multiple=True,
            metavar="ID|GROUP",
            help="Judge this clause only; repeatable.",
        ),
        click.option(
            "--profile",
            metavar="NAME",
            default=profile,
            show_default=True,
            help="How much to try: smoke (seconds), quick (about a minute), full.",
        ),
        seed_option,
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


#: The option of what a subject promises.
contract_option = click.option(
    "--contract",
    "contract_file",
    type=PATH,
    metavar="FILE",
    help="JSON or TOML file with what the subject promises; by default it says so itself.",
)


def result_options(command: Command) -> Command:
    """Add the options that say what is known of the verdicts, and where they go."""
    options = (
        click.option(
            "--expected-failures",
            "expected_file",
            type=PATH,
            metavar="FILE",
            help="TOML file of clauses that are known to be broken, with the reasons.",
        ),
        click.option(
            "--json",
            "json_file",
            type=PATH,
            metavar="FILE",
            help="Write the run as JSON; - writes it to stdout.",
        ),
        click.option(
            "--junit",
            "junit_file",
            type=PATH,
            metavar="FILE",
            help="Write the verdicts as JUnit XML; - writes it to stdout.",
        ),
        click.option(
            "--html", "html_folder", type=PATH, metavar="DIR", help="Write the report page into this folder."
        ),
        click.option(
            "--save-witnesses",
            "witness_folder",
            type=PATH,
            metavar="DIR",
            help="Write a file per broken clause, for replay.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
