"""What an autoscaler sees is some time old, and made of committed offsets."""

from __future__ import annotations

import pytest
from eod_operator.simulate.scenario import Group, Sight
from unit.simulate.worlds import OPEN_S, Plan, only, world


def test_a_look_is_known_after_its_delay_until_the_next_one_is() -> None:
    plan = Plan()
    only(world([[10]] * 13, sight=Sight(scrape_s=5, delay_s=2)), plan)
    assert [one.measured_at_s - OPEN_S for one in plan.seen] == [0] * 7 + [5] * 5 + [10]


def test_lag_is_what_is_not_committed_and_as_old_as_its_first_record() -> None:
    """Commits at 4 and 8; everything is processed at once, and nobody can see it."""
    plan = Plan()
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=0, commit_s=4)
    only(world([[50, 0]] * 12, group=group), plan)
    assert [one.lag for one in plan.seen[:6]] == [(50.0 * lag, 0) for lag in (0, 1, 2, 3, 0, 1)]
    assert [one.lag_s for one in plan.seen[:6]] == [(lag, 0) for lag in (0, 1, 2, 3, 0, 1)]


def test_the_age_of_a_backlog_follows_the_arrivals() -> None:
    plan = Plan()
    only(world([[150]] * 10 + [[0]] * 10), plan)
    assert [one.lag_s[0] for one in plan.seen[:15]] == pytest.approx([t / 3 for t in range(15)])
    assert plan.seen[15].lag_s == (0.0,)


def test_after_a_silence_the_oldest_record_is_the_one_that_ended_it() -> None:
    """Nothing until 10, then more than can be consumed."""
    plan = Plan()
    only(world([[0]] * 10 + [[200]] * 5), plan)
    assert [one.lag_s[0] for one in plan.seen[10:]] == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_rates_are_over_the_last_half_minute_of_looks() -> None:
    plan = Plan()
    only(world([[60]] * 40 + [[90]] * 40), plan)
    arrival = {round(one.now_s - OPEN_S): one.arrival_per_s[0] for one in plan.seen}
    assert arrival[10] == pytest.approx(60)
    assert arrival[50] == pytest.approx((20 * 60 + 10 * 90) / 30)
    assert arrival[75] == pytest.approx(90)
    assert plan.seen[75].consumed_per_s[0] == pytest.approx(90)
    assert plan.seen[0].arrival_per_s == (0.0,)


def test_pods_are_seen_as_asked_for_and_as_ready() -> None:
    plan = Plan({5: 2})
    only(world([[10, 10]] * 20), plan)
    assert [(one.current, one.ready) for one in plan.seen[4:8]] == [(1, 1), (1, 1), (2, 1), (2, 1)]
    assert (plan.seen[15].current, plan.seen[15].ready) == (2, 2)
