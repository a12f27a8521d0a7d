"""Pods start in their own time, and go as a ReplicaSet lets them go."""

from __future__ import annotations

import numpy as np
from eod_operator.simulate.pods import Pods


def pods(*starts_s: float, slots: int = 5, initial: int = 1) -> Pods:
    draws = (0.0,) * initial + starts_s
    return Pods(np.array([draws]), np.arange(len(draws))[None, :] + 1.0, slots, initial, now_s=0)


def members(made: Pods) -> list[int]:
    return [int(slot) for slot in np.flatnonzero(made.member[0])]


def test_a_day_begins_with_ready_pods() -> None:
    made = pods(initial=2)
    assert members(made) == [0, 1]
    assert made.join(0) == []


def test_a_pod_joins_when_its_start_is_over_and_not_before() -> None:
    made = pods(30, 20)
    made.add(0, 2, now_s=100)
    assert made.join(119.9) == []
    assert (made.join(120), members(made)) == ([0], [0, 2])
    assert made.join(129) == []
    assert (made.join(130), members(made)) == ([0], [0, 1, 2])
    assert made.speed[0].tolist() == [1, 2, 3, 0, 0]


def test_pods_that_are_not_ready_go_first_and_then_the_one_ready_last() -> None:
    made = pods(30, 20, 500)
    made.add(0, 3, now_s=100)
    made.join(200)
    assert not made.end(0, 1)  # the one that still starts: no member left
    assert members(made) == [0, 1, 2]
    assert made.end(0, 1)  # slot 1 was ready at 130, slot 2 at 120
    assert members(made) == [0, 2]
    assert made.ended == [2]


def test_a_slot_is_used_again_with_the_next_draw() -> None:
    made = pods(10, 40)
    made.add(0, 1, now_s=0)
    made.end(0, 1)
    assert made.join(1000) == []
    made.add(0, 1, now_s=1000)
    assert (made.join(1039), made.join(1040)) == ([], [0])
    assert made.speed[0, 1] == 3


def test_draws_come_round_again() -> None:
    made = pods(10)
    for _ in range(5):
        made.add(0, 1, now_s=0)
        made.end(0, 1)
    made.add(0, 1, now_s=0)
    assert made.drawn == [7]
    assert float(made.ready_at_s[0, 1]) == 0.0  # the seventh pod has the first draw of two


def test_pods_join_others_on_the_beat() -> None:
    """Pods that become ready at 12, 14 and 21 s join at 20 and 30 s: two rebalances, not three."""
    made = Pods(np.array([[0.0, 12.0, 14.0, 21.0]]), np.ones((1, 4)), 4, 1, now_s=0, beat_s=10)
    made.add(0, 3, 0.0)
    assert made.ready_at_s[0].tolist() == [0.0, 20.0, 20.0, 30.0]


def test_nobody_waits_for_a_group_without_members() -> None:
    made = Pods(np.array([[12.0, 14.0]]), np.ones((1, 2)), 2, 0, now_s=0, beat_s=10)
    made.add(0, 2, 0.0)
    assert made.ready_at_s[0].tolist() == [12.0, 14.0]
