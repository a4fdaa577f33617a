"""`softcert bench`: how fast subjects are, side by side, and beside what the machine can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.console import announce, console, count_bar
from softcert.cli.errors import REQUEST
from softcert.cli.options import PATH, SUBJECT, require_known, unique, write_result
from softcert.cli.speeds import print_speeds
from softcert.cli.subjects import TIMED, all_that_run
from softcert.cli.targets import Targets, subject_files
from softcert.cli.timing import Rows, until_stopped

if TYPE_CHECKING:
    from softcert.conformance.model import Run
    from softcert.reports.speed import Shape, Stopwatch

_DTYPE = "float32"
#: Numbers of an operand beyond which a machine rather swaps than computes.
_LARGEST = 1 << 28

EXAMPLES = """
\b
Examples:
  softcert bench
  softcert bench numpy numba torch --op softmax --shape 64x1024 --shape 64x65536
  softcert bench torch-sdpa-flash numba --op attention --shape 8x2048x2048x64 --json new.json
  softcert bench kernel.py:my_softmax numpy --op softmax --dtype float64 --rounds 21
"""


@click.command(epilog=EXAMPLES)
@click.argument("subjects", nargs=-1, type=SUBJECT, metavar="[SUBJECT]...")
@click.option(
    "--op", "ops", multiple=True, metavar="OP", help=f"Time this op; repeatable. Default: {', '.join(TIMED)}."
)
@click.option(
    "--dtype", "dtypes", multiple=True, metavar="D", help=f"Time this dtype; repeatable. Default: {_DTYPE}."
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NxN...",
    help="ROWSxLENGTH, of attention HEADSxQUERIESxKEYSxFEATURES; repeatable. Default: a ladder of lengths.",
)
@click.option(
    "--rounds",
    type=click.IntRange(2, 1000),
    default=9,
    show_default=True,
    metavar="N",
    help="Rounds in which every subject is asked.",
)
@click.option(
    "--json", "json_file", type=PATH, metavar="FILE", help="Write the figures as JSON; - is stdout."
)
def bench(
    subjects: tuple[str, ...],
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    shapes: tuple[str, ...],
    rounds: int,
    json_file: str | None,
) -> int:
    """Time each SUBJECT, in turns with the others, beside the limits of this machine.

    By default every backend that runs here. A SUBJECT is named as for `softcert check`. Every call has inputs
    of its own, and the last answer is judged: a figure that rests on a wrong one, or that no machine could
    reach, is invalid.

    Exit status: 0 every figure is valid; 1 one is invalid; 2 the request is wrong.
    """
    from softcert.backends.ops import DTYPES, OPS
    from softcert.reports.speed import Stopwatch

    require_known("op", ops, OPS)
    require_known("dtype", dtypes, DTYPES)
    sizes = [_parsed(shape) for shape in shapes]
    asked = _fitting(unique(ops) or list(TIMED), sizes, named=bool(ops))
    targets = Targets(json_file)
    targets.validate(*(path for subject in subjects for path in subject_files(subject)))
    names = list(dict.fromkeys(subjects)) or list(all_that_run(asked))
    started = perf_counter()
    with Stopwatch(names, ops[0] if len(set(ops)) == 1 else None) as stopwatch:
        _tell_unloadable(names, stopwatch)
        chosen = asked if ops else _had(asked, stopwatch)
        _require_had(names, chosen, unique(dtypes) or [_DTYPE], stopwatch)
        rows, interrupt = _rows(stopwatch, chosen, unique(dtypes) or [_DTYPE], sizes, rounds)
        request = {"ops": chosen, "dtypes": unique(dtypes) or [_DTYPE], "rounds": rounds}
        if interrupt is not None:
            request["stopped"] = True
        runs = _runs(names, stopwatch, rows, request, perf_counter() - started)
    if json_file:
        _write(runs, json_file)
    print_speeds(runs, console(err=targets.takes_stdout))
    for place, problem, message in stopwatch.unmeasured:
        shape = "x".join(map(str, problem.shape))
        announce(f"softcert: {names[place]}, {problem.op} {problem.dtype} {shape}: {message}")
    if interrupt is not None:
        raise interrupt
    return _status(runs, complete=not stopwatch.unloadable)


def _parsed(text: str) -> Shape:
    parts = text.replace("×", "x").split("x")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise click.UsageError(f"a shape is lengths with x between, such as 64x1024, and not {text!r}")
    shape = tuple(map(int, parts))
    if len(shape) not in (2, 4):
        raise click.UsageError(
            f"{text} has {len(shape)} axes; a shape is ROWSxLENGTH, of attention HEADSxQUERIESxKEYSxFEATURES"
        )
    large = shape[0] * (shape[1] if len(shape) == 2 else max(shape[1:3]) * shape[3])
    if large > _LARGEST:
        raise click.UsageError(f"{text} makes an operand of {large} numbers; {_LARGEST} is the most")
    return shape


def _fitting(ops: list[str], sizes: Sequence[Shape], *, named: bool) -> list[str]:
    """The ops for which there is a shape; all, where none was asked for.

    Raises
    ------
    click.UsageError : one that was named has none.
    """
    if not sizes:
        return ops
    lacking = [op for op in ops if not _of(op, sizes)]
    if lacking and named:
        wanted = "HEADSxQUERIESxKEYSxFEATURES" if "attention" in lacking[0] else "ROWSxLENGTH"
        raise click.UsageError(f"no --shape fits {lacking[0]}, whose shapes are {wanted}")
    return [op for op in ops if op not in lacking]


def _of(op: str, sizes: Sequence[Shape]) -> list[Shape]:
    from softcert.backends.ops import ATTENTION_OPS

    return [shape for shape in sizes if len(shape) == (4 if op in ATTENTION_OPS else 2)]


def _tell_unloadable(names: Sequence[str], stopwatch: Stopwatch) -> None:
    """Say which subjects cannot be timed; the others are.

    Raises
    ------
    SubjectError : none can.
    """
    if not names:
        raise click.ClickException("no registered backend runs here; see softcert backends")
    if not stopwatch.descriptions:
        raise next(iter(stopwatch.unloadable.values()))
    for place, error in stopwatch.unloadable.items():
        announce(f"softcert: {names[place]}: {error}")


def _had(ops: list[str], stopwatch: Stopwatch) -> list[str]:
    """The ops that a subject has, or all of theirs where it is none of those."""
    theirs = dict.fromkeys(op for described in stopwatch.descriptions.values() for op in described.ops)
    return [op for op in ops if op in theirs] or list(theirs)


def _require_had(
    names: Sequence[str], ops: Sequence[str], dtypes: Sequence[str], stopwatch: Stopwatch
) -> None:
    """Refuse what no subject has.

    Raises
    ------
    click.UsageError : with what they have.
    """
    for kind, asked in (("ops", ops), ("dtypes", dtypes)):
        for name in asked:
            has = {place: getattr(described, kind) for place, described in stopwatch.descriptions.items()}
            if not any(name in theirs for theirs in has.values()):
                place, theirs = next(iter(has.items()))
                who = names[place] if len(has) == 1 else "none of the subjects"
                told = f"; it has {', '.join(theirs)}" if len(has) == 1 else ""
                raise click.UsageError(f"{who} has {'no ' if len(has) == 1 else ''}{name}{told}")


def _rows(
    stopwatch: Stopwatch, ops: Sequence[str], dtypes: Sequence[str], sizes: Sequence[Shape], rounds: int
) -> tuple[Rows, KeyboardInterrupt | None]:
    """Rows by the subject's position, those that were reached where something stopped it, and what did."""
    with count_bar("bench") as show:

        def of(op: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
            return stopwatch.rows([op], dtypes, _of(op, sizes) or None, rounds, ladder=True, progress=show)

        return until_stopped(chain.from_iterable(map(of, ops)))


def _runs(
    names: Sequence[str],
    stopwatch: Stopwatch,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    request: Mapping[str, Any],
    seconds: float,
) -> list[Run]:
    """A run of each subject that was loaded, without verdicts."""
    from softcert.conformance.environment import describe
    from softcert.conformance.model import Run

    return [
        Run(
            subject=names[place],
            name=described.name,
            contract=described.contract.to_mapping(),
            environment=describe(described.versions),
            request={"profile": "bench", "seed": 0, "clauses": [], **request},
            verdicts=(),
            speed=tuple(rows.get(place, ())),
            seconds=seconds,
        )
        for place, described in stopwatch.descriptions.items()
    ]


def _write(runs: Sequence[Run], path: str) -> None:
    from softcert.conformance.wire.runs import dumps, report_to_json, run_to_json

    write_result(path, dumps(run_to_json(runs[0]) if len(runs) == 1 else report_to_json(runs)))


def _status(runs: Sequence[Run], *, complete: bool) -> int:
    """Exit status of what was measured to the end.

    Raises
    ------
    click.ClickException : nothing could be.
    """
    states = [row["status"] for run in runs for row in run.speed]
    if not states:
        raise click.ClickException("no subject answered any call, so that there is no figure")
    if not complete:
        return REQUEST
    return 1 if "invalid" in states else 0
