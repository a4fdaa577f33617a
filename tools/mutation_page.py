"""Write docs/mutation.md: how many mutants of the harness its tests kill, and why the others live.

    python tools/mutation_page.py

The figures are those of tools/mutation_results.json, which `tools/mutation.py run` writes; the reasons stand
in tools/mutation.toml.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "tools" / "mutation.toml"
RESULTS = ROOT / "tools" / "mutation_results.json"
PAGE = ROOT / "docs" / "mutation.md"

#: What may be said of a survivor: no test could tell it from the original, or none does.
KINDS = ("equivalent", "tolerated")

_HEAD = """# Mutation: whether the harness's own tests would notice

A suite that judges others has to be judged itself. [cosmic-ray](https://cosmic-ray.readthedocs.io) changes
one operator, number, comparison or decorator of a module at a time, and the tests of that module are run: a
mutant that fails none of them has *survived*, and shows something that no test looks at. Places are drawn
with a fixed seed, one mutant each; changes of annotations alone are left out, as are operators that no float
survives (`+` to `<<`). `nox -s mutation` runs it in a copy of the tree, and
`nox -s mutation -- bounds/softmax judging/compare` two modules alone.

A survivor is either *equivalent*, a program that does the same on every input, or *tolerated*, one that
differs in a way that nothing promised depends on; both with a reason below. One with neither fails a test.
The score is killed / (run - equivalent).

| module | places | run | killed | equivalent | tolerated | score |
| --- | --- | --- | --- | --- | --- | --- |
"""


def survivors_of(module: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line before and after each mutation that no test noticed."""
    return [(each["before"], each["after"]) for each in module["survivors"]]


def reasons(configuration: Mapping[str, Any]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Kind and reason of each explained survivor, by module, line before and line after."""
    return {
        (each["module"], before, after): (each["kind"], each["reason"])
        for each in configuration.get("explained", ())
        for before, after in each["changes"]
    }


def _row(name: str, counts: Sequence[int]) -> str:
    places, run, killed, equivalent, tolerated = counts
    score = f"{100.0 * killed / (run - equivalent):.0f} %" if run > equivalent else "-"
    return f"| {name} | {places} | {run} | {killed} | {equivalent} | {tolerated} | {score} |\n"


def _code(line: str) -> str:
    return "`" + line.replace("|", "\\|") + "`"


def page(results: Mapping[str, Any], configuration: Mapping[str, Any]) -> str:
    """Text of the page.

    Parameters
    ----------
    results : modules, each with the number of its places, of mutants run and killed, and its survivors.
    configuration : with the reasons of survivors.

    Raises
    ------
    KeyError : a survivor has no reason.
    """
    explained = reasons(configuration)
    rows, lines, total = "", "", [0] * 5
    for name, module in results["modules"].items():
        whys = [(change, explained[name, *change]) for change in survivors_of(module)]
        kinds = [sum(kind == wanted for _, (kind, _) in whys) for wanted in KINDS]
        counts = [module["places"], module["run"], module["killed"], *kinds]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        rows += _row(f"`conformance/{name}.py`", counts)
        for (before, after), (kind, reason) in whys:
            lines += f"| `{name}` | {_code(before)} | {_code(after)} | {kind}: {reason} |\n"
    text = _HEAD + rows + _row("**all**", total)
    text += f"\nMeasured {results['measured']}, cosmic-ray {results['cosmic-ray']}, seed {results['seed']}.\n"
    if lines:
        text += "\n## Survivors\n\n| module | line | as mutated | why it lives |\n| --- | --- | --- | --- |\n"
    return text + lines


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """Committed results and configuration."""
    return (
        json.loads(RESULTS.read_text(encoding="utf-8")),
        tomllib.loads(CONFIGURATION.read_text(encoding="utf-8")),
    )


if __name__ == "__main__":
    PAGE.write_text(page(*read()), encoding="utf-8")
