"""FlashAttention-3's table 3: what is drawn, what it is compared with, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from softcert import SoftcertError, reference
from softcert.reports.reproduce import Setting, measure_table3, table3_to_json
from softcert.reports.reproduce.arithmetics import fp16_flash
from softcert.reports.reproduce.fa3_table3 import Row, draw, rmse

#: FP16: baseline, FlashAttention; FP8: baseline, FlashAttention-3, without blocks, without rotation.
PAPER = (3.2e-4, 1.9e-4, 2.4e-2, 9.1e-3, 9.3e-3, 2.4e-2)


@pytest.fixture(scope="module")
def small():
    told = []
    table = measure_table3(Setting(2, 300, 140, 8), progress=lambda *step: told.append(step))
    return table, told


def attention(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ v / weights.sum(axis=1, keepdims=True)


def test_rows_are_those_of_the_paper_in_its_order(small):
    table, _ = small
    assert tuple(row.paper for row in table.rows) == PAPER
    assert [row.fmt for row in table.rows] == ["FP16"] * 2 + ["FP8"] * 4
    assert all(len(row.rmse) == 2 for row in table.rows)


def test_errors_are_against_the_inputs_before_they_are_rounded(small):
    """Binary64 without any certification is near enough to tell that from rounded inputs."""
    table, _ = small
    for seed, measured in enumerate(table.rows[1].rmse):
        q, k, v, signs = draw(table.setting, seed)
        computed = fp16_flash(q, k, v, signs)
        assert measured == pytest.approx(rmse(computed, attention(q, k, v)), rel=1e-9)
        rounded = attention(*(x.astype(np.float16).astype(np.float64) for x in (q, k, v)))
        assert measured != pytest.approx(rmse(computed, rounded), rel=0.1)


def test_the_oracle_is_the_fast_one_and_another_can_be_asked(monkeypatch):
    asked = []
    certified = reference.attention

    def listening(*operands, method):
        asked.append(method)
        return certified(*operands, method=method)

    monkeypatch.setattr(reference, "attention", listening)
    setting = Setting(1, 9, 2, 2)
    assert measure_table3(setting) == measure_table3(setting, method="arb")
    assert asked == ["fast", "arb"]


def test_progress_counts_the_parts_that_the_oracle_takes(small):
    _, told = small
    assert told == [(0, 4, "seed 0"), (1, 4, "seed 0"), (2, 4, "seed 1"), (3, 4, "seed 1")]


def test_each_arithmetic_errs_in_its_own_way(small):
    table, _ = small
    for place in range(2):
        assert len({row.rmse[place] for row in table.rows}) == len(table.rows)
        half, eighth = table.rows[:2], table.rows[2:]
        assert max(row.rmse[place] for row in half) < min(row.rmse[place] for row in eighth) / 8


def test_at_the_papers_depth_the_figures_are_of_its_size():
    """With fewer keys and queries than the full run: each within a factor of three, in the order printed."""
    base, flash, base8, flash8, no_blocks, unrotated = (
        row.median for row in measure_table3(Setting(2, 2048, 32)).rows
    )
    measured = (base, flash, base8, flash8, no_blocks, unrotated)
    assert all(1 / 3 < a / b < 3 for a, b in zip(measured, PAPER, strict=True))
    assert flash < base
    assert max(flash8, no_blocks) < min(base8, unrotated)


def test_entries_are_normal_and_one_in_a_thousand_is_an_outlier():
    setting = Setting(1, 4096, 4096, 64)
    entries = np.concatenate([x.ravel() for x in draw(setting, 3)[:3]])
    # Variance 1 + 100 / 1000, fourth moment 3 (1 + 2 x 100 / 1000 + 10^4 / 1000); six standard errors.
    assert abs(entries.mean()) < 6 * np.sqrt(1.1 / entries.size)
    assert abs(entries.var() - 1.1) < 6 * np.sqrt(3 * 11.2 / entries.size)
    # Beyond 6 there are outliers only: P(|N(0, 101)| > 6) = 0.5505 of one in a thousand.
    beyond = (np.abs(entries) > 6).mean()
    assert abs(beyond - 0.5505e-3) < 6 * np.sqrt(0.55e-3 / entries.size)


def test_a_seed_always_gives_the_same_and_another_something_else():
    setting = Setting(2, 8, 4, 2)
    once, again, other = draw(setting, 0), draw(setting, 0), draw(setting, 1)
    assert [x.shape for x in once] == [(4, 2), (8, 2), (8, 2), (2,)]
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0], other[0])
    assert not np.array_equal(once[1], once[2])
    assert set(draw(Setting(1, 1, 1, 64), 0)[3]) == {-1.0, 1.0}


def test_rmse_by_hand():
    assert rmse(np.array([[1, 2]], dtype=np.float32), np.array([[1.0, 5.0]])) == pytest.approx(4.5**0.5)


def test_a_row_by_hand():
    row = Row("x", "FP16", 2.0, (1.0, 9.0, 4.0, 3.0))
    assert row.median == 3.5
    assert row.ratio == 1.75


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"seeds": 0}, "seeds has to be at least 1, not 0"),
        ({"keys": -1}, "keys"),
        ({"queries": 0}, "queries"),
        ({"depth": 0}, "depth"),
        ({"depth": 96}, "power of two up to 1024, not 96"),
        ({"depth": 2048}, "power of two up to 1024, not 2048"),
        ({"keys": 2**25 + 1, "queries": 1}, "queries x keys has to be at most 33554432"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(sizes, words):
    with pytest.raises(SoftcertError, match=words):
        Setting(**sizes)


def test_json(small):
    table, _ = small
    document = table3_to_json(table)
    assert document["setting"] == {"seeds": 2, "keys": 300, "queries": 140, "depth": 8}
    assert "sequence length" in document["not_stated"]
    for entry, row in zip(document["rows"], table.rows, strict=True):
        low, high = sorted(row.rmse)
        assert entry["rmse"] == {"median": (low + high) / 2, "min": low, "max": high}
        assert entry["ratio"] == entry["rmse"]["median"] / entry["paper"]
