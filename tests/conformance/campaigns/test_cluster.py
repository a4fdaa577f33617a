"""A Dask cluster: the same slices without a change, and a scheduler that may die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import cluster
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.model import RequestError

pytest.importorskip("distributed")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def programs():
    """Schedulers and workers as an operator starts them, all ended with the block."""
    started = []

    def start(name, *args):
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            f"distributed.cli.dask_{name}",
            "--no-dashboard",
            *args,
        ]
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def operator():
    """Start a scheduler and workers of one thread, by hand."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with programs() as start:
        yield (
            address,
            lambda: start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-show"),
            lambda: start("worker", address, "--nthreads", "1", "--death-timeout", "60", "--no-nanny"),
        )


def test_a_cluster_of_this_machine_computes_the_same(commands, require_exact):
    commands.plan(40, seconds=0.02)
    result = commands.run("run", "c.json", "--scheduler", "local", "--workers", 2)
    assert result.status == 0, result.stderr
    assert result.stderr == ""
    require_exact(commands.store, 40)


def test_a_scheduler_that_is_killed_and_started_again_costs_slices_in_flight(
    tmp_path, counting, require_exact, operator
):
    address, scheduler, worker = operator
    first = scheduler()
    worker()
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    campaign = counting(60, seconds=0.1, trace=str(trace))
    before = []

    def fault():
        while not trace.exists() or len(trace.read_text().splitlines()) < 12:
            time.sleep(0.01)
        first.kill()
        first.wait()
        with open_store(path) as store:
            before.append(store.totals().done)
        time.sleep(1.0)
        scheduler()
        # For a while there is a scheduler, and nobody to compute.
        time.sleep(3.0)
        worker()

    thread = threading.Thread(target=fault)
    thread.start()
    with store_for(path, campaign) as store:
        totals = drive(store, [cluster(address, 1)], attempts=1, reach=60)
        assert store.troubles() == []
    thread.join()
    assert totals.complete
    assert 0 < before[0] < 60
    require_exact(path, 60)
    # Those that the cluster had and the one that it was at.
    assert 60 <= len(trace.read_text().splitlines()) <= 60 + 3


def test_a_worker_that_is_killed_costs_the_slice_it_was_at(tmp_path, counting, require_exact, operator):
    address, scheduler, worker = operator
    scheduler()
    victims = [worker(), worker()]
    path, trace = tmp_path / "s.sqlite", tmp_path / "trace"
    campaign = counting(50, seconds=0.1, trace=str(trace))

    def fault():
        while not trace.exists() or len(trace.read_text().splitlines()) < 8:
            time.sleep(0.01)
        victims[0].kill()

    thread = threading.Thread(target=fault)
    thread.start()
    with store_for(path, campaign) as store:
        drive(store, [cluster(address, 1)], reach=60)
        assert not [trouble for trouble in store.troubles() if trouble.aside]
    thread.join()
    require_exact(path, 50)
    assert len(trace.read_text().splitlines()) <= 50 + 3


def test_a_scheduler_that_is_nowhere_is_told_in_a_sentence(tmp_path, counting):
    with (
        store_for(tmp_path / "s.sqlite", counting(3)) as store,
        pytest.raises(RequestError, match="the executor is out of reach"),
    ):
        drive(store, [cluster(f"tcp://127.0.0.1:{free_port()}", 1)], reach=0.5)


def test_without_dask_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"not installed here: pip install 'softcert\[campaign\]'"):
        cluster("local", 1)
