"""Speeds are real measurements of what answers, and nothing else."""

import pytest

from softcert.backends.types import Backend
from softcert.conformance.wire import run_to_json, validate
from softcert.reports.speed import measure

SHAPES = ((8, 16), (2, 64))


def _half_broken(x, axis=-1):
    if x.shape[-1] > 16:
        raise ValueError("too long")
    return x


def test_each_subject_has_a_row_for_what_it_answers():
    broken = Backend("half broken", {"softmax": _half_broken})
    rows = measure(["numpy", broken, "nothing.here:softmax"], shapes=SHAPES, rounds=3)
    assert [tuple(r["shape"]) for r in rows[0]] == list(SHAPES)
    assert [tuple(r["shape"]) for r in rows[1]] == [SHAPES[0]]
    assert rows[2] == ()


def test_figures_are_consistent():
    (row, *_) = measure(["numpy"], ops=["softmax_vjp"], shapes=SHAPES[:1], rounds=3)[0]
    low, high = row["spread"]
    assert 0 < low <= row["seconds"] <= high
    assert row["bytes_per_second"] == pytest.approx(3 * 8 * 16 * 4 / row["seconds"])
    assert row["copy_bytes_per_second"] > 0


def test_rows_fit_the_published_schema():
    from dataclasses import replace

    from softcert.conformance import check

    run = check("numpy", ops=["softmax"], dtypes=["float32"], clauses=["logistic.one-class"], profile="smoke")
    timed = replace(run, speed=measure(["numpy"], shapes=SHAPES, rounds=2)[0])
    validate(run_to_json(timed), "run")
