"""One pytest test per clause, in the suite of a kernel's author, run as that author runs it."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

import softcert
from softcert.conformance.model import RequestError
from softcert.pytest_plugin import ClauseCheck, ClauseViolation

TEST = """
import softcert

@softcert.parametrize_with_clauses({subjects}, ops=["softmax"], dtypes=["float32"], {options})
def test_clause(clause_check):
    clause_check()
"""


def run_suite(folder, subjects, options="clauses=['stability.magnitude', 'logistic']"):
    (folder / "test_kernel.py").write_text(TEST.format(subjects=subjects, options=options))
    # A suite of its own, also where the folder for temporary files lies within this project.
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-rxXs",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "test_kernel.py",
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)


def test_a_conforming_subject_passes_clause_by_clause(tmp_path):
    result = run_suite(tmp_path, ["numpy"])
    assert result.returncode == 0, result.stdout
    for clause in (
        c
        for c in _clauses()
        if "softmax" in c.ops and (c.id == "stability.magnitude" or c.group == "logistic")
    ):
        assert f"test_clause[numpy-{clause.id}-softmax-float32]" in result.stdout


def _clauses():
    from softcert.conformance import CLAUSES

    return CLAUSES


def test_a_broken_clause_fails_with_its_witness(tmp_path):
    result = run_suite(tmp_path, ["numpy-naive"])
    assert result.returncode == 1
    assert "ClauseViolation: stability." in result.stdout
    assert "x = [" in result.stdout


def test_an_expected_failure_is_an_xfail_and_an_unexpected_pass_fails(tmp_path):
    broken = _broken_by_naive()
    expected = {f"{clause}/softmax/*": "overflows by design" for clause in broken}
    options = f"clauses={broken!r}, expected_failures={expected!r}"
    result = run_suite(tmp_path, ["numpy-naive"], options)
    assert result.returncode == 0, result.stdout
    assert "overflows by design" in result.stdout
    result = run_suite(tmp_path, ["numpy"], options)
    assert result.returncode == 1
    assert "XPASS(strict)" in result.stdout


def _broken_by_naive():
    wanted = {"ops": ["softmax"], "dtypes": ["float32"], "clauses": ["stability.magnitude"]}
    run = softcert.check("numpy-naive", **wanted, profile="smoke")
    return sorted({verdict.clause for verdict in run.broken})


def test_an_expected_failure_that_matches_nothing_is_refused():
    with pytest.raises(RequestError, match=r"'stabilty/softmax/float32' matches no"):
        softcert.parametrize_with_clauses(["numpy"], expected_failures={"stabilty/softmax/float32": "a slip"})


@pytest.mark.parametrize("options", [{"ops": ["softmx"]}, {"dtypes": ["float23"]}, {"clauses": ["stabilty"]}])
def test_an_unknown_name_is_refused(options):
    with pytest.raises(RequestError, match="is unknown; did you mean"):
        softcert.parametrize_with_clauses(["numpy"], **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": []}, "there are no subjects"),
        ({"ops": []}, "ops is empty"),
        ({"clauses": ()}, "clauses is empty"),
        ({"dtypes": 3}, "dtypes has to be a name or a list of names, not 3"),
        ({"ops": ["softmax_vjp"]}, "has no op 'softmax_vjp'; it has softmax"),
        ({"clauses": ["limits.tropical"]}, "clause limits.tropical does not speak of softmax"),
        ({"clauses": ["limits.tropical", "logistic"]}, "clause limits.tropical does not speak of what is"),
        ({"profile": "quik"}, "the profiles are"),
        ({"profile": 3}, "profile has to be the name of a profile, not 3"),
        ({"seed": -1}, "seed has to be an integer"),
        ({"subjects": [3]}, "has to be a string, a path, a Backend or a function, not 3"),
        ({"subjects": None}, "not None"),
        ({"subjects": [lambda x: x]}, "say which with op="),
        ({"subjects": [lambda x, mask: x], "ops": "softmax"}, "requires an argument 'mask'"),
        ({"expected_failures": ["a"]}, "has to be a mapping from clause/op/dtype to a reason"),
        ({"expected_failures": {3: "a"}}, "a key of expected_failures has to be clause/op/dtype"),
        ({"expected_failures": {"limits": "a"}}, "a key of expected_failures has to be clause/op/dtype"),
        ({"expected_failures": {"limits/*/*": 3}}, "the reason of 'limits/*/*' has to be text, not 3"),
    ],
)
def test_what_would_make_no_test_is_refused(options, words):
    with pytest.raises(softcert.SoftcertError) as caught:
        softcert.parametrize_with_clauses(**{"subjects": [_only_softmax()], **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def _only_softmax():
    return softcert.Backend("one", {"softmax": _softmax})


def test_lone_names_subjects_partials_and_paths(tmp_path):
    kernel = tmp_path / "kernel.py"
    kernel.write_text("from softcert.backends.numpy_ import softmax\n")
    chosen = {"dtypes": "float32", "clauses": "logistic.one-class"}
    for subject in (f"{kernel}:softmax", kernel, functools.partial(_softmax, axis=-1), _only_softmax()):
        mark = softcert.parametrize_with_clauses(subject, ops="softmax", **chosen)
        (param,) = mark.args[1]
        assert param.values[0]().status == "pass"


@pytest.mark.parametrize(
    "key", ["limits/*/*", "limits.*/softmax/*", "*/softmax/float32", "limits.argmax/*/*"]
)
def test_an_expected_failure_may_name_a_group_or_a_pattern(key):
    mark = softcert.parametrize_with_clauses(
        _only_softmax(), dtypes="float32", clauses="limits", expected_failures={key: "on purpose"}
    )
    marked = {param.id for param in mark.args[1] if param.marks}
    assert "one-limits.argmax-softmax-float32" in marked
    assert len(marked) == (1 if "argmax" in key else len(mark.args[1]))


def test_a_check_can_be_called_without_pytest():
    check = ClauseCheck("numpy-naive", _broken_by_naive()[0], "softmax", "float32")
    with pytest.raises(ClauseViolation) as violation:
        check()
    assert violation.value.verdict.witness is not None
    assert isinstance(violation.value, AssertionError)


def test_functions_and_backends_are_subjects_too():
    mark = softcert.parametrize_with_clauses(
        [softcert.load("numpy"), _softmax], ops=["softmax"], dtypes=["float64"], clauses=["logistic"]
    )
    names = [param.id for param in mark.args[1]]
    assert {name.partition("-")[0] for name in names} == {"numpy", "_softmax"}
    for param in mark.args[1]:
        assert param.values[0]().status == "pass"


def _softmax(x, axis=-1):
    return softcert.load("numpy").ops["softmax"](x, axis=axis)
