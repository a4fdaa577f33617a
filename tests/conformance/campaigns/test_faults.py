"""Faults from outside: what is killed, full or pressed at any moment costs slices in flight and no more."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections import Counter

import psutil
import pytest

from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import process_context
from softcert.conformance.campaigns.executors import processes as process_lanes
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.model import RequestError

WORKERS = 2


def traced(path):
    return [int(line.split()[0]) for line in path.read_text(encoding="utf-8").splitlines()]


def done(path):
    with open_store(path) as store:
        return store.totals().done


def is_made(path):
    """Whether there is a store, and not only what SQLite begins one with."""
    try:
        return done(path) >= 0
    except RequestError as error:
        if "there is no store" in str(error) or "is empty" in str(error):
            return False
        raise


def kill_drivers(times, start, path, trace, most):
    """Start drivers and kill each at a moment that only chance knows; return how many were at work."""
    moments, before, at_work = random.Random(times), 0, 0
    for _ in range(times):
        process = start()
        time.sleep(moments.uniform(0.0, most))
        at_work += process.poll() is None
        process.kill()
        process.wait()
        if is_made(path):
            now = done(path)  # which examines the whole file
            assert now >= before
            before = now
    # Beside what was in flight, results may have been on their way to the store.
    lost = len(traced(trace)) - before
    assert lost <= 2 * WORKERS * times
    return at_work


class Forked:
    """A driver in a process of its own, which takes little to start."""

    def __init__(self, path, campaign):
        import campaign_tasks

        self.process = process_context().Process(
            target=campaign_tasks.drive_all, args=(path, campaign, WORKERS)
        )
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def kill(self):
        self.process.kill()

    def wait(self):
        self.process.join()


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_driver_killed_at_random_moments_loses_and_repeats_nothing(
    tmp_path, counting, require_exact, times
):
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    trace.touch()
    # More than two workers can compute before the last one is killed.
    slices = 120 * times
    campaign = counting(slices, seconds=0.01, trace=str(trace))
    at_work = kill_drivers(times, lambda: Forked(path, campaign), path, trace, 0.6)
    assert at_work == times
    assert 0 < done(path) < slices
    with store_for(path, campaign) as store:
        drive(store, process_lanes(WORKERS))
    require_exact(path, slices)
    assert set(traced(trace)) == set(range(slices))


@pytest.mark.slow
def test_a_command_killed_a_hundred_times_loses_and_repeats_nothing(
    commands, tmp_path, require_exact, processes
):
    trace = tmp_path / "trace"
    trace.touch()
    # More than two workers can compute before the last one is killed.
    commands.plan(2000, seconds=0.2, trace=str(trace))

    def start():
        return commands.start("run", "c.json", "--workers", WORKERS)

    began, first = time.monotonic(), start()
    processes.wait_for(lambda: len(traced(trace)) > 2)
    first.kill()
    first.wait()
    # Half of the moments before the first slice is done, and half after it.
    at_work = kill_drivers(100, start, commands.store, trace, 2 * (time.monotonic() - began))
    assert at_work == 100
    assert 10 < done(commands.store) < 2000
    assert commands.run("resume", "c.sqlite").status == 0
    require_exact(commands.store, 2000)


def test_workers_killed_at_random_moments_cost_their_slices_alone(
    commands, tmp_path, require_exact, processes
):
    trace = tmp_path / "trace"
    trace.touch()
    commands.plan(120, seconds=0.05, trace=str(trace))
    process = commands.start("run", "c.json", "--workers", WORKERS, "--attempts", 20)
    moments, killed = random.Random(5), 0
    processes.wait_for(lambda: len(traced(trace)) > 4)
    while killed < 8:
        time.sleep(moments.uniform(0.0, 0.2))
        number = int(trace.read_text(encoding="utf-8").split()[-1])
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "conforms" in stdout
    require_exact(commands.store, 120)
    repeated = sum(count - 1 for count in Counter(traced(trace)).values())
    assert 1 <= repeated <= killed
    with open_store(commands.store) as store:
        (charged,) = store.connection.execute("SELECT sum(count) FROM attempts").fetchone()
    # A slice may have been on its way to the process, and left no trace there.
    assert repeated <= charged <= killed


def test_the_workers_of_a_killed_driver_end(commands, tmp_path, processes):
    trace = tmp_path / "trace"
    trace.touch()
    commands.plan(10, seconds=1000, trace=str(trace))
    process = commands.start("run", "c.json", "--workers", WORKERS)
    processes.wait_for(lambda: len(traced(trace)) == 2)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(processes.alive(family)) >= 3
    process.kill()
    process.wait()
    processes.wait_for(lambda: not processes.alive(family), 10)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_is_asked_to_stop_keeps_what_is_done(
    commands, tmp_path, require_exact, processes, number, status
):
    commands.plan(60, seconds=0.1)
    process = commands.start("run", "c.json", "--workers", WORKERS)
    processes.wait_for(lambda: is_made(commands.store))
    processes.wait_for(lambda: done(commands.store) > 3)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == status, stderr
    kept = done(commands.store)
    assert stderr == f"c.sqlite: {kept} of 60 slices are done and kept\nsoftcert: stopped before the end.\n"
    assert kept < 60
    processes.wait_for(lambda: not processes.alive(family), 10)
    result = commands.run("resume", "c.sqlite")
    assert result.status == 0, result.stderr
    require_exact(commands.store, 60)


def test_two_commands_on_one_store_share_it(commands, tmp_path, require_exact):
    trace = tmp_path / "trace"
    commands.plan(150, seconds=0.02, trace=str(trace))
    both = [commands.start("run", "c.json", "--workers", 1) for _ in range(2)]
    for process in both:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert "conforms" in stdout
    require_exact(commands.store, 150)
    assert max(Counter(traced(trace)).values()) == 1


def test_of_two_commands_one_may_be_killed(commands, tmp_path, require_exact):
    commands.plan(100, seconds=0.05)
    first, second = (commands.start("run", "c.json", "--workers", 1) for _ in range(2))
    time.sleep(2.5)
    first.kill()
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 0, stderr
    require_exact(commands.store, 100)


def test_a_full_disk_is_told_in_a_sentence_and_the_campaign_goes_on(commands, require_exact):
    commands.plan(300, padding={"pad": "x" * 20_000})

    process = commands.start("run", "c.json", "--workers", WORKERS)
    # Before it has written anything; a function called in the child would fork threads that other tests left.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 3, stderr
    *_, sentence = stderr.splitlines()
    assert sentence.startswith("softcert: the disk of the store c.sqlite takes no more (")
    assert sentence.endswith("`softcert campaign resume c.sqlite` goes on from there.")
    kept = done(commands.store)
    assert 5 < kept < 300
    with open_store(commands.store) as store:
        assert len(list(store.results())) == kept
    result = commands.run("resume", "c.sqlite", "--json", "-")
    assert result.status == 0, result.stderr
    assert json.loads(result.stdout)["verdicts"][0]["statistics"]["sum"] == sum(range(300))
    require_exact(commands.store, 300)


def test_a_damaged_store_is_told_in_a_sentence_and_left_as_it_is(commands):
    commands.plan(30)
    assert commands.run("run", "c.json", "--workers", 1).status == 0
    content = commands.store.read_bytes()
    assert b'"value":17' in content
    damaged = content.replace(b'"value":17', b'"value":71')
    commands.store.write_bytes(damaged)
    for command in (
        ("run", "c.json"),
        ("resume", "c.sqlite"),
        ("status", "c.sqlite"),
        ("result", "c.sqlite"),
    ):
        result = commands.run(*command)
        assert result.status == 2
        assert result.stderr == (
            "softcert: the store c.sqlite is damaged, and nothing in it was changed: the result of this "
            "slice is not what was written: n17.\n"
        )
        assert commands.store.read_bytes() == damaged


def test_a_poisoned_slice_ends_in_status_3_and_its_reason(commands, require_exact):
    commands.plan(10, raises=[4])
    result = commands.run("run", "c.json", "--workers", 1)
    assert result.status == 3
    assert result.stderr.splitlines()[-1] == (
        "softcert: 1 of 10 slices set aside, the first, n4, after 3 attempts (ValueError: "
        "4 is poison and more); the others are kept, and `softcert campaign resume c.sqlite --retry` tries "
        "these again."
    )
    require_exact(commands.store, 10, missing=(4,))
    assert "n4" in commands.run("status", "c.sqlite").stdout
    assert "so far: 9 of 10 slices, 1 set aside" in commands.run("result", "c.sqlite").stdout
