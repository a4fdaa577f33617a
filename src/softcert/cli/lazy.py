"""Subcommands that are loaded when they are asked for, so that one runs where another could not be loaded."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from importlib import import_module

import click

#: Where each subcommand lives, as module and name below `softcert.cli`.
COMMANDS = {
    "backends": "listing:backends",
    "bench": "bench:bench",
    "campaign": "campaign:campaign",
    "cases": "cases:cases",
    "check": "check:check",
    "compare": "compare:compare",
    "eval": "evaluate:evaluate",
    "gate": "gate:gate",
    "history": "history:history",
    "infer": "infer:infer",
    "judge": "judge:judge",
    "replay": "replay:replay",
    "report": "report:report",
    "reproduce": "reproduce:reproduce",
    "run": "run:run",
    "search": "search:search",
    "spec": "listing:spec",
}


class LazyCommands(UserDict[str, click.Command]):
    """The subcommands of `COMMANDS`; in place of one that cannot be loaded here stands one that says so."""

    def __init__(self) -> None:
        super().__init__()
        self._homes = dict(COMMANDS)

    def __getitem__(self, name: str) -> click.Command:
        if name not in self.data:
            self.data[name] = _loaded(name, self._homes[name])
        return self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._homes, *self.data)))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _loaded(name: str, home: str) -> click.Command:
    module, _, attribute = home.partition(":")
    try:
        command: click.Command = getattr(import_module(f"softcert.cli.{module}"), attribute)
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        if library == "softcert":
            raise
        return _unavailable(name, library)
    return command


def _unavailable(name: str, library: str) -> click.Command:
    def refuse() -> None:
        raise click.ClickException(
            f"`softcert {name}` needs {library}, which is not installed here; "
            "`softcert run` needs NumPy and click alone"
        )

    return click.Command(
        name,
        callback=refuse,
        help=f"Not available: {library} is not installed.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )
