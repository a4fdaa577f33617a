"""What notices which planted fault: rules that others accept kernels by, and softcert.

Every implementation of tests/defects, broken and correct, is given the data on which kernels are commonly
tested (`rival_data`), and each rule of `rival_rules` says whether it accepts what comes back. softcert's word
is that of a check of the same implementation (`museum`). docs/kill-matrix.json holds what was found and is
written after each implementation, so that a run that is cut short goes on where it was; from it come the
page docs/kill-matrix.md and the counts that reports show.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from kill_matrix_page import counted, render
from museum import DTYPES, Entry, entries, judge
from rival_data import samples
from rival_rules import RULES, Rule

from softcert.backends import Limits, Worker
from softcert.backends.types import Failure

DOCS = Path(__file__).resolve().parents[1] / "docs"
FOUND, PAGE = DOCS / "kill-matrix.json", DOCS / "kill-matrix.md"
#: What reports show of it.
COUNTS = DOCS.parent / "reports" / "kill_matrix.json"
#: Attention is shown to rules in these too: FlashAttention's speaks of no others.
_SIXTEEN_BITS = ("float16", "bfloat16")
_PATIENT = Limits(seconds=120.0)


def ask_rules(entry: Entry) -> dict[str, str]:
    """The dtype in which each rule notices an entry, "" where it accepts it; rules that speak of it alone."""
    extra = _SIXTEEN_BITS if entry.op.startswith("attention") else ()
    dtypes = tuple(dict.fromkeys((*entry.dtypes, *extra)))
    asked = {
        key: rule for key, rule in RULES.items() if entry.op in rule.ops and set(dtypes) & set(rule.dtypes)
    }
    said = dict.fromkeys(asked, "")
    with Worker(entry.subject, op=entry.op, limits=entry.limits or _PATIENT) as worker:
        for dtype in dtypes:
            waiting = {key: r for key, r in asked.items() if not said[key] and dtype in r.dtypes}
            said |= dict.fromkeys(_noticing(worker, entry.op, dtype, waiting), dtype)
    return said


def _noticing(worker: Worker, op: str, dtype: str, asked: Mapping[str, Rule]) -> set[str]:
    """Keys of the rules that reject some sample of a dtype."""
    noticed: set[str] = set()
    for sample in samples(op, dtype):
        waiting = set(asked) - noticed
        if not waiting:
            break
        reply = worker.call(sample.call)
        if isinstance(reply, Failure):
            return set(asked)
        with np.errstate(all="ignore"):
            noticed |= {key for key in waiting if not asked[key].accepts(sample, reply.values)}
    return noticed


def read() -> dict[str, dict[str, Any]]:
    """What docs/kill-matrix.json says, by implementation."""
    if not FOUND.exists():
        return {}
    rows = json.loads(FOUND.read_text(encoding="utf-8"))["implementations"]
    return {row["implementation"]: row for row in rows}


def write(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the file, in the order of the manifests, and the page from it."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("softcert", "numpy", "torch")},
        "implementations": [rows[entry.name] for entry in entries() if entry.name in rows],
    }
    lines = json.dumps(found, indent=1).replace("\n    ", " ").replace("\n   }", " }")
    FOUND.write_text(lines + "\n", encoding="utf-8")
    PAGE.write_text(render(found, entries()), encoding="utf-8")
    COUNTS.write_text(json.dumps(counted(found, entries()), indent=1) + "\n", encoding="utf-8")


def once(entry: Entry) -> Entry:
    """The entry, a correct one in one dtype of those in which it is known to conform: it is asked all."""
    return entry if entry.broken or entry.dtypes != DTYPES else replace(entry, dtypes=DTYPES[:1])


def main() -> None:
    """Ask rules, ask softcert, or write the page; what is known already is not asked again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("rules", "softcert", "page"))
    parser.add_argument("--only", default="", help="what holds this in its name, which is file:function")
    parser.add_argument("--again", action="store_true", help="ask again what is known")
    parser.add_argument("--profile", default="quick", help="of the checks by softcert")
    options = parser.parse_args()
    rows = read()
    wanted = [entry for entry in entries() if options.only in entry.name and options.step != "page"]
    for entry in wanted:
        row = rows.setdefault(entry.name, {"implementation": entry.name, "rules": None, "softcert": None})
        if row[options.step] is not None and not options.again:
            continue
        if options.step == "rules":
            row["rules"] = ask_rules(entry)
        else:
            row["softcert"] = asdict(judge(once(entry), options.profile))
        print(entry.name, row[options.step], flush=True)
        write(rows)
    write(rows)


if __name__ == "__main__":
    main()
