"""Speeds are real measurements of what answers, and nothing else."""

import pytest

from softcert.backends.types import Backend
from softcert.conformance.wire.runs import run_to_json, validate
from softcert.reports.speed import Stopwatch, measure
from softcert.reports.speed.problems import Problem

SHAPES = ((8, 16), (2, 64))


def _half_broken(x, axis=-1):
    if x.shape[-1] > 16:
        raise ValueError("too long")
    return x


def test_of_a_tree_the_paths_alone_are_moved():
    """Three nodes of a heap: class 0 is two nodes deep, and so are all others of four."""
    call = Problem("hierarchical_log_softmax_vjp", "float32", (5, 3)).draw(1)
    nodes = 2 * (8 + 8 + 4)
    assert Problem("hierarchical_log_softmax_vjp", "float32", (5, 3)).traffic(call) == 5 * (
        8 + 4 + 16 + nodes + 12
    )


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
    assert row["memory_bytes_per_second"] > 0
    assert len(row["samples"]) == 3
    low, high = row["interval"]
    assert min(row["samples"]) == low <= row["seconds"] <= high == max(row["samples"])
    assert row["copy_share"] == pytest.approx(row["bytes_per_second"] / row["copy_bytes_per_second"])
    assert row["operations"] == 4 * 8 * 16
    assert row["peak_bytes"] >= 0


@pytest.mark.parametrize("op", ["attention", "attention_lse", "attention_vjp", "attention_merge"])
def test_attention_is_timed_by_heads_queries_keys_and_features(op):
    shape = (2, 8, 16, 4)
    (row,) = measure(["numpy"], ops=[op], dtypes=["float16"], shapes=[shape], rounds=2)[0]
    assert row["shape"] == list(shape)
    terms = {"attention": 4, "attention_lse": 4, "attention_vjp": 10}.get(op)
    if terms is None:
        assert "flops_per_second" not in row
    else:
        assert row["flops_per_second"] == pytest.approx(terms * 2 * 8 * 16 * 4 / row["seconds"])
        share = row["flops_per_second"] / row["matrix_flops_per_second"]
        assert row["matrix_share"] == pytest.approx(share)
    read_and_written = {
        "attention": 2 * (64 + 128 + 128 + 64),
        "attention_lse": 2 * (64 + 128 + 128 + 64) + 4 * 16,
        "attention_vjp": 2 * (64 + 128 + 128 + 64 + 64) + 4 * 16 + 2 * (64 + 128 + 128),
        "attention_merge": 3 * (2 * 64 + 4 * 16),
    }[op]
    assert row["bytes_per_second"] == pytest.approx(read_and_written / row["seconds"])


def test_progress_counts_the_rounds():
    seen = []
    with Stopwatch(["numpy"]) as stopwatch:
        rows = list(
            stopwatch.rows(["softmax"], ["float32"], SHAPES, 2, progress=lambda *step: seen.append(step))
        )
    assert len(rows) == 2
    assert [done for done, _, _ in seen] == list(range(6))
    assert {(total, what) for _, total, what in seen} == {
        (6, "softmax float32 8 x 16"),
        (6, "softmax float32 2 x 64"),
    }


def test_rows_fit_the_published_schema():
    from dataclasses import replace

    from softcert.conformance import check

    run = check("numpy", ops=["softmax"], dtypes=["float32"], clauses=["logistic.one-class"], profile="smoke")
    timed = replace(run, speed=measure(["numpy"], shapes=SHAPES, rounds=2)[0])
    validate(run_to_json(timed), "run")
