"""`softcert gate` in a scratch project whose kernel is edited, as a CI job would see it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from softcert.cli import main

KERNEL = """
import numpy as np

def softmax(x, axis=-1):
    wide = {wide}
    terms = np.exp({shifted})
    return (terms / np.sum(terms, axis=axis, keepdims=True)).astype(x.dtype)
"""
SHIFTED = "wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)"
KERNELS = {
    "good": KERNEL.format(wide="x.astype(np.float64)", shifted=SHIFTED),
    "worse": KERNEL.format(wide="x  # as it comes", shifted=SHIFTED),
    "broken": KERNEL.format(wide="x", shifted="wide"),
}
CONFIG = """
profile = "smoke"

[[subjects]]
subject = "kernel.py:softmax"
name = "mine"
ops = "softmax"
dtypes = "float32"
clauses = ["stability.magnitude", "accuracy.certified"]
"""
BASELINE = 'baseline = "baseline.json"\n'
EXPECTED = """
[[subjects.expected_failures]]
clause = "{clause}"
reason = "overflows, issue 7"
"""
BOTH = EXPECTED.format(clause="stability.magnitude") + EXPECTED.format(clause="accuracy")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a kernel; returns what edits its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def edit(kernel=None, config=None):
        if kernel:
            (tmp_path / "kernel.py").write_text(KERNELS[kernel])
        if config is not None:
            (tmp_path / "softcert.toml").write_text(config)
        return tmp_path

    edit("good", CONFIG)
    return edit


def gate(*args):
    return CliRunner().invoke(main, ["gate", *map(str, args)])


def test_a_kernel_is_held_to_the_accuracy_it_had(project):
    folder = project("good", CONFIG + BASELINE)
    written = gate("--update-baseline")
    assert written.exit_code == 0, written.output
    assert "wrote baseline.json" in written.stdout
    assert json.loads((folder / "baseline.json").read_text())["subject"]["name"] == "mine"
    assert gate().exit_code == 0
    project("worse")
    result = gate()
    assert result.exit_code == 1
    assert "the grade fell from" in result.stdout
    assert "ulp in the baseline" in result.stdout
    assert "gate is broken: mine." in result.stdout
    project("good")
    assert gate().exit_code == 0


def test_a_broken_kernel_keeps_its_baseline(project):
    folder = project("good", CONFIG + BASELINE)
    assert gate("--update-baseline").exit_code == 0
    before = (folder / "baseline.json").read_text()
    project("broken")
    result = gate("--update-baseline")
    assert result.exit_code == 1
    assert "was left as it was" in result.stdout
    assert (folder / "baseline.json").read_text() == before


def test_broken_then_expected_then_fixed_while_still_listed(project):
    project("broken")
    assert gate().exit_code == 1
    project(config=CONFIG + BOTH)
    expected = gate()
    assert expected.exit_code == 0, expected.stdout
    project("good")
    fixed = gate()
    assert fixed.exit_code == 1
    assert "unexpected pass" in fixed.stdout
    assert "remove the expected failure 'stability.magnitude/*/*' (overflows, issue 7)" in fixed.stdout
    project(config=CONFIG)
    assert gate().exit_code == 0


def test_a_stored_witness_is_replayed_first(project):
    folder = project("broken")
    assert gate("--save-witnesses", "stored").exit_code == 1
    name = "stored/stability.magnitude-softmax-float32.json"
    witness = EXPECTED.format(clause="stability.magnitude") + f'witness = "{name}"\n'
    project(config=CONFIG + witness + EXPECTED.format(clause="accuracy"))
    result = gate("--json", "-")
    assert result.exit_code == 0
    (run,) = json.loads(result.stdout)["runs"]
    by_clause = {verdict["clause"]: verdict for verdict in run["verdicts"]}
    assert "its stored witness still shows it" in by_clause["stability.magnitude"]["message"]
    assert (
        by_clause["stability.magnitude"]["witness"]["trial"]
        == json.loads((folder / name).read_text())["trial"]
    )
    project("good")
    assert "nor does its stored witness" in gate().stdout


def test_a_folder_of_witnesses_is_replayed(project):
    project("broken")
    assert gate("--save-witnesses", "stored").exit_code == 1
    project(config='witnesses = "stored"\n' + CONFIG)
    broken = gate()
    assert broken.exit_code == 1
    assert "2 stored witnesses replayed, 2 broken" in broken.stdout
    project("good")
    fixed = gate()
    assert fixed.exit_code == 0
    assert "2 stored witnesses replayed, 0 broken" in fixed.stdout


def test_outputs_hold_what_broke(project, monkeypatch):
    folder = project("broken")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    assert gate("--json", "r.json", "--junit", "j.xml", "--markdown", "m.md").exit_code == 1
    (run,) = json.loads((folder / "r.json").read_text())["runs"]
    assert {verdict["status"] for verdict in run["verdicts"]} == {"fail"}
    assert len(ET.parse(folder / "j.xml").getroot().findall(".//failure")) == 2
    page = (folder / "m.md").read_text()
    assert page.startswith("# softcert gate is broken\n")
    assert "- **broken** `stability.magnitude` softmax float32: " in page
    assert (folder / "summary.md").read_text() == page


def test_pyproject_holds_the_configuration_too(project):
    folder = project()
    (folder / "softcert.toml").unlink()
    table = CONFIG.replace("[[subjects]]", "[[tool.softcert.subjects]]")
    (folder / "pyproject.toml").write_text("[tool.softcert]\n" + table)
    assert "gate holds: 1 subject." in gate().stdout


SUBJECT = '[[subjects]]\nsubject = "kernel.py:softmax"\nops = "softmax"\n'


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("subjects = [", ["is not TOML"]),
        ("", ["key subjects", "is missing"]),
        ("seeed = 1\n" + SUBJECT, ["seeed", "did you mean"]),
        ("seed = -1\n" + SUBJECT, ["key seed has to be an integer"]),
        ('profile = "quik"\n' + SUBJECT, ["profile", "'quik'"]),
        (SUBJECT + 'clauses = "stabilty"\n', ["subjects[0].clauses", "did you mean"]),
        (SUBJECT + 'dtypes = "float23"\n', ["subjects[0].dtypes", "did you mean"]),
        (SUBJECT.replace('"softmax"', '"softmx"'), ["subjects[0].ops", "did you mean"]),
        (SUBJECT + 'contract = "none.toml"\n', ["subjects[0].contract", "none.toml"]),
        (SUBJECT + "contract = {acumulator = 1}\n", ["subjects[0].contract", "acumulator"]),
        (SUBJECT + 'witnesses = "none"\n', ["subjects[0].witnesses", "there is no folder 'none'"]),
        (SUBJECT + 'baseline = "none.json"\n', ["subjects[0]", "none.json is not there"]),
        (SUBJECT + 'expected_failures = [{clause = "accuracy"}]\n', ["reason", "is missing"]),
        (SUBJECT + 'expected_failures = "none.toml"\n', ["subjects[0].expected_failures", "none.toml"]),
        (SUBJECT.replace("kernel.py", "none.py"), ["subjects[0]", "none.py"]),
    ],
)
def test_a_wrong_configuration_is_told_by_file_and_key(config, words, project):
    project(config=config)
    result = gate()
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in ["softcert.toml", *words]), result.stderr
    assert result.stdout == ""


def test_no_configuration_at_all(project):
    (project() / "softcert.toml").unlink()
    result = gate()
    assert result.exit_code == 2
    assert "there is no softcert.toml" in result.stderr


@pytest.mark.slow
def test_attention_is_timed_beside_its_reference(project):
    config = """
profile = "smoke"

[[subjects]]
subject = "numpy"
ops = "attention"
dtypes = "float32"
clauses = "attention.causal"
speed = {reference = "numpy-naive", at_most = 1e6}
"""
    project(config=config)
    done = CliRunner().invoke(main, ["gate", "--speed", "--json", "-"])
    assert done.exit_code == 0, done.stderr
    *_, times = json.loads(done.stdout)["runs"]
    assert [v["clause"] for v in times["verdicts"]] == ["speed.8x512x512x64", "speed.8x1x8192x64"]
    assert {v["status"] for v in times["verdicts"]} == {"pass"}
