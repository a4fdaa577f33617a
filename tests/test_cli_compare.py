"""`softcert compare` as it is called: exit statuses, files, and one sentence for what is wrong."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.wire.runs import report_to_json, run_to_json, write_document

CHECK = ("check", "--op", "softmax", "--dtype", "float32", "--clause", "logistic", "--profile", "smoke")


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("numpy", "numpy-naive"):
        result = run(*CHECK, name, "--json", folder / f"{name}.json")
        assert result.exit_code in (0, 1), result.stderr
    return folder / "numpy.json", folder / "numpy-naive.json"


def test_worse_is_status_1_and_better_is_0(files, tmp_path):
    good, bad = files
    worse = run("compare", good, bad, "--html", tmp_path / "c.html", "--json", tmp_path / "c.json")
    assert worse.exit_code == 1
    assert "newly broken" in worse.stdout
    assert json.loads((tmp_path / "c.json").read_text())["worse"] is True
    assert "newly broken" in (tmp_path / "c.html").read_text()
    better = run("compare", bad, good)
    assert better.exit_code == 0
    assert "newly passing" in better.stdout
    assert run("compare", good, good).exit_code == 0


def test_what_goes_to_stdout_is_alone_there(files):
    result = run("compare", *files, "--markdown", "-")
    assert result.exit_code == 1
    assert result.stdout.startswith("# softcert compare")
    assert "newly broken" in result.stderr


def test_a_report_is_compared_with_a_run(files, tmp_path):
    from softcert.conformance.wire.runs import read_run

    runs = [read_run(path) for path in files]
    write_document(report_to_json(runs), tmp_path / "report.json")
    write_document(run_to_json(runs[0]), tmp_path / "run.json")
    result = run("compare", tmp_path / "run.json", tmp_path / "report.json")
    assert result.exit_code == 0, result.stderr
    assert "alone: numpy-naive" in result.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('{"schema": 2, "kind": "run"}', "schema 2"),
        ('{"schema": 1, "kind": "witness"}', "holds a witness, not a run"),
        ('{"schema": 1, "kind": "run"}', "is not a valid run"),
        ('{"schema": 1, "kind": "report", "runs": []}', "holds no run"),
        ('{"schema": 1, "kind": "report", "runs": [{}]}', "is not a valid report"),
    ],
)
def test_a_file_that_is_wrong_costs_one_sentence(files, tmp_path, content, words):
    path = tmp_path / "wrong.json"
    if content is not None:
        path.write_text(content)
    for args in ((path, files[0]), (files[0], path)):
        result = run("compare", *args, "--html", tmp_path / "c.html")
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.startswith("softcert: ")
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "c.html").exists()


def test_no_result_replaces_what_is_read(files, tmp_path):
    before = files[0].read_bytes()
    for args in (
        ("--json", files[0]),
        ("--html", tmp_path / "x", "--json", tmp_path / "x"),
        ("--json", "-", "--markdown", "-"),
        ("--html", tmp_path / "no" / "such" / "folder.html"),
        ("--accuracy-factor", "0.5"),
        ("--speed-threshold", "-1"),
    ):
        result = run("compare", *files, *args)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert files[0].read_bytes() == before
