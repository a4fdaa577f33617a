"""The command line: what it prints, its exit statuses, and that a slip costs one sentence, never a run."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.wire.runs import read_run, read_witness, run_from_json

QUICK = ("--op", "softmax", "--dtype", "float32", "--clause", "stability.magnitude", "--profile", "smoke")
SAFE = """
import numpy as np

def softmax(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return terms / np.sum(terms, axis=axis, keepdims=True)
"""


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def softcert(*args, **keywords):
    command = [sys.executable, "-m", "softcert", *(str(arg) for arg in args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **keywords)


@pytest.fixture
def safe(tmp_path):
    path = tmp_path / "safe.py"
    path.write_text(SAFE)
    return path


# --- bad requests: one sentence, exit 2 ---


def assert_one_sentence(result, *words):
    stderr = result.stderr
    status = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert status == 2, stderr
    assert result.stdout == ""
    assert stderr.startswith("softcert: ")
    assert stderr.endswith((".\n", "?\n"))
    assert stderr.count("\n") == 1
    assert "Traceback" not in stderr
    for word in words:
        assert word in stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "no-such-backend", *QUICK], ["no-such-backend"]),
        (["check", "nunpy", *QUICK], ["nunpy", "numpy"]),
        (["check", "no_such_package.module:f", *QUICK], ["no_such_package"]),
        (["check", "no_such_file.py:f", *QUICK], ["no_such_file.py"]),
        (["check", "math:no_such_function", *QUICK], ["no_such_function"]),
        (["check", "math:pi", *QUICK], ["pi"]),
        (["check", "numpy:exp", "--dtype", "float32"], ["numpy:exp", "logsumexp"]),
        (["check", "numpy", "--op", "softmx"], ["'softmx'", "did you mean 'softmax'?"]),
        (["check", "numpy", "--op", "convolution"], ["'convolution'", "softmax", "logsumexp"]),
        (["check", "numpy-naive", "--op", "softmax_vjp"], ["softmax_vjp"]),
        (["check", "numpy", "--dtype", "float23"], ["'float23'"]),
        (["check", "numpy", "--dtype", "int32"], ["'int32'"]),
        (["check", "numpy", "--clause", "acuracy"], ["'acuracy'", "did you mean 'accuracy'?"]),
        (["check", "numpy", "--clause", "zzz"], ["'zzz'", "softcert spec"]),
        (["check", "numpy", "--profile", "qiuck"], ["'qiuck'", "did you mean 'quick'?"]),
        (["check", "numpy", "--seed", "-1"], ["--seed"]),
        (["check", "numpy", "--seed", "many"], ["many"]),
        (["check", "numpy", "--no-such-option"], ["--no-such-option"]),
        (["check"], ["SUBJECT"]),
        (["chekc", "numpy"], ["chekc"]),
        (
            ["report", "no-such-backend", "--no-open", "--profile", "smoke", "--out", "OUT"],
            ["no-such-backend"],
        ),
        (["eval", "softmax"], ["at least one number"]),
        (["eval", "softmax", "1", "two"], ["'two'"]),
        (["eval", "softmx", "1"], ["did you mean 'softmax'?"]),
        (["eval", "softmax", "1", "--digits", "0"], ["--digits"]),
        (["eval", "softmax", "1", "--digts", "5"], ["--digits"]),
        (["eval", "softmax", "1", "--beta", "1", "--temperature", "1"], ["exclude"]),
        (["eval", "softmax", "1", "--temperature", "0"], ["positive"]),
        (["eval", "softmax", "1", "--beta", "inf"], ["finite"]),
        (["eval", "logsumexp", "1", "--beta", "2"], ["logsumexp"]),
        (["eval", "softmax_vjp", "0.5", "0.5", "/", "1"], ["equally long"]),
        (["eval", "softmax_vjp", "0.5", "0.5"], ["y / dy"]),
        (["eval", "gumbel_softmax", "1", "2"], ["draws its result"]),
        (["eval", "softmax", "1e99999999", "--exact"], ["1e99999999"]),
        (["eval", "softmax", "1/0", "--exact"], ["1/0"]),
        (
            ["check", "numpy", "--op", "logsumexp", "--clause", "limits.argmax"],
            ["limits.argmax does not speak of logsumexp"],
        ),
        (["eval", "softmax", "1e400", "1"], ["'1e400' is beyond the largest float64"]),
        (["eval", "softmax", "-0x1p5000", "1"], ["'-0x1p5000' is beyond the largest float64"]),
        (["eval", "softmax", "1", "--beta", "1e400"], ["'1e400' is beyond the largest float64"]),
        (["eval", "softmax", "1e999999", "--exact"], ["takes exponents up to 5000, and '1e999999' has more"]),
        (["eval", "softmax", "abce999999", "--exact"], ["is not a decimal number or fraction"]),
        (["spec", "--format", "pdf"], ["pdf"]),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(run(*args), *words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_library\n", ["no_such_library"]),
        ("def f(x:\n", ["SyntaxError"]),
        ("raise RuntimeError('no licence server')\n", ["no licence server"]),
        ("g = 1\n", ["f"]),
        ("f = 1\n", ["f"]),
        ("import sys\nsys.exit(0)\n", ["subject.py"]),
    ],
)
def test_a_subject_that_cannot_be_loaded_is_one_sentence(source, words, tmp_path):
    path = tmp_path / "subject.py"
    path.write_text(source)
    assert_one_sentence(run("check", f"{path}:f", *QUICK), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["JSON"]),
        ("{", ["JSON"]),
        ("[1, 2]", ["object"]),
        ("{}", ["schema"]),
        ('{"schema": 1, "kind": "run"}', ["witness"]),
        ('{"schema": 1, "kind": "witness"}', ["witness"]),
        ('{"schema": 99, "kind": "witness"}', ["99"]),
        ('{"schema": NaN}', ["NaN"]),
        ("\udcff\udcfe", ["UTF-8"]),
    ],
)
def test_a_malformed_witness_is_one_sentence(content, words, tmp_path):
    path = tmp_path / "witness.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert_one_sentence(run("replay", path), *words)


def test_a_missing_witness_is_one_sentence(tmp_path):
    assert_one_sentence(run("replay", tmp_path / "none.json"), "none.json")
    assert_one_sentence(run("replay", tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.json", "{", ["JSON"]),
        ("c.json", "[]", ["table"]),
        ("c.json", '{"exp_ulps": 3}', ["exp_ulps"]),
        ("c.json", '{"exp_ulp": -3}', ["exp_ulp"]),
        ("c.toml", "form = ", ["TOML"]),
        ("c.toml", "form = 'product'", ["form"]),
    ],
)
def test_a_wrong_contract_is_one_sentence(name, content, words, tmp_path):
    (tmp_path / name).write_text(content)
    assert_one_sentence(run("check", "numpy", *QUICK, "--contract", tmp_path / name), *words)


@pytest.mark.parametrize("option", ["--json", "--junit", "--html", "--save-witnesses"])
def test_an_unwritable_target_is_refused_before_the_run(option, tmp_path, monkeypatch):
    """Whoever finds out after an hour that the result cannot be kept has lost a run."""

    def never(*_args, **_keywords):
        raise AssertionError("the run began")

    monkeypatch.setattr("softcert.conformance.check", never)
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "inside"
    assert_one_sentence(run("check", "numpy", *QUICK, option, target), "inside")
    if option in ("--json", "--junit"):
        assert_one_sentence(run("check", "numpy", *QUICK, option, tmp_path), str(tmp_path))


def test_an_unwritable_report_folder_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("softcert.conformance.check", lambda *_a, **_k: pytest.fail("the run began"))
    (tmp_path / "file").write_text("in the way")
    assert_one_sentence(run("report", "numpy", "--no-open", "--out", tmp_path / "file"), "file")


def test_bad_requests_of_a_real_process(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_library\n")
    assert_one_sentence(softcert("check", f"{broken}:f", *QUICK), "no_such_library")
    assert_one_sentence(softcert("check", "no-such-backend", *QUICK), "no-such-backend")
    assert_one_sentence(softcert("replay", broken), "JSON")


# --- softcert's own failures: exit 3 ---


@pytest.mark.parametrize("subcommand", [["check", "numpy"], ["report", "numpy", "--no-open", "--out", "OUT"]])
def test_a_defect_of_softcert_itself_is_exit_3(subcommand, monkeypatch, tmp_path):
    def broken(*_args, **_keywords):
        raise ZeroDivisionError("division by zero")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softcert.conformance.check", broken)
    result = run(*subcommand, *QUICK)
    assert result.exit_code == 3
    assert "softcert itself failed with ZeroDivisionError: division by zero" in result.stderr
    assert "report it" in result.stderr
    assert result.stderr.count("\n") == 1


def test_disagreeing_oracles_are_exit_3(monkeypatch):
    from softcert.conformance.model import OracleError

    def disagree(*_args, **_keywords):
        raise OracleError("softmax([1, 2])[0]: mpmath and Arb do not overlap")

    monkeypatch.setattr("softcert.conformance.check", disagree)
    result = run("check", "numpy", *QUICK)
    assert result.exit_code == 3
    assert "oracles disagree" in result.stderr
    assert "mpmath and Arb do not overlap" in result.stderr


# --- check ---


def test_a_conforming_subject_is_exit_0(safe):
    result = run("check", f"{safe}:softmax", *QUICK)
    assert result.exit_code == 0, result.output
    assert re.search(r"conforms: no clause broken, 1 verdict on \d+ cases", result.stdout)
    assert result.stderr == ""


def test_a_broken_clause_is_exit_1_with_its_witness(tmp_path):
    result = run("check", "numpy-naive", *QUICK, "--json", tmp_path / "run.json")
    assert result.exit_code == 1
    assert "numpy-naive does not conform" in result.stdout
    assert re.search(r"FAIL  stability\.\S+  softmax float32", result.stdout)
    assert re.search(r"x = \[-?0x[01]\.[0-9a-f]+p[+-]\d+", result.stdout)
    recorded = read_run(tmp_path / "run.json")
    assert not recorded.conforms
    assert recorded.request["profile"] == "smoke"


def test_a_crash_of_the_subject_is_exit_1(tmp_path):
    path = tmp_path / "crashes.py"
    path.write_text("import os, signal\ndef f(x, axis=-1):\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    result = run("check", f"{path}:f", *QUICK)
    assert result.exit_code == 1
    assert re.search(r"ERROR  stability\.\S+  softmax float32", result.stdout)


def test_json_to_stdout_is_alone_there(safe):
    result = softcert("check", f"{safe}:softmax", *QUICK, "--json", "-")
    assert result.returncode == 0
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert run_from_json(document).conforms
    assert "conforms" in result.stderr


def test_a_fixed_seed_gives_a_fixed_run(safe):
    def verdicts():
        document = json.loads(run("check", f"{safe}:softmax", *QUICK, "--seed", 5, "--json", "-").stdout)
        for verdict in document["verdicts"]:
            for name in ("seconds", "oracle_seconds", "subject_seconds"):
                del verdict[name]
        return document["verdicts"]

    assert verdicts() == verdicts()


def test_every_output_file_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    result = run(
        *("check", "numpy-naive", *QUICK),
        *("--json", tmp_path / "run.json", "--junit", tmp_path / "run.xml"),
        *("--html", tmp_path / "page", "--save-witnesses", tmp_path / "new" / "witnesses"),
    )
    assert result.exit_code == 1, result.output
    assert "<testsuite" in (tmp_path / "run.xml").read_text()
    assert list((tmp_path / "page").glob("*.html"))
    assert list((tmp_path / "new" / "witnesses").glob("stability.*-softmax-float32.json"))


def test_a_contract_file_changes_what_is_required(tmp_path, safe):
    contract = tmp_path / "contract.toml"
    contract.write_text('exp_ulp = 1.5\nform = "division"\n')
    result = run("check", f"{safe}:softmax", *QUICK, "--contract", contract, "--json", "-")
    assert json.loads(result.stdout)["subject"]["contract"]["exp_ulp"] == 1.5


def test_ctrl_c_keeps_the_verdicts_that_were_reached(tmp_path, safe, monkeypatch):
    from softcert import conformance

    original = conformance.check

    def stopped(*args, progress, **keywords):
        def watch(step):
            progress(step)
            if step.verdict is not None:
                raise KeyboardInterrupt

        return original(*args, progress=watch, **keywords)

    monkeypatch.setattr("softcert.conformance.check", stopped)
    result = run("check", f"{safe}:softmax", *QUICK, "--clause", "logistic", "--json", tmp_path / "run.json")
    assert result.exit_code == 130
    assert len(read_run(tmp_path / "run.json").verdicts) == 1


def test_ctrl_c_ends_a_real_process_without_a_traceback(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ndef f(x, axis=-1):\n    time.sleep(0.5)\n    return x\n")
    command = [
        sys.executable,
        "-m",
        "softcert",
        "check",
        f"{slow}:f",
        "--op",
        "softmax",
        "--profile",
        "smoke",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        time.sleep(4)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr


# --- replay ---


@pytest.fixture(scope="module")
def witness(tmp_path_factory):
    folder = tmp_path_factory.mktemp("witnesses")
    run("check", "numpy-naive", *QUICK, "--save-witnesses", folder)
    return min(folder.glob("*.json"))


def test_replay_repeats_the_violation(witness):
    result = run("replay", witness)
    assert result.exit_code == 1
    assert "still broken" in result.stdout


def test_replay_asks_another_subject(witness):
    result = run("replay", witness, "--subject", "numpy")
    assert result.exit_code == 0, result.output
    assert "not broken" in result.stdout


def test_a_ragged_witness_is_one_sentence(witness, tmp_path):
    document = json.loads(witness.read_text())
    operand = document["trial"]["calls"][0]["operands"][0]
    operand["hex"] = operand["hex"][:-1]
    path = tmp_path / "ragged.json"
    path.write_text(json.dumps(document))
    assert_one_sentence(run("replay", path), "ragged.json")


def test_a_saved_witness_is_whole(witness):
    assert read_witness(witness).subject == "numpy-naive"


# --- report ---


@pytest.fixture
def briefly(monkeypatch):
    """Kernels are timed on one small problem: how fast they are is not what is tested."""
    monkeypatch.setattr("softcert.reports.speed.problems.LADDER", ((8, 16),))


def test_report_of_several_subjects(tmp_path, safe, briefly):
    pytest.importorskip("matplotlib")
    result = run("report", "numpy", "numpy-naive", *QUICK, "--no-open", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output  # a report was written, whatever it says
    page = (tmp_path / "out" / "report.html").read_text()
    assert "numpy-naive" in page
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == {"numpy.json", "numpy-naive.json"}


def test_a_subject_that_fails_does_not_cost_the_others(tmp_path, briefly):
    pytest.importorskip("matplotlib")
    result = run("report", "no-such-backend", "numpy", *QUICK, "--no-open", "--out", tmp_path)
    assert result.exit_code == 2
    assert "no-such-backend" in result.stderr
    assert "numpy" in (tmp_path / "report.html").read_text()


def test_a_report_on_every_backend_is_in_float32(tmp_path, monkeypatch, briefly):
    pytest.importorskip("matplotlib")
    module = importlib.import_module("softcert.cli.report")
    monkeypatch.setattr(module, "all_that_run", lambda ops: ("numpy-naive",))
    wanted = ("--op", "softmax", "--clause", "logistic.two-classes", "--no-open", "--out", tmp_path)
    result = run("report", *wanted)
    assert "float32; --dtype asks for others" in result.stderr
    verdicts = json.loads((tmp_path / "runs" / "numpy-naive.json").read_text())["verdicts"]
    assert {verdict["dtype"] for verdict in verdicts} == {"float32"}
    run("report", *wanted, "--dtype", "float64")
    verdicts = json.loads((tmp_path / "runs" / "numpy-naive.json").read_text())["verdicts"]
    assert {verdict["dtype"] for verdict in verdicts} == {"float64"}


def test_a_report_asks_each_backend_for_the_ops_that_it_has(tmp_path, briefly):
    pytest.importorskip("matplotlib")
    wanted = ("--op", "softmax_vjp", "--op", "softmax", "--dtype", "float64", "--clause", "purity.axis")
    result = run("report", "numpy", "numpy-naive", *wanted, "--no-open", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for name, ops in (("numpy", {"softmax", "softmax_vjp"}), ("numpy-naive", {"softmax"})):
        verdicts = json.loads((tmp_path / "runs" / f"{name}.json").read_text())["verdicts"]
        assert {verdict["op"] for verdict in verdicts} == ops
    lacking = run("report", "numpy-naive", "--op", "softmax_vjp", "--no-open", "--out", tmp_path)
    assert lacking.exit_code == 2
    assert "has no softmax_vjp" in lacking.stderr


# --- eval, spec, backends ---


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["softmax", "0", "0", "0", "--digits", "5"], ["0.33333"] * 3),
        (["softmax", "-1", "2", "--digits", "10"], ["0.04742587318", "0.9525741268"]),
        (["softmax", "-inf", "-1e5", "--digits", "3"], ["0", "1.00"]),
        (["logsumexp", "0x1p0", "0x1p0", "--digits", "12"], ["1.69314718056"]),
        (["softmax", "0", "10", "--temperature", "100", "--digits", "3"], ["0.475", "0.525"]),
        (
            ["softmax", "1/3", "0.2", "--exact", "--beta", "1/7", "--digits", "8"],
            ["0.50476176", "0.49523824"],
        ),
        (["softmax_jvp", "0.25", "0.75", "/", "1", "0", "--digits", "4"], ["0.1875", "-0.1875"]),
    ],
)
def test_eval_prints_certified_digits(args, lines):
    result = run("eval", *args)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == lines


def test_exact_decimals_differ_from_the_nearest_floats():
    exact = run("eval", "softmax", "0.1", "0.2", "--exact").stdout
    assert exact != run("eval", "softmax", "0.1", "0.2").stdout
    assert exact == run("eval", "softmax", "1", "2", "--temperature", "10").stdout


@pytest.mark.parametrize("style", ["text", "markdown", "json"])
def test_spec_names_every_clause(style):
    from softcert.conformance import CLAUSES

    result = run("spec", "--format", style)
    assert result.exit_code == 0
    assert all(clause.id in result.stdout for clause in CLAUSES)
    if style == "json":
        assert len(json.loads(result.stdout)["clauses"]) == len(CLAUSES)


def test_backends_lists_the_shipped_ones():
    result = run("backends")
    assert result.exit_code == 0
    for name in ("numpy", "numpy-naive", "scipy", "torch"):
        assert re.search(rf"^{name}\s", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["check", "report", "eval", "spec", "backends", "replay"])
def test_every_command_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"softcert {command}" in result.stdout.partition("xample")[2]


def test_version():
    assert re.fullmatch(r"softcert \d+\.\d+\.\d+\S*\n", run("--version").stdout)


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m softcert spec | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1


def test_a_call_may_be_given_more_time_or_less(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nfrom softcert.backends.numpy_ import softmax as plain\n\n\n"
        "def softmax(x, axis=-1):\n    time.sleep(0.3)\n    return plain(x, axis)\n"
    )
    asked = [
        "check",
        f"{tmp_path}/slow.py",
        "--op",
        "softmax",
        "--dtype",
        "float32",
        "--clause",
        "luce.ratio",
    ]
    done = run(*asked, "--profile", "smoke", "--time-limit", "0.05")
    assert done.exit_code == 1
    assert "hang in softmax" in done.stdout
    refused = run(*asked, "--time-limit", "0")
    assert refused.exit_code == 2
    assert "0.0 is not in the range x>0" in refused.stderr
