"""A partition's book as bytes, together with the offsets at which reading goes on.

Book and offsets travel in one value, so that a worker which loads it and replays the log from there counts each
trade once, whoever wrote it and whenever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

from eod_workers.layouts import PNL_SNAPSHOT, UndecodableBatch
from eod_workers.pnl.book import REMEMBER, PartitionBook, Remembered
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.protos import storage_pb2
from eod_workers.trades.model import Identity


class ReadTo(NamedTuple):
    """How far a topic was read.

    Attributes:
        offset: the one after the last record that was applied.
        topic_id: of the topic that it is an offset of; "" if it is not known.
        remakes: how often the topic was deleted and made anew since the book began.
    """

    offset: int
    topic_id: str = ""
    remakes: int = 0


class SnapshotRefused(Exception):
    """The bytes are no snapshot that this release can read; loading them would invent positions."""


def dump(book: PartitionBook, partition: int, read: Mapping[str, ReadTo]) -> bytes:
    """The snapshot of a book; `read` is by topic."""
    snapshot = storage_pb2.PnlSnapshot(version=PNL_SNAPSHOT.version, partition=partition)
    for topic, to in read.items():
        snapshot.next_offset.add(topic=topic, **to._asdict())
    incomplete = book.incomplete()
    for (trader, symbol), position in book.positions():
        snapshot.positions.add(
            trader=trader,
            symbol=symbol,
            quantity_e8=str(position.quantity_e8),
            cost_e16=str(position.cost_e16),
            realized_e16=str(position.realized_e16),
            trades=position.trades,
            approximate=position.approximate,
            incomplete=(trader, symbol) in incomplete,
        )
    for symbol, mark in book.marks().items():
        snapshot.marks.add(
            symbol=symbol,
            source=mark.source,
            px_e8=mark.px_e8,
            event_time_ns=mark.event_time_ns,
            session_date=mark.session_date,
        )
    for symbol, multiplier_e8 in book.multipliers().items():
        snapshot.multipliers.add(symbol=symbol, multiplier_e8=multiplier_e8)
    for session, epochs in book.forgotten().items():
        for epoch, msg_seq_num in epochs.items():
            snapshot.forgotten.add(session=session, epoch=epoch, msg_seq_num=msg_seq_num)
    _dump_remembered(book, snapshot)
    return snapshot.SerializeToString()


def _dump_remembered(book: PartitionBook, snapshot: storage_pb2.PnlSnapshot) -> None:
    """Column by column: a message for each of hundreds of thousands of trades would hold up the event loop."""
    identities, trades = zip(*book.remembered(), strict=True) if book.remembers else ((), ())
    if not identities:
        return
    sessions, dates, exec_ids = zip(*identities, strict=True)
    traders, symbols, quantities, prices, replaced, epochs, numbers = zip(*trades, strict=True)
    table: dict[str, int] = {"": 0}
    index = table.setdefault
    snapshot.remembered_session.extend([index(name, len(table)) for name in sessions])
    snapshot.remembered_exec_id.extend(exec_ids)
    snapshot.remembered_trader.extend([index(name, len(table)) for name in traders])
    snapshot.remembered_symbol.extend([index(name, len(table)) for name in symbols])
    snapshot.remembered_quantity_e8.extend(quantities)
    snapshot.remembered_px_e8.extend(prices)
    snapshot.remembered_epoch.extend(epochs)
    snapshot.remembered_msg_seq_num.extend(numbers)
    snapshot.remembered_trade_date.extend(dates)
    for row, correction in enumerate(replaced):
        if correction:
            snapshot.replaced_by.add(row=row, trade_date=correction[0], exec_id=correction[1])
    snapshot.strings.extend(table)


def _load_remembered(snapshot: storage_pb2.PnlSnapshot) -> Iterator[tuple[Identity, Remembered]]:
    name = list(snapshot.strings).__getitem__
    replaced: list[tuple[int, str] | None] = [None] * len(snapshot.remembered_exec_id)
    for one in snapshot.replaced_by:
        if one.exec_id:
            replaced[one.row] = (one.trade_date, one.exec_id)
    return zip(
        zip(
            map(name, snapshot.remembered_session),
            snapshot.remembered_trade_date or repeat(0, len(replaced)),
            snapshot.remembered_exec_id,
            strict=True,
        ),
        zip(
            map(name, snapshot.remembered_trader),
            map(name, snapshot.remembered_symbol),
            snapshot.remembered_quantity_e8,
            snapshot.remembered_px_e8,
            replaced,
            snapshot.remembered_epoch or repeat(0, len(replaced)),
            snapshot.remembered_msg_seq_num or repeat(0, len(replaced)),
            strict=True,
        ),
        strict=True,
    )


def _load_forgotten(snapshot: storage_pb2.PnlSnapshot) -> dict[str, dict[int, int]]:
    forgotten: dict[str, dict[int, int]] = {}
    for row in snapshot.forgotten:
        forgotten.setdefault(row.session, {})[row.epoch] = row.msg_seq_num
    return forgotten


def load(data: bytes, remember: int = REMEMBER) -> tuple[PartitionBook, dict[str, ReadTo]]:
    """The book of a snapshot, and how far its topics were read. The book goes on exactly as the dumped one would.

    Args:
        data: what `dump` gave.
        remember: the limit of the book; when the snapshot has more trades, the oldest are forgotten.

    Raises:
        SnapshotRefused: the bytes do not parse, or are of a version that this release does not know.
    """
    try:
        snapshot = PNL_SNAPSHOT.parse(data)
    except UndecodableBatch as error:
        raise SnapshotRefused(f"{len(data)} bytes: {error}; delete the snapshot to replay the log") from error
    # An earlier release did not say what was forgotten of a position, nor made any anew.
    unknown = bool(snapshot.remembered_exec_id) and not snapshot.remembered_trade_date
    book = PartitionBook.restore(
        positions=(
            (
                (row.trader, row.symbol),
                Position(int(row.quantity_e8), int(row.cost_e16), int(row.realized_e16), row.trades, row.approximate),
            )
            for row in snapshot.positions
        ),
        incomplete=frozenset((row.trader, row.symbol) for row in snapshot.positions if row.incomplete or unknown),
        marks={row.symbol: Mark(row.source, row.px_e8, row.event_time_ns, row.session_date) for row in snapshot.marks},
        multipliers={row.symbol: row.multiplier_e8 for row in snapshot.multipliers},
        forgotten=_load_forgotten(snapshot),
        remembered=_load_remembered(snapshot),
        remember=remember,
    )
    return book, {row.topic: ReadTo(row.offset, row.topic_id, row.remakes) for row in snapshot.next_offset}
