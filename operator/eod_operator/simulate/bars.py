"""How ours compares with the best configurations of a rival, tuned on the very day they are judged on.

Costs are replica-hours, lateness is the integral of lag-seconds, both medians over seeds. Differences below the floor
of the metrics are none: both sides are raised to it before they are divided. A ratio below 1 is in favour of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from eod_operator.simulate.metrics import FLOOR_S2, Metrics
from eod_operator.simulate.tune import Tuned, knee

RIVAL = "keda+cron"
"""The one to beat: KEDA's Kafka and cron triggers in one ScaledObject, by way of the HPA."""
PRICE_HOURS_PER_S2 = 1 / 3600
"""What lateness costs: a lag of one minute that lasts for one minute is worth a replica for an hour."""
USUAL = "normal-close"
"""The scenario that somebody tunes for who does not know what day it will be."""
ALLOWANCE = 0.01
"""A rival counts as no dearer, or no later, when it is so much above ours at most."""


def summary(metrics: Sequence[Metrics]) -> tuple[float, float, float]:
    """Median cost, lateness and rebalances over seeds."""
    return (
        median(one.replica_hours for one in metrics),
        median(one.lateness_s2 for one in metrics),
        median(one.rebalances for one in metrics),
    )


def price(one: Tuned) -> float:
    """Replica-hours with lateness paid for."""
    return one.cost + PRICE_HOURS_PER_S2 * one.lateness


@dataclass(frozen=True, slots=True)
class Bars:
    """Ours against the tuned rival on one scenario; None where no configuration qualifies.

    Attributes:
        lateness: our lateness, as a multiple of that of the least late configuration that costs no more than ours.
        lateness_rival: that configuration.
        cost: our cost, as a multiple of that of the cheapest configuration that is no later than ours.
        cost_rival: that configuration.
        knee: the configuration of the lowest cost with lateness paid for.
        knee_cost: our cost as a multiple of the knee's.
        knee_lateness: our lateness as a multiple of the knee's.
        knee_price: the two together.
        knee_rebalances: our rebalances less the knee's.
    """

    lateness: float | None
    lateness_rival: Tuned | None
    cost: float | None
    cost_rival: Tuned | None
    knee: Tuned
    knee_cost: float
    knee_lateness: float
    knee_price: float
    knee_rebalances: float


def bars(ours: Tuned, rivals: Sequence[Tuned]) -> Bars:
    """Compare.

    Raises:
        ValueError: no rival is given.
    """
    if not rivals:
        raise ValueError("bars need at least one configuration of the rival: tune it first")
    no_dearer = [one for one in rivals if one.cost <= ours.cost * (1 + ALLOWANCE)]
    no_later = [one for one in rivals if _floored(one.lateness) <= _floored(ours.lateness) * (1 + ALLOWANCE)]
    timely = min(no_dearer, key=lambda one: (one.lateness, one.cost), default=None)
    cheap = min(no_later, key=lambda one: (one.cost, one.lateness), default=None)
    best = knee(rivals, price=PRICE_HOURS_PER_S2)
    return Bars(
        lateness=None if timely is None else _floored(ours.lateness) / _floored(timely.lateness),
        lateness_rival=timely,
        cost=None if cheap is None else ours.cost / cheap.cost,
        cost_rival=cheap,
        knee=best,
        knee_cost=ours.cost / best.cost,
        knee_lateness=_floored(ours.lateness) / _floored(best.lateness),
        knee_price=price(ours) / price(best),
        knee_rebalances=ours.rebalances - best.rebalances,
    )


def carried(usual: Sequence[Tuned], today: Sequence[Tuned]) -> Tuned | None:
    """The rival as somebody would really have it: tuned for the usual day, and met by today.

    None when today's grid has no such configuration.
    """
    best = knee(usual, price=PRICE_HOURS_PER_S2)
    return next((one for one in today if one.params == best.params), None)


def _floored(lateness: float) -> float:
    return max(lateness, FLOOR_S2)
