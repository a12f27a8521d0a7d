"""Days worked out by hand, and what must hold on every day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from eod_operator.simulate.engine import PolicyError, play
from eod_operator.simulate.run import run, run_many
from eod_operator.simulate.scenario import Group, find
from eod_operator.simulate.world import Crawl, build
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amounts import examples
from unit.simulate.worlds import Answering, ByLag, Plan, only, world


def test_a_burst_that_one_replica_works_off() -> None:
    """150 a second for ten seconds, 100 consumed: the last record has waited five seconds when it is done."""
    day, metrics = only(world([[150]] * 10 + [[0]] * 20), Plan())
    assert day.done[:, 0].tolist() == [min(100 * t, 1500) for t in range(31)]
    assert metrics.max_age_s == pytest.approx(5)
    assert metrics.p99_age_s == pytest.approx(4.95)
    # t/3 until the last edge with a backlog, at 14 s; within the last step it is taken to fall evenly.
    assert metrics.max_lag_s == pytest.approx(14 / 3)
    assert metrics.lateness_s2 == pytest.approx(14**2 / 6 + 14 / 3 / 2)
    assert metrics.unfinished == 0


def test_a_pod_consumes_from_the_end_of_its_start_and_of_the_rebalance() -> None:
    """Asked for at 10, ready at 20, a pause of three seconds, and as long to catch up at twice the rate."""
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=3)
    day, metrics = only(world([[50, 50]] * 40, group=group), Plan({10: 2}))
    assert day.members.tolist() == [1] * 20 + [2] * 20
    assert day.asked.tolist() == [1] * 10 + [2] * 30
    assert day.done[[20, 21, 23, 24, 26], 0].tolist() == [1000, 1000, 1000, 1100, 1300]
    assert (metrics.rebalances, metrics.moved, metrics.changes) == (1, 1, 1)
    assert metrics.max_lag_s == pytest.approx(3)
    assert metrics.lateness_s2 == pytest.approx(9)
    assert metrics.replica_hours == pytest.approx((10 + 2 * 30) / 3600)


def test_a_pause_within_a_coarse_step_is_as_late_as_in_fine_ones() -> None:
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=3)
    day, metrics = only(world([[50, 50]] * 4, step_s=15, group=group), Plan({0: 2}, period_s=15))
    assert day.done[-1].tolist() == [3000, 3000]
    assert metrics.max_lag_s == pytest.approx(3)
    assert metrics.lateness_s2 == pytest.approx(9)


def test_in_an_eager_rebalance_all_read_again_what_is_not_committed() -> None:
    """Commits every ten seconds; the rebalance at 25 sends everybody back to what was committed at 20."""
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=0, commit_s=10)
    day, metrics = only(world([[50, 50]] * 40, group=group), Plan({15: 2}))
    assert day.done[25:31, 0].tolist() == [1250, 1250, 1250, 1300, 1400, 1500]
    assert day.done[:, 0].tolist() == day.done[:, 1].tolist()
    assert metrics.lateness_s2 == pytest.approx(1 + 2 + 2 + 1)


def test_in_a_cooperative_rebalance_only_what_moves_is_stopped_and_read_again() -> None:
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=3, commit_s=10, protocol="cooperative")
    day, _ = only(world([[50, 50]] * 40, group=group), Plan({15: 2}))
    stays, moves = day.done[:, 0].tolist(), day.done[:, 1].tolist()
    assert stays == [50 * t for t in range(41)]
    # Stopped until 28, at 1,250 again after another 2.5 s, and without a backlog at 36.
    assert moves[25:37] == [1250, 1250, 1250, 1250, 1250, 1250, 1300, 1400, 1500, 1600, 1700, 1800]


def test_a_scale_down_costs_a_rebalance_and_the_pod_until_it_is_gone() -> None:
    group = Group(beat_s=0, partitions=2, min=1, max=2, pause_s=3)
    day, metrics = only(world([[20, 20]] * 60, group=group, stop_s=7), Plan({0: 2, 30: 1}))
    assert day.members.tolist() == [1] * 10 + [2] * 20 + [1] * 30
    assert (metrics.rebalances, metrics.changes) == (2, 2)
    assert metrics.replica_hours == pytest.approx((2 * 30 + 30 + 7) / 3600)


def test_pods_that_come_while_the_group_still_assembles_share_its_rebalance() -> None:
    """The second comes a second after the first, while members are waited for; the third when they no longer are."""
    group = Group(beat_s=0, partitions=4, min=1, max=4, pause_s=4)
    made = world([[10] * 4] * 80, step_s=0.25, group=group)
    start_s = np.array([[0, 10, 11, 13.75, 0, 0, 0, 0]], dtype=float)
    day, metrics = only(replace(made, start_s=start_s), Plan({0: 4}))
    assert day.members[[39, 40, 43, 44, 54, 55]].tolist() == [1, 2, 2, 3, 3, 4]
    assert metrics.rebalances == 2
    assert day.done[[40, 71], 0].tolist() == [100, 100]  # stopped from 10 to 14 and, by the next one, to 17.75
    assert day.done[72, 0] > 100


def test_nobody_consumes_while_the_broker_is_away_and_nobody_sees_offsets() -> None:
    plan = Plan()
    day, _ = only(world([[50]] * 40, down=((10.0, 20.0),)), plan)
    assert day.done[[10, 15, 20, 25, 30], 0].tolist() == [500, 500, 500, 1000, 1500]
    seen = {round(one.now_s - 1_000_000): one for one in plan.seen}
    assert [seen[at].reachable for at in (9, 10, 19, 20)] == [True, False, False, True]
    assert [seen[at].measured_at_s - 1_000_000 for at in (9, 10, 19, 20)] == [9, 9, 9, 20]


def test_a_poison_partition_crawls_and_the_others_do_not() -> None:
    crawl = Crawl(1_000_010.0, 1_000_020.0, 10.0, np.array([1]))
    day, _ = only(world([[40, 40]] * 40, crawls=(crawl,)), Plan())
    assert day.done[:, 0].tolist() == [40 * t for t in range(41)]
    assert day.done[[10, 11, 20, 21, 26], 1].tolist() == [400, 410, 500, 560, 860]


def test_a_partition_has_one_replica_however_many_there_are() -> None:
    group = Group(beat_s=0, partitions=2, min=4, max=4, pause_s=0)
    day, _ = only(world([[150, 0]] * 10, group=group), Plan())
    assert day.done[-1].tolist() == [1000, 0]


def test_without_replicas_nothing_is_consumed() -> None:
    group = Group(beat_s=0, partitions=1, min=0, max=1, pause_s=0)
    day, metrics = only(world([[10]] * 10, group=group), Plan())
    assert (day.done[-1, 0], metrics.unfinished, metrics.replica_hours) == (0, 100, 0)


def test_answers_are_kept_within_the_bounds() -> None:
    group = Group(beat_s=0, partitions=4, min=2, max=3, pause_s=0)
    day, _ = only(world([[10] * 4] * 10, group=group), Plan({0: 1000, 5: 0}))
    assert day.asked.tolist() == [3] * 5 + [2] * 5


def test_an_autoscaler_is_asked_by_its_period() -> None:
    plan = Plan(period_s=4)
    only(world([[10]] * 10), plan)
    assert [one.now_s - 1_000_000 for one in plan.seen] == [0, 4, 8]
    plan = Plan(period_s=4)
    only(world([[10]] * 5, step_s=3), plan)  # at the next edge when there is none, and then on by its period
    assert [one.now_s - 1_000_000 for one in plan.seen] == [0, 6, 9, 12]


@pytest.mark.parametrize("answer", [float("nan"), 2.0, -1, None, True, np.int64(3)])
def test_nonsense_is_refused_with_the_policy_and_the_time(answer: object) -> None:
    answers = iter([1, 1, 1, answer])
    with pytest.raises(PolicyError, match=r"policy 'odd' answered .* 3 s after the day began .*by-hand, seed 0.* int"):
        only(world([[10]] * 10), Answering(lambda: next(answers)))


@settings(max_examples=examples(30), deadline=None)
@given(
    rates=st.lists(st.lists(st.floats(0, 300), min_size=3, max_size=3), min_size=5, max_size=60),
    protocol=st.sampled_from(["eager", "cooperative"]),
    pause_s=st.floats(0, 8),
    commit_s=st.floats(0.5, 10),
    phase=st.floats(0, 1),
    step_s=st.sampled_from([0.5, 1, 7]),
    per_replica=st.floats(20, 500),
)
def test_records_are_neither_made_nor_lost(
    rates: list[list[float]],
    protocol: str,
    pause_s: float,
    commit_s: float,
    phase: float,
    step_s: float,
    per_replica: float,
) -> None:
    """Done never exceeds arrived nor shrinks, and no more is done than the members that own partitions can do."""
    group = Group.model_validate(
        {"partitions": 3, "min": 1, "max": 3, "protocol": protocol, "pause_s": pause_s, "commit_s": commit_s}
    )
    made = world(rates, step_s=step_s, group=group, start_s=3, phase_s=phase * commit_s)
    day, metrics = only(made, ByLag(per_replica))
    assert (day.done <= day.arrived + 1e-6).all()
    assert (np.diff(day.done, axis=0) >= 0).all()
    assert metrics.unfinished == pytest.approx(float((day.arrived[-1] - day.done[-1]).sum()))
    each = np.diff(day.done, axis=0)
    assert (each.sum(axis=1) <= day.members * 100 * step_s + 1e-6).all()
    assert (each[day.owners < 0] == 0).all()
    assert (np.array([len(set(row[row >= 0])) for row in day.owners]) <= day.members).all()


def test_a_seed_is_the_same_day_alone_and_in_a_batch_and_every_time() -> None:
    scenario = find("flash-crash")
    batch, alone = build(scenario, (1, 2, 3)), build(scenario, (2,))
    policies = (ByLag(300, period_s=15), ByLag(900, period_s=15))
    together = run_many(batch, policies)
    assert run(alone, policies[0]) == [together[0][1]]
    assert run(alone, policies[1]) == [together[1][1]]
    assert run(build(scenario, (2,)), policies[0]) == [together[0][1]]
    assert together[0][0] != together[0][1]


def test_policies_play_the_same_day() -> None:
    days = play(build(find("quiet-day"), (7,)), (Plan(name="a"), Plan(name="b")))
    assert (days[0][0].policy, days[1][0].policy) == ("a", "b")
    assert (days[0][0].done == days[1][0].done).all()
