"""The pipelines that are measured: four stages each, with consumer groups of their own on shared topics."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from eod_operator.scaling import ExchangeCalendar

from operator_bars.lags import topic

NAMESPACE = "bench"
CONSUMING = ("flash-pnl", "regulatory", "archive")
_NO_CLOSE_FOR_S = 2 * 3600.0
_NEVER = {"sessions": [{"open": "2099-01-01T00:00:00Z", "close": "2099-01-02T00:00:00Z"}]}


@dataclass(frozen=True, slots=True)
class Shape:
    """What all pipelines of a scenario have in common.

    Attributes:
        bootstrap: the Kafka.
        least: replicas.min of every stage.
        lag_per_replica: records.
        stabilization_s: scaleDownStabilizationSeconds.
        calendar: as in the spec; by default one without a close in this century.
        burst: replicas.burst of every stage; None for none.
    """

    bootstrap: str
    least: int = 1
    lag_per_replica: int = 500
    stabilization_s: int = 0
    calendar: dict[str, Any] | None = None
    burst: int | None = None


def name(number: int) -> str:
    """Of a pipeline."""
    return f"close-{number:04d}"


def group(number: int, stage: str) -> str:
    """Of a stage of a pipeline."""
    return f"{name(number)}.{stage}"


def topic_of(number: int, stage: str) -> str:
    """What a stage of a pipeline reads."""
    return topic(number + CONSUMING.index(stage))


def deployment(number: int, stage: str) -> tuple[str, str]:
    """Namespace and name of a stage's Deployment."""
    return NAMESPACE, f"{name(number)}-{stage}"


def pipeline(number: int, shape: Shape) -> dict[str, Any]:
    """One pipeline, as its owner would apply it."""
    burst = {} if shape.burst is None else {"burst": shape.burst}
    consuming = [
        {
            "name": stage,
            "kind": stage,
            "topics": [topic_of(number, stage)],
            "group": group(number, stage),
            "replicas": {"min": shape.least, "max": 12, **burst},
            "target": {"lagPerReplica": shape.lag_per_replica},
        }
        for stage in CONSUMING
    ]
    ingestion = {
        "name": "ingestion",
        "kind": "ingestion",
        "topics": [topic(number)],
        "replicas": {"min": shape.least, "max": 12, **burst},
    }
    return {
        "apiVersion": "eod.markets/v1alpha1",
        "kind": "EodPipeline",
        "metadata": {"name": name(number), "namespace": NAMESPACE},
        "spec": {
            "kafka": {"bootstrapServers": shape.bootstrap},
            "image": "eod:bench",
            "calendar": shape.calendar or _NEVER,
            "scaling": {"scaleDownStabilizationSeconds": shape.stabilization_s},
            "stages": [ingestion, *consuming],
        },
    }


def quiet_exchange() -> str:
    """An exchange that does not close while the benchmark runs, so that its calendar is asked but asks for nothing."""
    now_s = time.time()
    for code in ("XNYS", "XTKS"):
        # A burst that began with a close before now is over an hour after it.
        close_s = ExchangeCalendar(code).first_close(now_s - 3600)
        if close_s is None or close_s > now_s + _NO_CLOSE_FOR_S:
            return code
    raise RuntimeError("New York and Tokyo close within the same hours: this cannot be")
