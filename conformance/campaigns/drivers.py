"""Who works on a store: drivers that say that they live, and claims that outlive none of them.

A claim only keeps two drivers from computing the same; results are kept once, whoever computes them. So a
driver may be taken for dead wrongly, and nothing is lost or counted twice.

No clock of the wall is read. Whether a driver of the same machine lives, its kernel says; of another, its
count of beats has to change while the one that watches sees its own monotonic clock go on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from softcert.backends.patience import statistics
from softcert.conformance.campaigns.store import Store

#: Seconds between two beats, and seconds without one after which a driver counts as dead.
BEAT, PATIENCE = 1.0, 30.0


@dataclass(frozen=True)
class Driver:
    """A driver as the store shows it.

    Attributes
    ----------
    machine, process : which machine, since it started, and which process on it.
    beat : counts up while it lives.
    workers : slices that it computes at once.
    done : results that it brought.
    rate : slices a second of late.
    holds : slices that it has.
    """

    id: int
    machine: str
    process: str
    beat: int
    workers: int
    done: int
    rate: float
    holds: int


def machine() -> str:
    """Return what two processes have in common that can see each other: boot and space of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process(number: int) -> str:
    """Return a process's number and start, which no other of this machine has; empty if it is gone."""
    fields = statistics(Path(f"/proc/{number}"))
    return "" if not fields or fields[0] in "ZX" else f"{number} {fields[19]}"


def join(store: Store, workers: int) -> int:
    """Enter this process as a driver; return its number."""
    with store.writing() as connection:
        entered = connection.execute(
            "INSERT INTO drivers (machine, process, beat, ended, workers, done, rate, seconds) "
            "VALUES (?, ?, 0, 0, ?, 0, 0, 0)",
            (machine(), process(os.getpid()), workers),
        )
    return int(entered.lastrowid or 0)


def beat(store: Store, driver: int, *, workers: int, done: int, rate: float, seconds: float) -> None:
    """Say that a driver lives, also one that another took for dead, and how it does."""
    with store.writing() as connection:
        connection.execute(
            "UPDATE drivers SET beat = beat + 1, ended = 0, workers = ?, done = ?, rate = ?, seconds = ? "
            "WHERE id = ?",
            (workers, done, rate, seconds, driver),
        )


def leave(store: Store, driver: int) -> None:
    """Give back what a driver has, and take it off the list."""
    with store.writing() as connection:
        store.release(driver)
        connection.execute("UPDATE drivers SET ended = 1, rate = 0 WHERE id = ?", (driver,))


def drivers(store: Store) -> list[Driver]:
    """Return the drivers that did not leave, dead ones among them."""
    rows = store.connection.execute(
        "SELECT id, machine, process, beat, workers, done, rate, "
        "(SELECT count(*) FROM open WHERE driver = id) FROM drivers WHERE NOT ended ORDER BY id"
    ).fetchall()
    return [Driver(*row) for row in rows]


def seconds_driven(store: Store) -> float:
    """Return how long drivers worked on a store, by their own clocks, all together."""
    (seconds,) = store.connection.execute("SELECT total(seconds) FROM drivers").fetchone()
    return float(seconds)


@dataclass
class Watch:
    """Tells dead drivers from living ones.

    Attributes
    ----------
    clock : monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def is_dead(self, driver: Driver) -> bool:
        """Whether a driver is gone, or has not beaten for as long as `PATIENCE` while this one watched."""
        here = machine()
        if here and driver.machine == here:
            number = driver.process.partition(" ")[0]
            if not number or process(int(number)) != driver.process:
                return True
        now = self.clock()
        beats, since = self._seen.get(driver.id, (-1, now))
        if driver.beat != beats:
            since = now
        self._seen[driver.id] = (driver.beat, since)
        return now - since > PATIENCE

    def bury(self, store: Store, own: int) -> int:
        """Give back what dead drivers have; return how many slices that were."""
        dead = [driver for driver in drivers(store) if driver.id != own and self.is_dead(driver)]
        count = sum(store.release(driver.id) for driver in dead)
        for driver in dead:
            leave(store, driver.id)
        return count
