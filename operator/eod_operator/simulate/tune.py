"""The best chance for each baseline: every configuration of a grid is played, and the ones that nothing beats are kept.

A comparison with defaults would be cheap: KEDA's default threshold of ten records a replica is nobody's. So the grids
hold what somebody would try who has such a day to try it on: thresholds of seconds to a minute of a replica's work,
cron windows from a minute to half an hour around the close, HPA policies that reach any number in one step. The
documented defaults are in each grid too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.scaler import Policy

Params = Mapping[str, object]

_REPLICA_PER_S = 100.0
"""What a replica takes in the scenarios that do not say: turns seconds into records where nobody believes a rate."""


def _grid(*parts: Sequence[Params]) -> tuple[Params, ...]:
    """Each choice of one part with each of the others."""
    return tuple({key: value for one in chosen for key, value in one.items()} for chosen in product(*parts))


def _each(name: str, *values: object) -> tuple[Params, ...]:
    return tuple({name: value} for value in values)


def _thresholds(*seconds: float, key: str = "lag_threshold") -> tuple[Params, ...]:
    """So many seconds of a replica's work, and that in records for when nobody believes a rate."""
    return tuple(_at(one, key) for one in seconds)


def _at(seconds: float, key: str = "lag_threshold") -> Params:
    return {f"{key}_s": seconds, key: seconds * _REPLICA_PER_S}


def _window(lead_min: int, after_min: int) -> Params:
    return {"lead_min": lead_min, "after_min": after_min}


_DEFAULTS: Params = {}
_JUMP: Params = {"up_pods": 100}
"""Any number of pods in one step, so that a close is not met in doublings with a rebalance each."""
_EVEN: Params = {"ensure_even_distribution": True}
_EXACT: Params = {"tolerance": 0.0}
_FLOOR: Params = {"min_share": 0.25}
_FALLBACK: Params = {"fallback_replicas": 6, "fallback_behavior": "currentReplicasIfHigher"}
_QUICK_FLINK: Params = {
    "interval_s": 15.0,
    "window_s": 60.0,
    "stabilization_s": 30.0,
    "restart_s": 10.0,
    "utilization_boundary": 0.2,
}
"""Faster than Flink's documentation advises: at a close, its advice comes after the burst."""
_SHARES = _each("desired_share", 0.35, 0.5, 0.75, 1.0)
_WINDOWS = [_window(lead, after) for lead in (1, 3, 6) for after in (1, 3, 10)]

GRIDS: Mapping[str, tuple[Params, ...]] = MappingProxyType(
    {
        "hpa": (
            _DEFAULTS,
            *_grid([_JUMP], _thresholds(2, 5, 15, 60, key="target_lag"), _each("down_stabilization_s", 60, 300)),
            *_grid([_JUMP], _thresholds(5, 20, key="target_lag"), _each("target_type", "Value")),
            *_grid(_thresholds(2, 5, key="target_lag"), _each("down_stabilization_s", 60)),
        ),
        "keda": (
            _DEFAULTS,
            *_grid([_JUMP], _thresholds(2, 5, 15, 60), _each("down_stabilization_s", 0, 60, 300), [_DEFAULTS, _FLOOR]),
            *_grid([_JUMP], _thresholds(2), _each("down_stabilization_s", 60), [_EVEN, _EXACT, _FALLBACK]),
            *_grid(_thresholds(2, 5), _each("down_stabilization_s", 60)),
        ),
        "cron": (
            _DEFAULTS,
            *_grid(
                [_JUMP],
                [_window(1, 1), _window(1, 3), _window(3, 3), _window(3, 10), _window(6, 10), _window(10, 30)],
                _SHARES,
                _each("down_stabilization_s", 60),
            ),
            *_grid([_JUMP], [_window(3, 10)], _each("desired_share", 0.75, 1.0), [_EXACT]),
        ),
        "keda+cron": (
            _DEFAULTS,
            *_grid(
                [_JUMP],
                _WINDOWS,
                _SHARES,
                [
                    {**_at(2), "down_stabilization_s": 0},
                    {**_at(2), "down_stabilization_s": 60},
                    {**_at(5), "down_stabilization_s": 60},
                ],
            ),
            *_grid(
                [_JUMP],
                _thresholds(2),
                [_window(3, 10)],
                _each("desired_share", 0.75),
                _each("down_stabilization_s", 60),
                [_EVEN, _EXACT, _FLOOR, _FALLBACK],
            ),
            *_grid([_JUMP], _thresholds(2), [_window(10, 30)], _each("desired_share", 0.5, 1.0)),
            *_grid([_JUMP], _thresholds(5), [_window(1, 3)], _each("desired_share", 0.35, 0.5, 1.0)),
            *_grid([_JUMP], _thresholds(15), [_window(3, 3)], _each("desired_share", 0.75)),
            *_grid(_thresholds(2), [_window(3, 10)], _each("desired_share", 1.0)),
        ),
        "static": _each("share", 0.25, 0.5, 0.75, 1.0),
        "flink": (
            _DEFAULTS,
            *_grid(
                [_QUICK_FLINK],
                _each("window_s", 60.0, 180.0),
                _each("catch_up_s", 30.0, 120.0, 600.0),
                _each("utilization_target", 0.5, 0.7),
                _each("scale_down_interval_s", 120.0),
            ),
            *_grid([_QUICK_FLINK], _each("catch_up_s", 30.0), _each("scale_down_interval_s", 0.0, 600.0)),
        ),
    }
)
"""By baseline, everything that is tried."""

