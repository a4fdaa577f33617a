"""Expected failures: read, matched and settled."""

from __future__ import annotations

import pytest

from softcert import check
from softcert.conformance.expected import ExpectedFailure, as_expected, read_expected
from softcert.conformance.model import RequestError

WANTED = {"ops": "softmax", "dtypes": "float32", "clauses": "stability.magnitude", "profile": "smoke"}
KEY = "stability.magnitude/softmax/*"


def test_a_broken_clause_is_xfail_and_a_sound_one_is_an_unexpected_pass():
    (verdict,) = check("numpy-naive", **WANTED, expected_failures={KEY: "by design"}).verdicts
    assert verdict.status == "xfail"
    assert verdict.message.startswith("by design (")
    (verdict,) = check("numpy", **WANTED, expected_failures={KEY: "by design"}).verdicts
    assert verdict.status == "fail"
    assert "unexpected pass" in verdict.message


@pytest.mark.parametrize(
    ("entry", "matches"),
    [
        ({"clause": "stability"}, True),
        ({"clause": "stability.*"}, True),
        ({"clause": "stability.nan"}, False),
        ({"clause": "*", "op": "softmax"}, True),
        ({"clause": "*", "dtype": "float1*"}, False),
    ],
)
def test_an_entry_names_a_clause_a_group_or_a_pattern(entry, matches):
    expected = ExpectedFailure(reason="known", **entry)
    assert expected.matches("stability.magnitude", "softmax", "float32") is matches


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"reason": "x"}], "lacks its clause"),
        ([{"clause": "x"}], "lacks its reason"),
        ([{"clause": "x", "reason": " "}], "has to be text that says why"),
        ([3], "a list with 3"),
        ({"stability": "x"}, "has to be clause/op/dtype"),
        ("text", "has to be a mapping"),
    ],
)
def test_what_is_no_entry_is_refused(given, words):
    with pytest.raises(RequestError, match=words):
        as_expected(given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("expected = []", "holds the key 'expected'"),
        ("", "holds no list"),
        ("expected_failures = [3]", "a list with 3"),
    ],
)
def test_a_wrong_file_is_named(text, words, tmp_path):
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"known\.toml: .*" + words):
        read_expected(path)


def test_witnesses_are_named_beside_the_file(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text('[[expected_failures]]\nclause = "accuracy"\nreason = "x"\nwitness = "w.json"\n')
    (entry,) = read_expected(path)
    assert entry.witness == tmp_path / "w.json"


def test_an_entry_that_matches_nothing_is_refused():
    with pytest.raises(RequestError, match="'stabilty/\\*/\\*' matches no"):
        check("numpy", **WANTED, expected_failures={"stabilty/*/*": "a slip"})
