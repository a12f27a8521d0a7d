"""*ingest*: FIX over TCP until Kafka has it. Ours is the ingestion stage, the peer QuickFIX/J with a Kafka producer.

A run begins with the first byte that the sender writes and ends with the broker's own time of the last record it
appended. Then every record is read back: its trades must be those that were sent, each once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from eod_workers.trades.codec import decode_trades

from close import topics
from close.built import built
from close.figures import Row, cpu_row, per_million
from close.flow import Flow, make_flow
from close.options import Options
from close.sender import write_frames
from close.sending import sender
from close.servers import Servers
from close.watching import until_right
from close.worker import Meter, Worker, our_ingestion, peer_ingestion

Identities = Callable[[bytes], list[tuple[str, str]]]


def ours_in(value: bytes) -> list[tuple[str, str]]:
    """(session, ExecID) of the trades in one of our records."""
    return [(trade.session, trade.exec_id) for trade in decode_trades(value)]


def peers_in(value: bytes) -> list[tuple[str, str]]:
    """The same of the peer's."""
    execution = built().envelopes.Execution.FromString(value)
    return [(execution.session, execution.exec_id)]


class ReadBack:
    """How often each trade is on a topic from here on, and when the broker appended the last. Nothing is read twice."""

    def __init__(self, made: Servers, topic: str, identities: Identities) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.last_ns = 0
        self._made = made
        self._topic = topic
        self._identities = identities
        self._next = self.ends()

    def ends(self) -> topics.Ends:
        """How much there is."""
        return self._made.ends(self._topic)

    def read(self) -> None:
        """Takes in what has come since the last time."""
        until = self.ends()
        asyncio.run(self._read(until))
        self._next = until

    async def _read(self, until: topics.Ends) -> None:
        bootstrap = self._made.kafka.bootstrap
        async for timestamp_ms, _, value in topics.read(bootstrap, self._topic, self._next, until):
            self.found.update(self._identities(value))
            self.last_ns = max(self.last_ns, timestamp_ms * 1_000_000)


def difference(found: Counter[tuple[str, str]], sent: set[tuple[str, str]]) -> str:
    """Why the trades read back are not those sent, each once; "" if they are."""
    doubled = sum(1 for times in found.values() if times > 1)
    missing, foreign = len(sent - found.keys()), len(found.keys() - sent)
    if not (doubled or missing or foreign):
        return ""
    return f"of {len(sent):,} trades {missing:,} are missing, {doubled:,} doubled, {foreign:,} were never sent"


def run(
    made: Servers, topic: str, folder: Path, port: int, worker: Worker, flow: Flow, identities: Identities
) -> tuple[float, dict[str, float]]:
    """One blast: seconds it took, and CPU seconds by process."""
    back, expected = ReadBack(made, topic, identities), flow.exec_ids()
    spent: dict[str, float] = {}
    with sender(folder, port) as sending:
        meter = Meter({"worker": worker.pid, "sender": sending.pid, "kafka": made.pids["kafka"]})
        sent = sending.send()

        def wrong() -> str:
            nonlocal spent
            spent = meter.spent()  # before the topic is read, which costs the broker something
            back.read()
            return difference(back.found, expected)

        until_right(back.ends, wrong)
    return (back.last_ns - sent.wall_ns) / 1e9, spent


def measure(made: Servers, folder: Path, options: Options) -> list[Row]:
    """Blasts on both sides after one that warms up."""
    flow = make_flow("I", options.trades, options.shape)
    frames = folder / "ingest"
    sent_bytes = write_frames(flow, frames)
    rates: dict[str, list[float]] = {}
    spent: dict[str, list[dict[str, float]]] = {}
    for side in ("ours", "peer"):
        topic = made.topic(f"trades-{side}")
        serving = our_ingestion(made, topic) if side == "ours" else peer_ingestion(made, topic, flow.senders)
        with serving as (worker, port):
            for number in range(options.runs + 1):
                identities = ours_in if side == "ours" else peers_in
                took_s, cpu = run(made, topic, frames, port, worker, flow, identities)
                if number:
                    rates.setdefault(side, []).append(len(flow) / took_s)
                    spent.setdefault(side, []).append(cpu)
        made.kafka.delete_topic(topic)
    cpu = {f"{side} {name}": value for side in spent for name, value in per_million(spent[side], len(flow)).items()}
    return [
        Row(
            "ingest",
            "FIX over TCP until Kafka has it",
            "trades/s",
            rates["ours"],
            rates["peer"],
            note=f"{len(flow):,} trades of {sent_bytes / len(flow):.0f} bytes over {flow.shape.sessions} sessions; "
            "peer: QuickFIX/J and a Kafka producer, a record a trade without its frame, numbers in memory",
            cpu=cpu,
        ),
        cpu_row("ingest", "CPU of ingestion", spent, len(flow), options.bars["ingest_ratio"]),
    ]
