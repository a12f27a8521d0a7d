"""From lag to replicas: how long after an offset is in Kafka does the Deployment ask for more?"""

from __future__ import annotations

import asyncio
import random

from operator_bars import estate
from operator_bars.cluster import ReplicaWatch
from operator_bars.figures import Row, below, milliseconds, none_of, percentile
from operator_bars.pipelines import CONSUMING, Shape, deployment, group, topic_of
from operator_bars.stand import Stand, say

_GOAL_S = 2.0
_LEAST = 1
_JUMP = 2_000
"""Records of lag, all that a topic has: four replicas at 500 each."""
_WITHIN_S = 60.0
_PAUSE_S = 1.0
"""Samples begin at a random moment within this, the period of the operator's look, so that they are not in step."""
_SAID_EVERY = 20


async def measure(stand: Stand, *, pipelines: int, samples: int, seed: int) -> list[Row]:
    """Let lag jump, one stage of one pipeline after the other, and time the answer."""
    rng = random.Random(seed)
    running = stand.start_operator()
    shape = Shape(stand.kafka.bootstrap, least=_LEAST)
    created = await estate.create(stand, running, pipelines, shape)
    took_s: list[float] = []
    never = 0
    async with ReplicaWatch(stand.admin) as watch:
        for sample in range(samples):
            free = [
                (number, stage)
                for number in range(pipelines)
                for stage in CONSUMING
                if watch.counts[deployment(number, stage)] == _LEAST
            ]
            number, stage = rng.choice(free)
            await asyncio.sleep(rng.uniform(0, _PAUSE_S))
            sample_s = await _sample(stand, watch, number, stage)
            if sample_s is None:
                never += 1
            else:
                took_s.append(sample_s)
            if (sample + 1) % _SAID_EVERY == 0:
                say(f"{sample + 1} samples, p50 {milliseconds(percentile(took_s, 0.5))}, max {max(took_s):.2f} s")
    running.process.stop(20)
    p99_s = percentile(took_s, 0.99)
    what = f"scale, {pipelines} pipelines x {estate.STAGES} stages"
    return [
        Row(f"{what}: all created and quiet after", f"{created.settled_s:.0f} s"),
        Row(f"{what}: lag signal → replicas, samples", f"{len(took_s)}"),
        Row(f"{what}: … p50", milliseconds(percentile(took_s, 0.5))),
        Row(f"{what}: … p95", milliseconds(percentile(took_s, 0.95))),
        below(f"{what}: … p99", p99_s, _GOAL_S, milliseconds(p99_s), f"< {_GOAL_S:g} s"),
        Row(f"{what}: … max", milliseconds(max(took_s, default=float("nan")))),
        none_of(f"{what}: not scaled within {_WITHIN_S:.0f} s", never),
    ]


async def _sample(stand: Stand, watch: ReplicaWatch, number: int, stage: str) -> float | None:
    """Seconds from sending the offset to Kafka to seeing the raised count; None when it was not raised.

    The offset is visible a few milliseconds after it is sent, so this errs to the long side.
    """
    raised = asyncio.create_task(watch.until(deployment(number, stage), lambda count: count > _LEAST, _WITHIN_S))
    await asyncio.sleep(0)  # so that the watch waits before there is anything to see
    started_s = asyncio.get_running_loop().time()
    await stand.lags.commit(group(number, stage), topic_of(number, stage), behind=_JUMP)
    at_s = await raised
    await stand.lags.commit(group(number, stage), topic_of(number, stage))
    return None if at_s is None else at_s - started_s
