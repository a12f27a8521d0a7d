"""KEDA's cron trigger: so many replicas from one time of day to another.

Followed are KEDA's documentation (2.18: "Cron") and kedacore/keda's cron_scaler.go. Times are cron expressions, so they
are whole minutes, and they come every weekday: a holiday is scaled for, a half day's close is three hours too early for
it. Within the window the metric is `desiredReplicas`, outside it is 1. The HPA compares it with the current replicas
under its tolerance, so it may stop up to a tenth short of `desiredReplicas` (kedacore/keda#5263, #7900).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eod_operator.simulate.baselines.hpa import Reading
from eod_operator.simulate.baselines.keda import Scaled, Trigger
from eod_operator.simulate.scaler import Observation, Setting

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class CronMetadata:
    """The trigger's `metadata`, with its times told from the usual close.

    Attributes:
        lead_min: `start` is so many minutes before the close.
        after_min: `end` is so many minutes after it.
        desired_replicas: `desiredReplicas`; None takes `desired_share`.
        desired_share: the same as a share of the maximum; None takes what a close is believed to need,
            else the maximum.
    """

    lead_min: int = 10
    after_min: int = 30
    desired_replicas: int | None = None
    desired_share: float | None = None

    def __post_init__(self) -> None:
        if self.lead_min + self.after_min <= 0:
            raise ValueError(
                f"the cron window ends {self.lead_min + self.after_min} minutes after its start:"
                " start and end should not be the same; give a longer lead_min or after_min"
            )


def desired(metadata: CronMetadata, setting: Setting) -> int:
    """`desiredReplicas` for this setting."""
    if metadata.desired_replicas is not None:
        return metadata.desired_replicas
    if metadata.desired_share is not None:
        return max(1, math.ceil(metadata.desired_share * setting.max_replicas))
    return setting.max_replicas if setting.burst_replicas is None else setting.burst_replicas


class CronTrigger:
    """The `cron` trigger."""

    def __init__(self, metadata: CronMetadata, setting: Setting) -> None:
        minutes = [math.floor(close_s / _MINUTE_S) for close_s in setting.timetable_s]
        self._windows = [
            ((minute - metadata.lead_min) * _MINUTE_S, (minute + metadata.after_min) * _MINUTE_S) for minute in minutes
        ]
        self._inside = Reading(desired(metadata, setting), 1.0)
        self._outside = Reading(1.0, 1.0)

    def read(self, seen: Observation) -> tuple[Reading, bool]:
        """Active from the second of `start` to before that of `end`; it asks nobody, so it does not fail."""
        for start_s, end_s in self._windows:
            if start_s <= seen.now_s < end_s:
                return self._inside, True
        return self._outside, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron(Scaled):
    """One cron trigger."""

    cron: CronMetadata = field(default_factory=CronMetadata)

    @property
    def name(self) -> str:
        """As in tables."""
        return "cron"

    def triggers(self, setting: Setting) -> tuple[Trigger, ...]:
        """The one."""
        return (CronTrigger(self.cron, setting),)
