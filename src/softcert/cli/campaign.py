"""`softcert campaign`: long computations in slices, that go on after whatever ended them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.console import announce, console, count_bar, print_run
from softcert.cli.documents import print_document, require_libraries, require_outputs
from softcert.cli.options import PATH, SUBJECT, require_known, write_result
from softcert.wording import counted

if TYPE_CHECKING:
    from softcert.conformance.campaigns.campaign import Campaign
    from softcert.conformance.campaigns.driving import Status
    from softcert.conformance.campaigns.store import Store

EXAMPLES = """
\b
Examples:
  softcert campaign plan pairs.json numpy --task proof --domain pairs --op softmax --dtype float16
  softcert campaign plan nightly.json numpy --task check --op softmax --dtype float32 --slices 1000
  softcert campaign run nightly.json --workers 8
  softcert campaign resume nightly.sqlite --scheduler tcp://cluster:8786
  softcert campaign status nightly.sqlite
  softcert campaign watch nightly.sqlite
  softcert campaign result nightly.sqlite --json run.json
  softcert campaign plan hunt.json numpy --task search --op softmax --dtype float32 --slices 80
  softcert campaign result hunt.sqlite --worst worst/softmax-float32.json
"""
#: Failures after which a slice is set aside, where the command does not say.
_ATTEMPTS = 3

Command = Callable[..., Any]

store_argument = click.argument("store", type=PATH, metavar="STORE")
json_option = click.option(
    "--json", "json_file", type=PATH, metavar="OUT", help="Write the run as JSON; - writes it to stdout."
)


@click.group(epilog=EXAMPLES)
def campaign() -> None:
    """Compute in slices what takes hours or days, on this machine or a cluster.

    A campaign's file lists its slices; its store, an SQLite database, keeps the result of each. Whatever is
    killed, workers, scheduler or this command, what was computed is kept, and `resume` does the rest. Several
    commands may work on one store at once.
    """


def _setting(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise click.UsageError(f"a setting is NAME=VALUE, and not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@campaign.command()
@click.argument("file", type=PATH, metavar="FILE")
@click.argument("subject", type=SUBJECT, metavar="[SUBJECT]", required=False)
@click.option(
    "--task", required=True, metavar="TASK", help="What is computed, or package.module:NAME of your own."
)
@click.option("--op", metavar="OP", help="The op that is judged.")
@click.option("--dtype", metavar="D", help="The dtype that is judged.")
@click.option("--domain", metavar="NAME", help="The inputs, where the task has several kinds.")
@click.option("--slices", type=click.IntRange(min=1), metavar="N", help="Into how many parts it is cut.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another setting of the task, as JSON; repeatable.",
)
def plan(
    file: str,
    subject: str | None,
    task: str,
    op: str | None,
    dtype: str | None,
    domain: str | None,
    slices: int | None,
    settings: tuple[str, ...],
) -> None:
    """Cut a computation into slices, and write them to FILE.

    SUBJECT is named as for `softcert check`. The file notes the versions of all that results rest on, and no
    slice is computed with others.
    """
    from softcert.backends.ops import DTYPES, OPS
    from softcert.conformance.campaigns.campaign import plan as cut
    from softcert.conformance.campaigns.campaign import write_campaign

    require_known("op", [op] if op else [], OPS)
    require_known("dtype", [dtype] if dtype else [], DTYPES)
    require_outputs({"FILE": file}, ())
    given = {"subject": subject, "op": op, "dtype": dtype, "domain": domain, "slices": slices}
    asked = {name: value for name, value in given.items() if value is not None}
    made = cut({"task": task, **asked, **dict(map(_setting, settings))})
    write_campaign(file, made)
    click.echo(f"{file}: {counted(len(made.slices), 'slice')}")


def _driving_options(command: Command) -> Command:
    options = (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Processes on this machine. Default: one for each core.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS|local",
            help="A Dask cluster, by its scheduler as tcp://host:8786, or one of --workers processes here.",
        ),
        click.option(
            "--attempts",
            type=click.IntRange(min=1),
            default=_ATTEMPTS,
            show_default=True,
            metavar="N",
            help="Failures after which a slice is set aside.",
        ),
        click.option(
            "--patience",
            type=click.FloatRange(min=0, min_open=True),
            default=300.0,
            show_default=True,
            metavar="SECONDS",
            help="How long a cluster may be out of reach, or without workers.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@campaign.command()
@click.argument("file", type=PATH, metavar="FILE")
@click.option(
    "--store", type=PATH, metavar="STORE", help="Where results are kept. Default: FILE, as .sqlite."
)
@_driving_options
def run(file: str, store: str | None, **options: Any) -> int:
    """Compute the slices of FILE that its store does not have yet, and say what they come to.

    Exit status: 0 conforms; 1 a clause is broken; 2 the request is wrong; 3 slices are set aside, the disk is
    full, or a cluster is out of reach: what was computed is kept.
    """
    from softcert.conformance.campaigns.campaign import read_campaign

    planned = read_campaign(file)
    return _drive(store or str(Path(file).with_suffix(".sqlite")), planned, (file,), **options)


@campaign.command()
@store_argument
@click.option("--retry", is_flag=True, help="Try slices again that were set aside.")
@_driving_options
def resume(store: str, *, retry: bool, **options: Any) -> int:
    """Compute the slices that STORE does not have yet, and say what all come to; as `run` does."""
    return _drive(store, None, (), retry=retry, **options)


def _drive(
    path: str,
    planned: Campaign | None,
    inputs: tuple[str, ...],
    *,
    workers: int | None,
    scheduler: str | None,
    attempts: int,
    patience: float,
    json_file: str | None,
    retry: bool = False,
) -> int:
    from softcert.conformance.campaigns.driving import drive
    from softcert.conformance.campaigns.executors import cluster, processes
    from softcert.conformance.campaigns.store_files import store_for
    from softcert.conformance.campaigns.work import require_versions
    from softcert.conformance.environment import available_cores

    require_outputs({"--json": json_file}, (path, *inputs))
    count = workers or available_cores()
    lanes = [cluster(scheduler, count)] if scheduler else processes(count)
    with store_for(path, planned) as store:
        require_versions(json.loads(store.head()[1])["versions"])
        if retry:
            store.retry()
        try:
            with count_bar("campaign", store.totals().done) as show:
                drive(store, lanes, attempts=attempts, reach=patience, progress=_shown(show))
        except BaseException:
            totals = store.totals()
            announce(f"{path}: {totals.done} of {totals.slices} slices are done and kept")
            raise
        _require_all(store)
        return _tell(store, json_file)


def _shown(show: Callable[[int, int, str], None]) -> Callable[[Status], None]:
    from softcert.reports.campaigns import duration

    def watch(status: Status) -> None:
        left = status.seconds_left
        parts = [
            f"{status.rate:.3g}/s",
            f"{duration(left)} left" if left is not None else "",
            f"{status.totals.aside} set aside" if status.totals.aside else "",
        ]
        show(status.totals.done, status.totals.slices, "  ".join(filter(None, parts)))

    return watch


def _require_all(store: Store) -> None:
    """Make sure that every slice is done.

    Raises
    ------
    UnfinishedError : some are set aside, with the reason of the first.
    """
    from softcert.errors import UnfinishedError

    totals = store.totals()
    if totals.complete:
        return
    first = store.troubles()[0]
    raise UnfinishedError(
        f"{totals.aside} of {totals.slices} slices set aside, the first, {first.key}, after "
        f"{counted(first.count, 'attempt')} ({first.reason}); the others are kept, and "
        f"`softcert campaign resume {store.path} --retry` tries these again"
    )


def _tell(store: Store, json_file: str | None) -> int:
    """Print what a campaign comes to, write it if asked to, and return the exit status."""
    from softcert.cli.check import exit_status
    from softcert.conformance.campaigns.outcome import campaign_run
    from softcert.conformance.wire.runs import dumps, run_to_json

    found = campaign_run(store)
    if json_file:
        write_result(json_file, dumps(run_to_json(found)))
    out = console(err=json_file == "-")
    print_run(found, out)
    for verdict in found.verdicts:
        if verdict.status == "pass" and verdict.message:
            line = f"{verdict.op} {verdict.dtype}: {verdict.message}"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    totals = store.totals()
    if not totals.complete:
        out.print(f"so far: {totals.done} of {totals.slices} slices, {totals.aside} set aside", markup=False)
    if "environments" in found.request:
        count = len(found.request["environments"])
        out.print(f"computed on {count} machines or with so many sets of versions", markup=False)
    return exit_status(found)


@campaign.command()
@store_argument
def status(store: str) -> None:
    """Show how far STORE is, who works on it, and what failed."""
    from softcert.conformance.campaigns.store_files import open_store
    from softcert.reports.campaigns import describe_campaign

    with open_store(store) as opened:
        print_document(describe_campaign(opened), console())


@campaign.command()
@store_argument
@json_option
@click.option(
    "--worst",
    "worst_file",
    type=PATH,
    metavar="FILE",
    help="Of a search: add the worst cases to FILE, which later runs take.",
)
def result(store: str, json_file: str | None, worst_file: str | None) -> int:
    """Say what the slices come to that STORE has, which may be a part of them.

    Exit status: 0 conforms, so far; 1 a clause is broken; 2 there is no result yet.
    """
    from softcert.conformance.campaigns.outcome import campaign_worst
    from softcert.conformance.campaigns.store_files import open_store
    from softcert.conformance.hunting.worst_cases import keep

    require_outputs({"--json": json_file, "--worst": worst_file}, (store,))
    with open_store(store) as opened:
        if worst_file:
            keep(worst_file, campaign_worst(opened))
            announce(f"worst cases kept in {worst_file}")
        return _tell(opened, json_file)


@campaign.command()
@store_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address that the page is at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Its port; 0 is any free one.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="How often it is new.",
)
@click.option("--page", "page_file", type=PATH, metavar="FILE", help="Write the page once to FILE instead.")
def watch(store: str, host: str, port: int, every: int, page_file: str | None) -> None:
    """Show STORE on a live page, until Ctrl-C; it holds everything, and changes nothing."""
    from softcert.cli.campaign_page import page, server
    from softcert.cli.signals import Terminated
    from softcert.conformance.campaigns.store_files import open_store

    require_libraries("jinja2")
    require_outputs({"--page": page_file}, (store,))
    with open_store(store):
        pass
    if page_file:
        write_result(page_file, page(store))
        return
    try:
        serving = server(store, host, port, every)
    except (OSError, OverflowError) as error:
        raise click.UsageError(f"cannot serve at {host}:{port}: {error}") from error
    with serving:
        click.echo(f"http://{host}:{serving.server_address[1]}/")
        try:
            serving.serve_forever()
        except Terminated:
            raise
        except KeyboardInterrupt:
            # There is no end before which it could be stopped.
            return
