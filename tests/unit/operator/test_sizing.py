"""From the spec to decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from eod_operator.api import PipelineSpec
from eod_operator.api.spec import sentences
from eod_operator.scaling import Signals
from eod_operator.sizing import StageInput, size
from pydantic import ValidationError

CLOSE = datetime.fromisoformat("2026-11-27T13:00:00-05:00").timestamp()


@pytest.mark.parametrize(("at_s", "counts"), [(CLOSE - 301, (1, 1)), (CLOSE - 300, (2, 6)), (CLOSE + 900, (2, 6))])
def test_burst_replicas_around_the_close(spec: PipelineSpec, at_s: float, counts: tuple[int, int]) -> None:
    sizes = size(spec, {}, at_s)
    assert counts == tuple(decision.replicas for decision in sizes.decisions.values())


def test_lag_sizes_a_consumer_but_not_ingestion(spec: PipelineSpec) -> None:
    """Whatever is read of ingestion's topic, it consumes nothing."""
    behind = StageInput(signals=Signals(lag=(12_000,), partitions=12), current=1)
    sizes = size(spec, {"in": behind, "pnl": behind}, CLOSE - 9_000)
    assert {name: one.replicas for name, one in sizes.decisions.items()} == {"in": 1, "pnl": 12}


def test_a_broken_calendar_is_told_and_lag_still_counts(raw_spec: dict[str, Any]) -> None:
    raw_spec["calendar"] = {"exchange": "XNYZ"}
    behind = StageInput(signals=Signals(lag=(12_000,), partitions=12), current=1)
    sizes = size(PipelineSpec.model_validate(raw_spec), {"pnl": behind}, CLOSE)
    assert sizes.calendar_problem is not None
    assert sizes.calendar_problem.startswith("spec.calendar.exchange: 'XNYZ'")
    assert not sizes.window.active
    assert sizes.decisions["pnl"].replicas == 12


def test_without_burst_replicas_the_calendar_changes_nothing(raw_spec: dict[str, Any]) -> None:
    del raw_spec["stages"][1]["replicas"]["burst"]
    sizes = size(PipelineSpec.model_validate(raw_spec), {}, CLOSE)
    assert sizes.decisions["pnl"].replicas == 1


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("stages", 1, "replicas"), {"min": 3, "max": 2}, "spec.stages.1.replicas: min (3) must not be above max (2)"),
        (("stages", 1, "replicas"), {"max": 2, "burst": 3}, "spec.stages.1.replicas: burst (3) must lie between"),
        (("stages", 1, "kind"), "teleport", "spec.stages.1: kind 'teleport' is unknown: use one of ingestion"),
        (("stages", 1, "name"), "in", "spec: stages: the name 'in' is given 2 times"),
        (("stages", 1, "nmae"), "x", "spec.stages.1.nmae: Extra inputs are not permitted"),
        (("calendar", "exchange"), "XNYS", "spec.calendar: calendar takes exactly one of"),
        (("calendar", "sessions", 0, "close"), "2026-11-27T09:00:00-05:00", "spec.calendar.sessions.0: close"),
        (("calendar", "sessions", 0, "close"), "2026-11-27T16:00:00", "should have timezone info"),
        (("kafka", "bootstrapServers"), "kafka", "spec.kafka.bootstrapServers"),
    ],
)
def test_offline_checks_say_what_the_api_server_would(
    raw_spec: dict[str, Any], path: tuple[str | int, ...], value: Any, sentence: str
) -> None:
    target: Any = raw_spec
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with pytest.raises(ValidationError) as refusal:
        PipelineSpec.model_validate(raw_spec)
    assert sentence in "; ".join(sentences(refusal.value))
