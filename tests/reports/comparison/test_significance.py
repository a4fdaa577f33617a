"""The rank test against brute force and known values; what it calls different, and how often by chance."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from softcert.reports.comparison.significance import ALPHA, chance, holm, ratio, ratio_interval


def brute_force(old, new):
    """P(at least so many wins of the new) over all ways to share the values out, two-sided."""

    def wins(chosen, others):
        return sum(a > b for a in chosen for b in others)

    values, seen = [*old, *new], wins(new, old)
    splits = [
        (
            [values[i] for i in places],
            [v for i, v in enumerate(values) if i not in places],
        )
        for places in itertools.combinations(range(len(values)), len(new))
    ]
    larger = sum(wins(chosen, others) >= seen for chosen, others in splits) / len(splits)
    smaller = sum(wins(others, chosen) >= wins(old, new) for chosen, others in splits) / len(splits)
    return min(1.0, 2 * min(larger, smaller))


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (4, 4), (6, 3), (5, 6)])
def test_the_chance_is_that_of_every_way_to_share_the_values_out(sizes):
    generator = random.Random(1)
    for shift in (0.5, 1.0, 3.0):
        old = [generator.random() + 1 for _ in range(sizes[0])]
        new = [shift * (generator.random() + 1) for _ in range(sizes[1])]
        assert math.isclose(chance(old, new), brute_force(old, new))


def test_seven_rounds_that_do_not_mix_are_one_way_of_3432():
    old, new = [1.0 + i / 100 for i in range(7)], [2.0 + i / 100 for i in range(7)]
    assert math.isclose(chance(old, new), 2 / 3432)
    assert math.isclose(chance(new, old), 2 / 3432)


def test_ties_speak_against_a_difference():
    assert chance([1.0] * 7, [1.0] * 7) == 1.0


def test_a_change_within_what_is_allowed_is_none():
    old, new = [1.0 + i / 100 for i in range(7)], [1.2 + i / 100 for i in range(7)]
    assert chance(old, new) < 0.001
    assert chance(old, new, allowed=1.3) > 0.5


def test_the_interval_holds_the_ratio_as_often_as_it_says():
    generator = random.Random(2)
    held = 0
    for _ in range(600):
        old = [math.exp(generator.gauss(0, 0.1)) for _ in range(7)]
        new = [1.25 * math.exp(generator.gauss(0, 0.1)) for _ in range(7)]
        lower, upper = ratio_interval(old, new)
        assert lower <= ratio(old, new) <= upper
        held += lower <= 1.25 <= upper
    assert held / 600 >= 1 - ALPHA - 0.03


def test_too_few_rounds_give_no_interval():
    assert ratio_interval([1.0, 1.1, 1.2], [2.0, 2.1, 2.2]) is None
    assert ratio_interval([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]) is not None


def test_many_rounds_go_by_the_normal_distribution_and_agree_with_the_exact_one():
    old, new = [1 + math.sin(i) / 9 for i in range(60)], [1.02 + math.sin(i * 2.1) / 9 for i in range(60)]
    exact, wide = chance(old, new), chance([*old, 1.0], [*new, 1.02])
    assert math.isclose(exact, wide, rel_tol=0.2)
    near = zip(ratio_interval(old, new), ratio_interval([*old, 1.0], [*new, 1.02]), strict=True)
    assert all(math.isclose(a, b, rel_tol=0.01) for a, b in near)


def test_holm_is_as_in_its_paper():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([0.6, 0.9]) == (1.0, 1.0)


def test_many_rows_without_a_change_rarely_raise_one_false_alarm():
    generator = random.Random(3)
    alarms = 0
    for _ in range(100):
        chances = [
            chance([generator.lognormvariate(0, 0.1) for _ in range(7)],
                   [generator.lognormvariate(0, 0.1) for _ in range(7)])
            for _ in range(20)
        ]  # fmt: skip
        alarms += min(holm(chances)) <= ALPHA
    assert alarms <= 11
