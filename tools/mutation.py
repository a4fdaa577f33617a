"""Mutate modules of the harness and see whether their tests notice.

    python tools/mutation.py [--work FOLDER] [--mutants N] [MODULE ...]

Nothing is changed here: cosmic-ray mutates a copy of the tree under FOLDER, where its databases stay. Of a
module that has one already only the survivors are run again, which shows what new tests kill; one whose text
has changed since begins anew. What was found goes to tools/mutation_results.json and docs/mutation.md.

The tests of each mutant run in a fork of this process, which has imported once what no mutant changes.
"""

from __future__ import annotations

import ast
import datetime
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from mutation_page import CONFIGURATION, PAGE, RESULTS, ROOT, page

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".nox", ".venv", "__pycache__", "*.egg-info", "build", "dist", "report", ".hypothesis", ".*_cache"
)
#: Seconds after which a mutant counts as one that never ends, and so as noticed.
_TIMEOUT = 120
_PYTEST = ("-x", "-q", "-m", "not slow")
#: What tests need and no mutant changes.
_STABLE = (
    "numba",
    "sympy",
    "hypothesis.extra.numpy",
    "jsonschema",
    "softcert.reference",
    "softcert.backends",
)


@dataclass(frozen=True)
class Session:
    """One module's mutants.

    Attributes
    ----------
    module : its path in conformance, without the suffix.
    tree : the copy that is mutated.
    tests : arguments of pytest.
    most : so many mutants.
    seed : of the sample.
    excluded : operators that are left out, regular expressions.
    """

    module: str
    tree: Path
    tests: Sequence[str]
    most: int
    seed: int
    excluded: Sequence[str]

    @property
    def path(self) -> Path:
        """The module, in the copy."""
        return self.tree / "conformance" / f"{self.module}.py"

    @property
    def database(self) -> Path:
        """cosmic-ray's record of what was run."""
        return self.tree.parent / f"{self.module.replace('/', '-')}.sqlite"

    @property
    def stamp(self) -> tuple[Path, str]:
        """File and text that say of which module's text, and of how many mutants, the record is."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return self.database.with_suffix(".stamp"), f"{digest} {self.most} {self.seed}"


def copy_tree(tree: Path) -> None:
    """Copy the working tree, links as links, with bytecode that is checked by the text's hash."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, symlinks=True, ignore=_LEFT_OUT)
    compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(tree)]
    subprocess.run(compiling, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # this interpreter, its own module


# --- which mutants ---


def meaning(source: str) -> str | None:
    """The program without what cannot change what it does; None where it is none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def sample(source: str, items: Iterable[WorkItem], most: int, seed: str) -> set[str]:
    """Draw mutants with another meaning at different places, the same for the same seed and text.

    Returns
    -------
    Their jobs.
    """
    places: dict[tuple[int, int], list[WorkItem]] = {}
    for item in sorted(items, key=_order):
        places.setdefault(_spec(item).start_pos, []).append(item)
    draw, unchanged = random.Random(seed), meaning(source)  # noqa: S311  # a sample, no secret
    drawn: set[str] = set()
    for place in draw.sample(sorted(places), len(places)):
        item = draw.choice(places[place])
        if len(drawn) < most and meaning(_mutated(source, _spec(item))) not in {None, unchanged}:
            drawn.add(item.job_id)
    return drawn


def _spec(item: WorkItem) -> MutationSpec:
    """The one mutation of an item."""
    (spec,) = item.mutations
    return spec


def _order(item: WorkItem) -> tuple[Any, ...]:
    spec = _spec(item)
    return spec.start_pos, spec.operator_name, spec.occurrence


def _operator(spec: MutationSpec) -> Any:
    return get_operator(spec.operator_name)(**spec.operator_args)


def _mutated(source: str, spec: MutationSpec) -> str:
    return str(mutate_code(source, _operator(spec), spec.occurrence))


def prepare(session: Session) -> None:
    """Leave open in the database what is to be run: a sample, or the survivors of the last run."""
    stamp, wanted = session.stamp
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        with use_db(session.database) as database:
            jobs = [(item.job_id,) for item, result in _run(database) if _survived(result)]
        with closing(sqlite3.connect(session.database)) as connection, connection:
            connection.executemany("DELETE FROM work_results WHERE job_id = ?", jobs)
        return
    excluded = re.compile("|".join(session.excluded))
    with use_db(session.database) as database:
        init([session.path], database, {})
        items = database.work_items
        possible = [item for item in items if not excluded.fullmatch(_spec(item).operator_name)]
        source = session.path.read_text(encoding="utf-8")
        drawn = sample(source, possible, session.most, f"{session.seed} {session.module}")
        skipped = [item.job_id for item in items if item.job_id not in drawn]
        database.set_multiple_results(skipped, WorkResult(WorkerOutcome.SKIPPED, "not drawn"))
    stamp.write_text(wanted, encoding="utf-8")


# --- running them ---


def noticed(session: Session) -> bool:
    """Whether the tests fail, or do not end, on the tree as it is now."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.alarm(_TIMEOUT)
        with (session.tree.parent / "last.txt").open("w") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            status = 1
            try:
                status = int(pytest.main([*_PYTEST, *session.tests]))
            finally:
                os._exit(status)  # nothing of the parent's is to be tidied up here
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests have left running
    return status != 0


def execute(session: Session) -> None:
    """Run the tests on every mutant that is open.

    Raises
    ------
    click.ClickException : they fail without any mutation.
    """
    if noticed(session):
        log = (session.tree.parent / "last.txt").read_text(encoding="utf-8")
        raise click.ClickException(f"the tests of {session.module} fail without any mutation:\n{log[-2000:]}")
    with use_db(session.database) as database:
        for item in sorted(database.pending_work_items, key=_order):
            spec = _spec(item)
            with use_mutation(session.path, _operator(spec), spec.occurrence) as (before, after):
                found = TestOutcome.KILLED if noticed(session) else TestOutcome.SURVIVED
            change = json.dumps(_changed_lines(before, after))
            database.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, None, found, change))


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    """The line that a mutation changes, before and after."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    old, new = next((a, b) for a, b in pairs if a != b)
    return old.strip(), new.strip()


def _run(database: WorkDB) -> list[tuple[WorkItem, WorkResult]]:
    """What was drawn and run."""
    done = database.completed_work_items
    return [(item, result) for item, result in done if result.worker_outcome == WorkerOutcome.NORMAL]


def _survived(result: WorkResult) -> bool:
    return bool(result.test_outcome == TestOutcome.SURVIVED)


def outcome(session: Session) -> dict[str, Any]:
    """Figures of a finished session, and the lines of its survivors."""
    with use_db(session.database) as database:
        done = _run(database)
        places = len({_spec(item).start_pos for item in database.work_items})
        alive = sorted(json.loads(str(result.diff)) for _, result in done if _survived(result))
    return {
        "places": places,
        "run": len(done),
        "killed": len(done) - len(alive),
        "survivors": [{"before": before, "after": after} for before, after in alive],
    }


def _settle_in(tree: Path) -> None:
    """Work in the copy, with all imported that no mutant changes."""
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they would complain of what is imported already
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree / "src"))
    for name in _STABLE:
        importlib.import_module(name)


def _write(results: dict[str, Any], configuration: Mapping[str, Any]) -> None:
    """Write results, and the page where every survivor has its reason."""
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with suppress(KeyError):
        PAGE.write_text(page(results, configuration), encoding="utf-8")


@click.command()
@click.argument("modules", nargs=-1)
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "build" / "mutation")
@click.option("--mutants", type=click.IntRange(min=1), help="So many of each module.")
def main(modules: tuple[str, ...], work: Path, mutants: int | None) -> None:
    """Mutate MODULES of the harness, all by default, and write down what their tests notice."""
    configuration = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))
    known, seed = configuration["modules"], configuration["seed"]
    if unknown := sorted(set(modules) - set(known)):
        raise click.UsageError(f"{unknown[0]} is none of {', '.join(known)}")
    tree = work.resolve() / "tree"
    tree.parent.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    _settle_in(tree)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"modules": {}}
    for name in modules or known:
        options = known[name]
        most = mutants or options["mutants"]
        session = Session(name, tree, options["tests"], most, seed, configuration["exclude-operators"])
        prepare(session)
        execute(session)
        found = results["modules"] | {name: outcome(session)}
        results["modules"] = {k: found[k] for k in known if k in found}
        results["measured"] = f"{datetime.datetime.now(tz=datetime.UTC):%d %B %Y}"
        results |= {"cosmic-ray": version("cosmic-ray"), "seed": seed}
        _write(results, configuration)
        click.echo(f"{name}: {found[name]['killed']} of {found[name]['run']} killed")
        for each in found[name]["survivors"]:
            click.echo(f"  {each['before']}\n  -> {each['after']}")


if __name__ == "__main__":
    main()
