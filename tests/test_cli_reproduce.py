"""`softcert reproduce`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.reports.reproduce import Setting

TINY = ("fa3-table3", "--seeds", "2", "--keys", "40", "--queries", "3", "--depth", "4")


def run(*args):
    return CliRunner().invoke(main, ["reproduce", *map(str, args)])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["fa3-table3|bhh2021"]),
        (["fa3-table"], ["there is no target 'fa3-table'", "did you mean 'fa3-table3'?"]),
        (["everything"], ["fa3-table3, bhh2021"]),
        (["bhh2021", "--keys", "5"], ["--keys is for fa3-table3, not bhh2021"]),
        (["fa3-table3", "--depth", "96"], ["power of two", "96"]),
        (["fa3-table3", "--depth", "0"], ["--depth"]),
        (["fa3-table3", "--seeds", "0"], ["--seeds"]),
        (["fa3-table3", "--keys", "many"], ["many"]),
        (["fa3-table3", "--queries", "-1"], ["--queries"]),
        (["fa3-table3", "--queries", 10**6, "--keys", 10**6], ["queries x keys", "1000000 x 1000000"]),
        (["bhh2021", "--json", ""], ["an empty text is no path"]),
        (["bhh2021", "--json", "file/inside"], ["cannot write file/inside"]),
        (["bhh2021", "fa3-table3"], ["fa3-table3"]),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("softcert.reports.reproduce.fa3_table3.draw", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr("softcert.reports.reproduce.bhh2021.examine", lambda *_: pytest.fail("it began"))
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"softcert: .+[.?]\n", result.stderr)
    assert all(word in result.stderr for word in words)


def test_the_help_states_the_defaults():
    text = " ".join(run("-h").stdout.split())
    for name, value in vars(Setting()).items():
        (default,) = re.findall(rf"--{name} [ND] .*?\[default: (\d+)\]", text)
        assert int(default) == value


def test_the_table_of_flashattention_3(tmp_path):
    result = run(*TINY, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["kind"] == "reproduction"
    assert document["target"] == "fa3-table3"
    assert document["setting"] == {"seeds": 2, "keys": 40, "queries": 3, "depth": 4}
    lines = result.stdout.splitlines()
    assert "arXiv:2407.08608" in lines[0]
    assert lines[1].split()[:4] == ["arithmetic", "format", "median", "RMSE"]
    for line, row in zip(lines[2:], document["rows"], strict=False):
        *name, fmt, median, low, high, paper, ratio = line.split()
        assert " ".join(name) == row["arithmetic"]
        assert fmt == row["format"]
        assert float(median) == pytest.approx(row["rmse"]["median"], rel=5e-3)
        assert float(low) == pytest.approx(min(row["rmse_by_seed"]), rel=5e-3)
        assert float(high) == pytest.approx(max(row["rmse_by_seed"]), rel=5e-3)
        assert float(paper) == row["paper"]
        assert float(ratio) == pytest.approx(row["ratio"], abs=6e-3)
    assert len(document["rows"]) == 6
    said = "\n".join(lines[8:])
    assert "over 2 seeds from 0: 3 queries, 40 keys, head dimension 4" in said
    assert "Not stated by the paper, and chosen here: sequence length" in said
    assert max(map(len, lines[1:8])) <= 120


def test_the_theorems(tmp_path):
    result = run("bhh2021", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document = json.loads((tmp_path / "out.json").read_text())
    lines = result.stdout.splitlines()
    table = [line.rstrip() for line in lines if line.rstrip().endswith((" holds", " fails"))]
    assert [line.split("  ")[0] for line in table if line[0] != " "] == [
        entry["number"] for entry in document["theorems"]
    ]
    for number in ("4.2", "4.4"):
        (place,) = (k for k, line in enumerate(table) if line.startswith(f"{number} "))
        assert table[place].endswith(" fails")
        assert table[place + 1].startswith("  + u|y|")
        assert table[place + 1].endswith(" holds")
    for number in ("3.2", "3.3", "3.4", "(4.8) ", "4.3"):
        assert sum(line.startswith(number) and line.endswith(" holds") for line in table) == 1
    assert re.search(r"^4\.2 .+ 146 +184 +fails", result.stdout, re.MULTILINE)
    assert re.search(
        r"^FAILS  4\.2 float32: x = \[0x1\.f4p\+9, 0x1.+\], computed \[0x1", result.stdout, re.MULTILINE
    )
    assert "With u|y| added each holds on these inputs." in result.stdout
    assert max(map(len, table)) <= 120


def test_json_on_stdout_is_alone_there():
    result = run(*TINY, "--json", "-")
    assert result.exit_code == 0
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["schema"] == 1
    assert {"softcert", "environment", "source", "seconds"} <= set(document)
    assert "median RMSE" in result.stderr


def test_the_same_request_measures_the_same():
    first, second = (json.loads(run(*TINY, "--json", "-").stdout) for _ in range(2))
    assert first["rows"] == second["rows"]


def test_a_reader_is_told_where_a_repair_fails(monkeypatch):
    """The sentence is made from what was found, not known beforehand."""
    from softcert.reports.reproduce import bhh2021

    weakened = tuple(
        dataclasses.replace(theorem, repaired=theorem.repaired and theorem.bound)
        for theorem in bhh2021.THEOREMS
    )
    monkeypatch.setattr(bhh2021, "THEOREMS", weakened)
    assert "With u|y| added not all hold on these inputs." in run("bhh2021").stdout
