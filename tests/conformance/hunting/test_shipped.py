"""The worst cases of the package: every run asks any subject for them, whatever it was found on."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from softcert.backends import Backend, available
from softcert.conformance import check
from softcert.conformance.hunting.worst_cases import FAMILY, KEPT, read_cases, shipped_cases

#: Numbers that an input of the package has at most, since every run asks for it.
LONGEST = 256
FOLDER = files("softcert.conformance") / "worst"
FILES = sorted(path.name for path in FOLDER.iterdir())


def softmax(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return terms / np.sum(terms, axis=axis, keepdims=True)


def verdict_on(function, dtype):
    subject = Backend(name="own", ops={"softmax": function})
    wanted = {"ops": "softmax", "dtypes": dtype, "clauses": "accuracy.certified", "profile": "smoke"}
    (verdict,) = check(subject, **wanted).verdicts
    return verdict


def rows_of(dtype):
    """Inputs of the package for a softmax that takes no temperature, as bytes."""
    cases = [case for case in shipped_cases() if (case.op, case.dtype) == ("softmax", dtype)]
    return {case.seedling.operands[0].tobytes() for case in cases if case.seedling.beta == 1.0}


def test_a_run_asks_any_subject_for_every_case_of_its_op_and_dtype(tmp_path):
    calls = tmp_path / "calls"

    def noting(x, axis=-1):
        with calls.open("a", encoding="utf-8") as file:
            file.write(f"{x.tobytes().hex()}\n")
        return softmax(x, axis)

    verdict = verdict_on(noting, "float32")
    assert len(rows_of("float32")) > KEPT
    assert rows_of("float32") <= set(map(bytes.fromhex, calls.read_text(encoding="utf-8").split()))
    # Of some lengths they are what the largest error was seen on.
    assert FAMILY in {entry["family"] for entry in verdict.statistics["by_length"]}


@pytest.mark.slow
def test_what_is_wrong_on_one_case_alone_is_found():
    wrong = max(rows_of("float64"), key=len)

    def softmax_but_once(x, axis=-1):
        return softmax(x, axis) * (1.01 if x.tobytes() == wrong else 1.0)

    verdict = verdict_on(softmax_but_once, "float64")
    assert verdict.status == "fail"
    assert verdict.witness.trial.calls[0].operands[0].tobytes() == wrong


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_package_holds_few_short_inputs_that_others_do_not_have(name):
    cases = read_cases(FOLDER / name)
    assert cases
    for case in cases:
        assert name == f"{case.op}-{case.dtype}.json"
        assert case.subject in available()
        assert sum(operand.size for operand in case.seedling.operands) <= LONGEST
        # Above 1 the case would be a finding, and "seed" names an input of a clause.
        assert case.margin <= 1.0
        assert case.found_by != "seed"
    assert len({case.key for case in cases}) == len(cases)
    assert max(Counter(case.subject for case in cases).values()) <= KEPT


def test_the_files_of_the_package_are_read():
    assert {f"{case.op}-{case.dtype}.json" for case in shipped_cases()} == set(FILES)
    assert {case.seedling.family for case in shipped_cases()} == {FAMILY}
