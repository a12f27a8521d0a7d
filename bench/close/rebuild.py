"""*rebuild*: a cold start of flash P&L without any snapshot, until all positions are right; the peer is Kafka Streams.

The clock starts with the process: interpreter or JVM, joining the group and reading the whole topic are in it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from close import topics
from close.account import Account
from close.figures import Row
from close.flow import Flow, make_flow, our_records
from close.options import Options
from close.pnl import PUBLISHED_EVERY_MS, Records, peer_records
from close.servers import Servers
from close.watching import Stream, View, subscriber, until_right
from close.worker import our_positions, peer_positions

_CHUNK: Final = 250_000
"""Executions that are rendered at a time: all of them at once would not fit into memory."""


def _fill(made: Servers, topic: str, flow: Flow, *, ours: bool) -> None:
    for start in range(0, len(flow), _CHUNK):
        stop = min(start + _CHUNK, len(flow))
        if ours:
            values = our_records(flow, start, stop)
            records: Records = {number: [(None, value) for value in some] for number, some in values.items()}
        else:
            records = peer_records(flow, start, stop)
        asyncio.run(topics.fill(made.kafka.bootstrap, topic, records, compression="zstd" if ours else None))


def _seconds(view: View, account: Account) -> float:
    """From now on until all is visible and right."""
    began_ns = view.now_ns()
    until_right(view.moved, lambda: account.difference(view.positions()))
    return (view.last_ns - began_ns) / 1e9


def _ours(made: Servers, topic: str, account: Account) -> float:
    with subscriber(made) as subscribed, our_positions(made, topic, PUBLISHED_EVERY_MS, wait=False):
        return _seconds(subscribed, account)


def _peer(made: Servers, topic: str, account: Account, threads: int) -> float:
    positions = made.topic("positions")
    with peer_positions(made, topic, positions, PUBLISHED_EVERY_MS, threads, wait=False):
        took_s = _seconds(Stream(made, positions), account)
    made.kafka.delete_topic(positions)
    return took_s


def measure(made: Servers, _folder: Path, options: Options) -> list[Row]:
    """Each run is a new process in a new group on the same topic."""
    flow = make_flow("R", options.rebuild, options.shape)
    account = Account()
    account.take(flow)
    took_s: dict[str, list[float]] = {"ours": [], "peer": []}
    for side, found in took_s.items():
        topic = made.topic(f"trades-{side}")
        _fill(made, topic, flow, ours=side == "ours")
        for _ in range(options.runs):
            if side == "ours":
                found.append(_ours(made, topic, account))
            else:
                found.append(_peer(made, topic, account, options.threads))
        made.kafka.delete_topic(topic)
    return [
        Row(
            "rebuild",
            f"cold start over {len(flow):,} trades, no snapshot",
            "s",
            took_s["ours"],
            took_s["peer"],
            bar=options.bars["rebuild_s"],
            more_is_better=False,
            note="from the start of the process until the last position is visible and all are right",
        )
    ]
