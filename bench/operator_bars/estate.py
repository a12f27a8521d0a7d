"""Many pipelines, created and settled: where every scenario begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from operator_bars.cluster import ReplicaWatch
from operator_bars.figures import Scrape, grown, listed
from operator_bars.pipelines import CONSUMING, Shape, group, pipeline, topic_of
from operator_bars.stand import Running, Stand, say, until

STAGES = 1 + len(CONSUMING)
WRITES = ("create", "update", "patch", "delete")
_PER_PIPELINE_S = 1.5
"""Patience for creating; two cores that also run the API server make a pipeline a second."""
_STATUSES = {("patch", "EodPipeline")}
_SETTLED_FOR_S = 20.0
_QUIET_CORES = 0.3
_SETTLED_WITHIN_S = 1200.0
_SAID_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Created:
    """How long it took to make everything.

    Attributes:
        applied_s: until the API server had all pipelines.
        made_s: until it had all Deployments.
        settled_s: until nothing was written any more and the control plane was quiet.
    """

    applied_s: float
    made_s: float
    settled_s: float


async def create(
    stand: Stand,
    running: Running,
    count: int,
    shape: Shape,
    *,
    behind: Callable[[int, str], int] = lambda _number, _stage: 0,
) -> Created:
    """Commit offsets of all groups, apply the pipelines, and wait until all is there and quiet.

    Args:
        stand: where.
        running: the operator that makes the objects.
        count: of pipelines.
        shape: of all of them.
        behind: lag of a stage of a pipeline.
    """
    say(f"committing offsets of {count * len(CONSUMING):,} groups")
    await asyncio.gather(
        *(
            stand.lags.commit(group(number, stage), topic_of(number, stage), behind=behind(number, stage))
            for number in range(count)
            for stage in CONSUMING
        )
    )
    started_s = time.monotonic()
    async with ReplicaWatch(stand.admin) as watch:
        await stand.admin.apply(pipeline(number, shape) for number in range(count))
        applied_s = time.monotonic() - started_s
        say(f"applied {count:,} pipelines in {applied_s:.0f} s; waiting for their {count * STAGES:,} Deployments")
        said_s = time.monotonic()

        async def made() -> bool:
            nonlocal said_s
            running.require_alive()
            if time.monotonic() - said_s > _SAID_EVERY_S:
                said_s = time.monotonic()
                say(f"{len(watch.counts):,} Deployments so far")
            return len(watch.counts) == count * STAGES

        await until("all Deployments are there", made, 60 + _PER_PIPELINE_S * count)
        made_s = time.monotonic() - started_s
    say(f"all Deployments are there after {made_s:.0f} s; waiting for quiet")
    await settle(stand, running)
    created = Created(applied_s, made_s, time.monotonic() - started_s)
    say(f"quiet after {created.settled_s:.0f} s")
    return created


async def settle(stand: Stand, running: Running) -> None:
    """Wait until the operator has written no object for a while and the control plane is idle.

    Statuses may go on: lag that stands still grows older.
    """
    deadline_s = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        before, cpu_s, at_s = await running.metrics(), stand.control_plane_cpu_s, time.monotonic()
        await asyncio.sleep(_SETTLED_FOR_S)
        written = writes(before, await running.metrics())
        cores = (stand.control_plane_cpu_s - cpu_s) / (time.monotonic() - at_s)
        if cores < _QUIET_CORES and all(key in _STATUSES for key in written):
            return
        if time.monotonic() > deadline_s:
            say(f"NOT QUIET after {_SETTLED_WITHIN_S:.0f} s, measuring all the same: {written}, {cores:.2f} cores")
            return
        say(f"not quiet yet: in {_SETTLED_FOR_S:.0f} s {listed(written, 1)}; {cores:.2f} cores")


def writes(before: Scrape, after: Scrape) -> dict[tuple[str, ...], float]:
    """Writes of the operator between two scrapes, by verb and kind; renewals of the Lease are not among them."""
    name = "eod_operator_api_requests_total"
    growth = grown(before.by(name, "verb", "kind"), after.by(name, "verb", "kind"))
    return {key: count for key, count in growth.items() if key[0] in WRITES and key[1] != "Lease"}
