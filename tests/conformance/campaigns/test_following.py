"""Slices that are after others: what each is handed, whoever computes it; what one that fails holds up."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.campaign import read_campaign, write_campaign
from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import executor_lane, process_context
from softcert.conformance.campaigns.store import Answer
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.model import RequestError

ISLANDS = 4


@pytest.fixture
def winding(counting):
    """Plan a campaign in a ring."""

    def planned(slices, **settings):
        return counting(slices, "campaign_tasks:RING", islands=ISLANDS, **settings)

    return planned


def wanted(slices):
    """The number of every slice, computed one after the other."""
    import campaign_tasks

    numbers = {}
    for piece in campaign_tasks.ring({"slices": slices, "islands": ISLANDS}):
        earlier = [numbers[key] for key in piece.get("after", ())]
        numbers[piece["key"]] = campaign_tasks.wind(piece["number"], earlier)
    return list(numbers.values())


def values(path):
    with open_store(path) as store:
        return [json.loads(text)["value"] for text in store.results()]


class Shuffling(ThreadPoolExecutor):
    """Answers in an order that only chance knows."""

    def submit(self, function, *args):
        pause = random.Random(hash(args[1])).random() / 50
        return super().submit(lambda: (time.sleep(pause), function(*args))[1])


def threads(count):
    return [executor_lane(lambda: ThreadPoolExecutor(count), count)]


@pytest.mark.parametrize(
    "lanes", [threads(1), [executor_lane(lambda: Shuffling(8), 8), *threads(2)]], ids=["one", "shuffled"]
)
def test_each_slice_is_handed_the_results_of_those_before_it_in_the_order_named(tmp_path, winding, lanes):
    with store_for(tmp_path / "s.sqlite", winding(40)) as store:
        assert drive(store, lanes).complete
    assert values(tmp_path / "s.sqlite") == wanted(40)


def test_what_is_after_another_is_given_out_when_that_is_done(tmp_path, winding):
    with store_for(tmp_path / "s.sqlite", winding(12)) as store:
        driver = drivers.join(store, 1)

        def claimed():
            return [(piece.number, piece.earlier) for piece in store.claim(driver, 99)]

        def answer(number):
            return Answer(number, json.dumps({"cases": 0, "value": number}), 0, 0.1, "{}")

        assert claimed() == [(number, ()) for number in range(ISLANDS)]
        store.add([answer(0), answer(1)])
        # The first of the next round is after 0, 3 and 1; the second after 1, 0 and 2.
        assert claimed() == []
        store.add([answer(2)])
        results = {number: answer(number).result for number in range(ISLANDS)}
        assert claimed() == [(5, (results[1], results[0], results[2]))]
        store.add([answer(3)])
        assert [number for number, _ in claimed()] == [4, 6, 7]


def test_what_an_answer_frees_is_given_out_at_once(tmp_path, counting, monkeypatch):
    """And not when the driver next looks around: on one island no slice is ever ahead of another."""
    monkeypatch.setattr("softcert.conformance.campaigns.driving._LOOK", 4.0)
    with store_for(tmp_path / "s.sqlite", counting(6, "campaign_tasks:RING", islands=1)) as store:
        started = time.monotonic()
        drive(store, threads(1))
        assert time.monotonic() - started < 4.0


def test_two_drivers_that_need_each_other_come_to_the_same(tmp_path, winding):
    path, planned = tmp_path / "s.sqlite", winding(24, seconds=0.02)
    with store_for(path, planned):
        pass

    def work():
        with store_for(path, planned) as store:
            drive(store, threads(1))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert values(path) == wanted(24)


def test_a_driver_killed_in_the_middle_changes_no_result(tmp_path, winding):
    import campaign_tasks

    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    trace.touch()
    planned = winding(40, seconds=0.02, trace=str(trace))
    for kills in range(1, 4):
        process = process_context().Process(target=campaign_tasks.drive_all, args=(path, planned, 2))
        process.start()
        end = time.monotonic() + 30
        while len(trace.read_text(encoding="utf-8").splitlines()) < 8 * kills and time.monotonic() < end:
            time.sleep(0.005)
        process.kill()
        process.join()
    with store_for(path, planned) as store:
        assert 0 < store.totals().done < 40
        drive(store, threads(2))
    assert values(path) == wanted(40)


# --- one that fails ---


def held_up(number, slices):
    """What is after a slice, however far, and itself."""
    import campaign_tasks

    lost = {f"n{number}"}
    for piece in campaign_tasks.ring({"slices": slices, "islands": ISLANDS}):
        if lost & set(piece.get("after", ())):
            lost.add(piece["key"])
    return lost


def test_what_is_after_a_poisoned_slice_is_set_aside_with_it_and_done_when_that_is_mended(tmp_path, winding):
    path, mended = tmp_path / "s.sqlite", tmp_path / "mended"
    with store_for(path, winding(16, raises=[5], mended=str(mended))) as store:
        totals = drive(store, threads(2), attempts=2)
        troubles = store.troubles()
    lost = held_up(5, 16)
    assert len(lost) == 1 + 3 + 4
    assert {trouble.key for trouble in troubles} == lost
    assert (totals.done, totals.aside, totals.remaining) == (16 - len(lost), len(lost), 0)
    own, *others = troubles
    assert (own.key, own.count, own.reason) == ("n5", 2, "ValueError: 5 is poison and more")
    assert {(one.count, one.reason) for one in others} == {(0, "it is after n5, which is set aside")}
    kept = [one for number, one in enumerate(wanted(16)) if f"n{number}" not in lost]
    assert values(path) == kept
    # Its cause is gone: what was set aside is tried again, and comes to what it always would have.
    mended.touch()
    with store_for(path) as store:
        assert store.retry() == len(lost)
        assert drive(store, threads(2)).complete
    assert values(path) == wanted(16)


def test_a_late_answer_frees_what_no_other_holds_up(tmp_path, winding):
    late = Answer(0, json.dumps({"cases": 0, "value": 0}), 0, 0.1, "{}")
    with store_for(tmp_path / "s.sqlite", winding(12)) as store:
        for number in (0, 2):
            store.charge(number, "killed", 1)
        # 4, 5 and 7 are after 0, and 5, 6 and 7 after 2; all of the third round is after some of those.
        assert store.totals().aside == 2 + 4 + 4
        store.add([late])
        held = {trouble.key for trouble in store.troubles()}
        assert held == held_up(2, 12) == {"n2", "n5", "n6", "n7", "n8", "n9", "n10", "n11"}
        assert (store.totals().done, store.totals().aside) == (1, 8)
    with open_store(tmp_path / "s.sqlite") as examined:
        assert examined.totals().remaining == 3


# --- the file ---


def test_what_a_slice_is_after_is_in_the_file(tmp_path, winding):
    path = write_campaign(tmp_path / "c.json", winding(9))
    assert read_campaign(path) == winding(9)
    assert read_campaign(path).slices[8]["after"] == ["n4", "n7", "n5"]


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (["n9"], "slice 'n5' is after 'n9', which is no earlier slice"),
        (["n6"], "slice 'n5' is after 'n6', which is no earlier slice"),
        (["n5"], "slice 'n5' is after 'n5', which is no earlier slice"),
        (["n1", "n1"], "slice 'n5' has no list of different keys in `after`"),
        ("n1", "not a valid campaign: at $.slices[5].after"),
        ([1], "not a valid campaign: at $.slices[5].after[0]"),
    ],
)
def test_an_order_that_cannot_be_kept_is_refused(tmp_path, winding, named, sentence):
    path = write_campaign(tmp_path / "c.json", winding(8))
    document = json.loads(path.read_text(encoding="utf-8"))
    document["slices"][5]["after"] = named
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RequestError) as error:
        read_campaign(path)
    assert sentence in str(error.value)
