"""`softcert reproduce`: figures of the literature, measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softcert.cli.console import console, count_bar
from softcert.cli.options import PATH, require_known, require_writable_file, write_result

if TYPE_CHECKING:
    from softcert.reports.reproduce.bhh2021 import Finding, Observation
    from softcert.reports.reproduce.fa3_table3 import Setting
    from softcert.reports.reproduce.fa3_table3 import Table as ErrorTable

EXAMPLES = """
\b
Examples:
  softcert reproduce fa3-table3
  softcert reproduce fa3-table3 --seeds 2 --keys 1024 --json table3.json
  softcert reproduce bhh2021
"""

_TABLE3, _BHH = "fa3-table3", "bhh2021"


@click.command(epilog=EXAMPLES)
@click.argument("target", metavar="fa3-table3|bhh2021")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    metavar="N",
    help="fa3-table3: random inputs to take the median over.  [default: 8]",
)
@click.option("--keys", type=click.IntRange(1), metavar="N", help="fa3-table3: keys.  [default: 8448]")
@click.option("--queries", type=click.IntRange(1), metavar="N", help="fa3-table3: queries.  [default: 512]")
@click.option(
    "--depth",
    type=click.IntRange(1),
    metavar="D",
    help="fa3-table3: head dimension, a power of two.  [default: 128]",
)
@click.option(
    "--json", "json_file", type=PATH, metavar="FILE", help="Write the figures as JSON; - writes it to stdout."
)
def reproduce(
    target: str,
    seeds: int | None,
    keys: int | None,
    queries: int | None,
    depth: int | None,
    json_file: str | None,
) -> None:
    """Measure the figures of a paper again, with certified errors, and print both.

    fa3-table3 is the errors of attention in FP16 and FP8 of table 3 of FlashAttention-3; bhh2021 the error
    bounds for log-sum-exp and softmax of Blanchard, Higham & Higham.

    The exit status is 0 when the figures were measured, whatever they say of the paper.
    """
    require_known("target", [target], (_TABLE3, _BHH))
    sizes = {"seeds": seeds, "keys": keys, "queries": queries, "depth": depth}
    given = {name: size for name, size in sizes.items() if size is not None}
    if given and target != _TABLE3:
        raise click.UsageError(f"--{next(iter(given))} is for {_TABLE3}, not {target}")
    from softcert.reports.reproduce import Setting

    setting = Setting(**given)
    if json_file:
        require_writable_file(json_file)
    # What goes to stdout is alone there.
    out = console(err=json_file == "-")
    start = perf_counter()
    figures, show = _measure_table3(setting) if target == _TABLE3 else _measure_bhh()
    seconds = perf_counter() - start
    if json_file:
        from softcert.conformance.wire.runs import dumps
        from softcert.reports.reproduce import document

        write_result(json_file, dumps(document(figures, seconds)))
    show(out)
    out.print(Text(f"Measured in {seconds:.1f} s.", style="dim"), soft_wrap=True)


Shown = Callable[[Console], None]


def _measure_table3(setting: Setting) -> tuple[dict[str, Any], Shown]:
    from softcert.reports.reproduce import measure_table3, table3_to_json

    with count_bar(_TABLE3) as show:
        table = measure_table3(setting, progress=show)
    return table3_to_json(table), lambda out: print_table3(table, out)


def _measure_bhh() -> tuple[dict[str, Any], Shown]:
    from softcert.reports.reproduce import bounds_to_json, measure_bounds

    with count_bar(_BHH) as show:
        findings = measure_bounds(progress=show)
    return bounds_to_json(findings), lambda out: print_bhh(findings, out)


def print_table3(table: ErrorTable, out: Console) -> None:
    """Print the measured errors beside the paper's, and what they rest on."""
    from softcert.reports.reproduce.arithmetics import NOT_SIMULATED
    from softcert.reports.reproduce.fa3_table3 import NOT_STATED, SOURCE
    from softcert.wording import counted

    shown = _table(("arithmetic", "format"), ("median RMSE", "min", "max", "paper", "median / paper"))
    for row in table.rows:
        figures = (row.median, min(row.rmse), max(row.rmse))
        cells = (row.name, row.fmt, *map(_scientific, figures), _scientific(row.paper, 1), f"{row.ratio:.2f}")
        shown.add_row(*map(Text, cells))
    setting = table.setting
    _say(out, SOURCE, "italic")
    out.print(shown)
    _say(
        out,
        f"Measured over {counted(setting.seeds, 'seed')} from 0: {setting.queries} queries, {setting.keys} "
        f"keys, head dimension {setting.depth}; entries N(0, 1), one in a thousand with N(0, 100) added; "
        "arithmetics simulated step by step; errors against the certified attention of the binary64 inputs "
        "as drawn.",
    )
    _say(out, f"Not stated by the paper, and chosen here: {', '.join(NOT_STATED)}.")
    _say(out, f"Not simulated: {'; '.join(NOT_SIMULATED)}.")


