"""The HorizontalPodAutoscaler against the examples of Kubernetes' documentation ("Horizontal Pod Autoscaling") and KEPs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import pytest
from eod_operator.simulate.baselines.hpa import (
    DEFAULT_DOWN,
    Behavior,
    Controller,
    Hpa,
    Reading,
    Rules,
    ScalingPolicy,
    behavior,
    proposed,
)
from hypothesis import given
from hypothesis import strategies as st
from support.autoscaled import follow, seen, setting

FREE_DOWN = Rules((ScalingPolicy("Percent", 100),))


def play(rules: Behavior, asked: Sequence[float], *, start: int, every_s: float, most: int = 10_000) -> list[int]:
    """Replicas after each sync, where the metric asks for `asked` of them."""
    controller = Controller(least=1, most=most, rules=rules)
    replicas = []
    for step, value in enumerate(asked):
        start = controller.sync(step * every_s, current=start, ready=start, readings=[Reading(value, 1.0)])
        replicas.append(start)
    return replicas


@pytest.mark.parametrize(
    ("value", "current", "asked"),
    [
        (200, 1, 2),  # "if the current metric value is 200m, and the desired value is 100m, [...] will be doubled"
        (100, 2, 1),  # "If the current value is instead 50m, you'll halve the number of replicas"
        (301, 2, 4),  # ceil[...]
        (
            1_090,
            10,
            10,
        ),  # "skips any scaling action if the ratio is sufficiently close to 1.0 (within [...] 0.1 by default)"
        (1_100, 10, 10),  # a ratio of exactly 1.1 is within
        (1_101, 10, 12),
        (900, 10, 10),
        (890, 10, 9),
        (0, 10, 0),
    ],
)
def test_an_average_is_compared_with_all_replicas(value: float, current: int, asked: int) -> None:
    """Algorithm details: desiredReplicas = ceil[currentReplicas * (currentMetricValue / desiredMetricValue)]."""
    assert asked == proposed([Reading(value, 100)], current=current, ready=0, rules=Behavior())


@pytest.mark.parametrize(("value", "ready", "asked"), [(200, 3, 6), (50, 3, 2), (109, 3, 4)])
def test_a_total_scales_the_ready_replicas(value: float, ready: int, asked: int) -> None:
    """Of `target.value` the ratio multiplies the ready pods: here three of four, and within tolerance all four stay."""
    assert asked == proposed([Reading(value, 100, average=False)], current=4, ready=ready, rules=Behavior())


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ((700, 300), 7),  # "The HorizontalPodAutoscaler takes the maximum scale recommended for each metric"
        (
            (700, None),
            7,
        ),  # "the HPA is still capable of scaling up if one or more metrics give [more] than the current value"
        ((200, None), None),  # "and a scale down is suggested by the metrics which can be fetched, scaling is skipped"
        ((None, None), None),
        ((400, None), 4),
    ],
)
def test_several_metrics(values: tuple[float | None, ...], asked: int | None) -> None:
    """Scaling on multiple metrics, and what Algorithm details says of those that cannot be fetched."""
    assert asked == proposed([Reading(value, 100) for value in values], current=4, ready=4, rules=Behavior())


def test_the_larger_of_four_pods_and_a_doubling_every_fifteen_seconds() -> None:
    """Default Behavior: "4 pods or a 100% of the currently running replicas may be added every 15 seconds"."""
    assert play(Behavior(), [100] * 6, start=1, every_s=15) == [5, 10, 20, 40, 80, 100]


def test_limits_count_from_the_begin_of_the_period() -> None:
    """KEP-853, story 1: Percent 900 in 60 s goes 1 -> 10 -> 100 -> 1000, once a minute however often it is asked."""
    rules = behavior(up_percent=900, up_period_s=60)
    assert play(rules, [1000] * 12, start=1, every_s=15) == [10] * 4 + [100] * 4 + [1000] * 4


def test_one_pod_every_ten_minutes_down() -> None:
    """KEP-853, story 2: 1000 -> 1000 -> ... -> 999."""
    rules = Behavior(down=Rules((ScalingPolicy("Pods", 1, 600),)))
    assert play(rules, [1] * 12, start=1000, every_s=60) == [999] * 10 + [998] * 2


def test_pods_or_percent_of_eighty() -> None:
    """Scaling policies: from 80 to 10 by 10 % or 4 pods a minute: 8 go, then 8 ("7.2 but the number is rounded up")."""
    rules = Behavior(down=Rules((ScalingPolicy("Pods", 4, 60), ScalingPolicy("Percent", 10, 60))))
    steps = play(rules, [10] * 15, start=80, every_s=60)
    assert steps[:2] == [72, 64]
    below_forty = [before - after for before, after in pairwise(steps) if 14 < before < 40]
    assert below_forty  # "When the number of replicas falls below 40 [...] 4 replicas will be reduced at a time"
    assert {4} == set(below_forty)
    assert steps[-1] == 10


@pytest.mark.parametrize(("select", "first"), [("Max", 72), ("Min", 76), ("Disabled", 80)])
def test_select_policy(select: Literal["Max", "Min", "Disabled"], first: int) -> None:
    """Scaling policies: Min "selects the policy which allows the smallest change", Disabled "disables scaling"."""
    rules = Behavior(down=Rules((ScalingPolicy("Pods", 4, 60), ScalingPolicy("Percent", 10, 60)), select=select))
    assert [first] == play(rules, [10], start=80, every_s=60)


def test_stabilization_before_going_down() -> None:
    """KEP-853, story 5: nothing for ten minutes, then to the largest of the last ten recommendations."""
    rules = Behavior(down=Rules((ScalingPolicy("Pods", 5, 60),), stabilization_s=600, tolerance=0))
    asked = [10, 9, 8, 9, 9, 8, 9, 8, 9, 8, 7]
    assert play(rules, asked, start=10, every_s=60) == [10] * 10 + [9]


def test_stabilization_before_going_up() -> None:
    """KEP-853, story 6: the smallest of the last recommendations, 2 and then 3."""
    rules = Behavior(up=Rules((ScalingPolicy("Pods", 20, 60),), stabilization_s=300, tolerance=0), down=DEFAULT_DOWN)
    assert play(rules, [2, 3, 19, 10, 3, 4], start=2, every_s=60) == [2, 2, 2, 2, 2, 3]


def test_by_default_it_goes_down_five_minutes_after_the_last_wish_for_more() -> None:
    """Algorithm details: "choosing the highest recommendation from within that window", which is five minutes."""
    steps = play(Behavior(), [8] + [2] * 21, start=8, every_s=15)
    assert steps == [8] * 20 + [2, 2]


def test_what_it_finds_at_first_is_a_recommendation() -> None:
    """The controller records the current replicas at its first sync, so a restart scales nothing down for a window."""
    assert play(Behavior(), [2] * 21, start=8, every_s=15) == [8] * 20 + [2]


def test_the_dead_band_stops_short() -> None:
    """kubernetes/kubernetes#116984: 40 tasks of 4 a pod want 10 pods, the 41st to 44th wait for ever."""
    for tasks in (41, 42, 43, 44):
        assert proposed([Reading(tasks, 4)], current=10, ready=10, rules=Behavior()) == 10
    assert proposed([Reading(45, 4)], current=10, ready=10, rules=Behavior()) == 12
    assert proposed([Reading(41, 4)], current=10, ready=10, rules=behavior(tolerance=0)) == 11  # KEP-4951


