"""A replica's rate is learned from a saturated group alone, and a raise that brought nothing is noticed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from eod_operator.scaling import Signals
from eod_operator.scaling.effect import FORGOTTEN_AFTER_S, Raise, begun, judged
from eod_operator.scaling.service_rate import APART_S, KNOWN_AFTER, ServiceRate
from unit.scaling.situations import NOW, PARTITIONS, flow

SATURATED = flow(900, consumed=600, lag=30_000, lag_s=30.0, ready=6)
KEEPING_UP = flow(300, consumed=300, lag=100, lag_s=0.5, ready=6)


def watched(looks: Iterable[Signals], *, every_s: float = 15.0, known: ServiceRate | None = None) -> ServiceRate:
    """What is known after these looks, by a group that has had its members for long."""
    rate = known or ServiceRate(ready=6, ready_since_s=NOW - 1_000)
    for number, look in enumerate(looks):
        rate = rate.observe(look, now_s=NOW + every_s * number, pause_s=3.0)
    return rate


def test_a_saturated_group_tells_its_rate_by_what_it_consumes() -> None:
    rate = watched([SATURATED] * (2 + KNOWN_AFTER))
    assert (rate.per_s, rate.spread) == (pytest.approx(100.0), pytest.approx(0.0))
    assert rate.believed(7.0) == pytest.approx(100.0)


def test_before_it_is_known_what_somebody_believes_counts() -> None:
    rate = watched([SATURATED] * (2 + KNOWN_AFTER - 1))
    assert (rate.believed(7.0), rate.believed(None)) == (7.0, None)


def test_a_group_that_keeps_up_tells_a_lower_bound_alone() -> None:
    rate = watched([KEEPING_UP] * 10)
    assert (rate.observations, rate.kept_up_per_s) == (0, pytest.approx(50.0))


def test_a_proof_fades() -> None:
    rate = watched([KEEPING_UP])
    later = rate.observe(flow(60, ready=6), now_s=NOW + 3_600, pause_s=3.0)
    assert later.kept_up_per_s == pytest.approx(25.0)


def test_nothing_is_learned_around_a_rebalance() -> None:
    """Half a minute's means are of the time before, and a pause is no service rate."""
    fresh = ServiceRate(ready=1, ready_since_s=NOW - 1_000)
    assert watched([SATURATED] * 5, known=fresh).observations == 0
    assert watched([SATURATED] * 7, known=fresh).observations == 2


def test_nothing_is_learned_of_the_seconds_in_which_a_backlog_begins() -> None:
    """Half a minute's means are in part of the time when there was too little to do."""
    assert watched([SATURATED] * 2).observations == 0
    assert watched([SATURATED, KEEPING_UP, SATURATED, SATURATED]).observations == 0
    assert watched([SATURATED] * 3).observations == 1


def test_looks_in_quick_succession_are_one_observation() -> None:
    assert watched([SATURATED] * 40, every_s=1.0).observations == 1
    assert watched([SATURATED] * 5, every_s=APART_S).observations == 2


def test_a_partition_for_each_replica_is_judged_by_those_with_a_backlog() -> None:
    """The other ones have nothing to do: they would make the rate too low."""
    lag = (3_000,) * 3 + (0,) * 9
    rates = (100.0,) * 3 + (5.0,) * 9
    ages = (30.0,) * 3 + (0.0,) * 9
    look = flow(rates, lag=lag, lag_s=ages, ready=PARTITIONS)
    known = ServiceRate(ready=PARTITIONS, ready_since_s=NOW - 1_000)
    assert watched([look] * 5, known=known).per_s == pytest.approx(100.0)


def test_a_few_partitions_with_a_backlog_say_nothing_of_the_others() -> None:
    look = flow(900, consumed=600, lag=(9_000, *(0,) * 11), lag_s=(30.0, *(0.0,) * 11), ready=6)
    assert watched([look] * 5).observations == 0


def test_a_new_version_is_learned_within_minutes() -> None:
    known = watched([SATURATED] * 20)
    twice = flow(1_900, consumed=1_200, lag=30_000, lag_s=30.0, ready=6)
    later = known
    for number in range(20):
        later = later.observe(twice, now_s=NOW + 1_000 + 15 * number, pause_s=3.0)
    assert later.per_s == pytest.approx(200.0, rel=0.15)


@pytest.mark.parametrize(
    "look",
    [
        replace(SATURATED, ready=None),
        replace(SATURATED, ready=0),
        replace(SATURATED, consumed_per_s=(math.nan,) * PARTITIONS),
        replace(SATURATED, arrival_per_s=None),
        replace(SATURATED, lag=SATURATED.lag[:5] if SATURATED.lag else None),
        replace(SATURATED, lag_s=(0.5,) * PARTITIONS),
    ],
    ids=["ready unknown", "nobody ready", "no number", "no rates", "partitions missing", "young lag"],
)
def test_what_is_incomplete_teaches_nothing(look: Signals) -> None:
    assert watched([look] * 5).observations == 0


def test_a_clock_that_goes_back_teaches_nothing() -> None:
    known = watched([SATURATED] * 3)
    assert known.observe(SATURATED, now_s=NOW - 50, pause_s=3.0).observations == 1


# --- the effect of a raise --------------------------------------------------------------------------------------

BEFORE = flow(900, consumed=300, lag=3_000, lag_s=10.0, ready=3)


def followed(after: Signals, *, for_s: float = 120.0) -> Raise | None:
    """A raise from three to six, looked at every 15 s."""
    raised = begun(None, BEFORE, current=3, wanted=6, now_s=NOW)
    for at_s in range(15, int(for_s) + 1, 15):
        raised = judged(raised, after, now_s=NOW + at_s, pause_s=3.0)
    return raised


def test_a_raise_that_helps_is_forgotten() -> None:
    assert followed(flow(900, consumed=590, lag=9_000, lag_s=20.0, ready=6)) is None


def test_a_raise_that_brings_nothing_is_held_against_it() -> None:
    found = followed(flow(900, consumed=310, lag=9_000, lag_s=20.0, ready=6))
    assert found is not None
    assert found.ineffective_s is not None


def test_it_is_not_judged_before_its_pods_serve() -> None:
    found = followed(flow(900, consumed=310, lag=9_000, lag_s=20.0, ready=4))
    assert found is not None
    assert (found.serving_s, found.ineffective_s) == (None, None)


def test_a_shrinking_backlog_is_being_worked_off() -> None:
    assert followed(flow(250, consumed=310, lag=1_000, lag_s=5.0, ready=6)) is None


def test_a_raise_is_forgotten_in_the_end() -> None:
    stuck = flow(900, consumed=310, lag=9_000, lag_s=20.0, ready=6)
    assert followed(stuck, for_s=2 * FORGOTTEN_AFTER_S) is None


def test_without_rates_nothing_is_judged() -> None:
    assert begun(None, Signals(lag=(9,), partitions=1), current=3, wanted=6, now_s=NOW) is None
    found = followed(Signals(lag=(9,), partitions=1))
    assert found is not None
    assert found.ineffective_s is None
