"""*fix*: frames to trades on one core: cut, checksum, every field checked. Peers: QuickFIX/J, and simplefix.

All are given the same bytes in memory, and what they find is compared: the number of trades and the sum of their
quantities. The time is CPU time of the whole process, so that Java's collector and compiler count.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import simplefix
from eod_workers.fix.dictionary import dictionary
from eod_workers.fix.frames import FrameBuffer, Garbled
from eod_workers.fix.reading import read
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import trade_of
from eod_workers.trades.model import SIDE_BUY

from close.built import built
from close.figures import Row
from close.flow import BEGAN_NS, FIRST_SEQ, PARTITIONS, ROWS, TARGET, Flow, make_flow
from close.options import Options
from close.servers import Servers

READ_BYTES = 64 * 1024
KNOWN = dictionary(b"FIX.4.4")
DATES = TradeDates()
"""As a connection has them: once the pure code has asked for a day, the kernel knows it."""
_SIMPLEFIX_READ_BYTES = 4_096  # it copies its buffer for every message
_SIMPLEFIX_TRADES = 20_000
_E8 = 10**8
Found = TypeVar("Found")
Answer = tuple[int, int]
"""Trades, and the sum of their signed quantities in 1e-8."""


def pure(wire: bytes) -> list[bytes]:
    """Ours in Python, to the bytes of the records."""
    buffer, rows, values = FrameBuffer(), [], []
    number = FIRST_SEQ
    for start in range(0, len(wire), READ_BYTES):
        for item in buffer.feed(wire[start : start + READ_BYTES]):
            if isinstance(item, Garbled):
                break  # the answer will be wrong
            trade = trade_of(
                read(item, KNOWN), item, session="S", epoch=1, msg_seq_num=number, received_at_ns=0, dates=DATES
            )
            if trade is None:
                break
            number += 1
            rows.append(trade)
            if len(rows) == ROWS:
                values.append(encode_trades(rows))
                rows = []
    if rows:
        values.append(encode_trades(rows))
    return values


def kernel_reader() -> Callable[[bytes], list[bytes]] | None:
    """Ours in C, if it is built: the same bytes, to the bytes of the records."""
    if find_spec("eod_workers.ingestion.plain_kernel") is None:
        return None
    from eod_workers import kernel  # noqa: PLC0415 - it may not be there

    if not kernel.available():
        return None
    from eod_workers.ingestion.plain_kernel import take_plain  # noqa: PLC0415 - the same
    from eod_workers.trades.columns_kernel import TradeColumns  # noqa: PLC0415 - the same

    DATES.of(BEGAN_NS)

    def read(wire: bytes) -> list[bytes]:
        columns, values, rest, expected = TradeColumns(PARTITIONS), [], b"", FIRST_SEQ
        names = {"begin_string": b"FIX.4.4", "sender": b"BROKER1", "target": TARGET.encode(), "session": "S"}
        for start in range(0, len(wire), READ_BYTES):
            data = rest + wire[start : start + READ_BYTES]
            position, taken = take_plain(
                data, 0, columns, **names, epoch=1, expected=expected, received_at_ns=0, dates=DATES
            )
            expected += taken
            rest = data[position:]
            if columns.rows >= PARTITIONS * ROWS:
                values += [value for _, _, value in columns.drain()]
        values += [value for _, _, value in columns.drain()]
        return values

    return read


def answer_of(values: list[bytes]) -> Answer:
    """What is in the records that were made."""
    trades = [trade for value in values for trade in decode_trades(value)]
    return len(trades), sum(trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8 for trade in trades)


def simplefix_fields(wire: bytes) -> Answer:
    """Frames to messages with the same fields read; simplefix checks neither checksum nor fields."""
    parser = simplefix.FixParser()
    count = total = 0
    for start in range(0, len(wire), _SIMPLEFIX_READ_BYTES):
        parser.append_buffer(wire[start : start + _SIMPLEFIX_READ_BYTES])
        while (message := parser.get_message()) is not None:
            for tag in (17, 55, 31, 60, 448, 150, 6061, 1):
                message.get(tag)
            count += 1
            total += int(message.get(32)) * _E8 * (1 if message.get(54) == b"1" else -1)
    return count, total


def timed(
    work: Callable[[bytes], Found], judge: Callable[[Found], Answer], wire: bytes, expected: Answer, runs: int
) -> list[float]:
    """Frames a second of CPU time, of each run after one that warms up. Judging what was found is not part of it.

    Raises:
        RuntimeError: the answer is wrong.
    """
    rates = []
    for number in range(runs + 1):
        before = time.process_time()
        found = work(wire)
        took_s = time.process_time() - before
        if (answer := judge(found)) != expected:
            raise RuntimeError(f"no time is worth reporting: {answer} was found, not {expected}")
        if number:
            rates.append(expected[0] / took_s)
    return rates


def quickfixj(wire: bytes, folder: Path, expected: Answer, runs: int) -> list[float]:
    """The same of QuickFIX/J, behind three passes for its compiler.

    Raises:
        RuntimeError: the answer is wrong.
    """
    file = folder / "frames"
    file.write_bytes(wire)
    peers = built()
    done = subprocess.run(  # noqa: S603 - our own program
        peers.command("Parse", (file, 3, runs)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"QuickFIX/J ended with {done.returncode}: {done.stderr[-2_000:]}")
    rates = []
    for line in done.stdout.splitlines():
        trades, total, took_ns = map(int, line.split())
        if (trades, total) != expected:
            raise RuntimeError(f"no time is worth reporting: QuickFIX/J found {(trades, total)}, not {expected}")
        rates.append(trades / took_ns * 1e9)
    return rates


def _wire(flow: Flow) -> tuple[bytes, Answer]:
    return b"".join(raw for _, _, raw in flow.executions()), (len(flow), int(flow.quantity_e8.sum()))


def measure(_made: Servers, folder: Path, options: Options) -> list[Row]:
    """Ours in C if it is built, ours in Python, and the peers."""
    shape = replace(options.shape, sessions=1)
    wire, expected = _wire(make_flow("F", options.trades, shape))
    small_wire, small = _wire(make_flow("F", min(options.trades, _SIMPLEFIX_TRADES), shape))
    java = quickfixj(wire, folder, expected, options.runs)
    note = (
        f"{len(wire) / len(make_flow('F', options.trades, shape)):.0f}-byte frames; ours ends with encoded batches, "
        "QuickFIX/J with a message object of the fields read"
    )
    rows = []
    fast = kernel_reader()
    if fast is not None:
        ours = timed(fast, answer_of, wire, expected, options.runs)
        rows.append(
            Row("fix", "frames to batches, C; QuickFIX/J", "frames/s/core", ours, java, options.bars["fix"], note=note)
        )
    ours = timed(pure, answer_of, small_wire, small, options.runs)
    bar = options.bars["fallback"]
    rows += [
        Row("fix", "frames to batches, Python; QuickFIX/J", "frames/s/core", ours, java, bar, note=note),
        Row(
            "fix",
            "frames to batches, Python; simplefix",
            "frames/s/core",
            ours,
            timed(simplefix_fields, tuple, small_wire, small, options.runs),
            note="simplefix reads fields and checks nothing",
        ),
    ]
    return rows
