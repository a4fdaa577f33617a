"""What the engine of campaigns costs: two processes beside one, slices of a second, a million results.

    python benchmarks/campaign.py [efficiency overhead driver store] [--results N]

Efficiency is the time of one process over twice that of two, on slices that compute; it says nothing where
others use the machine's cores. Overhead is what passes in a process between two slices; slices that sleep
show it also on a machine that is busy. Of slices that do
nothing follows how many a driver can take in a second, and so how many workers it can keep busy. The
store is filled with results one transaction each or in batches, and the time of each tenth is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time, sleep
from typing import Any

from softcert.conformance.campaigns.campaign import plan
from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import cluster, processes
from softcert.conformance.campaigns.store import Answer
from softcert.conformance.campaigns.store_files import open_store, store_for
from softcert.conformance.campaigns.task import Task
from softcert.conformance.model import Verdict


def _slices(settings: Mapping[str, Any]) -> Any:
    for number in range(settings["slices"]):
        yield {"key": f"{number:08d}", "number": number}


def _compute(settings: Mapping[str, Any], _piece: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a core busy for a fixed amount of work, or wait for a fixed time; say when, and where."""
    began = perf_counter()
    if "sleep" in settings:
        sleep(settings["sleep"])
    else:
        sum(math.exp(-i) for i in range(settings["work"]))
    return {"cases": 1, "process": os.getpid(), "began": began, "ended": perf_counter()}


def _merge(_settings: Mapping[str, Any], _results: Any) -> list[Verdict]:
    return []


WORK = Task("work", _slices, _compute, _merge)


def _spans(workers: int, **settings: Any) -> dict[int, list[tuple[float, float]]]:
    """When each process began and ended its slices, by the clock that all processes share."""
    campaign = plan({"task": "campaign:WORK", **settings})
    spans: dict[int, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, store_for(Path(folder) / "c.sqlite", campaign) as opened:
        drive(opened, processes(workers))
        for result in map(json.loads, opened.results()):
            spans.setdefault(result["process"], []).append((result["began"], result["ended"]))
    return {process: sorted(found) for process, found in spans.items()}


def efficiency(rounds: int = 5) -> None:
    """Time the same work in one process and in two, in turns."""
    ratios = []
    for _ in range(rounds):
        walls = []
        for workers in (1, 2):
            every = [span for found in _spans(workers, slices=20, work=4_000_000).values() for span in found]
            walls.append(max(ended for _, ended in every) - min(began for began, _ in every))
        ratios.append(walls[0] / walls[1] / 2)
        print(f"one process {walls[0]:.2f} s, two {walls[1]:.2f} s: efficiency {ratios[-1]:.3f}")
    print(f"parallel efficiency at two processes: median {median(ratios):.3f} of {rounds}")


def overhead() -> None:
    """What the engine adds to a slice: from the end of one to the beginning of the next in a process."""
    for seconds, slices in ((1.0, 40), (0.1, 200), (0.01, 1000)):
        for workers in (1, 2):
            found = _spans(workers, slices=slices, sleep=seconds).values()
            gaps = [after[0] - before[1] for spans in found for before, after in pairwise(spans)]
            print(
                f"slices of {seconds:g} s, {workers} processes: {1e3 * median(gaps):.2f} ms between two, "
                f"mean {1e3 * mean(gaps):.2f} ms, {mean(gaps) / seconds:.2%}"
            )


def driver(slices: int = 2000) -> None:
    """What the driver itself computes for a slice: the scheduler of a cluster is in its process here."""
    lanes = {"processes": processes(2)}
    if find_spec("distributed"):
        lanes["Dask, its scheduler included"] = [cluster("local", 2)]
    for name, chosen in lanes.items():
        campaign = plan({"task": "campaign:WORK", "slices": slices, "sleep": 0.0})
        with (
            tempfile.TemporaryDirectory() as folder,
            store_for(Path(folder) / "c.sqlite", campaign) as opened,
        ):
            marks: list[tuple[float, float, int]] = []

            def watch(status: Any, marks: list[Any] = marks) -> None:
                marks.append((perf_counter(), process_time(), status.totals.done))

            drive(opened, chosen, progress=watch)
        first = next(mark for mark in marks if mark[2])
        wall, busy, done = (last - begun for last, begun in zip(marks[-1], first, strict=True))
        print(f"{name}: {1e3 * busy / done:.2f} ms of a core a slice, {done / wall:.0f} slices a second")


def store(results: int) -> None:
    """Fill a store, and print what each tenth takes; then examine it and read its results."""
    batches = {"one by one": 1, "in batches of 100": 100}
    for name, size in batches.items():
        # A transaction of its own waits for the disk, which takes no shorter for a small store.
        count = results if size > 1 else results // 200
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c.sqlite"
            began = perf_counter()
            campaign = plan({"task": "campaign:WORK", "slices": count})
            with store_for(path, campaign) as opened:
                print(f"{name}: a store of {count} slices is made in {perf_counter() - began:.1f} s")
                _fill(opened, count, size)
            began = perf_counter()
            with open_store(path) as opened:
                print(f"  examined in {perf_counter() - began:.1f} s, {path.stat().st_size / 2**20:.0f} MiB")
                began = perf_counter()
                read = sum(1 for _ in opened.results())
                print(f"  {read} results read in {perf_counter() - began:.2f} s")


def _fill(opened: Any, count: int, size: int) -> None:
    driver = 1
    tenth = count // 10
    for part in range(10):
        began, busy, slowest = perf_counter(), process_time(), 0.0
        for first in range(part * tenth, (part + 1) * tenth, size):
            before = perf_counter()
            with opened.writing():
                pieces = opened.claim(driver, size)
                opened.add(
                    Answer(p.number, f'{{"cases":65536,"worst":[{first},0.5]}}', 65536, 1.0, "{}")
                    for p in pieces
                )
            slowest = max(slowest, perf_counter() - before)
        each, of_core = (1e6 * spent / tenth for spent in (perf_counter() - began, process_time() - busy))
        print(
            f"  to {(part + 1) * tenth:8d}: {each:7.1f} us a result, {of_core:.1f} us of a core; the slowest "
            f"transaction {1e3 * slowest:.1f} ms"
        )


PARTS = {"efficiency": efficiency, "overhead": overhead, "driver": driver}


def main() -> None:
    """Measure what was asked for, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "store"], default=[*PARTS, "store"])
    parser.add_argument("--results", type=int, default=1_000_000)
    given = parser.parse_args()
    for part in given.parts:
        if part == "store":
            store(given.results)
        else:
            PARTS[part]()


if __name__ == "__main__":
    main()
