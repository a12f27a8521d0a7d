"""What a thousand pipelines cost while nothing happens, and what a naive operator takes for less work.

No Pods are made (every replicas.min is 0): what is measured is the operator, not what two cores do with 4,000 Pods.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

from operator_bars import estate
from operator_bars.figures import (
    Row,
    Scrape,
    below,
    grown,
    listed,
    megabytes,
    milliseconds,
    none_of,
    quantile_at_most,
)
from operator_bars.pipelines import Shape, quiet_exchange
from operator_bars.processes import usage
from operator_bars.stand import Running, Stand, say, until

INTERVAL_S = 15.0
_MOST_BYTES = 300e6
_MOST_CORES = 0.5
_LATE_S = 1.0
_PEER = Path(__file__).with_name("naive_operator.py")
_PEER_STARTS_WITHIN_S = 600.0
_LOOKS_FOR_S = 12.0
_LOOKS_EVERY_S = 0.4
_SAME_LOOK_S = 0.2
_PASSES = "eod_operator_reconcile_total"
_REQUESTS = "eod_operator_api_requests_total"


@dataclass(frozen=True, slots=True)
class Idle:
    """What an operator took over some seconds in which nothing happened."""

    seconds: float
    cores: float
    rss_bytes: int
    peak_bytes: int
    requests: float


async def measure(stand: Stand, *, pipelines: int, seconds: float, peer: bool, bars: bool) -> list[Row]:
    """Create the pipelines and measure them at rest; the peer afterwards, on the same pipelines.

    Args:
        stand: fresh servers.
        pipelines: how many.
        seconds: of measuring.
        peer: whether the naive operator is measured, too.
        bars: whether our own bars are reported, or only what the peer is compared with.
    """
    running = stand.start_operator()
    exchange = quiet_exchange()
    shape = Shape(
        stand.kafka.bootstrap,
        least=0,
        lag_per_replica=1000,
        stabilization_s=300,
        calendar={"exchange": exchange},
        burst=4,
    )
    created = await estate.create(stand, running, pipelines, shape)
    say(f"measuring for {seconds:.0f} s")
    before, ours, after = await _watched(stand, running, seconds)
    rows = []
    if bars:
        what = f"{pipelines:,} pipelines x {estate.STAGES} stages at rest"
        rows += [
            Row(f"{what}: applied; Deployments there; quiet after", _created(created)),
            *_ours(what, pipelines, ours, before, after),
            Row(f"{what}: Kafka is looked at every", f"{await _look_period_s(running):.2f} s"),
        ]
    running.process.stop(20)
    if peer:
        rows += _against(pipelines, ours, await _peer(stand, pipelines, seconds))
    return rows


async def _watched(stand: Stand, running: Running, seconds: float) -> tuple[Scrape, Idle, Scrape]:
    """Metrics, usage, metrics; nobody asks for anything in between, and the scrapes are not part of the usage."""
    scraped = await running.metrics()
    requests, before = await stand.requests_of_accounts(), running.usage
    await asyncio.sleep(seconds)
    after = running.usage
    requests = await stand.requests_of_accounts() - requests
    taken_s = after.at_s - before.at_s
    idle = Idle(taken_s, after.cores_since(before), after.rss_bytes, after.peak_bytes, requests)
    return scraped, idle, await running.metrics()


def _created(created: estate.Created) -> str:
    return f"{created.applied_s:.0f} s; {created.made_s:.0f} s; {created.settled_s:.0f} s"


def _ours(what: str, pipelines: int, idle: Idle, before: Scrape, after: Scrape) -> list[Row]:
    late = _histogram("eod_operator_reconcile_late_seconds", before, after)
    passes = _histogram("eod_operator_reconcile_seconds", before, after)
    results = grown(before.by(_PASSES, "result"), after.by(_PASSES, "result"))
    requests = grown(before.by(_REQUESTS, "verb", "kind"), after.by(_REQUESTS, "verb", "kind"))
    verbs: dict[tuple[str, ...], float] = {}
    for (verb, _kind), count in requests.items():
        verbs[verb,] = verbs.get((verb,), 0) + count
    minutes, done = idle.seconds / 60, results.get(("done",), 0)
    written = estate.writes(before, after)
    latest_s = quantile_at_most(late, 1.0)
    # A timed pass is due 15 s after the one before it was due, so one that begins within a second is in time.
    missed = max(late.values(), default=0) - late.get(_LATE_S, 0)
    owed = pipelines * math.floor(idle.seconds / INTERVAL_S)
    return [
        below(f"{what}: CPU", idle.cores, _MOST_CORES, f"{idle.cores:.2f} cores", f"< {_MOST_CORES:g} core"),
        below(f"{what}: memory (RSS)", idle.rss_bytes, _MOST_BYTES, megabytes(idle.rss_bytes), "< 300 MB"),
        below(f"{what}: … at its peak, creating", idle.peak_bytes, _MOST_BYTES, megabytes(idle.peak_bytes), "< 300 MB"),
        Row(f"{what}: passes a second", f"{done / idle.seconds:.1f} (due: {pipelines / INTERVAL_S:.1f})"),
        none_of(f"{what}: passes that failed", sum(results.values()) - done, listed(results, 1)),
        Row(f"{what}: timed passes began late by, p99", f"≤ {milliseconds(quantile_at_most(late, 0.99))}"),
        Row(f"{what}: … at most", f"≤ {milliseconds(latest_s)}"),
        none_of(f"{what}: decisions later than 15 s + 1 s", missed),
        none_of(f"{what}: decisions never made", max(0.0, owed - done)),
        Row(f"{what}: a pass takes, p50", f"≤ {milliseconds(quantile_at_most(passes, 0.5))}"),
        Row(f"{what}: … p99", f"≤ {milliseconds(quantile_at_most(passes, 0.99))}"),
        Row(f"{what}: API requests a minute", listed(verbs, minutes)),
        Row(f"{what}: … by the API server's count, kopf's too", f"{idle.requests / minutes:.1f}"),
        none_of(f"{what}: writes besides the Lease's", sum(written.values()), listed(written, 1)),
        Row(f"{what}: the Lease's renewals a minute", f"{requests.get(('update', 'Lease'), 0) / minutes:.1f}"),
    ]


def _histogram(name: str, before: Scrape, after: Scrape) -> dict[float, float]:
    earlier = before.buckets(name)
    return {bound: count - earlier.get(bound, 0) for bound, count in after.buckets(name).items()}


async def _look_period_s(running: Running) -> float:
    """Seconds between two looks at Kafka, from the age of the last one at several moments."""
    looks: list[float] = []
    ends_s = time.monotonic() + _LOOKS_FOR_S
    while time.monotonic() < ends_s:
        asked_s = time.time()
        ages = (await running.metrics()).of("eod_operator_signal_age_seconds")
        look_s = asked_s - min(ages.values())
        if not looks or look_s - looks[-1] > _SAME_LOOK_S:
            looks.append(look_s)
        await asyncio.sleep(_LOOKS_EVERY_S)
    return (looks[-1] - looks[0]) / (len(looks) - 1) if len(looks) > 1 else math.inf


async def _peer(stand: Stand, pipelines: int, seconds: float) -> Idle:
    """The same for the naive operator, once all of its timers run."""
    say(f"starting the naive operator on the same {pipelines:,} pipelines")
    process = stand.start_peer(_PEER)
    # It begins with a finalizer on each pipeline; its timers run when all have one.
    await until("all pipelines have kopf's finalizer", lambda: _finalized(stand), _PEER_STARTS_WITHIN_S, every_s=2)
    await asyncio.sleep(2 * INTERVAL_S)
    if not process.alive:
        raise RuntimeError(f"the naive operator has ended: see {stand.folder / 'peer.log'}")
    say(f"measuring it for {seconds:.0f} s")
    requests, before = await stand.requests_of_accounts(), usage(process.pid)
    await asyncio.sleep(seconds)
    after = usage(process.pid)
    requests = await stand.requests_of_accounts() - requests
    process.stop(5)
    return Idle(after.at_s - before.at_s, after.cores_since(before), after.rss_bytes, after.peak_bytes, requests)


async def _finalized(stand: Stand) -> bool:
    page = await stand.admin.text("/apis/eod.markets/v1alpha1/eodpipelines")
    return all(one["metadata"].get("finalizers") for one in json.loads(page)["items"])


def _against(pipelines: int, ours: Idle, naive: Idle) -> list[Row]:
    what = f"{pipelines:,} pipelines at rest, ours : naive kopf timers (which ask no Kafka)"
    per_minute = (ours.requests * 60 / ours.seconds, naive.requests * 60 / naive.seconds)
    return [
        Row(f"{what}: CPU", f"{ours.cores:.2f} : {naive.cores:.2f} cores = 1 : {naive.cores / ours.cores:.1f}"),
        Row(
            f"{what}: memory",
            f"{megabytes(ours.rss_bytes)} : {megabytes(naive.rss_bytes)} = 1 : {naive.rss_bytes / ours.rss_bytes:.1f}",
        ),
        Row(
            f"{what}: API requests a minute",
            f"{per_minute[0]:.1f} : {per_minute[1]:,.1f} = 1 : {per_minute[1] / max(per_minute[0], 1e-9):,.0f} "
            f"(due for its timers: {pipelines * 60 / INTERVAL_S:,.0f})",
        ),
    ]
