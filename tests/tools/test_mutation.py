"""The published figures of mutation are the committed ones, and every survivor has its reason."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """
from __future__ import annotations


def clipped(x: int | float, most: float = 2.0) -> float | None:
    return min(x * 3.0 + 1.0, most) if x > 0.0 else None
"""


def imported(name):
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def published():
    """The program that writes the page, and what it reads."""
    program = imported("mutation_page")
    results, configuration = program.read()
    return SimpleNamespace(program=program, results=results, configuration=configuration)


@pytest.fixture(scope="module")
def program():
    pytest.importorskip("cosmic_ray")
    return imported("mutation")


# --- what is published ---


def test_the_page_is_that_of_the_committed_results(published):
    page = published.program.page(published.results, published.configuration)
    assert published.program.PAGE.read_text(encoding="utf-8") == page


def test_every_module_was_mutated_and_the_figures_add_up(published):
    modules = published.results["modules"]
    assert list(modules) == list(published.configuration["modules"])
    for name, module in modules.items():
        assert (ROOT / "conformance" / f"{name}.py").is_file()
        assert 10 <= module["run"] <= module["places"]
        assert module["killed"] + len(module["survivors"]) == module["run"]


def test_the_tests_that_prove_a_module_are_there(published):
    for options in published.configuration["modules"].values():
        files = [argument for argument in options["tests"] if argument.endswith(".py")]
        assert files
        assert all((ROOT / file).is_file() for file in files)


def test_every_reason_is_that_of_a_survivor_whose_line_still_stands(published):
    modules = published.results["modules"]
    for (name, before, after), (kind, reason) in published.program.reasons(published.configuration).items():
        assert kind in published.program.KINDS
        assert reason
        assert (before, after) in published.program.survivors_of(modules[name])
        source = (ROOT / "conformance" / f"{name}.py").read_text(encoding="utf-8")
        assert before in [line.strip() for line in source.splitlines()]


def test_a_survivor_without_a_reason_is_refused(published):
    results = {
        "modules": {
            "bounds": {"places": 9, "run": 1, "killed": 0, "survivors": [{"before": "a", "after": "b"}]}
        }
    }
    with pytest.raises(KeyError, match="'a', 'b'"):
        published.program.page(results, published.configuration)


def test_equivalent_mutants_do_not_count(published):
    survivors = [{"before": "a | b", "after": "b | a"}, {"before": "c", "after": "d"}]
    results = {
        "modules": {"bounds/softmax": {"places": 9, "run": 5, "killed": 3, "survivors": survivors}},
        "measured": "today",
        "cosmic-ray": "8",
        "seed": 1,
    }
    changes = [["a | b", "b | a"]], [["c", "d"]]
    explained = [
        {"module": "bounds/softmax", "kind": kind, "reason": "so it is", "changes": change}
        for kind, change in zip(("equivalent", "tolerated"), changes, strict=True)
    ]
    page = published.program.page(results, {"explained": explained})
    assert "| `conformance/bounds/softmax.py` | 9 | 5 | 3 | 1 | 1 | 75 % |\n" in page
    assert "| `bounds/softmax` | `a \\| b` | `b \\| a` | equivalent: so it is |\n" in page


# --- what is drawn ---


def items_of(program, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(SOURCE, encoding="utf-8")
    with program.use_db(tmp_path / "session.sqlite") as database:
        program.init([path], database, {})
        return database.work_items


def mutants(program, items, jobs):
    return {program._mutated(SOURCE, program._spec(item)) for item in items if item.job_id in jobs}


def test_a_sample_is_of_different_places_and_the_same_for_the_same_seed(program, tmp_path):
    items = items_of(program, tmp_path)
    drawn = program.sample(SOURCE, items, 4, "seed")
    assert len(drawn) == 4
    assert len({program._spec(i).start_pos for i in items if i.job_id in drawn}) == 4
    again = items_of(program, tmp_path)  # other jobs, the same mutants
    assert mutants(program, again, program.sample(SOURCE, again, 4, "seed")) == mutants(program, items, drawn)
    others = [mutants(program, items, program.sample(SOURCE, items, 4, str(k))) for k in range(5)]
    assert any(other != mutants(program, items, drawn) for other in others)


def test_annotations_are_not_mutated(program, tmp_path):
    items = items_of(program, tmp_path)
    everything = mutants(program, items, program.sample(SOURCE, items, 99, "seed"))
    assert len(everything) >= 6
    assert all(
        "x: int | float, most: float" in mutant and "-> float | None" in mutant for mutant in everything
    )
    assert all(program.meaning(mutant) != program.meaning(SOURCE) for mutant in everything)
    assert program.meaning("def f(:") is None
