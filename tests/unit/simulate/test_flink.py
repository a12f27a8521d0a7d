"""Flink's autoscaler against its documentation ("Autoscaler") and its formula by hand."""

import math
from collections import deque
from dataclasses import replace

import pytest
from eod_operator.simulate.baselines import BASELINES, Flink
from eod_operator.simulate.baselines.flink import Evaluated, FlinkScaler, Sample, aligned, capacity, evaluate, within
from hypothesis import given
from hypothesis import strategies as st
from support.autoscaled import seen, setting

QUICK = Flink(
    interval_s=60,
    window_s=120,
    stabilization_s=60,
    utilization_boundary=0.2,
    catch_up_s=120,
    restart_s=30,
    scale_down_interval_s=0,
)


def play(
    scaler: FlinkScaler,
    steps: int,
    *,
    current: int,
    from_s: float = 0.0,
    consumed_per_s: float = 0.0,
    lag_s: float = 0.0,
) -> list[int]:
    """Replicas after each interval of the same look, with pods that are ready at once."""
    replicas = []
    for step in range(steps):
        now_s = from_s + step * scaler.period_s
        look = seen(0, now_s=now_s, current=current, consumed_per_s=consumed_per_s, lag_s=lag_s)
        current = scaler.replicas(look)
        replicas.append(current)
    return replicas


def test_what_came_is_what_was_taken_and_what_the_lag_grew() -> None:
    """100 and 140 taken a second, 60 more waiting after two minutes; half busy on average: 240 could be taken."""
    samples = deque([Sample(0, 1_000, 100, 0.4), Sample(120, 7_000, 140, 0.6)])
    assert Evaluated(true_rate=240, arrival=170, consumed=120, lag=7_000) == evaluate(samples)


def test_nothing_consumed_is_infinite_capacity() -> None:
    """Nothing came in, so infinite processing power is assumed until a rate can be sampled."""
    assert math.isinf(evaluate(deque([Sample(0, 0, 0, 0), Sample(60, 0, 0, 0)])).true_rate)


@pytest.mark.parametrize(
    ("utilization", "restart", "records_per_s"),
    [
        (0.6, True, 6_000 / 300 + 90 * 120 / 300 + 90 / 0.6),  # 20 + 36 + 150
        (0.6, False, 20 + 150),
        (1.5, False, 20 + 90),
        (0.0, False, math.inf),
    ],
)
def test_target_capacity(utilization: float, restart: bool, records_per_s: float) -> None:  # noqa: FBT001 - a table's column
    """Lag / catch-up + input x restart / catch-up + input / utilization, with the documentation's example settings."""
    policy = Flink(utilization_target=0.6, restart_s=120, catch_up_s=300)
    assert records_per_s == capacity(Evaluated(100, 90, 90, 6_000), policy, utilization, restart=restart)


def test_a_catch_up_of_zero_looks_at_no_backlog() -> None:
    """Options, catch-up.duration: "Set to 0 to disable backlog based scaling"."""
    assert capacity(Evaluated(100, 90, 90, 6_000), Flink(catch_up_s=0), 0.6, restart=True) == 150


@pytest.mark.parametrize(
    ("utilization", "inside"),
    [(0.81, False), (0.79, True), (0.41, True), (0.39, False)],
)
def test_boundaries(utilization: float, inside: bool) -> None:  # noqa: FBT001 - a table's column
    """Target utilization and flexible boundaries: at 0.6, up "when utilization exceeds 0.8", down "below 0.4"."""
    policy = Flink(utilization_target=0.6, utilization_boundary=0.2, restart_s=0)
    assert inside == within(Evaluated(100_000, 100_000 * utilization, 100_000 * utilization, 0), policy)


def test_a_backlog_forbids_going_down() -> None:
    """backlog-processing.lag-threshold: with more than five minutes of lag nothing goes down; full use is allowed."""
    policy = Flink(catch_up_s=1e9)
    assert within(Evaluated(1_000, 10, 10, 10 * 301), policy)
    assert not within(Evaluated(1_000, 10, 10, 10 * 299), policy)


@pytest.mark.parametrize(
    ("replicas", "most", "found"),
    [(1, 12, 1), (5, 12, 6), (7, 12, 12), (12, 12, 12), (5, 5, 4), (7, 10, 6), (9, 11, 6), (11, 11, 6)],
)
def test_partitions_are_spread_evenly(replicas: int, most: int, found: int) -> None:
    """EVENLY_SPREAD: a divisor of 12 above; without one, the fewest whose busiest has as many: with 7 to 11 replicas two, so 6."""
    assert found == aligned(replicas, 12, least=1, most=most)


def test_within_its_boundaries_nothing_changes() -> None:
    """Four replicas that could take 400 and take 200 are half busy: between 0.5 and 0.9."""
    assert play(QUICK.scaler(setting()), 10, current=4, consumed_per_s=210) == [4] * 10


