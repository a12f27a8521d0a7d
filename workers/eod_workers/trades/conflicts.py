"""A trade that comes again as another one: told by what it is about, and noted for whoever has to find out.

FIX has an ExecID(17) name one trade of a session and day. A counterparty that uses it for two has one of them stored
and the other noted: which of them is right, nobody here can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from eod_workers.ports import ExceptionRow, TopicPartition, TradeRow, place
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Identity
from eod_workers.trades.numbers import format_e8

FIELD = "exec_id"
"""Of the exceptions that note it: a trade has one for each other trade that has come under its ExecID."""
SUBSTANCE = ("action", "exec_ref_id", "symbol", "side", "last_qty_e8", "last_px_e8", "trader")
"""The columns that make a trade another one. Numbers, times and places in the log may differ: it was sent again."""
_SIDES: Mapping[int, str] = {SIDE_BUY: "buy", SIDE_SELL: "sell"}
_ACTIONS: Mapping[int, str] = {ACTION_TRADE: "", ACTION_BUST: "bust ", ACTION_CORRECT: "correction "}

substance = attrgetter(*SUBSTANCE)
"""The values of those columns."""


def describe(row: TradeRow) -> str:
    """A trade in a few words."""
    side = _SIDES.get(row.side, f"side {row.side}")
    what = _ACTIONS.get(row.action, f"action {row.action} ")
    about = f" of {row.exec_ref_id}" if row.exec_ref_id else ""
    return (
        f"{what}{side} {format_e8(row.last_qty_e8)} {row.symbol} at {format_e8(row.last_px_e8)}{about} "
        f"by {row.trader or 'nobody'}"
    )


def conflict(row: TradeRow) -> ExceptionRow:
    """The exception about a trade under whose ExecID another one is stored.

    Its detail says what the trade is and nothing of where it came, so the same one that comes again is noted once.
    """
    where = place(TopicPartition(row.topic, row.partition), row.offset)
    detail = (
        f"its ExecID came again for another trade, which is not stored: {describe(row)}. Ask the counterparty which of "
        "them is right, and to send the other under an ExecID of its own"
    )
    return ExceptionRow(row.session, row.trade_date, row.exec_id, FIELD, where, detail)


def conflicts_among(rows: Iterable[TradeRow], stored: Mapping[Identity, tuple[object, ...]]) -> Iterator[TradeRow]:
    """Those rows that are another trade than the stored one of their identity, or than the first of them.

    `stored` has the `substance` of trades that are stored.
    """
    firsts = dict(stored)
    for row in rows:
        what = substance(row)
        if firsts.setdefault(row[:3], what) != what:
            yield row
