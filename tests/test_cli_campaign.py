"""`softcert campaign` as it is called."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.campaigns.campaign import read_campaign
from softcert.conformance.proofs.proof import prove
from softcert.conformance.wire.runs import read_run

TASKS = """
from pathlib import Path

from softcert.conformance.campaigns.task import Task
from softcert.conformance.model import Verdict

def slices(settings):
    for number in range(settings.get("slices", 6)):
        yield {"key": str(number), "number": number}

def run(settings, piece):
    if piece["number"] in settings.get("raises", ()) and not Path("mended").exists():
        raise ValueError("<poison>")
    return {"cases": piece["number"]}

def merge(settings, results):
    cases = sum(result["cases"] for result in results)
    status = settings.get("status", "pass")
    found = {"status": status, "cases": cases, "exhaustive": "all of them"}
    return [Verdict("accuracy.certified", "softmax", "float16", **found)]

SUM = Task("sum", slices, run, merge)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a task of one's own, importable here and in workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), given])))
    (tmp_path / "own_task.py").write_text(TASKS, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("own_task", None)


def call(*args):
    return CliRunner().invoke(main, ["campaign", *map(str, args)])


def planned(*args):
    result = call("plan", "c.json", "--task", "own_task:SUM", *args)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_campaign_from_its_plan_to_its_result(folder):
    assert planned("--slices", "6").stdout == "c.json: 6 slices\n"
    result = call("run", "c.json", "--workers", 2, "--json", "run.json")
    assert result.exit_code == 0, result.stderr
    assert "own_task:SUM conforms: no clause broken, 1 verdict on 15 cases" in result.stdout
    run = read_run(folder / "run.json")
    assert run.verdicts[0].cases == 15
    assert run.verdicts[0].exhaustive == "all of them"
    assert run.request["campaign"] == read_campaign("c.json").digest
    assert (run.request["slices"], run.request["slices_done"]) == (6, 6)
    # Nothing is computed again, and the answer is the same.
    again = call("run", "c.json", "--json", "-")
    assert json.loads(again.stdout)["verdicts"] == json.loads((folder / "run.json").read_text())["verdicts"]
    status = call("status", "c.sqlite")
    assert "6 of 6 slices done (100.0%): the campaign is complete." in status.stdout
    assert call("result", "c.sqlite").exit_code == 0


def test_a_broken_clause_is_status_1(folder):
    planned("--set", "status=fail")
    assert call("run", "c.json", "--workers", 1).exit_code == 1
    assert call("result", "c.sqlite").exit_code == 1


def test_what_was_set_aside_is_told_and_tried_again(folder):
    planned("--set", "raises=[2, 3]")
    result = call("run", "c.json", "--workers", 1, "--attempts", 2)
    assert result.exit_code == 3
    assert "2 of 6 slices set aside" in result.stderr
    assert "the first, 2, after 2 attempts (ValueError: <poison>)" in result.stderr
    partial = call("result", "c.sqlite", "--json", "part.json")
    assert partial.exit_code == 0
    assert "so far: 4 of 6 slices, 2 set aside" in partial.stdout
    part = read_run(folder / "part.json")
    assert part.request["stopped"]
    assert part.verdicts[0].exhaustive == ""
    page = folder / "page.html"
    assert call("watch", "c.sqlite", "--page", page).exit_code == 0
    assert "&lt;poison&gt;" in page.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in page.read_text(encoding="utf-8")
    assert call("resume", "c.sqlite").exit_code == 3
    (folder / "mended").touch()
    mended = call("resume", "c.sqlite", "--retry")
    assert mended.exit_code == 0, mended.stderr
    assert "15 cases" in mended.stdout


def test_versions_that_changed_since_the_plan_are_refused(folder):
    planned()
    document = json.loads((folder / "c.json").read_text(encoding="utf-8"))
    document["versions"]["numpy"] = "1.0"
    (folder / "c.json").write_text(json.dumps(document), encoding="utf-8")
    result = call("run", "c.json")
    assert result.exit_code == 2
    assert re.search(r"the campaign is of numpy 1\.0, and here is numpy \d", result.stderr)


def test_a_store_of_another_campaign_is_refused(folder):
    planned("--slices", "3")
    assert call("run", "c.json", "--workers", 1).exit_code == 0
    planned("--slices", "4")
    result = call("run", "c.json")
    assert result.exit_code == 2
    assert "the store c.sqlite is of another campaign" in result.stderr
    assert call("run", "c.json", "--store", "other.sqlite", "--workers", 1).exit_code == 0


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("plan", "c.json", "--task", "nothing"), "there is no task 'nothing'"),
        (("plan", "c.json", "--task", "check", "numpy", "--op", "softmax"), "needs the dtype"),
        (("plan", "c.json", "--task", "check", "--op", "softmax", "--dtype", "float32"), "needs the subject"),
        (("plan", "c.json", "--task", "check", "numpy", "--op", "sofmax"), "did you mean 'softmax'?"),
        (("plan", "c.json", "--task", "own_task:SUM", "--set", "raises"), "a setting is NAME=VALUE"),
        (("run", "absent.json"), "cannot read absent.json"),
        (("resume", "absent.sqlite"), "there is no store absent.sqlite; `softcert campaign run` makes one"),
        (("watch", "absent.sqlite"), "there is no store absent.sqlite"),
    ],
)
def test_a_wrong_request_is_status_2_and_a_sentence(folder, args, sentence):
    result = call(*args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not Path("c.json").exists()


def test_the_clauses_of_a_check_at_many_seeds(folder):
    asked = ("numpy", "--task", "check", "--op", "softmax", "--dtype", "float32", "--slices", 2)
    chosen = ("--set", 'clauses=["logistic.two-classes"]')
    assert call("plan", "k.json", *asked, *chosen).exit_code == 0
    result = call("run", "k.json", "--workers", 2, "--json", "run.json")
    assert result.exit_code == 0, result.stderr
    run = read_run(folder / "run.json")
    assert (run.name, run.subject) == ("numpy", "numpy")
    assert [v.clause for v in run.verdicts] == ["logistic.two-classes"]
    one = json.loads(
        CliRunner()
        .invoke(main, ["check", "numpy", "--op", "softmax", "--dtype", "float32", "--clause",
                       "logistic.two-classes", "--profile", "smoke", "--json", "-"])
        .stdout
    )  # fmt: skip
    assert run.verdicts[0].cases == 2 * one["verdicts"][0]["cases"]


def test_a_proof_as_a_campaign_says_what_the_proof_alone_does(folder):
    """All pairs of a first number, in slices that do not end where its calls do, in two processes."""
    asked = ("numpy", "--task", "proof", "--domain", "pairs", "--op", "softmax", "--dtype", "float16")
    part = ("--slices", 3, "--set", f"first={15360 << 16}", "--set", f"last={15361 << 16}")
    assert call("plan", "p.json", *asked, *part).exit_code == 0
    result = call("run", "p.json", "--workers", 2, "--json", "run.json")
    assert result.exit_code == 0, result.stderr
    (verdict,) = read_run(folder / "run.json").verdicts
    alone = prove("numpy", "pairs", "softmax", "float16", first=15360 << 16, last=15361 << 16)
    assert (verdict.cases, verdict.status, verdict.exhaustive) == (1 << 16, "pass", "")
    assert (verdict.cases, verdict.elements, verdict.error_max, verdict.margin, verdict.message) == (
        alone.cases, alone.elements, alone.error_max, alone.margin, alone.message,
    )  # fmt: skip


def test_the_live_page_shows_the_store_and_nothing_else(folder):
    planned("--slices", "3")
    assert call("run", "c.json", "--workers", 1).exit_code == 0
    command = [sys.executable, "-m", "softcert", "campaign", "watch", "c.sqlite", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(address, timeout=30) as answer:
                page = answer.read().decode()
                assert answer.headers["Cache-Control"] == "no-store"
            assert "3 of 3 slices done" in page
            assert '<meta http-equiv="refresh" content="2">' in page
            for other in ("own_task.py", "../own_task.py", "favicon.ico"):
                with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                    urllib.request.urlopen(address + other, timeout=30)
                refused.value.close()
            Path("c.sqlite").write_bytes(b"no database" * 1000)
            for name in ("c.sqlite-wal", "c.sqlite-shm"):
                Path(name).unlink(missing_ok=True)
            with pytest.raises(urllib.error.HTTPError, match="503") as broken:
                urllib.request.urlopen(address, timeout=30)
            assert "damaged" in broken.value.read().decode()
            broken.value.close()
        finally:
            process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.slow
def test_a_search_on_islands_and_the_worst_cases_that_it_keeps(folder):
    """In one thread, since processes take long to start; tests/conformance/hunting has more of them."""
    from concurrent.futures import ThreadPoolExecutor

    from softcert.conformance.campaigns.driving import drive
    from softcert.conformance.campaigns.executors import executor_lane
    from softcert.conformance.campaigns.store_files import store_for
    from softcert.conformance.hunting.worst_cases import read_cases
    from softcert.conformance.proofs.subjects import release

    asked = ("--task", "search", "--op", "softmax", "--dtype", "float32", "--slices", 3)
    plan = call("plan", "h.json", "numpy", *asked, "--set", "islands=2", "--set", "budget=4")
    assert plan.stdout == "h.json: 3 slices\n", plan.stderr
    with store_for("h.sqlite", read_campaign("h.json")) as store:
        drive(store, [executor_lane(lambda: ThreadPoolExecutor(1), 1)])
    release()
    result = call("result", "h.sqlite", "--worst", "w.json", "--json", "run.json")
    assert result.exit_code == 0, result.stderr
    assert "worst cases kept in w.json" in result.stderr
    (verdict,) = read_run(folder / "run.json").verdicts
    assert f"softmax float32: {verdict.message}\n" in result.stdout
    cases = read_cases("w.json")
    assert {(case.subject, case.op, case.dtype) for case in cases} == {("numpy", "softmax", "float32")}
    assert cases[0].margin == verdict.margin
    assert max(case.error_ulp[1] for case in cases) == verdict.error_max[1]


def test_worst_cases_are_those_of_a_search(folder):
    planned("--slices", "1")
    assert call("run", "c.json", "--workers", 1).exit_code == 0
    result = call("result", "c.sqlite", "--worst", "w.json")
    assert result.exit_code == 2
    assert "c.sqlite is of the task sum, which looks for no worst cases" in result.stderr
    assert not Path("w.json").exists()
