"""Metrics by hand, from curves that need no engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from eod_operator.simulate.engine import Day
from eod_operator.simulate.metrics import above, ages, lag_seconds, measure
from unit.simulate.worlds import OPEN_S, world


def day(times: Sequence[float], arrived: Sequence[Sequence[float]], done: Sequence[Sequence[float]]) -> Day:
    steps = len(times) - 1
    return Day(
        policy="by-hand",
        seed=1,
        times_s=OPEN_S + np.asarray(times, float),
        arrived=np.asarray(arrived, float),
        done=np.asarray(done, float),
        asked=np.full(steps, 2, dtype=np.int32),
        members=np.full(steps, 2, dtype=np.int32),
        owners=np.zeros((steps, len(arrived[0])), dtype=np.int32),
        hidden_s=0,
        hidden_s2=0,
        changes=3,
        ended=4,
        rebalances=5,
        moved=6,
    )


STEADY = day(
    # 10 a second arrive throughout; nothing is done until 20, and all from then on by 50 a second until 25.
    [0, 10, 20, 21, 22, 23, 24, 25],
    [[0], [100], [200], [210], [220], [230], [240], [250]],
    [[0], [0], [0], [50], [100], [150], [200], [250]],
)


def test_lag_seconds_at_edges_of_unequal_steps() -> None:
    assert lag_seconds(STEADY).tolist() == pytest.approx([0, 10, 20, 16, 12, 8, 4, 0])


def test_lag_seconds_are_of_the_worst_partition() -> None:
    two = day([0, 10, 20], [[0, 0], [10, 10], [20, 20]], [[0, 0], [10, 5], [20, 8]])
    assert lag_seconds(two).tolist() == pytest.approx([0, 5, 12])


def test_a_backlog_over_a_silence_is_as_old_as_its_first_record() -> None:
    silent = day([0, 10, 20, 30], [[0], [10], [10], [20]], [[0], [10], [10], [10]])
    assert lag_seconds(silent).tolist() == pytest.approx([0, 0, 0, 10])


def test_the_day_in_numbers() -> None:
    made = world([[10]] * 25, close_s=19, stop_s=9)
    metrics = measure(made, STEADY)
    assert metrics.lateness_s2 == pytest.approx(20 * 20 / 2 + 20 * 5 / 2)
    assert metrics.max_lag_s == pytest.approx(20)
    # Above 5 from 5 s on until 23.75 s, which is 4.75 s after the close.
    assert metrics.late_s == pytest.approx(18.75)
    assert metrics.drain_s == pytest.approx(4.75)
    assert metrics.replica_hours == pytest.approx((2 * 25 + 4 * 9) / 3600)
    assert (metrics.changes, metrics.rebalances, metrics.moved, metrics.unfinished) == (3, 5, 6, 0)


def test_ages_are_weighted_by_records() -> None:
    """The first of the 250 records waits 20 s, the last one none, and those between them evenly less."""
    half, p99, worst = ages(STEADY, (0.5, 0.99))
    assert (half, p99, worst) == pytest.approx((10, 19.8, 20))


def test_ages_count_records_that_did_not_wait() -> None:
    """Of 1,000 records at once 100 wait evenly up to 10 s; then 9,000 wait for nobody."""
    mixed = day([0, 1, 11, 12, 13], [[0], [100], [100], [5000], [9100]], [[0], [0], [100], [5000], [9100]])
    p50, p99, worst = ages(mixed, (0.5, 0.99))
    # Record n of the 100 came at n/100 s and went at 1 + n/10 s: it waited 1 + 0.09 n.
    assert worst == pytest.approx(10)
    assert p50 == 0
    assert p99 == pytest.approx(10 - 0.09 * 91)  # 91 of 9,100 waited longer


def test_nothing_late_is_zero_everywhere() -> None:
    prompt = day([0, 5, 10], [[0], [50], [90]], [[0], [50], [90]])
    metrics = measure(world([[10]] * 10, close_s=5), prompt)
    assert (metrics.max_lag_s, metrics.lateness_s2, metrics.p99_age_s, metrics.max_age_s) == (0, 0, 0, 0)
    assert (metrics.late_s, metrics.drain_s) == (0, 0)


def test_unfinished_records_are_counted_and_their_age_goes_on() -> None:
    stuck = day([0, 10, 20], [[0], [100], [100]], [[0], [0], [0]])
    metrics = measure(world([[10]] * 20, close_s=10), stuck)
    assert (metrics.unfinished, metrics.max_lag_s, metrics.drain_s) == (100, 20, 10)


@pytest.mark.parametrize(
    ("values", "bound", "length", "last"),
    [
        ([0, 10, 0], 5, 10, 15),
        ([0, 4, 0], 5, 0, None),
        ([0, 5, 5], 5, 0, None),
        ([6, 6, 6], 5, 20, 20),
        ([10, 0, 10], 5, 10, 20),
        ([0, 5, 10], 5, 10, 20),
        ([10, 5, 5], 5, 10, 10),
    ],
)
def test_time_above_a_bound(values: list[float], bound: float, length: float, last: float | None) -> None:
    assert above(np.array([0.0, 10, 20]), np.array(values, float), bound) == (pytest.approx(length), last)
