"""The store: each result once, counts that are exact, and nothing written to what is not its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from contextlib import closing

import psutil
import pytest

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.store import Answer
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.model import RequestError
from softcert.errors import UnfinishedError


def answer(number, value=None, cases=None):
    text = json.dumps({"cases": number % 7, "value": number if value is None else value})
    return Answer(number, text, number % 7 if cases is None else cases, 0.5, "{}")


def values(store):
    return [json.loads(text)["value"] for text in store.results()]


def claimed(store, driver, count):
    return [piece.number for piece in store.claim(driver, count)]


# --- once ---


def test_a_result_counts_once_and_the_first_one_does(store):
    assert store.add([answer(3), answer(5)]) == 2
    assert store.add([answer(3, 99), answer(4), answer(5)]) == 1
    assert values(store) == [3, 4, 5]
    totals = store.totals()
    assert (totals.done, totals.cases, totals.seconds, totals.remaining) == (3, 3 + 4 + 5, 1.5, 9)
    assert not totals.complete


def test_a_slice_belongs_to_one_driver(store):
    first, second = drivers.join(store, 1), drivers.join(store, 1)
    assert claimed(store, first, 3) == [0, 1, 2]
    assert claimed(store, second, 3) == [3, 4, 5]
    store.add([answer(1)])
    assert store.release(first) == 2
    assert claimed(store, second, 99) == [0, 2, 6, 7, 8, 9, 10, 11]
    assert claimed(store, first, 1) == []


def test_a_slice_is_set_aside_after_so_many_failures(store):
    driver = drivers.join(store, 1)
    store.claim(driver, 12)
    assert [store.charge(4, f"reason {i}", 3) for i in range(3)] == [False, False, True]
    store.charge(5, "once", 3)
    troubles = store.troubles()
    assert [(t.key, t.count, t.aside, t.reason) for t in troubles] == [
        ("n4", 3, True, "reason 2"),
        ("n5", 1, False, "once"),
    ]
    assert (store.totals().aside, store.totals().remaining) == (1, 11)
    store.release(driver)
    assert 4 not in claimed(store, driver, 99)


def test_what_was_set_aside_is_tried_again_from_the_start(store):
    for _ in range(2):
        store.charge(4, "reason", 2)
    assert store.retry() == 1
    assert store.retry() == 0
    assert (store.totals().aside, store.totals().remaining, store.troubles()) == (0, 12, [])
    assert not store.charge(4, "reason", 2)


def test_a_late_answer_to_what_was_set_aside_counts(store):
    for _ in range(2):
        store.charge(4, "reason", 2)
    assert store.add([answer(4)]) == 1
    assert (store.totals().done, store.totals().aside, store.troubles()) == (1, 0, [])
    with open_store(store.path) as examined:
        assert examined.totals().done == 1
    assert store.retry() == 0


def test_what_is_done_is_charged_nothing(store):
    store.add([answer(4)])
    assert store.charge(4, "late", 1)
    assert (store.totals().done, store.totals().aside, store.troubles()) == (1, 0, [])


def test_a_transaction_is_there_whole_or_not_at_all(store, tmp_path):
    def write_half():
        with store.writing():
            store.add([answer(1)])
            store.charge(2, "reason", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert store.totals().done == store.totals().aside == 0
    with open_store(tmp_path / "c.sqlite") as again:
        assert again.totals() == store.totals()


# --- whose ---


def test_a_store_goes_on_where_it_was(tmp_path, counting):
    for number in (2, 7):
        with store_for(tmp_path / "s.sqlite", counting(12)) as store:
            store.add([answer(number)])
    with store_for(tmp_path / "s.sqlite") as store:
        assert values(store) == [2, 7]


def test_a_store_of_another_campaign_is_refused(tmp_path, counting):
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(12)) as store:
        store.add([answer(2)])
    before = path.read_bytes()
    with pytest.raises(RequestError, match="is of another campaign"), store_for(path, counting(12, other=1)):
        pass
    assert path.read_bytes() == before


def other_program(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")


def newer(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_text("no database\n" * 100), "is damaged, and nothing in it was changed"),
        (lambda path: path.write_bytes(b""), "is empty; `softcert campaign run` fills it"),
        (other_program, "of another program, and no store of softcert"),
    ],
)
def test_a_file_that_is_no_store_is_refused(tmp_path, counting, make, sentence):
    path = tmp_path / "s.sqlite"
    make(path)
    before = path.read_bytes()
    for campaign in (None, counting(3))[: 2 if before else 1]:
        with pytest.raises(RequestError) as error, store_for(path, campaign):
            pass
        assert sentence in str(error.value)
        assert path.read_bytes() == before


def test_a_store_that_is_not_there_or_of_a_newer_form_is_refused(tmp_path, store):
    with pytest.raises(RequestError, match="there is no store"), open_store(tmp_path / "absent.sqlite"):
        pass
    newer(store.path)
    with (
        pytest.raises(RequestError, match="is of form 2, and this softcert reads form 1"),
        open_store(store.path),
    ):
        pass


# --- damage ---


@pytest.fixture
def whole(tmp_path, counting):
    """A closed store, all in one file, with results that are long enough to fill pages."""
    path = tmp_path / "whole.sqlite"
    with store_for(path, counting(40)) as store:
        padded = [json.dumps({"cases": i % 7, "value": i, "pad": "x" * 900}) for i in range(30)]
        store.add([Answer(i, text, i % 7, 0.5, "{}") for i, text in enumerate(padded)])
        for _ in range(2):
            store.charge(33, "reason", 2)
    assert not path.with_name("whole.sqlite-wal").exists()
    return path


def require_refused(path):
    before = path.read_bytes()
    for opened in (open_store(path), store_for(path)):
        with pytest.raises(RequestError) as error, opened:
            pass
        text = str(error.value)
        assert str(path) in text
        assert "\n" not in text
    assert path.read_bytes() == before
    return text


def test_a_byte_that_changed_anywhere_that_matters_is_seen(whole, tmp_path):
    """Wherever a byte changes: either the store is refused, or all that it says is what it said."""
    with open_store(whole) as store:
        told = (store.head(), store.totals(), list(store.results()), list(store.slices()), store.troubles())
    content = whole.read_bytes()
    refused = 0
    for place in range(0, len(content), len(content) // 150):
        path = tmp_path / "damaged.sqlite"
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            with open_store(path) as store:
                now = (store.head(), store.totals(), list(store.results()), list(store.slices()))
                assert now == told[:4], place
        except RequestError:
            refused += 1
            require_refused(path)
    assert refused > 50


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_truncated_store_is_refused(whole, part):
    whole.write_bytes(whole.read_bytes()[: int(part * whole.stat().st_size)])
    assert "is damaged, and nothing in it was changed" in require_refused(whole)


def test_a_store_that_lost_its_content_beside_its_log_is_refused(tmp_path, counting):
    """SQLite takes the log for an old one, and deletes it."""
    path = tmp_path / "s.sqlite"
    campaign = counting(12)
    with store_for(path, campaign) as store:
        store.add([answer(2)])
        shutil.copy(f"{path}-wal", tmp_path / "log")
    path.write_bytes(b"")
    log = shutil.copy(tmp_path / "log", f"{path}-wal")
    before = (tmp_path / "log").read_bytes()
    with pytest.raises(RequestError, match="it is empty, and its log is not"), store_for(path, campaign):
        pass
    assert path.read_bytes() == b""
    with open(log, "rb") as kept:  # noqa: PTH123 -- a text that shutil gave
        assert kept.read() == before


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (
            "UPDATE results SET document = replace(document, '3', '4') WHERE slice = 3",
            "slice is not what was",
        ),
        ("UPDATE results SET slice = 35 WHERE slice = 3", "slice is not what was written"),
        ("DELETE FROM results WHERE slice = 3", "not in one place"),
        ("INSERT INTO open VALUES (3, NULL)", "not in one place"),
        ("UPDATE totals SET done = done + 1", "its totals are not those of its results"),
        ("UPDATE totals SET cases = cases + 1", "its totals are not those of its results"),
        ("UPDATE totals SET aside = 0", "its totals are not those of its results"),
        ("DELETE FROM totals", "its totals are not those of its results"),
        ("UPDATE slices SET document = '{}' WHERE number = 9", "not the one that it was made of"),
        ("UPDATE campaign SET head = '{}'", "not the one that it was made of"),
        ("DELETE FROM campaign", "not the one that it was made of"),
        ("DROP TABLE results", "no such table"),
    ],
)
def test_a_store_that_contradicts_itself_is_refused(whole, statement, sentence):
    with closing(sqlite3.connect(whole)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(statement)
    assert sentence in require_refused(whole)


def test_a_damaged_store_is_not_written_by_the_log_of_a_killed_driver(tmp_path, counting):
    """What SQLite would put into the file when the last reader closes it."""
    path, copy, whole = (tmp_path / f"{name}.sqlite" for name in ("s", "copy", "whole"))
    with store_for(path, counting(40)):
        pass
    with store_for(path) as store:
        store.add([answer(number) for number in range(30)])
        for other, suffix in itertools.product((copy, whole), ("", "-wal")):
            shutil.copy(f"{path}{suffix}", f"{other}{suffix}")
    with open_store(whole) as store:
        assert values(store) == list(range(30))
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b'"number":17', b'"number":18'))
    assert copy.read_bytes() != content
    require_refused(copy)


# --- the disk ---


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(tmp_path, counting):
    path, kept = tmp_path / "s.sqlite", 0

    def fill():
        nonlocal kept
        with store_for(path, counting(400)) as store:
            (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
            store.connection.execute(f"PRAGMA max_page_count = {pages + 5}")
            for number in range(400):
                text = json.dumps({"cases": 1, "value": number, "pad": "x" * 2000})
                kept += store.add([Answer(number, text, 1, 0.5, "{}")])

    with pytest.raises(UnfinishedError) as error:
        fill()
    assert 0 < kept < 40
    assert "takes no more" in str(error.value)
    assert f"`softcert campaign resume {path}` goes on" in str(error.value)
    with store_for(path) as store:
        assert values(store) == list(range(kept))
        assert store.add([answer(number) for number in range(400)]) == 400 - kept
        assert store.totals().complete


def test_a_store_held_by_another_for_long_is_told(tmp_path, counting, monkeypatch):
    monkeypatch.setattr("softcert.conformance.wire.databases.PATIENCE", 0.05)
    path = tmp_path / "s.sqlite"
    with (
        store_for(path, counting(4)) as first,
        pytest.raises(RequestError, match="locked"),
        store_for(path) as second,
        first.writing(),
    ):
        second.add([answer(1)])


# --- drivers ---


def test_a_driver_that_is_gone_is_dead_at_once(store):
    ours = drivers.join(store, 1)
    gone = drivers.join(store, 1)
    store.claim(gone, 5)
    store.connection.execute("UPDATE drivers SET process = '999999999 1' WHERE id = ?", (gone,))
    assert drivers.Watch().bury(store, ours) == 5
    assert claimed(store, ours, 5) == [0, 1, 2, 3, 4]


def test_a_process_is_known_by_its_number_and_its_start():
    number, started = drivers.process(os.getpid()).split()
    assert int(number) == os.getpid()
    since_boot = psutil.Process().create_time() - psutil.boot_time()
    assert int(started) / os.sysconf("SC_CLK_TCK") == pytest.approx(since_boot, abs=1.5)
    assert drivers.process(999_999_999) == ""


def test_a_driver_whose_number_went_to_another_process_is_dead(store):
    gone = drivers.join(store, 1)
    store.connection.execute("UPDATE drivers SET process = ? WHERE id = ?", (f"{os.getpid()} 1", gone))
    (driver,) = drivers.drivers(store)
    assert drivers.Watch().is_dead(driver)


def test_a_driver_that_does_not_beat_is_dead_after_a_while_of_the_watchers_own_clock(store):
    now = 0.0
    watch = drivers.Watch(clock=lambda: now)
    number = drivers.join(store, 1)

    def seen():
        (driver,) = drivers.drivers(store)
        return watch.is_dead(driver)

    for _ in range(3):
        drivers.beat(store, number, workers=1, done=0, rate=0.0, seconds=0.0)
        for _ in range(2):
            now += drivers.PATIENCE * 0.6
            assert not seen()
            drivers.beat(store, number, workers=1, done=0, rate=0.0, seconds=0.0)
    assert not seen()
    now += drivers.PATIENCE + 1
    assert seen()


def test_a_driver_taken_for_dead_that_lives_is_one_again(store):
    ours, other = drivers.join(store, 1), drivers.join(store, 1)
    drivers.leave(store, other)
    assert [driver.id for driver in drivers.drivers(store)] == [ours]
    drivers.beat(store, other, workers=1, done=0, rate=0.0, seconds=0.0)
    assert [driver.id for driver in drivers.drivers(store)] == [ours, other]
