"""*scaling*: whether a trade costs the same when there are more of them, and what is kept of each.

Trades are sent through the whole path, ours alone: as many as asked for, then twice and four times as many. Memory is
resident memory (VmRSS): of flash P&L with many positions against few after the same trades, and of ingestion while the
broker stands still and nothing that was read can be acknowledged.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from operator_bars.processes import usage

from close import pnl, whole
from close.account import Account
from close.figures import Row
from close.flow import Flow, make_flow
from close.options import Options
from close.sender import write_frames
from close.sending import sender
from close.servers import Servers
from close.worker import frozen, our_ingestion

_TIMES: Final = (1, 2, 4)
_FLAT: Final = 1.2
_MANY_TRADERS: Final = 2_000
_MANY_SYMBOLS: Final = 200
_STANDS_STILL_S: Final = 2.0
_IN_FLIGHT: Final = re.compile(r"^eod_ingestion_in_flight_bytes (\S+)$", re.MULTILINE)


class _Pid:
    def __init__(self, pid: int) -> None:
        self.pid = pid


def _flat(made: Servers, folder: Path, options: Options) -> list[Row]:
    """CPU seconds a million trades at each size."""
    spent: dict[str, list[float]] = {"ingestion": [], "flash-pnl": []}
    with whole.ours(made, pnl.PUBLISHED_EVERY_MS) as route:
        route.run(make_flow("W", options.blast, options.shape), folder)
        for times in _TIMES:
            flow = make_flow(f"S{times}", options.blast * times, options.shape)
            ran = route.run(flow, folder)
            for name, found in spent.items():
                found.append(ran.cpu_s[name] * 1e6 / len(flow))
    sizes = ", ".join(f"{options.blast * times:,}" for times in _TIMES)
    return [
        Row(
            "scaling",
            f"CPU of a trade in {name}: {_TIMES[-1]} times as many trades against once",
            "times",
            [found[-1] / found[0]],
            bar=_FLAT,
            more_is_better=False,
            note=f"CPU seconds a million trades at {sizes}: {', '.join(f'{one:.2f}' for one in found)}",
        )
        for name, found in spent.items()
    ]


def _grown_bytes(made: Servers, flow: Flow) -> tuple[int, int]:
    """What flash P&L's memory grows by with a flow, and how many positions it then has."""
    account = Account()
    with pnl.ours(made) as side:
        before = usage(side.worker.pid).rss_bytes
        pnl.run(made, side, flow, account, epoch=1)
        return usage(side.worker.pid).rss_bytes - before, len(account.positions)


def _of_a_position(made: Servers, options: Options) -> Row:
    few = make_flow("MF", options.trades, options.shape)
    many = make_flow("MM", options.trades, replace(options.shape, traders=_MANY_TRADERS, symbols=_MANY_SYMBOLS))
    small_bytes, few_positions = _grown_bytes(made, few)
    large_bytes, many_positions = _grown_bytes(made, many)
    each = (large_bytes - small_bytes) / (many_positions - few_positions)
    return Row(
        "scaling",
        "memory of a position in flash P&L",
        "bytes",
        [each],
        more_is_better=False,
        note=f"{len(many):,} trades grew it by {small_bytes / 1e6:.0f} MB with {few_positions:,} positions, "
        f"by {large_bytes / 1e6:.0f} MB with {many_positions:,}; what a publication takes while it is made is in it",
    )


def _of_a_waiting_trade(made: Servers, folder: Path, options: Options) -> Row:
    """While the broker is frozen: how much is in flight by ingestion's own count, and how much memory that took."""
    flow = make_flow("MW", options.trades, options.shape)
    frame_bytes = write_frames(flow, folder) / len(flow)
    topic = made.topic("trades-ours")
    with our_ingestion(made, topic) as (stage, port), sender(folder, port) as sending:
        before = usage(stage.pid).rss_bytes
        thread = threading.Thread(target=sending.send)
        with frozen(_Pid(made.pids["kafka"])):
            thread.start()
            waiting, since = 0.0, time.monotonic()
            while time.monotonic() - since < _STANDS_STILL_S:
                time.sleep(0.1)
                found = _IN_FLIGHT.search(stage.metrics())
                if found and float(found[1]) > waiting:
                    waiting, since = float(found[1]), time.monotonic()
            grown = usage(stage.pid).rss_bytes - before
        thread.join()
    made.kafka.delete_topic(topic)
    trades = waiting / frame_bytes
    return Row(
        "scaling",
        "memory of a trade in flight in ingestion",
        "bytes",
        [grown / trades],
        more_is_better=False,
        note=f"{trades:,.0f} trades of {frame_bytes:.0f} bytes waited for the broker and took {grown / 1e6:.0f} MB",
    )


def measure(made: Servers, folder: Path, options: Options) -> list[Row]:
    """All of it."""
    frames = folder / "scaling"
    return [
        *_flat(made, frames, options),
        _of_a_position(made, options),
        _of_a_waiting_trade(made, frames, options),
    ]
