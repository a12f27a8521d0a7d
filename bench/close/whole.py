"""*close*: from the socket to the subscriber. Ours is ingestion and flash P&L, the peer QuickFIX/J and Kafka Streams.

The most it sustains is measured by a blast: all trades at once, from the first byte until the last of them is visible.
Latency is open-loop: execution i is due at i / rate whether or not the one before has come through, and its latency is
from that moment until the first publication that counts it: a trade that waits in the sender waits on our account.

Beside it our own histograms are read, each from the read of the socket: until the broker has acknowledged the trade,
until its position is right in memory, until that is published.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from operator_bars.figures import Scrape, milliseconds, quantile_at_most
from support.pipeline import EOD, Stage

from close.account import Account
from close.figures import Row, per_million, quantiles
from close.flow import Flow, make_flow
from close.matching import Key, intended, visible_at
from close.options import Options
from close.sender import write_frames
from close.sending import sender
from close.servers import Servers
from close.watching import Stream, View, subscriber, until_right
from close.worker import Meter, our_ingestion, our_positions, peer_ingestion, peer_positions

STEADY_PER_S: Final = 10_000.0
QUICK_MS: Final = 1
_MOST_STEADY: Final = 1_000_000
_SHOWN: Final = ("p50", "p95", "p99", "p99.9")
_HOPS: Final = {
    "acknowledged": ("ingestion", "eod_ingestion_latency_seconds"),
    "applied": ("flash-pnl", "eod_pnl_applied_seconds"),
    "published": ("flash-pnl", "eod_pnl_latency_seconds"),
}
Counts = dict[float, float]
"""Trades by upper bound in seconds, cumulative."""


NO_STAGES: Final[Mapping[str, Stage]] = MappingProxyType({})


class Ran(NamedTuple):
    """When a run began and when its last position became visible, by the view's clock; CPU seconds by process."""

    began_ns: int
    ended_ns: int
    cpu_s: dict[str, float]

    @property
    def took_s(self) -> float:
        """How long it took."""
        return (self.ended_ns - self.began_ns) / 1e9


class Route:
    """One side's whole path, running: where to send, and what became visible of it."""

    def __init__(self, port: int, pids: dict[str, int], view: View, stages: Mapping[str, Stage] = NO_STAGES) -> None:
        """`stages`: by kind, those that count latencies themselves."""
        self.port = port
        self.pids = pids
        self.account = Account()
        self._view = view
        self._stages = stages

    def run(self, flow: Flow, folder: Path, per_s: float = 0) -> Ran:
        """Sends a flow, and waits until the positions are right."""
        write_frames(flow, folder)
        view, account = self._view, self.account
        view.forget()
        account.take(flow)
        spent: dict[str, float] = {}
        with sender(folder, self.port, per_s) as sending:
            meter = Meter({**self.pids, "sender": sending.pid})
            apart_ns = view.now_ns() - time.monotonic_ns()
            sent = sending.send()

            def wrong() -> str:
                nonlocal spent
                spent = meter.spent()
                return account.difference(view.positions())

            until_right(view.moved, wrong)
        return Ran(sent.mono_ns + apart_ns, view.last_ns, spent)

    def latencies_ms(self, flow: Flow, ran: Ran, per_s: float, before: dict[Key, int]) -> NDArray[np.float64]:
        """Of each execution, from the moment at which it was due."""
        due = intended(ran.began_ns, len(flow), per_s)
        return (visible_at(flow, self._view.seen(), before) - due) / 1e6

    def hops(self) -> dict[str, Counts]:
        """What the stages have counted so far, by hop."""
        pages = {kind: Scrape(stage.metrics()) for kind, stage in self._stages.items()}
        return {hop: pages[kind].buckets(name) for hop, (kind, name) in _HOPS.items() if kind in pages}

    def counted(self) -> dict[Key, int]:
        """Trades of each position so far."""
        return {key: standing.trades for key, standing in self.account.positions.items()}


@contextmanager
def ours(made: Servers, interval_ms: int, program: Path = EOD) -> Iterator[Route]:
    """Ingestion, flash P&L and a subscriber."""
    topic = made.topic("trades-ours")
    with (
        our_positions(made, topic, interval_ms, program) as stage,
        our_ingestion(made, topic, program) as (ingestion, port),
        subscriber(made) as subscribed,
    ):
        pids = {"ingestion": ingestion.pid, "flash-pnl": stage.pid, **made.pids}
        yield Route(port, pids, subscribed, {"ingestion": ingestion, "flash-pnl": stage})
    made.kafka.delete_topic(topic)


@contextmanager
def theirs(made: Servers, interval_ms: int, options: Options) -> Iterator[Route]:
    """QuickFIX/J, Kafka Streams and its topic; an interval of 1 ms is each change at once."""
    topic, positions = made.topic("trades-peer"), made.topic("positions")
    at_once = interval_ms <= QUICK_MS
    senders = make_flow("W", 1, options.shape).senders
    with (
        peer_positions(made, topic, positions, 0 if at_once else interval_ms, options.threads) as streams,
        peer_ingestion(made, topic, senders, linger_ms=1 if at_once else 5) as (acceptor, port),
    ):
        pids = {"acceptor": acceptor.pid, "streams": streams.pid, "kafka": made.pids["kafka"]}
        yield Route(port, pids, Stream(made, positions))
    made.kafka.delete_topic(positions)
    made.kafka.delete_topic(topic)


