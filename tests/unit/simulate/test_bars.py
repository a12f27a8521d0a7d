"""Ours against tuned configurations, by hand."""

from __future__ import annotations

import pytest
from eod_operator.simulate.bars import bars, carried, price, summary
from eod_operator.simulate.metrics import Metrics
from eod_operator.simulate.tune import Tuned


def point(cost: float, lateness: float, rebalances: float = 0) -> Tuned:
    return Tuned({"cost": cost}, cost, lateness, rebalances, metrics=())


def test_at_our_cost_the_least_late_counts_and_at_our_lateness_the_cheapest() -> None:
    rivals = [point(8, 4000), point(10, 1000), point(10.05, 900), point(12, 400), point(20, 100)]
    made = bars(point(10, 500), rivals)
    assert (made.lateness, made.lateness_rival) == (
        pytest.approx(500 / 900),
        rivals[2],
    )  # within a hundredth of our cost
    assert (made.cost, made.cost_rival) == (pytest.approx(10 / 12), rivals[3])


def test_the_knee_is_cheapest_with_lateness_paid_for() -> None:
    rivals = [point(8, 14_400, 3), point(10, 3_600, 5), point(12, 0, 9)]
    made = bars(point(9, 3_600, 4), rivals)
    assert [price(one) for one in rivals] == [12, 11, 12]
    assert made.knee == rivals[1]
    assert (made.knee_cost, made.knee_lateness, made.knee_rebalances) == (pytest.approx(0.9), 1, -1)
    assert made.knee_price == pytest.approx(10 / 11)


def test_below_the_floor_all_are_alike() -> None:
    made = bars(point(10, 3), [point(9, 59), point(11, 0)])
    assert (made.lateness, made.knee_lateness) == (1, 1)
    assert made.cost == pytest.approx(10 / 9)  # 59 is no later than 3


def test_where_no_configuration_qualifies_nothing_is_claimed() -> None:
    made = bars(point(10, 500), [point(11, 600)])
    assert (made.lateness, made.lateness_rival, made.cost, made.cost_rival) == (None, None, None, None)
    with pytest.raises(ValueError, match="tune it first"):
        bars(point(10, 500), [])


def test_a_rival_tuned_for_the_usual_day_meets_today_as_it_was() -> None:
    usual = [Tuned({"lead": 1}, 8, 0, 0, ()), Tuned({"lead": 2}, 9, 0, 0, ())]
    today = [Tuned({"lead": 2}, 9, 0, 0, ()), Tuned({"lead": 1}, 8, 99_999, 0, ())]
    assert carried(usual, today) == today[1]
    assert carried(usual, today[:1]) is None


def test_a_summary_is_of_medians() -> None:
    def seed(number: int, hours: float, late: float, rebalances: int) -> Metrics:
        return Metrics(number, 0, late, 0, 0, 0, 0, hours, 0, rebalances, 0, 0)

    assert summary([seed(1, 1, 30, 7), seed(2, 3, 10, 8), seed(3, 2, 20, 100)]) == (2, 20, 8)
