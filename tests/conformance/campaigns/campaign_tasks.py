"""Tasks of campaigns that tests run, in whatever process imports this file."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from softcert import reference
from softcert.conformance.campaigns.driving import drive
from softcert.conformance.campaigns.executors import executor_lane
from softcert.conformance.campaigns.store_files import store_for
from softcert.conformance.campaigns.task import Task
from softcert.conformance.model import Verdict


def slices(settings):
    for number in range(settings["slices"]):
        yield {"key": f"n{number}", "number": number}


def verdict(settings, results, **more):
    found = list(results)
    return [
        Verdict(
            "accuracy.certified",
            "softmax",
            "float32",
            "pass",
            cases=sum(result["cases"] for result in found),
            exhaustive="every number",
            statistics={"sum": sum(result["value"] for result in found), "slices": len(found)},
            **more,
        )
    ]


def count(settings, piece):
    """The number of a slice, after a time, and what settings have it do before."""
    number = piece["number"]
    if "trace" in settings:
        with Path(settings["trace"]).open("a", encoding="utf-8") as file:
            file.write(f"{number} {os.getpid()}\n")
    if number in settings.get("raises", ()) and not Path(settings.get("mended", "/absent")).exists():
        raise ValueError(f"{number} is poison\nand more")
    if number in settings.get("kills", ()):
        os.kill(os.getpid(), 9)
    if number in settings.get("wrong", ()):
        return {"value": number}
    time.sleep(settings.get("seconds", 0.0))
    return {"cases": number % 7, "value": number, **settings.get("padding", {})}


COUNT = Task("count", slices, count, verdict)


def ring(settings):
    """Rounds of islands, each after the last round of itself, of the one before it and of the one behind."""
    islands = settings["islands"]
    for number in range(settings["slices"]):
        piece = {"key": f"n{number}", "number": number}
        if number >= islands:
            own = number - islands
            start = own - own % islands
            near = [own, start + (own - 1) % islands, start + (own + 1) % islands]
            piece["after"] = [f"n{one}" for one in dict.fromkeys(near)]
        yield piece


def wind(number, earlier):
    """A number that depends on those before it and on their order."""
    return (number + 1 + sum((place + 2) * value for place, value in enumerate(earlier))) % 1_000_003


def wound(settings, piece, earlier=()):
    counted = count(settings, piece)
    return {**counted, "value": wind(piece["number"], [result["value"] for result in earlier])}


RING = Task("ring", ring, wound, verdict)


def certify(settings, piece):
    """The largest certified error of NumPy's softmax, written plainly, on rows of a slice."""
    rows = np.random.default_rng(piece["number"]).normal(size=(4, 8)).astype(np.float32)
    terms = np.exp(rows - rows.max(axis=-1, keepdims=True))
    answer = terms / terms.sum(axis=-1, keepdims=True)
    _, upper = reference.softmax(rows).error_ulp(answer)
    return {"cases": len(rows), "value": 0, "error": float(np.max(upper))}


def worst(settings, results):
    found = list(results)
    error = max(result["error"] for result in found)
    (only,) = verdict(settings, found, error_max=(error, error), bound_ulp=4.0, margin=error / 4.0)
    return [only]


CERTIFY = Task("certify", slices, certify, worst)
NO_TASK = {"task": "none"}


def drive_all(path, campaign, workers):
    """Drive a campaign in a process that will be killed, in threads, which take no time to start."""
    with store_for(path, campaign) as store:
        drive(store, [executor_lane(lambda: ThreadPoolExecutor(workers), workers)])