QUICK_GRIDS: Mapping[str, tuple[Params, ...]] = MappingProxyType(
    {
        "hpa": _grid([_JUMP], _thresholds(2, 15, key="target_lag"), _each("down_stabilization_s", 60)),
        "keda": _grid([_JUMP], _thresholds(2, 15), _each("down_stabilization_s", 60, 300)),
        "cron": _grid([_JUMP], [_window(3, 10)], _SHARES, _each("down_stabilization_s", 60)),
        "keda+cron": _grid(
            [_JUMP], _thresholds(2, 15), [_window(1, 3), _window(3, 10)], _SHARES, _each("down_stabilization_s", 60)
        ),
        "static": _each("share", 0.5, 1.0),
        "flink": _grid([_QUICK_FLINK], _each("catch_up_s", 30.0, 120.0), _each("scale_down_interval_s", 120.0)),
    }
)
"""The same in a tenth of the time, for a look."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """One configuration and what it came to.

    Attributes:
        params: of the baseline, as `BASELINES` takes them.
        cost: median replica-hours.
        lateness: median integral of lag-seconds.
        rebalances: their median.
        metrics: of each seed, as the run gave them.
    """

    params: Params
    cost: float
    lateness: float
    rebalances: float
    metrics: Sequence[Any]


def tune(
    name: str,
    setting_free_run: Callable[[Policy], Sequence[Any]],
    *,
    quick: bool,
    measure: Callable[[Sequence[Any]], tuple[float, float, float]],
    progress: Callable[[], None],
) -> list[Tuned]:
    """Play every configuration of a baseline's grid, in the grid's order.

    Args:
        name: of the baseline.
        setting_free_run: plays one policy and gives the metrics of each seed.
        quick: whether to take the small grid.
        measure: cost, lateness and rebalances of these metrics.
        progress: called after each configuration.

    Raises:
        ValueError: there is no such baseline.
    """
    grids = QUICK_GRIDS if quick else GRIDS
    if name not in grids:
        raise ValueError(f"there is no baseline {name!r} to tune: there are {', '.join(grids)}")
    tuned = []
    for params in grids[name]:
        metrics = setting_free_run(BASELINES[name](**params))
        cost, lateness, rebalances = measure(metrics)
        tuned.append(Tuned(dict(params), cost, lateness, rebalances, metrics))
        progress()
    return tuned


def front(tuned: Sequence[Tuned]) -> list[Tuned]:
    """Those that no other beats in cost and lateness, the cheapest first; of equals, the one with fewest rebalances."""
    kept: list[Tuned] = []
    best = math.inf
    for one in sorted(tuned, key=lambda one: (one.cost, one.lateness, one.rebalances)):
        if one.lateness < best:
            kept.append(one)
            best = one.lateness
    return kept


def knee(tuned: Sequence[Tuned], *, price: float) -> Tuned:
    """The one with the lowest bill, at `price` replica-hours for each unit of lateness; of equals, fewest rebalances.

    Raises:
        ValueError: nothing was tuned, or the price is negative.
    """
    if not tuned or price < 0:
        raise ValueError(
            f"no knee of {len(tuned)} configurations at a price of {price}: give at least one, and a price of 0 or more"
        )
    return min(tuned, key=lambda one: (one.cost + price * one.lateness, one.rebalances, one.cost))
