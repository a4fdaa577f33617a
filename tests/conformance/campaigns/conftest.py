"""Campaigns of tasks that count, their stores, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from softcert.conformance.campaigns.campaign import plan, write_campaign
from softcert.conformance.campaigns.store_files import open_store, store_for

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _tasks(monkeypatch):
    """Make the tasks importable here and in every process that is started."""
    monkeypatch.syspath_prepend(str(HERE))
    given = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), given])))


@pytest.fixture
def counting():
    """Plan a campaign that counts."""

    def planned(slices, task="campaign_tasks:COUNT", **settings):
        return plan({"task": task, "slices": slices, **settings})

    return planned


@pytest.fixture
def store(tmp_path, counting):
    """An open store of twelve slices."""
    with store_for(tmp_path / "c.sqlite", counting(12)) as opened:
        yield opened


@pytest.fixture
def require_exact():
    """Make sure that a store has every slice once, with its own result."""

    def required(path, slices, missing=()):
        with open_store(path) as opened:
            totals = opened.totals()
            values = [json.loads(text)["value"] for text in opened.results()]
        wanted = [number for number in range(slices) if number not in missing]
        assert values == wanted
        assert totals.done == len(wanted)
        assert totals.cases == sum(number % 7 for number in wanted)
        assert totals.aside == len(missing)
        assert totals.slices == slices
        return totals

    return required


@pytest.fixture
def commands(tmp_path, counting):
    """Run `softcert campaign` in processes of their own, in a folder where c.json is planned."""
    started = []

    def planned(slices, **settings):
        write_campaign(tmp_path / "c.json", counting(slices, **settings))

    def start(*args, **keywords):
        command = [sys.executable, "-m", "softcert", "campaign", *map(str, args)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **keywords
        )
        started.append(process)
        return process

    def run(*args, **keywords):
        process = start(*args, **keywords)
        stdout, stderr = process.communicate(timeout=300)
        return SimpleNamespace(status=process.returncode, stdout=stdout, stderr=stderr)

    yield SimpleNamespace(plan=planned, start=start, run=run, store=tmp_path / "c.sqlite")
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def alive(family):
    return [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def processes():
    """Wait for what happens in other processes, and see which of them live."""
    return SimpleNamespace(wait_for=wait_for, alive=alive)
