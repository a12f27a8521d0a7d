"""Does a killed and restarted operator change anything that it should not? Lag stands still, so counts must, too.

It acts without a lease here: a killed holder's lease lasts 15 seconds, in which nothing would be tested. Scale-downs
are not stabilized (0 s), so that nothing hides one that comes from having forgotten.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from operator_bars import estate
from operator_bars.cluster import ReplicaWatch
from operator_bars.figures import Row, Scrape, listed, none_of
from operator_bars.pipelines import CONSUMING, Shape
from operator_bars.stand import Running, Stand, say, until

_EARLY = 0.3
"""Share of restarts that are killed once more while they start, before the one that may make its passes."""
_EARLY_WITHIN_S = 6.0
_LATER_WITHIN_S = 2.0
_PASSES_WITHIN_S = 90.0
_LAST_LIVES_S = 45.0
"""Three decisions, and longer than the operator puts off what can wait."""
_TOLD = {"EodPipeline", "Event"}
"""Writes that say something and change nothing: statuses and Events."""
_STEPS = 12
_SAID_EVERY = 10
_PER_REPLICA = 100


def lag(number: int, stage: str) -> int:
    """Lags from none to what twelve replicas are for, and none at the edge of a replica."""
    return (number * 7 + CONSUMING.index(stage) * 5) % _STEPS * _PER_REPLICA * 97 // 100


async def measure(stand: Stand, *, pipelines: int, kills: int, seed: int) -> list[Row]:
    """Kill, start, wait for a pass over all, and again."""
    rng = random.Random(seed)
    running = stand.start_operator("--no-lease")
    shape = Shape(stand.kafka.bootstrap, least=1, lag_per_replica=_PER_REPLICA)
    await estate.create(stand, running, pipelines, shape, behind=lag)
    written: Counter[tuple[str, ...]] = Counter()
    early = 0
    async with ReplicaWatch(stand.admin) as watch:
        differ = len(set(watch.counts.values()))
        say(f"counts at the beginning: {sorted(Counter(watch.counts.values()).items())}")
        for kill in range(kills):
            running.process.kill()
            if rng.random() < _EARLY:
                early += 1
                running = stand.start_operator("--no-lease")
                await asyncio.sleep(rng.uniform(0, _EARLY_WITHIN_S))
                running.process.kill()
            running = stand.start_operator("--no-lease")
            first_s = await _passed(running, pipelines)
            await asyncio.sleep(rng.uniform(0, _LATER_WITHIN_S))
            written.update(_written(await running.metrics()))
            if (kill + 1) % _SAID_EVERY == 0:
                so_far = f"{len(watch.changes)} changes, {sum(written.values())} writes"
                say(f"{kill + 1} kills, {so_far}; the last passed over all after {first_s:.1f} s")
        say(f"letting the last one live for {_LAST_LIVES_S:.0f} s")
        before = await running.metrics()
        await asyncio.sleep(_LAST_LIVES_S)
        later = estate.writes(before, await running.metrics())
        changes = list(watch.changes)
    running.process.stop(20)
    for change in changes[:20]:
        say(f"changed: {change.deployment[1]} from {change.before} to {change.after}")
    what = f"{kills} x kill -9, {pipelines} pipelines x {estate.STAGES} stages"
    objects = {key: count for key, count in written.items() if key[1] not in _TOLD}
    told = {key: count for key, count in written.items() if key[1] in _TOLD}
    later_objects = {key: count for key, count in later.items() if key[1] not in _TOLD}
    return [
        Row(f"{what}: different replica counts; kills while starting, besides", f"{differ}; {early}"),
        none_of(f"{what}: changes of spec.replicas", len(changes)),
        none_of(f"{what}: writes of objects after all restarts", sum(objects.values()), listed(objects, 1)),
        Row(f"{what}: statuses and Events written, per restart", listed(told, kills)),
        none_of(
            f"{what}: writes of objects in the {_LAST_LIVES_S:.0f} s after the last",
            sum(later_objects.values()),
            listed(later_objects, 1),
        ),
        Row(f"{what}: … all writes a minute meanwhile", listed(later, _LAST_LIVES_S / 60)),
    ]


async def _passed(running: Running, pipelines: int) -> float:
    """Wait until each pipeline has had a pass; the seconds that it took."""

    async def all_passed() -> bool:
        page = await running.scrape()
        if page is None:
            return False
        seen = page.by("eod_operator_desired_replicas", "namespace", "pipeline")
        return len(seen) == pipelines and page.total("eod_operator_reconcile_total", result="done") >= pipelines

    return await until("the restarted operator has passed over all pipelines", all_passed, _PASSES_WITHIN_S)


def _written(page: Scrape) -> dict[tuple[str, ...], int]:
    """All writes of a process since it began."""
    return {key: int(count) for key, count in estate.writes(Scrape(""), page).items()}
