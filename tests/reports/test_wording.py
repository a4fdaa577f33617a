"""Numbers are rounded to the side that keeps them true, and no text hides anything."""

from __future__ import annotations

import math
import shlex
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcert.reports.wording import above, command_line, count, interval, number, printable, seconds


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_certified_ends_are_rounded_outwards(value, digits):
    text = interval((value, math.nextafter(value, math.inf)), digits)
    ends = text.strip("[]").split(", ")
    assert Decimal(ends[0]) <= Decimal(value)
    assert Decimal(ends[-1].replace("∞", "Infinity")) >= Decimal(value)
    assert Decimal(above(value, digits)) >= Decimal(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (2.5, "2.5"), (123456.0, "123500"), (1e12, "1e12"), (1.5e-9, "1.5e-9"),
     (math.inf, "∞"), (-math.inf, "−∞"), (math.nan, "NaN"), (0.30000000000000004, "0.3")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


def test_intervals_keep_digits_that_can_be_compared():
    assert interval((2.5, 2.5)) == "2.5"
    assert interval((2.53999, 2.54002)) == "[2.5399, 2.5401]"
    assert interval((0.3950001, 0.3950002)) == "[0.39500, 0.39501]"
    assert interval((3.0, math.inf)) == "[3, ∞]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5e-9, "2.5 ns"), (1.25e-5, "12.5 µs"), (0.0123, "12.3 ms"), (61.25, "61.2 s"), (0.0, "0 ns")],
)
def test_seconds(value, text):
    assert seconds(value) == text


def test_count():
    assert count(1, "clause") == "1 clause"
    assert count(1200, "witness", "witnesses") == "1,200 witnesses"


def test_nothing_invisible_stays_invisible():
    assert printable("a\x00\x1b[31m\u202eb\ud800\n") == "a\\u0000\\u001b[31m\\u202eb\\ud800\\u000a"
    assert printable("ünï 中 \U0001f600 <b>") == "ünï 中 \U0001f600 <b>"


def test_command_line_can_be_pasted():
    request = {"profile": "quick", "seed": 3, "ops": ["softmax"], "dtypes": ["float32"], "clauses": ["a.b"]}
    line = command_line("my file.py:f; rm -rf $HOME", request, ["a.b", "c.d"])
    assert shlex.split(line) == [
        "softcert", "check", "my file.py:f; rm -rf $HOME", "--op", "softmax", "--dtype", "float32",
        "--clause", "a.b", "--profile", "quick", "--seed", "3",
    ]  # fmt: skip


def test_command_line_leaves_out_the_clauses_when_all_were_asked_for():
    assert command_line("numpy", {"clauses": ["a.b", "c.d"]}, ["c.d", "a.b"]) == "softcert check numpy"
    assert command_line("numpy", {}) == "softcert check numpy"
