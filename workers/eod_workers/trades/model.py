"""One execution, as every stage sees it."""

from __future__ import annotations

from typing import NamedTuple

from eod_workers.protos.trades_pb2 import (
    ACTION_BUST,
    ACTION_CORRECT,
    ACTION_TRADE,
    SIDE_BUY,
    SIDE_SELL,
    TIME_SOURCE_SENDING_TIME,
    TIME_SOURCE_TRANSACT_TIME,
)

__all__ = [
    "ACTION_BUST",
    "ACTION_CORRECT",
    "ACTION_TRADE",
    "CAPTURED",
    "SIDE_BUY",
    "SIDE_SELL",
    "TIME_SOURCE_SENDING_TIME",
    "TIME_SOURCE_TRANSACT_TIME",
    "UNASSIGNED",
    "Identity",
    "Trade",
]

CAPTURED = "AE:"
"""What the ExecID of a trade begins with that a TradeCaptureReport(AE) has reported."""

UNASSIGNED = "UNASSIGNED"
"""How the trader of a report that names nobody is shown. No trade has a trader of this name."""

Identity = tuple[str, int, str]
"""(session, trade date, ExecID) is a trade: FIX asks for unique ExecIDs within a trading day only."""


class Trade(NamedTuple):
    """An execution, a bust or a correction, taken from one FIX ExecutionReport.

    Attributes:
        session: FIX session that delivered it, "SENDER->TARGET" as the counterparty writes them (see
            `fix.session.name_of`).
        epoch: another with every sequence reset of the session; (session, epoch, msg_seq_num) is the delivery, which
            stays the same when it is sent again, to whichever ingestion.
        msg_seq_num: MsgSeqNum(34).
        exec_id: ExecID(17); (session, trade_date, exec_id) is the trade.
        exec_ref_id: ExecRefID(19) of a bust or a correction, else "".
        action: ACTION_TRADE, ACTION_BUST or ACTION_CORRECT.
        side: SIDE_BUY or SIDE_SELL.
        symbol: the instrument (see `trades.instruments`): Symbol(55) of a share.
        trader: PartyID(448) with PartyRole(452)=12, "" when the report names nobody.
        strategy: the strategy tag's value, "" when absent.
        account: Account(1), "" when absent.
        last_qty_e8: LastQty(32) in 1e-8.
        last_px_e8: LastPx(31) in 1e-8.
        transact_time_ns: TransactTime(60), nanoseconds since the Unix epoch; see `time_source`.
        received_at_ns: when the frame's last byte was read; for latency only.
        frame: the FIX frame as received; b"" on the way to the log where the trade before it has the same one.
        redrive_of: the dead letter it was redriven from, else "".
        trade_date: the trading day as yyyymmdd (see `trades.dates`); 0 in what earlier releases wrote.
        time_source: TIME_SOURCE_SENDING_TIME where the report had no TransactTime(60).
        multiplier_e8: what a unit of quantity at a unit of price comes to, in 1e-8 (see `trades.contracts`), 0 where
            nobody says.
    """

    session: str
    epoch: int
    msg_seq_num: int
    exec_id: str
    exec_ref_id: str
    action: int
    side: int
    symbol: str
    trader: str
    strategy: str
    account: str
    last_qty_e8: int
    last_px_e8: int
    transact_time_ns: int
    received_at_ns: int
    frame: bytes
    redrive_of: str = ""
    trade_date: int = 0
    time_source: int = TIME_SOURCE_TRANSACT_TIME
    multiplier_e8: int = 0

    @property
    def identity(self) -> Identity:
        """What tells it from every other trade."""
        return (self.session, self.trade_date, self.exec_id)
