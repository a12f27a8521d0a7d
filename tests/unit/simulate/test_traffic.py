"""What arrives: its shape by hand, its randomness by its seed, and what history has of it."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

import numpy as np
import pytest
from eod_operator.scaling.sessions import EDGES_S, bin_of
from eod_operator.simulate import traffic
from eod_operator.simulate.scenario import ZONE, Base, Hot, Outage, Scenario, find, parse
from eod_operator.simulate.traffic import Clock, burst_shape
from eod_operator.simulate.world import World, build

CLOCK = Clock(open_s=0, close_s=1000, until_s=1200)
QUIET = "name: mine\nabout: A day.\ndate: 2026-11-25\ntraffic:\n  base: {level: 40, edges: 1, after: 1, noise: 0}\n"


def mine(more: str = "") -> Scenario:
    return parse(QUIET + more, "mine.yaml")


def total(world: World) -> np.ndarray:
    """Records a second of the first seed in each step."""
    return np.diff(world.arrived[:, 0].sum(axis=1)) / np.diff(world.times_s)


def at(world: World, since_close_s: float) -> float:
    assert world.close_s is not None
    step = int(np.searchsorted(world.times_s, world.close_s + since_close_s, side="right")) - 1
    return float(total(world)[step])


def test_the_day_is_u_shaped_and_falls_off_after_the_close() -> None:
    rate = traffic.base_rate(Base(level=40, edges=2, after=0.5), CLOCK, np.array([0.0, 250, 500, 999.999, 1000, 1100]))
    assert rate.tolist() == pytest.approx([80, 40 * (1 + 0.5**6), 40, 80, 20, 20], rel=1e-4)


def test_a_day_without_a_session_is_a_trickle() -> None:
    rate = traffic.base_rate(Base(level=40, after=0.5), Clock(0, None, 1200), np.array([0.0, 600]))
    assert rate.tolist() == [20, 20]


def test_a_burst_rises_in_a_line_and_decays_exponentially() -> None:
    shape = burst_shape(np.array([-1.0, 0, 2.5, 5, 65, 125]), rise_s=5, decay_s=60)
    assert shape.tolist() == pytest.approx([0, 0, 0.5, 1, np.exp(-1), np.exp(-2)])


def test_a_burst_of_a_scenario_comes_at_its_time_and_height() -> None:
    burst = "  bursts: [{at: close, after_s: 60, peak: 500, rise_s: 5, decay_s: 60, spread: 0, late_s: 0}]\n"
    world = build(mine(burst), (1,))
    assert at(world, 59) == pytest.approx(40)
    assert at(world, 62) == pytest.approx(40 + 500 * 0.5)
    assert at(world, 65) == pytest.approx(40 + 500 * np.exp(-0.5 / 60))
    assert at(world, 125) == pytest.approx(40 + 500 * np.exp(-60.5 / 60))


def test_noise_has_a_mean_of_one() -> None:
    noise = traffic._noise(0.1, 200_000, np.random.default_rng(1))
    assert noise.mean() == pytest.approx(1, abs=0.002)
    assert np.log(noise).std() == pytest.approx(0.1, abs=0.02)


def test_shares_are_skewed_and_differ_by_seed() -> None:
    world = build(find("normal-close"), (1, 2))
    share = world.arrived[-1] / world.arrived[-1].sum(axis=1, keepdims=True)
    assert share.sum(axis=1).tolist() == pytest.approx([1, 1])
    assert share[0].max() > 1.2 / 12
    assert not np.allclose(share[0], share[1])


def test_while_a_symbol_is_hot_its_partition_gets_a_share_more() -> None:
    curve = np.arange(0, 1010, 10.0)
    hot = Hot(at="09:30", for_s=20, share=0.5)
    split = np.diff(traffic.by_partition(curve, np.array([0.25, 0.75]), CLOCK, [(40, hot, 0)]), axis=0)
    assert split[39].tolist() == pytest.approx([2.5, 7.5])
    assert split[40].tolist() == pytest.approx([6.25, 3.75])
    assert split[60].tolist() == pytest.approx([2.5, 7.5])


def test_an_outage_keeps_records_back_and_flushes_them() -> None:
    curve = traffic.appended(np.arange(0, 1010, 10.0), CLOCK, ((20, Outage(at="09:30", for_s=10, flush_s=5)),))
    assert curve[[19, 20, 25, 30, 31, 35, 36]].tolist() == [190, 200, 200, 200, 230, 350, 360]


def test_steps_are_fine_around_what_happens_and_coarse_elsewhere() -> None:
    world = build(find("normal-close"), (1,))
    assert world.close_s is not None
    since, length = world.times_s[:-1] - world.close_s, np.diff(world.times_s)
    assert set(length[(since >= -660) & (since < 900)].round(6)) == {1}
    assert set(length[(since < -675) | (since > 901)].round(6)) <= {14, 15}


def test_history_is_the_same_traffic_on_other_days() -> None:
    burst = "  bursts: [{at: close, peak: 500, spread: 0, late_s: 0}, {at: '11:07', peak: 90, recurs: false}]\n"
    (setting,) = build(mine("  today: 0.7\n" + burst), (1,)).settings
    assert len(setting.history) == 10
    last = setting.history[-1]
    assert last.close_s == setting.closes_s[1] - 86_400
    top, quiet, crash = bin_of(0), bin_of(-60), bin_of(-17_580)
    assert top is not None
    assert quiet is not None
    assert crash is not None
    # The first ten seconds: up in five, then down with a time constant of a minute.
    assert last.rates_per_s[top] == pytest.approx(40 + 500 * (2.5 + 60 * (1 - np.exp(-5 / 60))) / 10, rel=1e-3)
    assert last.rates_per_s[quiet] == pytest.approx(40)
    assert last.rates_per_s[crash] == pytest.approx(40)
    # The day ends 45 minutes after the close, and bins after that saw nothing.
    assert [rate is None for rate, edge in zip(last.rates_per_s, EDGES_S[1:], strict=True)] == [
        edge > 2700 for edge in EDGES_S[1:]
    ]


def test_today_is_a_multiple_of_history_and_events_of_both() -> None:
    burst = "  bursts: [{at: close, peak: 500, spread: 0, late_s: 0}]\n"
    usual, low = at(build(mine(burst), (1,)), 5), at(build(mine("  today: 0.7\n" + burst), (1,)), 5)
    event = build(mine(burst + "events: [{name: rebalance, factor: 3}]\n"), (1,))
    assert low - 40 == pytest.approx(0.7 * (usual - 40))
    assert at(event, 5) - 40 == pytest.approx(3 * (usual - 40))
    assert dict(event.settings[0].events) == {event.close_s: 3}


def test_an_outlier_is_larger_and_named_only_if_it_was_announced() -> None:
    burst = "  bursts: [{at: close, peak: 500, spread: 0, late_s: 0}]\n"
    more = "history: {sessions: 3, outliers: [{session: 1, factor: 2, event: odd}]}\n"
    first, odd, last = build(mine(burst + more), (1,)).settings[0].history
    top = bin_of(10)
    assert top is not None
    assert (odd.rates_per_s[top] or 0) - 40 == pytest.approx(2 * ((last.rates_per_s[top] or 0) - 40))
    assert [one.event for one in (first, odd, last)] == ["", "odd", ""]


@pytest.mark.parametrize(
    ("name", "closes", "timetable"),
    [
        ("normal-close", ["11-24 16:00", "11-25 16:00", "11-27 13:00"], ["11-25 16:00"]),
        ("early-close", ["11-25 16:00", "11-27 13:00", "11-30 16:00"], ["11-27 16:00"]),
        ("holiday", ["11-25 16:00", "11-27 13:00"], ["11-26 16:00"]),
    ],
)
def test_the_calendar_knows_what_the_timetable_does_not(name: str, closes: list[str], timetable: list[str]) -> None:
    (setting,) = build(find(name), (1,)).settings

    def told(times_s: tuple[float, ...]) -> list[str]:
        return [datetime.fromtimestamp(one, tz=ZONE).strftime("%m-%d %H:%M") for one in times_s]

    assert told(setting.closes_s) == closes
    assert told(setting.timetable_s) == timetable


def test_what_is_believed_is_what_was_measured_unless_the_scenario_says_so() -> None:
    slow, today = (build(find(name), (1,)).settings[0] for name in ("slow-pods", "slow-pods-today"))
    assert (slow.start_s, today.start_s) == (150, 45)
    idea = build(find("no-idea"), (1,)).settings[0]
    assert (idea.burst_replicas, idea.service_per_s, idea.history) == (None, None, ())


def test_starts_have_the_median_and_the_percentile_of_the_scenario() -> None:
    starts = build(find("normal-close"), range(40)).start_s
    assert np.median(starts) == pytest.approx(30, rel=0.02)
    assert np.quantile(starts, 0.95) == pytest.approx(45, rel=0.02)


def test_a_fault_changes_no_traffic() -> None:
    plain, faulty = build(find("normal-close"), (3,)), build(find("poison-partition"), (3,))
    assert plain.arrived[-1] == pytest.approx(faulty.arrived[-1])
    assert (plain.start_s == faulty.start_s).all()


def test_a_world_needs_a_seed_and_is_the_same_for_the_same_seed() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        build(mine(), ())
    one, other = build(find("hot-symbol"), (5,)), build(find("hot-symbol"), (5,))
    for field in fields(World):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name
