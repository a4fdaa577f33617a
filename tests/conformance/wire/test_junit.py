"""JUnit files hold every verdict, whatever stands in names and messages."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from softcert.backends.types import Call, Failure, Output
from softcert.conformance.model import STATUSES, Finding, Run, Trial, Verdict, Witness
from softcert.conformance.wire.junit import run_to_junit, runs_to_junit


def make_witness(x, reply):
    finding = Finding(0, (1,), "softmax(x)[1]", ("0.25", "0.26"), "0x1p-1", (3.0, 4.0), 2.5, "too large")
    return Witness(
        "a.b", "softmax", "float32", "f.py:g", Trial((Call("softmax", (x,)),)), (reply,), finding, 5
    )


def make_run(*verdicts, name="kernel"):
    environment = {"date": "2026-01-02T03:04:05Z"}
    return Run("f.py:g", name, {}, environment, {"profile": "smoke", "seed": 5}, verdicts)


def test_every_status_has_its_place():
    verdicts = [
        Verdict("group.clause", "softmax", "float32", status, message=f"why {status}", seconds=0.25)
        for status in STATUSES
    ]
    suite = ET.fromstring(run_to_junit(make_run(*verdicts))).find("testsuite")
    assert (
        suite.attrib | {"name": "kernel", "tests": "6", "failures": "1", "errors": "1", "skipped": "3"}
        == suite.attrib
    )
    cases = dict(zip(STATUSES, suite.findall("testcase"), strict=True))
    assert all(case.get("classname") == "softmax.float32" for case in cases.values())
    assert cases["pass"].find("*") is None
    assert cases["fail"].find("failure").get("message") == "why fail"
    assert cases["error"].find("error").get("message") == "why error"
    for status in ("skip", "vacuous", "xfail"):
        assert cases[status].find("skipped").get("message") == f"{status}: why {status}"


def test_failures_hold_finding_and_witness_in_hexadecimal():
    x = np.array([0.0, -0.0, 1.5], dtype=np.float32)
    verdict = Verdict("a.b", "softmax", "float32", "fail", message="m", witness=make_witness(x, Output((x,))))
    text = ET.fromstring(run_to_junit(make_run(verdict))).find(".//failure").text
    for part in (
        "too large",
        "float32 [3]: 0x0.0p+0 -0x0.0p+0 0x1.8000000000000p+0",
        "softmax(x)[1] in [0.25, 0.26]",
        "[3, 4] ulp",
        "bound 2.5 ulp",
        "observed at [1] of call 0: 0x1p-1",
        "seed 5",
    ):
        assert part in text


def test_long_witnesses_are_cut_with_the_count():
    verdict = Verdict(
        "a.b",
        "softmax",
        "float64",
        "error",
        witness=make_witness(np.zeros(100), Failure("crash", "signal 11")),
    )
    assert "... 36 more" in ET.fromstring(run_to_junit(make_run(verdict))).find(".//error").text


@pytest.mark.parametrize(
    "text", ["<b>&\"'", "\x00\x1b[31m", "\ud800", "\ufffe", "]]>", "ünï 中 \U0001f600", ""]
)
def test_markup_and_control_characters_are_safe(text):
    verdict = Verdict(
        "a.b", "softmax", "float32", "fail", message=f"<m>{text}</m>", controls={text: "passed"}
    )
    root = ET.fromstring(run_to_junit(make_run(verdict, name=f"x{text}y")).encode())
    assert root.find("testsuite").get("name").startswith("x")
    message = root.find(".//failure").get("message")
    assert message.startswith("<m>")
    assert "\x1b" not in message
    assert "controls" in root.find(".//system-out").text


def test_several_runs_are_several_suites():
    runs = [make_run(Verdict("a.b", "softmax", "float32", "pass"), name=name) for name in ("one", "two")]
    root = ET.fromstring(runs_to_junit(runs))
    assert [suite.get("name") for suite in root.findall("testsuite")] == ["one", "two"]
    assert root.get("tests") == "2"
