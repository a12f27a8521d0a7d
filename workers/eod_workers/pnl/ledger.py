"""All books of one worker behind a few calls a batch, so that the books may be C (`ledger_kernel`) or Python (here).

The stage hands over the bytes of a record and gets numbers back; what is to be published comes as bytes too. Only a row
that is refused becomes a `Trade`. `PureLedger` owns the meaning: it is made of the classes that say what a book, a mark
and a turn are. Tests hold the kernel against it, call by call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from eod_workers import kernel
from eod_workers.pnl.book import REMEMBER, Key, Outcome, PartitionBook, Result
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.publishing import Coalescer, Due, position_field, update_message
from eod_workers.pnl.snapshot import ReadTo, dump, load
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.model import UNASSIGNED, Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import decode_prices

EVERYBODY: Final = 2**31 - 1
"""A limit of `due` that limits nothing."""


class Applied(NamedTuple):
    """What became of the rows of a batch. `refused` are those for the dead letters, each with the reason."""

    rows: int
    duplicates: int
    refused: list[tuple[Trade, Result]]


class Part(NamedTuple):
    """The changed positions of a trader in one partition: symbol → `publishing.position_field`, and the message.

    `message` is `publishing.update_message` of the fields; the order of the symbols is free, as in any JSON object.
    """

    partition: int
    fields: dict[str, bytes]
    message: bytes


class Publication(NamedTuple):
    """What one trader is told at once, and when the trades behind it were received.

    `parts` is empty when the partitions of all that had changed were given up in the meantime.
    """

    trader: str
    parts: list[Part]
    received_at_ns: Sequence[int]


class Value(NamedTuple):
    """What all positions of one symbol in one partition come to, flat ones included. `short_e8` is negative or 0.

    Amounts are quantity times price, before the multiplier.
    """

    positions: int
    long_e8: int
    short_e8: int
    cost_e16: int
    realized_e16: int

    def unrealized_e16(self, mark_px_e8: int) -> int:
        """What closing all of them at the mark would add to `realized_e16`."""
        return (self.long_e8 + self.short_e8) * mark_px_e8 - self.cost_e16


class Ledger(Protocol):
    """Books by partition, and whose turn it is to be published. Times are monotonic seconds given by the caller.

    Not for several threads: a call that comes while another one runs may raise RuntimeError.
    """

    def open(self, partition: int, snapshot: bytes | None, now: float) -> dict[str, ReadTo]:
        """Begins a partition, anew if it is there; how far its topics were read. All of it is due to be published.

        Raises:
            SnapshotRefused: this release cannot read the snapshot; the partition is then not open.
        """

    def close(self, partition: int) -> None:
        """Forgets a partition, if it is there. What had changed in it is published no more."""

    def owns(self, partition: int) -> bool:
        """Whether the partition is open."""

    def dump(self, partition: int, read: Mapping[str, ReadTo]) -> bytes:
        """The partition as a snapshot; `read` is by topic.

        Raises:
            KeyError: it is not open.
        """

    def apply_trades(self, partition: int, value: bytes, now: float) -> Applied:
        """Applies the value of a record of `trades.raw`.

        Raises:
            UndecodableBatch: as `decode_trades` does; nothing was applied.
            KeyError: the partition is not open.
        """

    def apply_prices(self, partition: int, value: bytes, now: float) -> None:
        """Applies the value of a record of `prices.updates`.

        Raises:
            UndecodableBatch: as `decode_prices` does; nothing was applied.
            KeyError: the partition is not open.
        """

    def due(self, now: float, *, as_of_ns: int, partitions: int, limit: int = EVERYBODY) -> list[Publication]:
        """The traders to publish now, longest due first; they count as published.

        Infinity hands over everybody (see `Coalescer.due`). Of a symbol that trades have come for in several
        partitions, the one that the partitioner names counts.

        Args:
            now: those due until then.
            as_of_ns: wall clock, for the messages.
            partitions: how many partitions the log has.
            limit: ends with the trader with whom so many positions are reached, each counting for one at least. The
                other traders stay due.
        """

    def next_due(self) -> float | None:
        """When `due` will next have something; None when every change has been handed over."""

    def announce_again(self, publications: Sequence[Publication], now: float) -> None:
        """Takes publications back that did not succeed. Of their receive times the earliest is kept."""

    def lateness(
        self, publications: Sequence[Publication], published_at_ns: int, bounds_ns: Sequence[int]
    ) -> tuple[list[int], int]:
        """How many trades were published within each bound (rising) and beyond the last, and the sum of all times."""

    def applied_lateness(self, applied_at_ns: int, bounds_ns: Sequence[int]) -> tuple[list[int], int]:
        """The same of the rows of the batch that `apply_trades` has read last, before any other call."""

    @property
    def size(self) -> int:
        """How many positions there are, flat ones included."""

    def remembers(self, partition: int) -> int:
        """How many trades of the partition are remembered."""

    def walked(self, partition: int) -> int:
        """How many remembered trades were looked at for busts and corrections: see `PartitionBook`."""

    def positions(self, partition: int) -> Iterator[tuple[Key, Position]]:
        """The positions of a partition, flat ones included, oldest first. Not to be changed."""

    def mark(self, partition: int, symbol: str) -> Mark | None:
        """The mark that values the symbol in the partition."""

    def multiplier_e8(self, partition: int, symbol: str) -> int:
        """How many times quantity times price its money is, in 1e-8; 0 while no trade has said it."""

    def value(self, partition: int, symbol: str) -> Value:
        """What all positions of the symbol in the partition come to."""


def make_ledger(interval_s: float, remember: int = REMEMBER) -> Ledger:
    """The ledger in C where it is built and not turned off, else the one in Python.

    Args:
        interval_s: the least time between two publications of one trader.
        remember: how many trades of each partition are remembered.

    Raises:
        ValueError: `remember` is less than 1.
    """
    if not kernel.available():
        return PureLedger(interval_s, remember)
    from eod_workers.pnl.ledger_kernel import Ledger as InC  # noqa: PLC0415 - it may not be built

    return InC(interval_s, remember)


class PureLedger:
    """Books and turns in Python. The contract is that of `Ledger`."""

    def __init__(self, interval_s: float, remember: int = REMEMBER) -> None:
        """No partition is open."""
        PartitionBook(remember)  # refuses what no book could be made with later
        self._remember = remember
        self._books: dict[int, PartitionBook] = {}
        self._coalescer = Coalescer(interval_s)
        self._received_at_ns: list[int] = []

    def open(self, partition: int, snapshot: bytes | None, now: float) -> dict[str, ReadTo]:
        """See `Ledger`."""
        self._books.pop(partition, None)
        book, read = (PartitionBook(self._remember), {}) if snapshot is None else load(snapshot, self._remember)
        self._books[partition] = book
        for (trader, symbol), _ in book.positions():
            self._coalescer.changed(trader, symbol, None, now)
        return read

    def close(self, partition: int) -> None:
        """See `Ledger`."""
        self._books.pop(partition, None)

    def owns(self, partition: int) -> bool:
        """See `Ledger`."""
        return partition in self._books

    def dump(self, partition: int, read: Mapping[str, ReadTo]) -> bytes:
        """See `Ledger`."""
        return dump(self._books[partition], partition, read)

    def apply_trades(self, partition: int, value: bytes, now: float) -> Applied:
        """See `Ledger`."""
        book = self._books[partition]
        trades = decode_trades(value)
        self._received_at_ns = [trade.received_at_ns for trade in trades]
        refused = []
        duplicates = 0
        for trade in trades:
            result = book.apply(trade)
            for trader, symbol in result.changed:
                self._coalescer.changed(trader, symbol, trade.received_at_ns, now)
            if result.outcome.refused:
                refused.append((trade, result))
            elif result.outcome is not Outcome.APPLIED:
                duplicates += 1
        return Applied(len(trades), duplicates, refused)

    def apply_prices(self, partition: int, value: bytes, now: float) -> None:
        """See `Ledger`."""
        book = self._books[partition]
        for price in decode_prices(value):
            mark = Mark(price.source, price.px_e8, price.event_time_ns, price.session_date)
            for trader, symbol in book.apply_price(price.symbol, mark):
                self._coalescer.changed(trader, symbol, None, now)

    def due(self, now: float, *, as_of_ns: int, partitions: int, limit: int = EVERYBODY) -> list[Publication]:
        """See `Ledger`."""
        publications = []
        while limit > 0 and (due := self._coalescer.due(now, limit=1)):
            publications.append(publication := self._publication(due[0], as_of_ns, partitions))
            limit -= max(sum(len(part.fields) for part in publication.parts), 1)
        return publications

    def _publication(self, due: Due, as_of_ns: int, partitions: int) -> Publication:
        by_partition: dict[int, dict[str, bytes]] = {}
        for symbol in sorted(due.symbols):
            number = partition_of(symbol, partitions)
            book = self._books.get(number)
            position = book.position(due.trader, symbol) if book else None
            if book and position:
                by_partition.setdefault(number, {})[symbol] = position_field(
                    position, book.mark(symbol), book.multiplier_e8(symbol)
                )
        return Publication(
            due.trader,
            [
                Part(number, fields, update_message(due.trader or UNASSIGNED, number, fields, as_of_ns))
                for number, fields in by_partition.items()
            ],
            due.received_at_ns,
        )

    def next_due(self) -> float | None:
        """See `Ledger`."""
        return self._coalescer.next_due()

    def announce_again(self, publications: Sequence[Publication], now: float) -> None:
        """See `Ledger`."""
        for trader, parts, received_at_ns in publications:
            earliest = min(received_at_ns, default=None)
            for part in parts:
                for symbol in part.fields:
                    self._coalescer.changed(trader, symbol, earliest, now)
                    earliest = None

    def lateness(
        self, publications: Sequence[Publication], published_at_ns: int, bounds_ns: Sequence[int]
    ) -> tuple[list[int], int]:
        """See `Ledger`."""
        received_at_ns = (at_ns for publication in publications for at_ns in publication.received_at_ns)
        return _late(received_at_ns, published_at_ns, bounds_ns)

    def applied_lateness(self, applied_at_ns: int, bounds_ns: Sequence[int]) -> tuple[list[int], int]:
        """See `Ledger`."""
        return _late(self._received_at_ns, applied_at_ns, bounds_ns)

    @property
    def size(self) -> int:
        """See `Ledger`."""
        return sum(book.size for book in self._books.values())

    def remembers(self, partition: int) -> int:
        """See `Ledger`."""
        return self._books[partition].remembers

    def walked(self, partition: int) -> int:
        """See `Ledger`."""
        return self._books[partition].walked

    def positions(self, partition: int) -> Iterator[tuple[Key, Position]]:
        """See `Ledger`."""
        return self._books[partition].positions()

    def mark(self, partition: int, symbol: str) -> Mark | None:
        """See `Ledger`."""
        return self._books[partition].mark(symbol)

    def multiplier_e8(self, partition: int, symbol: str) -> int:
        """See `Ledger`."""
        return self._books[partition].multiplier_e8(symbol)

    def value(self, partition: int, symbol: str) -> Value:
        """See `Ledger`."""
        book = self._books[partition]
        held = (book.position(*key) for key in book.holders(symbol))
        return value_of(position for position in held if position is not None)


def _late(received_at_ns: Iterable[int], now_ns: int, bounds_ns: Sequence[int]) -> tuple[list[int], int]:
    counts, total_ns = [0] * (len(bounds_ns) + 1), 0
    for at_ns in received_at_ns:
        counts[bisect_left(bounds_ns, now_ns - at_ns)] += 1
        total_ns += now_ns - at_ns
    return counts, total_ns


def value_of(positions: Iterable[Position]) -> Value:
    """What positions of one symbol come to."""
    count = long_e8 = short_e8 = cost_e16 = realized_e16 = 0
    for position in positions:
        count += 1
        long_e8 += max(position.quantity_e8, 0)
        short_e8 += min(position.quantity_e8, 0)
        cost_e16 += position.cost_e16
        realized_e16 += position.realized_e16
    return Value(count, long_e8, short_e8, cost_e16, realized_e16)
