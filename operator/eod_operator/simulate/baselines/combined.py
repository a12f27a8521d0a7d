"""KEDA with a Kafka trigger and a cron trigger in one ScaledObject: the one to beat.

It is what a careful team runs today: cron raises before the usual close, lag does the rest, the HPA takes the larger
(KEDA's documentation, "Cron"; Kubernetes', "Scaling on multiple metrics"). While Kafka fails, the HPA goes up with cron
and never down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eod_operator.simulate.baselines.cron import CronMetadata, CronTrigger
from eod_operator.simulate.baselines.keda import KafkaMetadata, KafkaTrigger, Scaled, Trigger
from eod_operator.simulate.scaler import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class KedaCron(Scaled):
    """Both triggers in one ScaledObject."""

    kafka: KafkaMetadata = field(default_factory=KafkaMetadata)
    cron: CronMetadata = field(default_factory=CronMetadata)

    @property
    def name(self) -> str:
        """As in tables."""
        return "keda+cron"

    def triggers(self, setting: Setting) -> tuple[Trigger, ...]:
        """The one for lag, the one for the time."""
        return (KafkaTrigger(self.kafka, setting), CronTrigger(self.cron, setting))
