"""The store keeps whole runs, once each, whoever writes at once and whatever kills a writer."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from softcert.conformance.model import RequestError
from softcert.conformance.wire.runs import report_to_json, run_to_json, write_document
from softcert.reports.history import open_history

WRITER = """
import sys
from softcert.conformance.wire.runs import read_runs
from softcert.reports.history import open_history, store
if sys.argv[3:] == ["die"]:
    # After the run's own row, before its figures: half of a run.
    import os, signal
    class Deadly(list):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGKILL)
    store.accuracy_figures = lambda run: Deadly()
print("ready", flush=True)
for run in read_runs(sys.argv[2]):
    with open_history(sys.argv[1], write=True) as history:
        history.add(run)
    print("added", flush=True)
"""


def writer(store, report, *more):
    command = [sys.executable, "-c", WRITER, str(store), str(report), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def connected(path, **options):
    """A bare connection, committed and closed."""
    with closing(sqlite3.connect(path, **options)) as connection, connection:
        yield connection


@pytest.fixture
def run(build):
    return build("kernel", 1.6, ops=("softmax",), dtypes=("float32",))


def numbered(run, numbers):
    return [replace(run, seconds=float(number)) for number in numbers]


def report(path, runs):
    write_document(report_to_json(runs), path)
    return path


def contents(store):
    """Name of each run, with the number of its figures; the file is checked on the way."""
    with connected(store) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    with open_history(store) as history:
        return [(entry.digest, len(entry.accuracy)) for entry in history.entries()]


def test_what_is_added_comes_back(tmp_path, run):
    row = {"op": "softmax", "dtype": "float32", "shape": [8, 4], "seconds": 1e-3, "bytes_per_second": 1e9}
    run = replace(run, speed=({**row, "copy_bytes_per_second": 4e9},))
    with open_history(tmp_path / "h", write=True) as history:
        assert history.add(run)
        (entry,) = history.entries()
        assert run_to_json(history.run(entry.name)) == run_to_json(run)
    assert (entry.subject, entry.broken, entry.date) == ("kernel", 0, "2026-01-02T03:04:05Z")
    assert (entry.accuracy[0].op, entry.accuracy[0].grade) == ("softmax", "C")
    assert (entry.speed[0].shape, entry.speed[0].of_copy) == ("8 × 4", 0.25)


def test_a_run_is_there_once_however_often_it_is_added(tmp_path, run):
    for expected in (True, False):
        with open_history(tmp_path / "h", write=True) as history:
            assert history.add(run) is expected
    assert len(contents(tmp_path / "h")) == 1


def test_figures_that_are_no_numbers_survive(tmp_path, run, build):
    infinite = [replace(v, error_max=(float("inf"),) * 2, margin=float("nan")) for v in run.verdicts]
    with open_history(tmp_path / "h", write=True) as history:
        history.add(replace(run, verdicts=tuple(infinite)))
        (entry,) = history.entries()
    assert entry.accuracy[0].error == (float("inf"), float("inf"))
    assert entry.accuracy[0].margin != entry.accuracy[0].margin


def test_two_writers_at_once_lose_and_double_nothing(tmp_path, run):
    """They make the file at once, and share some of their runs."""
    first = report(tmp_path / "a.json", numbered(run, range(30)))
    second = report(tmp_path / "b.json", numbered(run, range(20, 50)))
    writers = [writer(tmp_path / "h", path) for path in (first, second)]
    for process in writers:
        process.communicate(timeout=120)
        assert process.returncode == 0
    found = contents(tmp_path / "h")
    assert len(found) == len(set(found)) == 50


def test_a_writer_killed_within_a_run_leaves_whole_runs(tmp_path, run):
    whole = report(tmp_path / "whole.json", numbered(run, range(3)))
    writer(tmp_path / "h", whole).communicate(timeout=60)
    process = writer(tmp_path / "h", report(tmp_path / "more.json", numbered(run, range(3, 6))), "die")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [figures for _, figures in contents(tmp_path / "h")] == [1, 1, 1]
    with open_history(tmp_path / "h", write=True) as history:
        assert history.add(numbered(run, [9])[0])


def test_a_writer_killed_at_any_time_leaves_what_it_had_added(tmp_path, run):
    path = report(tmp_path / "many.json", numbered(run, range(60)))
    for delay in (0.0, 0.02):
        process = writer(tmp_path / "h", path)
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "added\n"
        time.sleep(delay)
        process.kill()
        told = 1 + process.communicate()[0].count("added")
        found = contents(tmp_path / "h")
        assert len(found) >= told
        assert {figures for _, figures in found} == {1}


def test_a_reader_is_not_held_up_by_a_writer(tmp_path, run):
    with open_history(tmp_path / "h", write=True) as history:
        history.add(run)
    with connected(tmp_path / "h", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE runs SET subject = 'half'")
        with open_history(tmp_path / "h") as history:
            assert [entry.subject for entry in history.entries()] == ["kernel"]
        other.execute("ROLLBACK")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_history_that_cannot_be_written_can_be_read(tmp_path, run):
    with open_history(tmp_path / "h", write=True) as history:
        history.add(run)
    (tmp_path / "h").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert len(contents(tmp_path / "h")) == 1
    finally:
        tmp_path.chmod(0o700)


# --- what is no history ---


def assert_refused(path, words, run):
    before = path.read_bytes() if path.exists() else None
    for write in (False, True):
        with pytest.raises(RequestError, match=words), open_history(path, write=write) as history:
            history.add(run) if write else history.entries()
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, run):
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    assert_refused(path, "cannot be used: file is not a database", run)


def test_a_database_of_another_program_is_refused_and_kept(tmp_path, run):
    path = tmp_path / "other"
    with connected(path) as connection:
        connection.execute("CREATE TABLE runs (id)")
    assert_refused(path, "another program", run)


def test_a_newer_form_is_refused_and_kept(tmp_path, run):
    path = tmp_path / "h"
    with open_history(path, write=True) as history:
        history.add(run)
    with connected(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    assert_refused(path, "form 2, and this softcert reads form 1", run)


def test_a_damaged_file_is_one_sentence(tmp_path, run):
    path = tmp_path / "h"
    with open_history(path, write=True) as history:
        for each in numbered(run, range(20)):
            history.add(each)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RequestError, match="cannot be used: database disk image is malformed"):
        contents_of(path)


def contents_of(path):
    with open_history(path) as history:
        return history.entries()


def test_a_damaged_document_is_noticed(tmp_path, run):
    with open_history(tmp_path / "h", write=True) as history:
        history.add(run)
        (entry,) = history.entries()
    with connected(tmp_path / "h") as connection:
        connection.execute("UPDATE runs SET document = x'00'")
    with open_history(tmp_path / "h") as history, pytest.raises(RequestError, match="damaged at the run"):
        history.run(entry.name)


def test_what_is_not_there_is_named(tmp_path, run):
    with pytest.raises(RequestError, match="there is no history"), open_history(tmp_path / "h"):
        pass
    with open_history(tmp_path / "h", write=True) as history:
        for each in numbered(run, range(20)):
            history.add(each)
        with pytest.raises(RequestError, match="no run of 'other'; it has runs of kernel"):
            history.entries(("other",))
        for name in ("zz", ""):
            with pytest.raises(RequestError, match=r"runs? whose name begins"):
                history.run(name)
