"""*pnl*: records on a topic until their positions are visible. Ours is flash P&L, the peer Kafka Streams.

The process is warm and has joined its group. It is frozen (SIGSTOP) while its topic is filled, so that nothing else
runs when it works. A run begins when it goes on, and ends when the last position has been read by a subscriber of Redis
(ours), or was appended to the topic of positions by the broker's clock (the peer's, which spares it a reader).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eod_workers.trades.partitioner import partition_of

from close import topics
from close.account import Account
from close.built import built
from close.figures import Row, cpu_row, per_million
from close.flow import PARTITIONS, Flow, make_flow, our_records
from close.options import Options
from close.servers import Servers
from close.watching import Stream, View, subscriber, until_right
from close.worker import Meter, Worker, frozen, our_positions, peer_positions

PUBLISHED_EVERY_MS = 100
_LONGEST_FREEZE_S = 20.0
"""A stage that was frozen for longer takes its consumer for stalled when it wakes: it gives it 30 s."""

Records = dict[int, list[topics.Pair]]


def peer_records(flow: Flow, start: int = 0, stop: int | None = None) -> Records:
    """The executions as the peer's acceptor writes them: a record a trade, keyed by symbol."""
    envelope = built().envelopes.Execution
    out: Records = {}
    for execution, seq, _ in flow.executions(start, stop):
        value = envelope(
            session=execution.session,
            msg_seq_num=seq,
            exec_id=execution.exec_id,
            symbol=execution.symbol,
            trader=execution.trader,
            strategy=execution.strategy,
            account=f"ACC{execution.trader[-2:]}",
            quantity_e8=execution.quantity_e8,
            px_e8=execution.px_e8,
            transact_time_ns=execution.transact_time_ns,
        ).SerializeToString()
        number = partition_of(execution.symbol, PARTITIONS)
        out.setdefault(number, []).append((execution.symbol.encode(), value))
    return out


def wrapped(flow: Flow, epoch: int) -> Records:
    """The executions as our ingestion writes them: batches of 500 trades with their frames."""
    return {number: [(None, value) for value in values] for number, values in our_records(flow, epoch=epoch).items()}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two, running: what it reads, from where, how its topic is filled, and what becomes visible of it."""

    worker: Worker
    view: View
    topic: str
    records: Callable[[Flow, int], Records]
    compression: str | None


@contextmanager
def ours(made: Servers) -> Iterator[Side]:
    """Flash P&L on a topic of its own, and a subscriber."""
    trades = made.topic("trades-ours")
    with our_positions(made, trades, PUBLISHED_EVERY_MS) as stage, subscriber(made) as subscribed:
        yield Side(stage, subscribed, trades, wrapped, "zstd")
    made.kafka.delete_topic(trades)


@contextmanager
def theirs(made: Servers, threads: int) -> Iterator[Side]:
    """Kafka Streams on a topic of its own; its records are not compressed, which spares it the decompression."""
    trades, positions = made.topic("trades-peer"), made.topic("positions")
    with peer_positions(made, trades, positions, PUBLISHED_EVERY_MS, threads) as peer:
        yield Side(peer, Stream(made, positions), trades, lambda flow, _: peer_records(flow), None)
    made.kafka.delete_topic(positions)
    made.kafka.delete_topic(trades)


def run(made: Servers, side: Side, flow: Flow, account: Account, epoch: int) -> tuple[float, dict[str, float]]:
    """One run, whose sessions are in that epoch: seconds, and CPU seconds by process."""
    records, view = side.records(flow, epoch), side.view
    account.take(flow)
    spent: dict[str, float] = {}
    with frozen(side.worker):
        froze_s = time.monotonic()
        asyncio.run(topics.fill(made.kafka.bootstrap, side.topic, records, compression=side.compression))
        if time.monotonic() - froze_s > _LONGEST_FREEZE_S:
            raise RuntimeError(f"the topic took over {_LONGEST_FREEZE_S:.0f} s to fill: measure with fewer --trades")
        view.forget()
        meter = Meter({"worker": side.worker.pid, **made.pids})
        began_ns = view.now_ns()

    def wrong() -> str:
        nonlocal spent
        spent = meter.spent()
        return account.difference(view.positions())

    until_right(view.moved, wrong)
    return (view.last_ns - began_ns) / 1e9, spent


def measure(made: Servers, _folder: Path, options: Options) -> list[Row]:
    """Both sides, one after the other, each with one run that warms up."""
    rates: dict[str, list[float]] = {}
    spent: dict[str, list[dict[str, float]]] = {}
    for name in ("ours", "peer"):
        account = Account()
        with ours(made) if name == "ours" else theirs(made, options.threads) as side:
            for number in range(options.runs + 1):
                flow = make_flow(f"P{number}", options.trades, options.shape)
                took_s, cpu = run(made, side, flow, account, number + 1)
                if number:
                    rates.setdefault(name, []).append(len(flow) / took_s)
                    spent.setdefault(name, []).append(cpu)
    cpu = {f"{side} {name}": one for side in spent for name, one in per_million(spent[side], options.trades).items()}
    shape = options.shape
    return [
        Row(
            "pnl",
            "records until their positions are visible",
            "trades/s",
            rates["ours"],
            rates["peer"],
            note=f"{options.trades:,} trades, {shape.traders} traders and {shape.symbols} symbols, published every "
            f"{PUBLISHED_EVERY_MS} ms; peer: Kafka Streams, {options.threads} threads, at least once, no deduplication",
            cpu=cpu,
        ),
        cpu_row("pnl", "CPU of flash P&L", spent, options.trades, options.bars["pnl_ratio"]),
    ]
