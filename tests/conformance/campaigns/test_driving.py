"""Driving: every slice once on any executor, the guilty one found, and no other charged."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.driving import Rate, drive
from softcert.conformance.campaigns.executors import Opened, executor_lane, process_context
from softcert.conformance.campaigns.executors import processes as process_lanes
from softcert.conformance.campaigns.outcome import campaign_run
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.model import RequestError
from softcert.errors import UnfinishedError


def threads(count):
    return [executor_lane(lambda: ThreadPoolExecutor(count), count + 1)]


def pools(count):
    """One pool of several processes, which breaks as a whole."""
    return [executor_lane(lambda: ProcessPoolExecutor(count, mp_context=process_context()), count + 1)]


@pytest.mark.parametrize(
    "lanes", [threads(3), pools(2), process_lanes(2)], ids=["threads", "pool", "processes"]
)
def test_every_slice_is_computed_once(tmp_path, counting, require_exact, lanes):
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    steps = []
    with store_for(path, counting(30, trace=str(trace))) as store:
        assert drive(store, lanes, progress=steps.append).complete
        assert drivers.drivers(store) == []
    require_exact(path, 30)
    numbers = [int(line.split()[0]) for line in trace.read_text().splitlines()]
    assert sorted(numbers) == list(range(30))
    assert steps[-1].totals.done == 30
    assert steps[-1].seconds_left == 0
    assert steps[-1].computing == 0


def test_the_results_make_the_run(tmp_path, counting):
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(9, "campaign_tasks:CERTIFY")) as store:
        drive(store, process_lanes(2))
        run = campaign_run(store)
    (verdict,) = run.verdicts
    assert verdict.cases == 36
    # NumPy's sum of eight terms and its exponential: some, and not many, ulps.
    assert 0.5 < verdict.error_max[0] < 4
    assert verdict.exhaustive == "every number"
    assert run.request["slices"] == run.request["slices_done"] == 9
    assert "stopped" not in run.request
    assert run.environment["versions"]["mpmath"]


def test_a_part_of_the_results_is_a_stopped_run_in_which_nothing_is_exhaustive(tmp_path, counting):
    with store_for(tmp_path / "s.sqlite", counting(9, raises=[4])) as store:
        with pytest.raises(RequestError, match="has no result yet"):
            campaign_run(store)
        drive(store, threads(1))
        run = campaign_run(store)
    assert run.request["stopped"]
    assert (run.request["slices_done"], run.request["slices_aside"]) == (8, 1)
    assert run.verdicts[0].exhaustive == ""
    assert run.verdicts[0].statistics["sum"] == sum(range(9)) - 4


def test_the_order_in_which_slices_end_does_not_matter(tmp_path, counting, require_exact):
    """An executor that answers in any order, each answer twice as callbacks may."""
    shuffled = random.Random(7)

    class Shuffling(ThreadPoolExecutor):
        def submit(self, function, *args):
            return super().submit(lambda: (time.sleep(shuffled.random() / 100), function(*args))[1])

    with store_for(tmp_path / "s.sqlite", counting(60)) as store:
        drive(store, [executor_lane(lambda: Shuffling(8), 8), *threads(2)])
    require_exact(tmp_path / "s.sqlite", 60)


# --- slices that fail ---


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "ValueError: 5 is poison and more"),
        ("wrong", "the result says None for its count of cases"),
        ("kills", "its process ended: "),
    ],
)
def test_a_poisoned_slice_is_set_aside_and_the_others_are_done(
    tmp_path, counting, require_exact, fault, reason
):
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    with store_for(path, counting(20, trace=str(trace), **{fault: [5, 11]})) as store:
        totals = drive(store, process_lanes(2), attempts=2)
        assert (totals.done, totals.aside, totals.remaining) == (18, 2, 0)
        troubles = store.troubles()
    times = 6 if fault == "kills" else 2
    assert [(t.key, t.count, t.aside) for t in troubles] == [("n5", times, True), ("n11", times, True)]
    assert troubles[0].reason.startswith(reason)
    require_exact(path, 20, missing=(5, 11))
    tried = Counter(int(line.split()[0]) for line in trace.read_text().splitlines())
    assert tried == {number: times if number in (5, 11) else 1 for number in range(20)}


def test_in_a_pool_that_breaks_as_a_whole_the_guilty_one_is_found(tmp_path, counting, require_exact):
    """Those that were computed beside it are tried again alone, and charged nothing."""
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(20, kills=[5, 6], seconds=0.02)) as store:
        drive(store, pools(2), attempts=2)
        assert [(t.key, t.count, t.aside) for t in store.troubles()] == [("n5", 6, True), ("n6", 6, True)]
        charged = store.connection.execute("SELECT slice, count FROM attempts ORDER BY slice").fetchall()
    assert charged == [(5, 6), (6, 6)]
    require_exact(path, 20, missing=(5, 6))


def test_what_was_set_aside_is_done_when_its_cause_is_gone(tmp_path, counting, require_exact):
    """A slice that is killed a few times from outside, say for memory, is no other than the rest."""
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(8)) as store:
        for _ in range(3):
            store.charge(3, "killed", 3)
        assert not drive(store, threads(1)).complete
        store.retry()
        assert drive(store, threads(1)).complete
    require_exact(path, 8)


def test_a_campaign_in_which_everything_fails_stops(tmp_path, counting):
    with store_for(tmp_path / "s.sqlite", counting(1000, raises=list(range(1000)))) as store:
        with pytest.raises(UnfinishedError, match=r"none of the first slices .* ValueError: \d+ is poison"):
            drive(store, threads(4))
        assert store.totals().aside < 50
        assert store.totals().remaining > 900


def test_versions_that_the_campaign_was_not_planned_with_compute_nothing(tmp_path, counting):
    from dataclasses import replace

    planned = counting(3)
    other = replace(planned, versions={**planned.versions, "numpy": "1.0"})
    with store_for(tmp_path / "s.sqlite", other) as store:
        drive(store, threads(1), attempts=1)
        assert "the campaign is of numpy 1.0, and here is numpy " in store.troubles()[0].reason
        assert store.totals().done == 0


# --- executors that are lost ---


class Lossy:
    """An executor that now and then drops all that it has, as a cluster does whose scheduler dies."""

    def __init__(self, every):
        self.count = itertools.count(1)
        self.every = every
        self.losses = 0

    @contextmanager
    def lane(self):
        pool, held, losing = ThreadPoolExecutor(2), [], threading.Event()

        def submit(function, *args):
            future: Future = Future()
            held.append(future)

            def compute():
                answer = function(*args)
                if not losing.is_set() and not future.cancelled():
                    future.set_result(answer)

            if next(self.count) % self.every == 0:
                losing.set()
                self.losses += 1
                for each in held:
                    each.cancel()
            else:
                pool.submit(compute)
            return future

        pool_like = type("Executor", (), {"submit": staticmethod(submit)})()
        yield Opened(pool_like, lambda: 4)
        pool.shutdown()


def test_slices_of_an_executor_that_is_lost_are_computed_again_and_not_charged(
    tmp_path, counting, require_exact
):
    lossy = Lossy(every=7)
    with store_for(tmp_path / "s.sqlite", counting(60)) as store:
        drive(store, [lossy.lane], attempts=1)
        assert store.troubles() == []
    assert lossy.losses > 5
    require_exact(tmp_path / "s.sqlite", 60)


def test_an_executor_that_takes_nothing_is_told(tmp_path, counting):
    """Where no process can be started, for example."""

    class Refusing(ThreadPoolExecutor):
        def submit(self, *_args):
            raise OSError("no more processes")

    with (
        store_for(tmp_path / "s.sqlite", counting(5)) as store,
        pytest.raises(UnfinishedError, match="takes no slices: no more processes; what was computed is kept"),
    ):
        drive(store, [executor_lane(lambda: Refusing(1), 1)], reach=0.6)


def unreachable(times):
    tries = itertools.count()

    @contextmanager
    def lane():
        if next(tries) in times:
            raise OSError("no route")
        with ThreadPoolExecutor(1) as pool:
            yield Opened(pool, lambda: 1)

    return lane


def test_an_executor_out_of_reach_for_a_moment_is_waited_for(tmp_path, counting, require_exact):
    with store_for(tmp_path / "s.sqlite", counting(5)) as store:
        drive(store, [unreachable({0, 1})])
    require_exact(tmp_path / "s.sqlite", 5)


def test_an_executor_that_is_never_reached_is_a_wrong_request(tmp_path, counting):
    with (
        store_for(tmp_path / "s.sqlite", counting(5)) as store,
        pytest.raises(RequestError, match=r"out of reach for \d+ s: no route"),
    ):
        drive(store, [unreachable(range(1000))], reach=0.6)


def test_an_executor_without_workers_is_waited_for_and_then_told(tmp_path, counting, require_exact):
    capacities = iter([1, 1, 1, *[0] * 5, *[1] * 5, *[0] * 10_000])

    @contextmanager
    def lane():
        with ThreadPoolExecutor(1) as pool:
            yield Opened(pool, lambda: next(capacities))

    with store_for(tmp_path / "s.sqlite", counting(50)) as store:
        with pytest.raises(UnfinishedError, match="it has no workers; what was computed is kept"):
            drive(store, [lane], reach=1.5)
        assert 0 < store.totals().done < 50
        drive(store, threads(1))
    require_exact(tmp_path / "s.sqlite", 50)


# --- several drivers, and clocks ---


def test_two_drivers_share_the_work_and_count_nothing_twice(tmp_path, counting, require_exact):
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    planned = counting(80, seconds=0.01, trace=str(trace))
    with store_for(path, planned):
        pass
    shares = []

    def work():
        brought = []
        with store_for(path, planned) as store:
            drive(store, threads(2), progress=lambda status: brought.append(status.totals.done))
            rows = store.connection.execute("SELECT done FROM drivers").fetchall()
        shares.append([done for (done,) in rows])

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    require_exact(path, 80)
    tried = Counter(line.split()[0] for line in trace.read_text().splitlines())
    assert set(tried.values()) == {1}
    assert sorted(shares)[-1] == pytest.approx([40, 40], abs=30)
    assert sum(shares[-1]) == 80


def test_what_a_dead_driver_held_is_computed_by_the_next_one(tmp_path, counting, require_exact):
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(12)) as store:
        gone = drivers.join(store, 1)
        store.claim(gone, 12)
        store.connection.execute("UPDATE drivers SET process = '999999999 1' WHERE id = ?", (gone,))
        started = time.monotonic()
        drive(store, threads(1))
        assert time.monotonic() - started < drivers.PATIENCE / 2
    require_exact(path, 12)


def test_a_driver_that_stalls_gives_its_slices_up_and_its_late_answers_change_nothing(
    tmp_path, counting, require_exact, monkeypatch
):
    monkeypatch.setattr(drivers, "PATIENCE", 1.2)
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(12)) as store:
        stalled = drivers.join(store, 1)
        pieces = store.claim(stalled, 4)
        drive(store, threads(1))
        assert store.totals().complete
        from softcert.conformance.campaigns.store import Answer

        late = [Answer(piece.number, json.dumps({"cases": 99}), 99, 1.0, "{}") for piece in pieces]
        assert store.add(late) == 0
    require_exact(path, 12)


@pytest.mark.parametrize("jump", [1e6, -1e6])
def test_no_jump_of_the_wall_clock_matters(tmp_path, counting, require_exact, monkeypatch, jump):
    """Days forth or back at every look: nobody is taken for dead, no rate and no duration is off."""
    looks, statuses, released = itertools.count(1), [], []
    monkeypatch.setattr(time, "time", lambda: 2e9 + jump * next(looks))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (2e9 + jump * next(looks))))
    monkeypatch.setattr(drivers, "BEAT", 0.2)
    path = tmp_path / "s.sqlite"
    with store_for(path, counting(60, seconds=0.03)) as store, store_for(path) as second:
        other = drivers.join(second, 1)
        held = [piece.number for piece in second.claim(other, 3)]

        def give_back_later():
            time.sleep(1.5)
            with store_for(path) as third:
                released.append(third.release(other))

        thread = threading.Thread(target=give_back_later)
        thread.start()
        drive(store, threads(2), progress=statuses.append)
        thread.join(30)
        # Nobody took the other for dead, whose slices were therefore still its own.
        assert held == [0, 1, 2]
        assert released == [3]
        totals = store.totals()
    require_exact(path, 60)
    assert 60 * 0.03 <= totals.seconds < 60 * 0.3
    assert all(0 <= status.rate < 1000 for status in statuses)
    assert statuses[-1].rate > 2


def test_the_rate_is_that_of_late():
    now = 0.0
    rate = Rate(clock=lambda: now)
    assert rate.value == 0
    for _ in range(200):
        now += 1
        rate.add(5)
    assert rate.value == pytest.approx(5)
    for _ in range(200):
        now += 1
        rate.add(1)
    assert rate.value == pytest.approx(1)
    now += 1000
    assert rate.value < 0.1


def test_no_process_of_a_drive_outlives_it(tmp_path, counting, processes):
    import psutil

    before = set(psutil.Process().children(recursive=True))
    with store_for(tmp_path / "s.sqlite", counting(100, seconds=30)) as store:

        def stop(status):
            if status.computing == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            drive(store, process_lanes(2), progress=stop)
        family = [p for p in psutil.Process().children(recursive=True) if p not in before]
        # What starts processes, and what tracks their resources, stay for the next drive.
        names = {" ".join(p.cmdline()) for p in processes.alive(family)}
        assert all("forkserver" in name or "resource_tracker" in name for name in names), names
        assert drivers.drivers(store) == []
        assert len(store.claim(drivers.join(store, 1), 1000)) == 100
    with open_store(tmp_path / "s.sqlite") as store:
        assert store.totals().remaining == 100


def test_what_was_answered_before_an_interrupt_is_kept(tmp_path, counting, require_exact):
    """Also what no report has counted yet: here every slice is done as soon as it is handed out."""

    class AtOnce(ThreadPoolExecutor):
        def submit(self, function, *args):
            future = Future()
            future.set_result(function(*args))
            return future

    def stop(status):
        if status.computing:
            assert status.totals.done == 0
            raise KeyboardInterrupt

    # Seven of them take longer than a report lets wait for itself.
    with store_for(tmp_path / "s.sqlite", counting(50, seconds=0.05)) as store:
        with pytest.raises(KeyboardInterrupt):
            drive(store, [executor_lane(lambda: AtOnce(1), 7)], progress=stop)
        assert store.totals().done == 7
        drive(store, threads(1))
    require_exact(tmp_path / "s.sqlite", 50)