def test_outside_of_its_bounds_it_goes_to_the_bound_without_asking() -> None:
    controller = Controller(least=3, most=6, rules=Behavior())
    assert controller.sync(0, current=9, ready=9, readings=[Reading(None, 1)]) == 6
    assert controller.sync(15, current=1, ready=1, readings=[Reading(None, 1)]) == 3


def test_at_no_replicas_it_is_switched_off() -> None:
    """Implicit maintenance-mode deactivation: at zero "the HPA stops adjusting the target"."""
    assert Controller(least=1, most=6, rules=Behavior()).sync(0, current=0, ready=0, readings=[Reading(99, 1)]) == 0


def test_alone_on_lag() -> None:
    """Two seconds of a replica's hundred a second: 900 records want five of them."""
    assert follow(Hpa(target_lag_s=2).scaler(setting()), [900], start=1) == [5]


def test_without_a_believed_rate_the_records_count() -> None:
    assert follow(Hpa(target_lag=300, target_lag_s=2).scaler(setting(service_per_s=None)), [900], start=1) == [3]


def test_unreachable_it_holds() -> None:
    scaler = Hpa(target_lag=1).scaler(setting())
    assert scaler.replicas(seen(10_000, current=4, reachable=False)) == 4
    assert scaler.replicas(seen(10_000, current=4, now_s=15)) == 8


def test_partitions_without_a_commit_count_nothing() -> None:
    assert Hpa(target_lag=100).scaler(setting()).replicas(seen([None, 120.0, None, 70.0], current=1)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScalingPolicy("Pods", 0), "value above 0"),
        (lambda: ScalingPolicy("Pods", 1, 1801), "up to 1800 s"),
        (lambda: Rules(()), "give a policy"),
        (lambda: Rules((ScalingPolicy("Pods", 1),), stabilization_s=3601), "0 to 3600 s"),
        (lambda: Hpa(target_lag=0), "more than 0"),
    ],
)
def test_what_the_api_server_refuses_is_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


ANY_RULES = st.builds(
    behavior,
    up_pods=st.one_of(st.none(), st.integers(1, 20)),
    up_percent=st.one_of(st.none(), st.integers(1, 400)),
    up_period_s=st.sampled_from([15.0, 60.0]),
    up_stabilization_s=st.sampled_from([0.0, 60.0]),
    down_stabilization_s=st.sampled_from([0.0, 60.0, 300.0]),
)


@given(ANY_RULES, st.lists(st.floats(0, 50), min_size=1, max_size=40), st.integers(2, 12), st.integers(2, 12))
def test_it_stays_within_its_bounds(rules: Behavior, asked: list[float], start: int, most: int) -> None:
    controller = Controller(least=2, most=most, rules=rules)
    for step, value in enumerate(asked):
        start = controller.sync(step * 15.0, current=start, ready=start, readings=[Reading(value, 1.0)])
        assert 2 <= start <= most


@given(ANY_RULES, st.integers(1, 40), st.lists(st.floats(0.901, 1.099), min_size=1, max_size=20))
def test_within_tolerance_nothing_changes(rules: Behavior, start: int, ratios: list[float]) -> None:
    """Whatever is asked, with a metric that is never off by a tenth."""
    asked = [ratio * start for ratio in ratios]
    assert {start} == set(play(rules, asked, start=start, every_s=15))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=60))
def test_it_never_goes_below_the_highest_wish_of_the_window(asked: list[int]) -> None:
    steps = play(Behavior(down=DEFAULT_DOWN), asked, start=asked[0], every_s=15)
    for at, (before, after) in enumerate(pairwise(steps), start=1):
        if after < before:
            assert after >= min(before, max(asked[max(0, at - 19) : at + 1]))


def test_free_rules_follow_at_once() -> None:
    assert play(Behavior(behavior(up_pods=100).up, FREE_DOWN), [9, 1, 9], start=5, every_s=15) == [9, 1, 9]