class Found:
    """What one side has shown."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[dict[str, float]] = []
        self.latency: dict[tuple[int, str], list[dict[str, float]]] = {}
        self.half_per_s = 0.0
        self.hops: dict[tuple[int, str], str] = {}


def _side(made: Servers, folder: Path, options: Options, name: str) -> Found:
    """Blasts at the first interval, then latencies at every interval and both rates."""
    found = Found()
    for interval_ms in options.intervals_ms:
        with ours(made, interval_ms) if name == "ours" else theirs(made, interval_ms, options) as route:
            _warm(route, folder, options, f"W{interval_ms}", 0.0 if found.rates else options.warm_s)
            if not found.rates:
                for number in range(options.runs):
                    flow = make_flow(f"B{number}", options.blast, options.shape)
                    ran = route.run(flow, folder)
                    found.rates.append(len(flow) / ran.took_s)
                    found.cpu.append(ran.cpu_s)
                found.half_per_s = float(np.median(found.rates)) / 2
            for rate, per_s in (("steady", STEADY_PER_S), ("half", found.half_per_s)):
                trades = int(min(per_s * options.seconds, _MOST_STEADY))
                route.run(make_flow(f"W{rate}{interval_ms}", trades, options.shape), folder, per_s)
                hops = route.hops()
                for number in range(options.runs):
                    flow, before = make_flow(f"{rate}{interval_ms}-{number}", trades, options.shape), route.counted()
                    ran = route.run(flow, folder, per_s)
                    found.latency.setdefault((interval_ms, rate), []).append(
                        quantiles(route.latencies_ms(flow, ran, per_s, before))
                    )
                found.hops[interval_ms, rate] = hops_since(hops, route.hops())
    return found


def _warm(route: Route, folder: Path, options: Options, tag: str, least_s: float) -> None:
    """Blasts until they have lasted `least_s` in all; one at the least.

    A JVM compiles what runs hot by and by: both sides get the same time for it, as the broker is one for both.
    """
    took_s = 0.0
    for number in itertools.count():
        took_s += route.run(make_flow(f"{tag}-{number}", options.blast, options.shape), folder).took_s
        if took_s >= least_s:
            return


def hops_since(before: Mapping[str, Counts], after: Mapping[str, Counts]) -> str:
    """p50 and p99 of each hop between two readings, for people; a histogram knows only what they are within."""
    told = []
    for hop, counts in after.items():
        fresh = {bound: count - before[hop].get(bound, 0.0) for bound, count in counts.items()}
        middle, late = (milliseconds(quantile_at_most(fresh, share)) for share in (0.5, 0.99))
        told.append(f"{hop} within {middle} (p50) and {late} (p99)")
    return "; ".join(told)


def measure(made: Servers, folder: Path, options: Options) -> list[Row]:
    """Both sides, one after the other."""
    frames = folder / "close"
    sides = {name: _side(made, frames, options, name) for name in ("ours", "peer")}
    our, peer = sides["ours"], sides["peer"]
    cpu = {
        f"{side} {name}": value
        for side, found in sides.items()
        for name, value in per_million(found.cpu, options.blast).items()
    }
    rows = [
        Row(
            "close",
            f"socket to subscriber, {options.blast:,} trades at once",
            "trades/s",
            our.rates,
            peer.rates,
            bar=options.bars["close"],
            ratio_bar=options.bars["close_ratio"],
            note=f"published every {options.intervals_ms[0]} ms; peer: QuickFIX/J and Kafka Streams, "
            f"{options.threads} threads; visible: read by a subscriber (ours), on the topic of positions (peer)",
            cpu=cpu,
        )
    ]
    for (interval_ms, rate), runs in our.latency.items():
        theirs_too = peer.latency[interval_ms, rate]
        at = f"{STEADY_PER_S:,.0f}/s" if rate == "steady" else "half of the most"
        for share in _SHOWN:
            judged = interval_ms == QUICK_MS and share == "p99"
            bar = options.bars["p99_ms" if rate == "steady" else "half_p99_ms"] if judged else None
            note = f"from the socket's read: {our.hops[interval_ms, rate]}" if share == "p50" else ""
            if share == "p50" and rate == "half":
                note = f"half: {our.half_per_s:,.0f}/s (ours), {peer.half_per_s:,.0f}/s (peer); {note}"
            rows.append(
                Row(
                    "close",
                    f"{share} at {at}, published every {interval_ms} ms",
                    "ms",
                    [one[share] for one in runs],
                    [one[share] for one in theirs_too],
                    bar=bar,
                    more_is_better=False,
                    comparable=rate == "steady",
                    note=note,
                )
            )
    return rows