def print_bhh(findings: tuple[Finding, ...], out: Console) -> None:
    """Print each bound with the largest error / bound, and the worst input of those that fail."""
    from softcert.reports.reproduce.bhh2021 import DTYPES, INPUTS, SOURCE

    shown = _table(("theorem", "error of", "bound / u"), DTYPES)
    shown.add_column("verdict")
    for finding in findings:
        theorem = finding.theorem
        cells = (theorem.number, theorem.statement, theorem.formula, *_ratios(finding.printed))
        shown.add_row(*map(Text, cells), _verdict(holds=finding.holds))
        if finding.repaired is not None:
            cells = ("  + u|y|", "", theorem.repaired_formula, *_ratios(finding.repaired))
            shown.add_row(*map(Text, cells), _verdict(holds=finding.repair_holds))
    _say(out, SOURCE, "italic")
    out.print(shown)
    for finding in findings:
        for dtype, seen in finding.printed.items():
            if seen.violated:
                _say(out, f"FAILS  {finding.theorem.number} {dtype}: {_witness(seen)}")
    _say(out, f"Measured on {INPUTS}, where no step over- or underflows and the bound is below 1.")
    _say(
        out,
        "Shown is the largest certified error / bound to first order, rounded up, or where the bound fails "
        "rounded down; errors of softmax in the maximum norm; every step correctly rounded, sums in order.",
    )
    _say(out, _repair_sentence(findings))


def _repair_sentence(findings: tuple[Finding, ...]) -> str:
    failing = [finding for finding in findings if not finding.holds]
    if not failing:
        return "No bound fails as printed on these inputs."
    names = ", ".join(finding.theorem.number for finding in failing)
    held = all(finding.repair_holds for finding in failing)
    return (
        f"{names}: the rounding of the last addition, x_max + log(1 + s), is not in the printed bound. "
        f"With u|y| added {'each holds' if held else 'not all hold'} on these inputs."
    )


def _witness(seen: Observation) -> str:
    from softcert.wording import hexadecimal

    return f"x = {hexadecimal(seen.x)}, computed {hexadecimal(seen.computed)}"


def _ratios(by_dtype: Mapping[str, Observation]) -> list[str]:
    """Return each largest error / bound, a violation's rounded down and others rounded up."""
    from softcert.reports.wording import number

    return [
        number(seen.ratio[0], 3, ROUND_FLOOR, padded=True)
        if seen.violated
        else number(seen.ratio[1], 3, ROUND_CEILING, padded=True)
        for seen in by_dtype.values()
    ]


def _verdict(*, holds: bool) -> Text:
    return Text("holds") if holds else Text("fails", style="bold red")


def _scientific(value: float, digits: int = 2) -> str:
    """Return 1.86e-4 as papers print it."""
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _table(words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in words:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _say(out: Console, text: str, style: str = "") -> None:
    out.print(Text(text, style=style), soft_wrap=True)
