"""The statistics of the benchmark suite."""

import pytest

from bench.goals import GOALS, Goal, Verdict
from bench.spread import Spread, differences, percentile, ratios

LESS = Goal("k", "t", must=10, reach=4, unit="ms")
MORE = Goal("k", "t", must=0.8, reach=1.4, unit="×", more_is_better=True)


def test_a_spread_is_the_median_between_lowest_and_highest() -> None:
    assert Spread.of([3, 1, 2]) == Spread(median=2, low=1, high=3, count=3)
    assert Spread.of([1, 2]).median == 1.5
    with pytest.raises(ValueError, match="nothing"):
        Spread.of([])


def test_a_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() -> None:
    found = ratios([10, 1, 12], [10, 10, 4])
    assert (found.median, found.low, found.high) == (1.0, 0.1, 3.0)
    with pytest.raises(ValueError):
        ratios([1, 2], [1])


def test_a_minute_in_which_the_machine_was_slow_moves_no_ratio() -> None:
    assert ratios([8, 2, 8], [10, 2.5, 10]) == Spread(median=0.8, low=0.8, high=0.8, count=3)


def test_differences_are_those_of_pairs() -> None:
    assert differences([3, 5], [1, 4]) == Spread(median=1.5, low=1, high=2, count=2)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = list(range(100, 0, -1))
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7], 0.99) == 7
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("value", "verdict"), [(4, Verdict.REACHED), (4.1, Verdict.MET), (10, Verdict.MET), (11, Verdict.MISSED)]
)
def test_less_is_better_where_it_is_time_or_memory(value: float, verdict: Verdict) -> None:
    assert LESS.verdict(value) is verdict


@pytest.mark.parametrize(("value", "verdict"), [(1.4, Verdict.REACHED), (0.8, Verdict.MET), (0.79, Verdict.MISSED)])
def test_more_is_better_where_it_is_a_rate(value: float, verdict: Verdict) -> None:
    assert MORE.verdict(value) is verdict


def test_a_verdict_is_sure_if_every_pair_says_it() -> None:
    assert MORE.is_sure(Spread(1.5, 1.4, 1.6, 3))
    assert not MORE.is_sure(Spread(1.5, 1.3, 1.6, 3))


def test_an_advance_is_above_one_where_the_goal_is_kept() -> None:
    assert LESS.advance(5) == 2
    assert LESS.advance(20) == 0.5
    assert LESS.advance(-1) == float("inf")
    assert MORE.advance(1.6) == 2
    assert MORE.advance(0) == 0


def test_no_goal_asks_less_than_it_must() -> None:
    for goal in GOALS.values():
        assert goal.verdict(goal.reach) is Verdict.REACHED
        assert goal.verdict(goal.must) is not Verdict.MISSED
