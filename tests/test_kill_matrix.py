"""docs/kill-matrix.md is what docs/kill-matrix.json says, and that is what the rules say."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
#: Of the slow test: every so manyth implementation.
STEP = 40


@pytest.fixture(scope="module")
def program():
    """The programs, imported as their folder makes them importable."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("kill_matrix", "kill_matrix_page", "museum", "rival_data", "rival_rules")
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def found(program):
    return json.loads(program.kill_matrix.FOUND.read_text(encoding="utf-8"))


def test_page_is_in_step_with_what_was_found(program, found):
    page = program.kill_matrix_page.render(found, program.museum.entries())
    assert program.kill_matrix.PAGE.read_text(encoding="utf-8") == page
    counts = program.kill_matrix_page.counted(found, program.museum.entries())
    assert json.loads(program.kill_matrix.COUNTS.read_text(encoding="utf-8")) == counts


def test_every_fault_was_shown_to_the_rules(program, found):
    shown = {row["implementation"] for row in found["implementations"] if row["rules"]}
    assert {entry.name for entry in program.museum.entries() if entry.broken} <= shown


def test_softcert_notices_every_fault_and_no_correct_implementation(program, found):
    """Of those that it was asked about; what it was not asked about the page says."""
    rows = {row["implementation"]: row["softcert"] for row in found["implementations"]}
    for entry in program.museum.entries():
        judged = rows.get(entry.name)
        if judged is None:
            continue
        if entry.broken:
            assert judged["clause"].partition(".")[0] in entry.groups or "any" in entry.groups, entry.name
        else:
            assert not judged["clause"], entry.name


def test_incidents_name_planted_faults(program):
    planted = {entry.name for entry in program.museum.entries() if entry.broken}
    for incident in program.kill_matrix_page.incidents():
        assert bool(incident.get("faults")) != bool(incident.get("without")), incident["where"]
        for fault in incident.get("faults", ()):
            file, _, function = fault.partition(":")
            assert f"broken/{file}.py:{function}" in planted, fault


def second(program, op, dtype):
    return list(islice(program.rival_data.samples(op, dtype), 2))[1]


def asked(program):
    """Each rule with a small sample of each op and dtype of which it speaks."""
    for rule in program.rival_rules.RULES.values():
        for op in rule.ops:
            for dtype in rule.dtypes:
                yield rule, second(program, op, dtype)


def test_rules_accept_what_is_right_and_reject_what_is_not(program):
    for rule, sample in asked(program):
        wanted = sample.wanted
        assert rule.accepts(sample, wanted), (rule.name, sample.call.op)
        for wrong in (
            tuple(a * a.dtype.type(np.nan) for a in wanted),
            (wanted[0] + wanted[0].dtype.type(1), *wanted[1:]),
            (wanted[0][..., :-1], *wanted[1:]),
        ):
            assert not rule.accepts(sample, wrong), (rule.name, sample.call.op)


def test_webnn_counts_bit_patterns(program):
    sample = second(program, "softmax", "float32")
    (wanted,) = sample.wanted
    accepts = program.rival_rules.webnn
    for ulps, accepted in ((18, True), (19, False), (-18, True), (-19, False)):
        moved = (wanted.view(np.int32) + ulps).view(np.float32)
        assert accepts(sample, (moved,)) is accepted
    nothing = replace(sample, wanted=(np.zeros_like(wanted),))
    assert accepts(nothing, (-np.zeros_like(wanted),))


def test_flash_rule_allows_twice_the_error_of_the_peer(program):
    sample = second(program, "attention", "bfloat16")
    accepts = program.rival_rules.twice_the_peer
    reference = sample.single[0].to(sample.peer[0].dtype).float()
    error = (sample.peer[0].float() - reference).abs().max()
    slack = float(2 * error + 2 * 2.0**-8)
    for moved, accepted in ((1.9 * error, True), (slack * 1.5, False)):
        given = (reference + moved).to(sample.peer[0].dtype).float().numpy().astype(sample.wanted[0].dtype)
        assert accepts(sample, (given,)) is accepted


@pytest.mark.slow
def test_rules_say_of_a_sample_what_the_file_says(program, found):
    rows = {row["implementation"]: row["rules"] for row in found["implementations"]}
    for entry in program.museum.entries()[::STEP]:
        if rows.get(entry.name) is None:
            continue
        assert program.kill_matrix.ask_rules(entry) == rows[entry.name], entry.name
