"""Losses over samples in NumPy, against their formulas."""

import numpy as np
import pytest

from softcert.backends import numpy_sampled

SCORES = np.array([0.5, -1.0, 2.0, 0.25])
PROPOSAL = np.array([0.25, 0.125, 0.5, 0.125])
DRAWS = np.array([[0, 2, 2], [1, 1, 3]])


def test_classes_without_probability_are_never_drawn():
    class Extreme:
        def random(self, shape):
            return np.resize([0.0, 0.5, 1 - 2.0**-53], shape)

    drawn = numpy_sampled.draw_classes(np.array([0.0, 0.1, 0.7, 0.0]), (3,), Extreme())
    assert drawn.tolist() == [1, 2, 2]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_importance_sampling_by_the_formula(dtype):
    scores = SCORES.astype(dtype)
    ratios = np.exp(SCORES) / PROPOSAL
    close = {"rtol": 8 * np.finfo(dtype).eps}
    expected = ratios[DRAWS].mean(axis=-1)
    np.testing.assert_allclose(numpy_sampled.importance_partition(scores, PROPOSAL, DRAWS), expected, **close)
    logs = numpy_sampled.importance_log_partition(scores, PROPOSAL, DRAWS)
    np.testing.assert_allclose(logs, np.log(expected), **close)
    shares = numpy_sampled.importance_gradient(scores, PROPOSAL, DRAWS)
    first = 2 * ratios[2] / (ratios[0] + 2 * ratios[2])
    np.testing.assert_allclose(shares[0], [1 - first, 0, first, 0], **close)
    assert logs.dtype == shares.dtype == dtype


def test_large_scores_do_not_overflow():
    logs = numpy_sampled.importance_log_partition(SCORES + 1e4, PROPOSAL, DRAWS)
    np.testing.assert_allclose(logs, numpy_sampled.importance_log_partition(SCORES, PROPOSAL, DRAWS) + 1e4)


def test_target_sampling_is_softmax_over_the_subset():
    shares = numpy_sampled.target_sampling(SCORES, 1, np.array([3, 0, 3]))
    weights = np.exp(SCORES[[0, 1, 3]])
    np.testing.assert_allclose(shares, weights / weights.sum())


@pytest.mark.parametrize("remove", [True, False])
def test_sampled_loss_by_the_formula(remove):
    counts = np.array([0.5, 0.25, 1.5, 0.75])
    losses = numpy_sampled.sampled_softmax_loss(SCORES, 2, DRAWS, counts, remove_accidental_hits=remove)
    corrected = np.exp(SCORES) / counts
    for loss, row in zip(losses, DRAWS, strict=True):
        rivals = sum(corrected[k] for k in row if k != 2 or not remove)
        assert loss == pytest.approx(np.log((corrected[2] + rivals) / corrected[2]), rel=1e-14)


def test_a_sample_of_hits_alone_loses_nothing():
    assert numpy_sampled.sampled_softmax_loss(SCORES, 2, np.array([2, 2]), PROPOSAL) == 0.0
