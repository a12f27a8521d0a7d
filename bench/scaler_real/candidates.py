"""Who scales: our own operator on an EodPipeline, or KEDA's ScaledObject on a Deployment."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from scaler_real.close import Close
from scaler_real.cluster import Manifest
from scaler_real.pods import BEAT_VARIABLE

NAMESPACE = "bench"
_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where a candidate works, and when the close is (epoch seconds)."""

    bootstrap: str
    topic: str
    group: str
    close: Close
    close_s: float


class Candidate(Protocol):
    """One autoscaler with its settings."""

    @property
    def name(self) -> str:
        """As in the tables."""
        ...

    @property
    def deployment(self) -> str:
        """Name of the Deployment that it scales."""
        ...

    @property
    def operator(self) -> bool:
        """Whether our operator must run."""
        ...

    def objects(self, place: Place) -> list[Manifest]:
        """What to apply, in this order."""
        ...

    def settings(self) -> dict[str, Any]:
        """For the results."""
        ...


@dataclass(frozen=True, slots=True)
class Eod:
    """Our operator; names are those of the spec.

    Attributes:
        lead_s: calendar.burst.leadSeconds: the slowest start and a rebalance.
        duration_s: calendar.burst.durationSeconds.
        lag_per_replica: target.lagPerReplica.
        stabilization_s: scaling.scaleDownStabilizationSeconds.
        scaling: further fields of spec.scaling, as they are written there.
    """

    lead_s: int = 30
    duration_s: int = 120
    lag_per_replica: int = 300
    stabilization_s: int = 60
    scaling: str = "{}"

    name = "eod"
    deployment = "eod-pnl"
    operator = True

    def objects(self, place: Place) -> list[Manifest]:
        """The pipeline: one stage, and this close as an explicit session."""
        close = place.close
        session = {"open": _time(place.close_s - 23_400), "close": _time(place.close_s)}
        stage = {
            "name": "pnl",
            "kind": "flash-pnl",
            "topics": [place.topic],
            "group": place.group,
            "replicas": {"min": close.least, "max": close.most, "burst": close.burst},
            "target": {"lagPerReplica": self.lag_per_replica},
        }
        spec = {
            "kafka": {"bootstrapServers": place.bootstrap},
            "image": "eod:bench",
            "calendar": {
                "sessions": [session],
                "burst": {"leadSeconds": self.lead_s, "durationSeconds": self.duration_s},
            },
            "scaling": {"scaleDownStabilizationSeconds": self.stabilization_s, **json.loads(self.scaling)},
            "stages": [stage],
        }
        meta = {"name": "eod", "namespace": NAMESPACE}
        return [{"apiVersion": "eod.markets/v1alpha1", "kind": "EodPipeline", "metadata": meta, "spec": spec}]

    def settings(self) -> dict[str, Any]:
        """Under the names of the spec."""
        return {
            "leadSeconds": self.lead_s,
            "durationSeconds": self.duration_s,
            "lagPerReplica": self.lag_per_replica,
            "scaleDownStabilizationSeconds": self.stabilization_s,
            **json.loads(self.scaling),
        }


@dataclass(frozen=True, slots=True)
class Keda:
    """A ScaledObject with a Kafka trigger, and with a cron trigger if `cron`.

    Attributes:
        cron: whether the usual hour is known.
        lag_threshold: of the Kafka trigger, records a replica.
        lead_min: the cron window begins so many minutes before the close.
        after_min: and ends so many after it.
        stabilization_s: of the HPA's scale-down.
        beat_s: workers join others at a multiple of it, as under our operator; 0 is at once.
    """

    cron: bool
    lag_threshold: int = 300
    lead_min: int = 1
    after_min: int = 2
    stabilization_s: int = 60
    beat_s: int = 5

    deployment = "keda-pnl"
    operator = False

    @property
    def name(self) -> str:
        """As in the simulator."""
        return "keda+cron" if self.cron else "keda"

    def objects(self, place: Place) -> list[Manifest]:
        """The Deployment and the ScaledObject."""
        meta = {"name": self.deployment, "namespace": NAMESPACE}
        labels = {"app": self.deployment}
        env = [{"name": BEAT_VARIABLE, "value": str(self.beat_s)}]
        container = {"name": "consumer", "image": "eod:bench", "env": env}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        scaled = {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": meta,
            "spec": {
                "scaleTargetRef": {"name": self.deployment},
                "minReplicaCount": place.close.least,
                "maxReplicaCount": place.close.most,
                "advanced": {
                    "horizontalPodAutoscalerConfig": {
                        "behavior": {"scaleDown": {"stabilizationWindowSeconds": self.stabilization_s}}
                    }
                },
                "triggers": self._triggers(place),
            },
        }
        return [deployment, scaled]

    def _triggers(self, place: Place) -> list[Manifest]:
        kafka = {
            "type": "kafka",
            "metadata": {
                "bootstrapServers": place.bootstrap,
                "consumerGroup": place.group,
                "topic": place.topic,
                "lagThreshold": str(self.lag_threshold),
            },
        }
        if not self.cron:
            return [kafka]
        minute = math.floor(place.close_s / _MINUTE_S)
        window = {"start": _cron(minute - self.lead_min), "end": _cron(minute + self.after_min)}
        cron = {
            "type": "cron",
            "metadata": {"timezone": "Etc/UTC", **window, "desiredReplicas": str(place.close.burst)},
        }
        return [kafka, cron]

    def settings(self) -> dict[str, Any]:
        """As given."""
        cron = {"lead_min": self.lead_min, "after_min": self.after_min} if self.cron else {}
        return {"lag_threshold": self.lag_threshold, **cron, "stabilization_s": self.stabilization_s}


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cron(minute: int) -> str:
    """A cron entry of every day for a minute since the epoch."""
    at = datetime.fromtimestamp(minute * _MINUTE_S, UTC)
    return f"{at.minute} {at.hour} * * *"
