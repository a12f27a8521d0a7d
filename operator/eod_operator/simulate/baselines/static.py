"""As many replicas all day: what lateness costs at most, and capacity at most.

With the maximum it is the bound that no autoscaler can be earlier than. Replicas beyond the partitions would idle, so
there are never more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from eod_operator.simulate.scaler import Observation, Setting

_LOOK_PERIOD_S = 60.0


@dataclass(frozen=True, slots=True)
class Static:
    """A Deployment with fixed replicas.

    Attributes:
        replicas: how many; None takes `share`.
        share: of the maximum.
    """

    replicas: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"a share of {self.share} of the maximum: give one above 0 and up to 1")

    @property
    def name(self) -> str:
        """As in tables."""
        return "static"

    def scaler(self, setting: Setting) -> StaticScaler:
        """One for this day."""
        wanted = math.ceil(self.share * setting.max_replicas) if self.replicas is None else self.replicas
        most = min(setting.max_replicas, setting.partitions)
        return StaticScaler(max(setting.min_replicas, min(wanted, most)))


@dataclass(frozen=True, slots=True)
class StaticScaler:
    """Always the same."""

    count: int
    period_s: float = _LOOK_PERIOD_S

    def replicas(self, seen: Observation) -> int:  # noqa: ARG002 - that it looks at nothing is the point
        """The same."""
        return self.count
