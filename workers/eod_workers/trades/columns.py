"""Trades of all partitions between two cuts of a writer: collected one by one, taken out as records.

`make_columns` gives the kernel's `TradeColumns` where the kernel is used, and the one of this module elsewhere. Both
cut in the same places and keep the same order; their bytes may differ, what `decode_trades` makes of them does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from eod_workers import kernel
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of

MAX_TRADES_A_RECORD = 500
MAX_FRAME_BYTES_A_RECORD = 512 * 1024
"""Beyond this a record is closed and the next one begun: brokers refuse large records, and a backlog has any size."""


class Columns(Protocol):
    """What a writer needs of either."""

    @property
    def rows(self) -> int:
        """Trades since the last drain."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of their frames."""

    def add(self, trade: Trade) -> None:
        """Adds a trade to the partition of its symbol.

        Raises:
            ValueError: it was redriven, which a record says as a whole; it does not come from a session.
        """

    def drain(self) -> list[tuple[int, int, bytes]]:
        """All trades as (partition, rows, `TradeBatch`), in order within a partition; none are left."""


def make_columns(partitions: int, apart: Iterable[str] = ()) -> Columns:
    """Columns for a topic of so many partitions, the kernel's if it is used.

    Reports of the symbols in `apart` are read by the pure code: more is known of them than they say.
    """
    if kernel.available():
        from eod_workers.trades.columns_kernel import TradeColumns as InC  # noqa: PLC0415 - it is loaded when used

        return InC(partitions, apart)
    return TradeColumns(partitions)


def slices(sizes: list[int]) -> Iterator[slice]:
    """Runs of frames of these sizes that each fit a record; a frame has at most that.

    A size of 0 is a trade that shares the frame of the one before it, so it stays with that one.
    """
    begin = total = 0
    for end, size in enumerate(sizes):
        pair = size and sizes[end + 1 : end + 2] == [0]
        full = end - begin == MAX_TRADES_A_RECORD or (pair and end - begin == MAX_TRADES_A_RECORD - 1)
        if full or (end > begin and total + size > MAX_FRAME_BYTES_A_RECORD):
            yield slice(begin, end)
            begin, total = end, 0
        total += size
    if begin < len(sizes):
        yield slice(begin, len(sizes))


class TradeColumns:
    """The pure one: a list a partition, made into columns when it is drained."""

    def __init__(self, partitions: int) -> None:
        if partitions < 1:
            raise ValueError(f"{partitions} partitions: a topic has at least one")
        self.partitions = partitions
        self.rows = 0
        self.frame_bytes = 0
        self._trades: dict[int, list[Trade]] = {}

    def add(self, trade: Trade) -> None:
        """See `Columns`."""
        if trade.redrive_of:
            raise ValueError(
                f"ExecID {trade.exec_id} was redriven from {trade.redrive_of}: it does not come from a session"
            )
        self._trades.setdefault(partition_of(trade.symbol, self.partitions), []).append(trade)
        self.rows += 1
        self.frame_bytes += len(trade.frame)

    def drain(self) -> list[tuple[int, int, bytes]]:
        """See `Columns`."""
        taken, self._trades = self._trades, {}
        self.rows = self.frame_bytes = 0
        return [
            (partition, part.stop - part.start, encode_trades(trades[part]))
            for partition, trades in sorted(taken.items())
            for part in slices([len(trade.frame) for trade in trades])
        ]
