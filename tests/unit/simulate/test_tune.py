"""Grids, what is kept of them, and that everything in them can be made."""

import json

import pytest
from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.scaler import Policy
from eod_operator.simulate.tune import GRIDS, QUICK_GRIDS, Tuned, front, knee, tune
from hypothesis import given
from hypothesis import strategies as st
from support.autoscaled import setting


def tuned(cost: float, lateness: float, rebalances: float = 0.0) -> Tuned:
    """A configuration that came to this."""
    return Tuned({}, cost, lateness, rebalances, ())


@pytest.mark.parametrize("grids", [GRIDS, QUICK_GRIDS], ids=["full", "quick"])
def test_every_baseline_has_a_grid_that_can_be_made(grids: dict[str, tuple[dict[str, object], ...]]) -> None:
    assert set(BASELINES) == set(grids)
    for name, grid in grids.items():
        policies = [BASELINES[name](**params) for params in grid]
        assert {name} == {policy.name for policy in policies}
        assert len(set(policies)) == len(grid), f"{name} has the same configuration twice"
        assert all(policy.scaler(setting(service_per_s=None)).period_s > 0 for policy in policies)
        assert json.dumps(grid)  # tables and reports show them


def test_the_one_to_beat_is_tried_thoroughly_and_can_be_afforded() -> None:
    assert 100 <= len(GRIDS["keda+cron"]) <= 120
    assert sum(len(grid) for grid in GRIDS.values()) <= 210
    assert sum(len(grid) for grid in QUICK_GRIDS.values()) <= 30


def test_documented_defaults_are_tried() -> None:
    for name in set(GRIDS) - {"static"}:
        assert BASELINES[name]() == BASELINES[name](**GRIDS[name][0])


def test_tune_plays_each_once_and_in_order() -> None:
    """A fake run: a share of s costs 100 s and is late by 1 / s."""
    played: list[Policy] = []
    ticks: list[int] = []

    def run(policy: Policy) -> list[float]:
        played.append(policy)
        return [float(policy.scaler(setting(most=100, partitions=100)).replicas(None))]  # type: ignore[arg-type]  # it does not look

    found = tune(
        "static",
        run,
        quick=False,
        measure=lambda seeds: (seeds[0], 100 / seeds[0], 2.0),
        progress=lambda: ticks.append(len(played)),
    )
    assert [BASELINES["static"](**params) for params in GRIDS["static"]] == played
    assert ticks == [1, 2, 3, 4]
    assert [(25, 4), (50, 2), (75, pytest.approx(4 / 3)), (100, 1)] == [(one.cost, one.lateness) for one in found]
    assert [dict(found[0].params), found[0].metrics, found[0].rebalances] == [{"share": 0.25}, [25.0], 2.0]


def test_quick_is_the_small_grid() -> None:
    ticks: list[int] = []
    found = tune("keda", lambda _: [], quick=True, measure=lambda _: (1, 1, 1), progress=lambda: ticks.append(1))
    assert len(QUICK_GRIDS["keda"]) == len(found) == len(ticks)


def test_an_unknown_baseline_is_told_from_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no baseline 'vpa' to tune: there are hpa, keda, cron, keda\+cron"):
        tune("vpa", lambda _: [], quick=True, measure=lambda _: (1, 1, 1), progress=lambda: None)


def test_front() -> None:
    """Dearer and later goes; of equals the one with fewer rebalances stays."""
    calm, busy = tuned(2, 5, 1), tuned(2, 5, 9)
    cheap, dear, beaten, late = tuned(1, 9), tuned(7, 0), tuned(3, 5), tuned(1, 10)
    assert [cheap, calm, dear] == front([dear, busy, beaten, calm, late, cheap])
    assert front([]) == []


@pytest.mark.parametrize(("price", "cost"), [(0, 1), (0.5, 2), (10, 7)])
def test_knee(price: float, cost: float) -> None:
    """Lateness for nothing: the cheapest. Dear lateness: the earliest. Between: 2 + 0.5 x 5 is less than 5.5 and 7."""
    assert cost == knee([tuned(1, 9), tuned(2, 5), tuned(7, 0)], price=price).cost


def test_the_knee_of_equals_has_fewest_rebalances() -> None:
    assert knee([tuned(2, 5, 3), tuned(2, 5, 1)], price=1).rebalances == 1


def test_no_knee_of_nothing() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        knee([], price=1)
    with pytest.raises(ValueError, match="price of -1"):
        knee([tuned(1, 1)], price=-1)


@given(st.lists(st.builds(tuned, st.floats(0, 9), st.floats(0, 9), st.integers(0, 9)), min_size=1), st.floats(0, 100))
def test_nothing_beats_the_front_and_every_knee_lies_on_it(every: list[Tuned], price: float) -> None:
    kept = front(every)
    for one in every:
        assert any(other.cost <= one.cost and other.lateness <= one.lateness for other in kept)
    for one in kept:
        assert not any(
            (other.cost < one.cost and other.lateness <= one.lateness)
            or (other.cost <= one.cost and other.lateness < one.lateness)
            for other in every
        )
    best = knee(every, price=price)
    assert min(one.cost + price * one.lateness for one in kept) == best.cost + price * best.lateness
