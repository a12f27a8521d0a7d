"""The published positions against books computed anew, partition by partition, by the one implementation of books.

A partition's book is a function of the log. What the log no longer reaches back to (retention), or was told to leave
out, the rows of the regulatory store stand in for: they are those very trades, in the order of the log, each once.
Hence their sequence numbers, which tell repeats in the log, are not asked: a redriven trade has an old one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eod_workers.pnl.book import PartitionBook
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.published import Key, Published, positions_key, read_position
from eod_workers.pnl.publishing import position_field
from eod_workers.ports import TradeRow
from eod_workers.reconcile.report import Break
from eod_workers.trades.model import UNASSIGNED, Trade

_FROM_STORE = "the regulatory store"


@dataclass(frozen=True, slots=True)
class Expected:
    """A position as it should be published. `mark` is None while there is none."""

    position: Position
    mark: Mark | None
    multiplier_e8: int
    partition: int


def book_of(rows: Iterable[TradeRow]) -> PartitionBook:
    """The book of the trades that a partition's rows say, in the order of the log."""
    book = PartitionBook()
    for row in rows:
        book.apply(_trade(row))
    return book


def _trade(row: TradeRow) -> Trade:
    return Trade(
        session=row.session,
        epoch=row.epoch,
        msg_seq_num=row.msg_seq_num,
        exec_id=row.exec_id,
        exec_ref_id=row.exec_ref_id,
        action=row.action,
        side=row.side,
        symbol=row.symbol,
        trader=row.trader,
        strategy=row.strategy,
        account=row.account,
        last_qty_e8=row.last_qty_e8,
        last_px_e8=row.last_px_e8,
        transact_time_ns=row.transact_time_ns,
        received_at_ns=0,
        frame=b"",
        redrive_of=_FROM_STORE,
        trade_date=row.trade_date,
        time_source=row.time_source,
        multiplier_e8=row.multiplier_e8,
    )


def expected_of(book: PartitionBook, partition: int) -> dict[Key, Expected]:
    """What a book should have published."""
    return {
        (trader or UNASSIGNED, symbol): Expected(position, book.mark(symbol), book.multiplier_e8(symbol), partition)
        for (trader, symbol), position in book.positions()
    }


def compare(
    expected: Mapping[Key, Expected], found: Mapping[Key, bytes], *, marked: frozenset[int]
) -> Iterator[tuple[Key, Break]]:
    """Every position that is not as it should be, in the order of traders and symbols.

    Args:
        expected: as the books have it.
        found: as the store has it.
        marked: partitions whose prices are known from the first to the last. The positions of others are valued at
            the mark that was published with them, which leaves only the arithmetic to be checked.
    """
    for key in sorted(expected.keys() | found.keys()):
        trader, symbol = key
        where, about = positions_key(trader), f"{trader} {symbol}"
        value, wanted = found.get(key), expected.get(key)
        if wanted is None:
            yield key, Break("positions", "extra", where, about, _say(value), "no position: no trade made it")
        elif value is None:
            yield key, Break("positions", "missing", where, about, "nothing is published", _quantity(wanted))
        else:
            odd = _differences(wanted, value, own_mark=wanted.partition in marked)
            if odd:
                is_, should = zip(*odd, strict=True)
                yield key, Break("positions", "different", where, about, ", ".join(is_), ", ".join(should))


def _differences(wanted: Expected, value: bytes, *, own_mark: bool) -> list[tuple[str, str]]:
    """(what is, what should be) of each field that differs."""
    try:
        mark = wanted.mark if own_mark else _mark_of(read_position(value))
        found: dict[str, Any] = json.loads(value)
        right: dict[str, Any] = json.loads(position_field(wanted.position, mark, wanted.multiplier_e8))
        names = sorted(right.keys() | found.keys(), key=lambda name: (*right, name).index(name))
    except (ValueError, AttributeError):
        return [(_say(value), "a position as JSON")]
    return [
        (f"{name} is {found.get(name)}", f"{right.get(name)}")
        for name in names
        if name not in found or name not in right or found[name] != right[name]
    ]


def _mark_of(found: Published) -> Mark | None:
    if found.mark_e8 is None or found.mark_source is None:
        return None
    return Mark(found.mark_source, found.mark_e8, 0, 0)


def _say(value: bytes | None) -> str:
    text = (value or b"").decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - a line


def _quantity(wanted: Expected) -> str:
    told = json.loads(position_field(wanted.position, None, wanted.multiplier_e8))
    return f"quantity {told['quantity']}, realized {told['realized']}, of {wanted.position.trades} trades"
