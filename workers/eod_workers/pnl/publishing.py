"""When a trader's P&L is told to the world, and in which words.

Updates are coalesced: at most one message per trader and interval, and always one after the last change, so that the
last message equals the book. The words are JSON, with every quantity, price and amount as exact decimal text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

from eod_workers.pnl.marks import SOURCES, Mark
from eod_workers.pnl.positions import Position
from eod_workers.trades.contracts import money_e16
from eod_workers.trades.numbers import E8, format_e8

RECEIPTS: Final = 4096
"""Receive times kept of one trader between two publications, oldest first: the limit may overstate latency only."""

_E16: Final = 10**16
_APPROXIMATE: Final = ',"approximate":true'


class Due(NamedTuple):
    """A trader to publish now: its changed symbols, and when the trades behind the changes were received."""

    trader: str
    symbols: set[str]
    received_at_ns: list[int]


class Coalescer:
    """Decides when to publish which trader. Times are monotonic seconds given by the caller.

    A publication that failed is announced again as a change; it is then due an interval later. The only memory of
    traders without changes is the time of their last publication.

    Args:
        interval_s: the least time between two publications of one trader.
    """

    __slots__ = ("_interval_s", "_published", "_queue", "_waiting")

    def __init__(self, interval_s: float = 0.1) -> None:
        self._interval_s = interval_s
        self._published: dict[str, float] = {}
        self._waiting: dict[str, Due] = {}
        # (due time, trader) of each waiting trader, as a heap.
        self._queue: list[tuple[float, str]] = []

    def changed(self, trader: str, symbol: str, received_at_ns: int | None, now: float) -> None:
        """Notes a change of the book; `received_at_ns` is None when no trade caused it."""
        waiting = self._waiting.get(trader)
        if waiting is None:
            waiting = self._waiting[trader] = Due(trader, set(), [])
            last = self._published.get(trader)
            heappush(self._queue, (now if last is None else max(now, last + self._interval_s), trader))
        waiting.symbols.add(symbol)
        if received_at_ns is not None and len(waiting.received_at_ns) < RECEIPTS:
            waiting.received_at_ns.append(received_at_ns)

    def due(self, now: float, limit: int | None = None) -> list[Due]:
        """Hands over the traders to publish now, longest due first; they count as published at `now`.

        `inf` hands over everybody, for whoever gives the partition up. They count as published when they would have
        been due, or else they would never be due again. With a limit the others stay due.
        """
        ready: list[Due] = []
        while self._queue and self._queue[0][0] <= now and len(ready) != limit:
            due_at, trader = heappop(self._queue)
            self._published[trader] = due_at if now == inf else now
            ready.append(self._waiting.pop(trader))
        return ready

    def next_due(self) -> float | None:
        """When `due` will next have something; None when every change has been handed over."""
        return self._queue[0][0] if self._queue else None


def format_e16(value: int) -> str:
    """1e-16 units (money) as exact decimal text without trailing zeros."""
    whole, part = divmod(abs(value), _E16)
    text = f"{whole}.{part:016d}".rstrip("0") if part else str(whole)
    return f"-{text}" if value < 0 else text


def position_field(position: Position, mark: Mark | None, multiplier_e8: int = 0) -> bytes:
    """A position as JSON, as it stands in the hash `positions:{trader}` under its symbol.

    `average_price` is null when flat; `mark` and `mark_source` are null without a mark, and then `unrealized` and
    `total` too unless the position is flat. `approximate` is there, and true, if its average and realized P&L depend on
    a trade that was taken back (see `pnl.book`). `multiplier` is there if it is not 1: amounts are so many times
    quantity and price, in the currency that the symbol tells (see `trades.contracts`).
    """
    average = position.average_price_e8
    average_price = "null" if average is None else f'"{format_e8(average)}"'
    px, source = ("null", "null") if mark is None else (f'"{format_e8(mark.px_e8)}"', f'"{SOURCES[mark.source]}"')
    gain = position.unrealized_e16(None if mark is None else mark.px_e8)
    cost, realized = position.cost_e16, position.realized_e16
    multiplier = ""
    if multiplier_e8 not in {0, E8}:
        cost, realized = money_e16(cost, multiplier_e8), money_e16(realized, multiplier_e8)
        gain = None if gain is None else money_e16(gain, multiplier_e8)
        multiplier = f',"multiplier":"{format_e8(multiplier_e8)}"'
    unrealized, total = (
        ("null", "null") if gain is None else (f'"{format_e16(gain)}"', f'"{format_e16(realized + gain)}"')
    )
    return (
        f'{{"quantity":"{format_e8(position.quantity_e8)}","average_price":{average_price},'
        f'"cost":"{format_e16(cost)}","realized":"{format_e16(realized)}",'
        f'"unrealized":{unrealized},"total":{total},'
        f'"mark":{px},"mark_source":{source},"trades":{position.trades}'
        f"{multiplier}{_APPROXIMATE if position.approximate else ''}}}"
    ).encode()


def update_message(trader: str, partition: int, fields: Mapping[str, bytes], as_of_ns: int) -> bytes:
    """A message for the channel `pnl-updates:{trader}`: the positions of one partition that changed.

    Args:
        trader: whose positions they are; "" while unassigned.
        partition: the partition of `trades.raw` that they come from.
        fields: symbol → its `position_field`.
        as_of_ns: wall clock at which the book was read.
    """
    positions = b",".join(json.dumps(symbol).encode() + b":" + payload for symbol, payload in fields.items())
    head = f'{{"trader":{json.dumps(trader)},"partition":{partition},"as_of_ns":{as_of_ns},"positions":{{'
    return head.encode() + positions + b"}}"