def test_up_after_a_whole_window() -> None:
    """A minute of stabilization and a window of two: the fourth look decides.

    400 are taken, and 200 more come each second: 36,000 wait at the end. (36,000 / 120 + 600 x 30 / 120 + 600 / 0.7) / 400
    times four is 13.1.
    """
    scaler = QUICK.scaler(setting(partitions=24, most=24))
    current, found = 4, []
    for step in range(5):
        look = seen(12_000.0 * step, now_s=60.0 * step, current=current, partitions=24, lag_s=30, consumed_per_s=400)
        current = scaler.replicas(look)
        found.append(current)
    assert found == [4, 4, 4, 24, 24]  # 14 of 24 partitions are not even, the next divisor is 24


def test_by_default_busy_is_well_while_nothing_waits() -> None:
    """The default boundary of 0.3 around 0.7 reaches to 1.0: fully busy replicas without a growing lag are left alone."""
    default = Flink(interval_s=60, window_s=120, stabilization_s=60)
    assert play(default.scaler(setting()), 10, current=4, consumed_per_s=480, lag_s=30) == [4] * 10


def test_down_by_at_most_the_largest_factor() -> None:
    """scale-down.max-factor 0.6: of twelve at least 4.8 stay, which is 5, which is 6 of 12 partitions."""
    assert play(QUICK.scaler(setting()), 4, current=12, consumed_per_s=30) == [12, 12, 12, 6]


def test_down_only_after_the_interval_and_to_the_largest_wish() -> None:
    """scale-down.interval: "the scale down will be delayed"."""
    policy = replace(
        QUICK, window_s=60, stabilization_s=0, restart_s=0, scale_down_interval_s=300, scale_down_max_factor=1
    )
    scaler = policy.scaler(setting())
    current, found = 12, []
    for step in range(8):
        # 12 x (rate / 0.7) / 1,200, of which the averages of two looks matter: the largest wish is four.
        rate = 250 if step in {2, 3} else 10
        current = scaler.replicas(seen(0, now_s=60.0 * step, current=current, consumed_per_s=rate))
        found.append(current)
    assert found == [12] * 6 + [4] * 2


def test_a_changed_job_begins_anew() -> None:
    """Stabilization and metrics collection intervals: "no metrics will be collected and no scaling actions [...] taken"."""
    scaler = QUICK.scaler(setting())
    play(scaler, 3, current=4, consumed_per_s=400, lag_s=30)
    starting = seen(0, now_s=180, current=4, ready=3, consumed_per_s=400, lag_s=30)
    assert scaler.replicas(starting) == 4
    assert play(scaler, 3, current=4, from_s=240, consumed_per_s=400, lag_s=30) == [4, 4, 4]
    assert play(scaler, 1, current=4, from_s=420, consumed_per_s=400, lag_s=30) == [12]


def test_a_step_up_that_brought_nothing_is_not_repeated() -> None:
    """scaling.effectiveness: at least 10 % of the desired increase, else it is "marked ineffective"."""
    quick = replace(QUICK, window_s=60, stabilization_s=0, restart_s=0)
    for detect, after in ((False, 12), (True, 6)):
        scaler = replace(quick, detect_ineffective=detect).scaler(setting())
        current = 4
        for step in range(6):
            look = seen(0, now_s=60.0 * step, current=current, lag_s=30, consumed_per_s=100)
            current = scaler.replicas(look)
        assert after == current


def test_a_hot_replica_is_what_counts() -> None:
    """The aggregator of busy time is MAX: one replica of four at its limit makes the rate of now the true one."""
    hot = (100.0, *([0.0] * 11))
    scaler = QUICK.scaler(setting())
    current = 4
    for step in range(4):
        current = scaler.replicas(seen(0, now_s=60.0 * step, current=current, consumed_per_s=hot))
    assert current == 12  # 4 x (100 / 0.7 + 100 x 30 / 120) / 100 = 6.7, so 7, so 12


def test_without_any_idea_of_a_rate_it_learns_it_from_backlog() -> None:
    scaler = QUICK.scaler(setting(service_per_s=None))
    assert play(scaler, 6, current=4, consumed_per_s=300) == [4] * 6
    play(scaler, 1, current=4, from_s=360, consumed_per_s=400, lag_s=6)
    assert scaler._service_per_s == 100


def test_unreachable_it_holds() -> None:
    scaler = QUICK.scaler(setting())
    looks = [seen(9_999, now_s=60.0 * step, current=4, reachable=False, lag_s=99) for step in range(8)]
    assert {4} == {scaler.replicas(look) for look in looks}


@pytest.mark.parametrize(
    ("params", "message"),
    [({"utilization_target": 0}, "share above 0"), ({"interval_s": 60, "window_s": 30}, "widen window_s")],
)
def test_refusals(params: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BASELINES["flink"](**params)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 2_000), st.floats(0, 60)), max_size=30), st.integers(2, 9))
def test_it_stays_within_its_bounds(looks: list[tuple[float, float, float]], current: int) -> None:
    scaler = Flink(interval_s=15, window_s=30, stabilization_s=0, catch_up_s=10, scale_down_interval_s=30).scaler(
        setting(partitions=12, least=2, most=9)
    )
    for step, (lag, rate, lag_s) in enumerate(looks):
        current = scaler.replicas(seen(lag, now_s=15.0 * step, current=current, consumed_per_s=rate, lag_s=lag_s))
        assert 2 <= current <= 9
