"""What a batch loop works with, for tests that need a log and a clock alone."""

from __future__ import annotations

from typing import Any, cast

from eod_workers.ports import Clock, Log
from eod_workers.runtime.metrics import LoopMetrics
from eod_workers.runtime.stages import StageContext
from eod_workers.runtime.variables import TopicNames


def context_of(log: Log, clock: Clock) -> StageContext[LoopMetrics]:
    """A context whose other ports fail when they are used."""
    none = cast("Any", None)
    return StageContext(
        topics=TopicNames(),
        log=log,
        state=none,
        regulatory=none,
        archive=none,
        clock=clock,
        network=none,
        metrics=LoopMetrics(),
    )
