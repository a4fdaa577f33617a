"""A report's folder holds every file, and each says the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from softcert.conformance.model import RequestError
from softcert.conformance.wire.runs import read_report, read_witness
from softcert.reports import render_html, render_markdown, write_report


@pytest.fixture(scope="module")
def report(small, tmp_path_factory):
    return write_report(small, tmp_path_factory.mktemp("report") / "deep" / "er", title="Title")


def test_every_file_is_there_and_nothing_else(report):
    folder = report.html.parent
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "report.md", "report.json", "junit.xml", "witnesses"}
    assert set(folder.joinpath("witnesses").iterdir()) == set(report.witnesses)


def test_files_hold_what_the_functions_return(report, small):
    assert report.html.read_text(encoding="utf-8") == render_html(small, title="Title")
    assert report.markdown.read_text(encoding="utf-8") == render_markdown(small, title="Title")
    (run,) = read_report(report.json)
    assert [v.status for v in run.verdicts] == [v.status for v in small[0].verdicts]
    assert ET.parse(report.junit).getroot().get("tests") == str(len(small[0].verdicts))


def test_replay_commands_name_files_that_are_witnesses(report):
    page = report.html.read_text(encoding="utf-8")
    assert len(report.witnesses) == 6
    for path in report.witnesses:
        assert f"softcert replay witnesses/{path.name}" in page
        assert read_witness(path).op == "softmax"


def test_unwritable_folders_end_in_one_sentence(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        write_report(small, tmp_path / "file" / "report")


def test_what_was_measured_is_written_before_the_page_can_fail(small, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RequestError("no library")

    monkeypatch.setattr("softcert.reports.write.render_html", fail)
    with pytest.raises(RequestError):
        write_report(small, tmp_path)
    assert len(read_report(tmp_path / "report.json")) == 1
