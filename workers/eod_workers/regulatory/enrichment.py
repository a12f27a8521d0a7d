"""What reference data adds to a trade. A name it does not know becomes an exception, never a silent blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import itemgetter

from eod_workers.ports import ExceptionRow, Record, TradeRow
from eod_workers.trades.codec import TradeRows
from eod_workers.trades.model import Identity, Trade
from eod_workers.trades.reference import ReferenceData


def enrich(trade: Trade, reference: ReferenceData, record: Record) -> tuple[TradeRow, list[ExceptionRow]]:
    """The row of a trade and an exception for each name that reference data does not know."""
    trader = reference.traders.get(trade.trader)
    strategy = reference.strategies.get(trade.strategy)
    isin = reference.securities.get(trade.symbol)
    row = TradeRow(
        *trade.identity,
        trade.epoch,
        trade.msg_seq_num,
        trade.action,
        trade.exec_ref_id,
        trade.symbol,
        trade.side,
        trade.last_qty_e8,
        trade.last_px_e8,
        trade.transact_time_ns,
        trade.time_source,
        trade.multiplier_e8,
        trade.trader,
        trade.strategy,
        trade.account,
        trader[0] if trader else "",
        trader[1] if trader else "",
        strategy or "",
        isin or "",
        record.topic,
        record.partition,
        record.offset,
    )
    found = {"trader": trader, "strategy": strategy, "security": isin}
    values = {"trader": trade.trader, "strategy": trade.strategy, "security": trade.symbol}
    unknown = [unresolved(trade.identity, name, values[name]) for name, one in found.items() if one is None]
    return row, unknown


def unresolved(identity: Identity, name: str, value: str) -> ExceptionRow:
    """The exception about a name (trader, strategy or security) that reference data does not know."""
    said = f"{name} {value!r} is not in the reference data" if value else f"the report names no {name}"
    detail = f"{said}: add it, or have the counterparty correct it, then review this trade"
    return ExceptionRow(*identity, name, value, detail)


_NOBODY = ("", "")


def enrich_all(
    trades: TradeRows, reference: ReferenceData, record: Record
) -> tuple[list[TradeRow], list[ExceptionRow]]:
    """What `enrich` makes of each trade of a record, with names looked up by the record.

    Raises:
        UndecodableBatch: see `TradeRows.named`.
    """
    batch, strings, count = trades.columns, trades.strings, len(trades)
    strategies = [reference.strategies.get(name, "") for name in strings]
    isins = [reference.securities.get(name, "") for name in strings]
    traders = trades.named(batch.trader)
    people = [reference.traders.get(name, _NOBODY) for name in traders]
    rows = list(
        map(
            TradeRow._make,
            zip(
                trades.named(batch.session),
                trades.trade_dates,
                batch.exec_id,
                batch.epoch,
                batch.msg_seq_num,
                batch.action,
                trades.exec_ref_ids,
                trades.named(batch.symbol),
                batch.side,
                batch.last_qty_e8,
                batch.last_px_e8,
                batch.transact_time_ns,
                trades.time_sources,
                trades.multipliers_e8,
                traders,
                trades.named(batch.strategy),
                trades.named(batch.account),
                (name for name, _ in people),
                (desk for _, desk in people),
                map(strategies.__getitem__, batch.strategy),
                map(isins.__getitem__, batch.symbol),
                repeat(record.topic, count),
                repeat(record.partition, count),
                repeat(record.offset, count),
                strict=True,
            ),
        )
    )
    return rows, _all_unresolved(trades, reference)


def _all_unresolved(trades: TradeRows, reference: ReferenceData) -> list[ExceptionRow]:
    batch, strings = trades.columns, trades.strings
    kinds: tuple[tuple[str, Mapping[str, object], Sequence[int]], ...] = (
        ("trader", reference.traders, batch.trader),
        ("strategy", reference.strategies, batch.strategy),
        ("security", reference.securities, batch.symbol),
    )
    found: list[tuple[int, str, str]] = []
    for kind, known, column in kinds:
        strange = {number for number, name in enumerate(strings) if name not in known}
        if not strange.isdisjoint(column):
            found += [(row, kind, strings[number]) for row, number in enumerate(column) if number in strange]
    found.sort(key=itemgetter(0))  # stable: within a trade in the order of the kinds
    sessions, dates, exec_ids = batch.session, trades.trade_dates, batch.exec_id
    return [unresolved((strings[sessions[row]], dates[row], exec_ids[row]), kind, name) for row, kind, name in found]
