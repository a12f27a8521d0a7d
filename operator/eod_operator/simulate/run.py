"""A world and a policy, metrics by seed: what everybody calls."""

from __future__ import annotations

from collections.abc import Sequence

from eod_operator.simulate.engine import play
from eod_operator.simulate.metrics import Metrics, measure
from eod_operator.simulate.scaler import Policy
from eod_operator.simulate.world import World


def run(world: World, policy: Policy) -> list[Metrics]:
    """The metrics of each seed.

    Raises:
        PolicyError: the autoscaler answered nonsense.
    """
    return run_many(world, (policy,))[0]


def run_many(world: World, policies: Sequence[Policy]) -> list[list[Metrics]]:
    """The metrics of each seed for each policy; several policies at once cost less than one after the other.

    Raises:
        PolicyError: an autoscaler answered nonsense.
    """
    return [[measure(world, day) for day in days] for days in play(world, policies)]
