"""Standard streams that are closed, full or read by nobody: a sentence or silence, and files all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.wire.runs import read_run

CHECK = "check numpy --op softmax --dtype float32 --clause stability.nan --profile smoke"
SOFTCERT = f"{sys.executable} -m softcert"


def shell(command, folder):
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("streams", "status", "words"),
    [
        (">&-", 2, "bad file descriptor"),
        ("> /dev/full", 2, "no space left"),
        ("<&- >&- 2>&-", 2, ""),
        ("2>&-", 0, ""),
    ],
)
def test_files_are_written_whatever_the_streams_are(streams, status, words, tmp_path):
    result = shell(f"{SOFTCERT} {CHECK} --json run.json {streams}", tmp_path)
    assert result.returncode == status, result.stderr
    assert words in result.stderr
    assert result.stderr.count("\n") == bool(words)
    assert len(read_run(tmp_path / "run.json").verdicts) == 1


@pytest.mark.parametrize("command", ["spec", "--help", "--version", "eval softmax 1 2", "spec --format pdf"])
@pytest.mark.parametrize("stream", ["> /dev/full", ">&-", "2> /dev/full"])
def test_no_stream_is_a_failure_of_softcert(command, stream, tmp_path):
    result = shell(f"{SOFTCERT} {command} {stream}", tmp_path)
    fails = stream.startswith(">") or "pdf" in command
    assert result.returncode == (2 if fails else 0)
    assert result.stderr.count("\n") <= 1
    assert "itself failed" not in result.stderr


@pytest.mark.parametrize("command", [f"{CHECK} --json -", f"{CHECK} --json run.json", "--help"])
def test_a_reader_that_has_gone_is_silence(command, tmp_path):
    # The reader is gone for certain before anything is written.
    result = shell(f"(sleep 0.5; exec {SOFTCERT} {command}) | true", tmp_path)
    assert (result.returncode, result.stderr) == (141, "")
    assert (tmp_path / "run.json").exists() == ("run.json" in command)


@pytest.mark.parametrize("command", ["spec", "report numpy", CHECK, "replay witness.json"])
def test_a_folder_that_is_gone_is_one_sentence(command, tmp_path):
    result = shell(f"mkdir gone; cd gone; rmdir ../gone; {SOFTCERT} {command}", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("softcert: ")
    assert result.stderr.count("\n") == 1
    assert "itself failed" not in result.stderr


def test_the_bare_command_shows_its_help():
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "\n  check " in result.stderr
    assert "softcert:" not in result.stderr
