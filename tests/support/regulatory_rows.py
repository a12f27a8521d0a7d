"""Rows for the tests of the regulatory store."""

from __future__ import annotations

from eod_workers.ports import ExceptionRow, TradeRow

TOPIC = "trades.raw"


def trade(number: int, partition: int = 0, session: str = "SENDER-EOD") -> TradeRow:
    """Return the row of the trade at offset `number` of a partition; all of its fields follow from the arguments."""
    return TradeRow(
        session=session,
        trade_date=20260105,
        exec_id=f"E{partition}-{number}",
        epoch=1,
        msg_seq_num=number + 1,
        action=0,
        exec_ref_id="",
        symbol="AAPL",
        side=1 + number % 2,
        last_qty_e8=(number + 1) * 100_000_000,
        last_px_e8=19_012_345_678 + number,
        transact_time_ns=1_767_646_800_000_000_000 + number,
        time_source=number % 2,
        multiplier_e8=number % 3 * 5_000_000_000,
        trader="T1",
        strategy="S1",
        account="ACC",
        trader_name="Ada",
        desk="Equities",
        strategy_name="Close",
        isin="US0378331005",
        topic=TOPIC,
        partition=partition,
        offset=number,
    )


def unresolved(number: int, field: str = "trader") -> ExceptionRow:
    """Return the exception for a reference of the trade `number` that nobody knows."""
    return ExceptionRow("SENDER-EOD", 20260105, f"E0-{number}", field, f"T{number}?", "not in the reference data")
