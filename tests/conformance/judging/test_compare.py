"""Which errors are made certain, and what is said of them, told by an enclosure whose ends are given."""

from dataclasses import dataclass

import numpy as np
import pytest

from softcert.conformance.judging import compare as module
from softcert.conformance.judging.compare import Comparison, certified_errors, compare
from softcert.reference import logsumexp


@dataclass
class Known:
    """An enclosure that knows one (lower, upper) error of each result at first, and another exactly."""

    first: np.ndarray
    certain: np.ndarray
    exact: np.ndarray
    asked: list

    def error_ulp(self, value):
        assert value.shape == self.exact.shape
        return self.first[..., 0].copy(), self.first[..., 1].copy()

    def __getitem__(self, places):
        return Known(self.first[places], self.certain[places], self.exact[places], self.asked)

    def exactly(self):
        self.asked += self.certain[..., 0].tolist()
        return Known(self.certain, self.certain, self.exact, self.asked)

    def round(self, dtype):
        return self.exact.astype(dtype)

    def to_float64(self):
        return self.exact

    def bounds_decimal(self, digits):
        return f"{float(self.exact):.{digits}e}", f"{float(self.exact):.{digits}e}"


def known(first, certain=None, exact=None):
    """An enclosure of results that are 1 where nothing else is said."""
    first = np.array(first, float)
    return Known(
        first,
        first if certain is None else np.array(certain, float),
        np.ones(len(first)) if exact is None else np.array(exact, float),
        [],
    )


def sharpened(bound, first, certain):
    """The errors that are asked for exactly."""
    truth = known(first, certain)
    certified_errors(truth, np.ones(len(first)), np.full(len(first), float(bound)))
    return truth.asked


@pytest.mark.parametrize(
    ("bound", "lower", "upper", "asked"),
    [
        (10.0, 9.0, 11.0, True),  # which side of the bound
        (10.0, 10.0, 11.0, True),
        (10.0, 9.0, 10.0, False),
        (10.0, 10.5, 11.0, False),
        (10.0, 1.4, 3.0, True),  # wider than a factor of two
        (10.0, 1.6, 3.0, False),
        (10.0, 1.2, 3.1, True),
        (10.0, 1.1, 3.1, True),
        (10.0, 1.5, 3.0, False),
        (10.0, 0.1, 0.5, False),  # below half an ulp no digit is printed
        (10.0, 0.4, 0.6, True),  # perhaps a tie
        (10.0, 0.5, 0.6, True),
        (10.0, 0.55, 0.6, False),
    ],
)
def test_errors_are_made_certain_that_are_open(bound, lower, upper, asked):
    assert sharpened(bound, [(lower, upper)], [(0.7, 0.7)]) == ([0.7] if asked else [])


def test_the_largest_of_many_wide_errors_are_made_certain():
    most = module._SHARPENED + 48
    first, certain = ([(share * i, i) for i in range(1, most)] for share in (0.1, 1.0))
    assert sorted(sharpened(1e9, first, certain)) == [float(i) for i in range(48, most)]


def test_a_crowd_of_ties_is_made_certain():
    ties = [(0.4, 0.6)] * (module._TIES + 5)
    assert len(sharpened(10.0, ties, ties)) == module._TIES


def test_an_error_that_may_be_half_an_ulp_is_settled_by_rounding():
    beyond = 0.5 + 1e-9
    truth = known([(0.4, 0.6)] * 2, [(0.5, beyond)] * 2, exact=[1.0, 2.0])
    lower, upper = certified_errors(truth, np.ones(2), np.full(2, 10.0))
    np.testing.assert_array_equal(lower, [0.5, 0.5])
    np.testing.assert_array_equal(upper, [0.5, beyond])


def test_half_an_ulp_of_one_number_is_settled_too():
    """2049 + e^-4049 lies above the middle of two numbers of binary16, by less than binary64 tells."""
    answer = np.array(2050.0, dtype=np.float16)
    lower, upper = certified_errors(logsumexp([2049.0, -2000.0]), answer, np.array(10.0))
    assert lower <= upper == 0.5
    lower, upper = certified_errors(
        logsumexp([2049.0, -2000.0]), np.array(2048.0, dtype=np.float16), np.array(10.0)
    )
    assert lower > 0.49
    assert upper > 0.5


def compared(errors, bound, *, value=None, exact=None, absolute=None):
    truth = known(errors, exact=exact)
    count = len(errors)
    return compare(
        Comparison(
            position=0,
            value=np.ones(count) if value is None else np.array(value),
            truth=truth,
            error=(truth.first[:, 0], truth.first[:, 1]),
            bound=np.broadcast_to(np.asarray(bound, float), (count,)).copy(),
            ordinary=np.ones(count, bool),
            absolute=None if absolute is None else np.full(count, absolute),
            vacuous=False,
            name=lambda at: f"y{list(at)}",
        )
    )


def test_a_margin_is_the_upper_end_over_the_bound():
    assert compared([(0.5, 1.0)], 4.0).margin == 0.25
    assert compared([(0.0, 0.0)], 0.0).margin == 0.0
    assert compared([(0.0, 0.5)], 0.0).margin == np.inf


def test_a_finding_tells_the_lower_end_in_short():
    finding = compared([(5.0, 7.0)], 4.0, exact=[1.0 / 3.0 * 1e-5]).finding
    assert finding.message == "y[0] is 1, 5 ulp from the exact 3.333333333333e-06; the bound is 4 ulp"
    whole = compared([(5.0, 7.0)], 4.0, exact=[1.0]).finding
    assert "exact 1.000000000000e+00;" in whole.message


def test_the_finding_is_at_the_largest_excess():
    assert compared([(5.0, 6.0), (9.0, 9.5), (5.0, 7.0)], 4.0).finding.index == (1,)


@pytest.mark.parametrize("error", [(0.3, 0.4), (0.5, 1.0), (5.0, 6.0)])
@pytest.mark.parametrize(
    ("distance", "broken"), [(0.5, False), (1.0, False), (1.0 + 2.0**-45, False), (1.1, True)]
)
def test_without_a_bound_in_ulps_the_distance_decides(error, distance, broken):
    judgement = compared([error], np.inf, value=[1.0 + distance], exact=[1.0], absolute=1.0)
    assert (judgement.finding is not None) == broken
    assert judgement.margin == pytest.approx(distance)


def test_where_ulps_can_be_counted_a_distance_says_nothing():
    assert compared([(1.0, 2.0)], 4.0, value=[9.0], exact=[1.0], absolute=1e-9).finding is None
