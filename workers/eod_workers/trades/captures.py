"""TradeCaptureReport(AE) → trades: one for each of its sides (FIX 4.4 vol. 5, "Trade Capture Reporting").

It reports what was traded elsewhere: on an exchange, by another broker. Such a report has one side or both,
each with its own parties and account. There is no ExecRefID(19): TradeReportID(571) is what a later report names in
TradeReportRefID(572) to cancel or replace it, so that is its identity.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict, Unpack

from eod_workers.fix.fields import Fields, quoted
from eod_workers.fix.reading import Message, Part, Reason
from eod_workers.trades.contracts import Contracts
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import (
    CONTRACTS,
    MAX_ID_BYTES,
    STRATEGY_TAG,
    Invalid,
    deal_of,
    executing_trader,
    missing,
    name_of,
    refuse_repeated,
    side_of,
    trade_of,
    trader_of,
    why_none,
)
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, CAPTURED, SIDE_BUY, Trade

CAPTURE = b"AE"
"""MsgType(35) of a TradeCaptureReport."""
SIDES = b"552"
"""NoSides."""
_MOST_SIDES = 2

# FIX 4.4 vol. 6: TradeReportTransType(487), TradeReportType(856) and ExecType(150); None moves no position.
_BY_TRANS = {b"0": ACTION_TRADE, b"1": ACTION_BUST, b"2": ACTION_CORRECT, b"3": None, b"4": ACTION_BUST}
_BY_TYPE = {
    b"0": ACTION_TRADE, b"1": None, b"2": ACTION_TRADE, b"3": None, b"4": None, b"5": ACTION_CORRECT, b"6": ACTION_BUST,
    b"7": ACTION_BUST,
}  # fmt: skip
_BY_EXEC_TYPE = {b"F": ACTION_TRADE, b"G": ACTION_CORRECT, b"H": ACTION_BUST}
_SAID_BY = (
    (b"487", "TradeReportTransType(487)", _BY_TRANS),
    (b"856", "TradeReportType(856)", _BY_TYPE),
    (b"150", "ExecType(150)", _BY_EXEC_TYPE),
)
_LOOKED_AT = frozenset(tag for tag, _, _ in _SAID_BY) | {b"571", b"572", SIDES}


class How(TypedDict):
    """How a report came, and what it is read by: the keywords of `trade_of` and `captures_of`."""

    session: str
    epoch: int
    msg_seq_num: int
    received_at_ns: int
    dates: TradeDates
    contracts: NotRequired[Contracts]
    trader_tag: NotRequired[bytes]


def capture_action(fields: Fields) -> int | None:
    """ACTION_TRADE, ACTION_BUST or ACTION_CORRECT of a TradeCaptureReport; None if it moves no position.

    The three fields that may say so are optional; a report that says nothing is a trade.

    Raises:
        Invalid: one of them has a value that FIX 4.4 does not know, or they contradict each other.
    """
    said: dict[int | None, str] = {}
    for tag, name, meanings in _SAID_BY:
        value = fields.get(tag)
        if value is None:
            continue
        if value not in meanings:
            raise Invalid(tag, f"{name}={quoted(value)} is not one of {', '.join(map(_text, meanings))}")
        said.setdefault(meanings[value], f"{name}={_text(value)}")
    if None in said:
        return None
    said.pop(ACTION_TRADE, None)  # the usual value beside one that says more
    if len(said) > 1:
        raise Invalid(b"487", f"{' and '.join(said.values())} contradict each other: one cancels, the other corrects")
    return next(iter(said), ACTION_TRADE)


def _why_no_capture(fields: Fields) -> str:
    """Why a TradeCaptureReport is none of our trades; "" if there is nothing odd about it."""
    for tag, name, meanings in _SAID_BY:
        if (value := fields.get(tag)) is not None and value in meanings and meanings[value] is None:
            return f"{name}={_text(value)}: it reports no trade"
    return why_none(fields)


def captures_of(
    message: Message,
    frame: bytes,
    *,
    session: str,
    epoch: int,
    msg_seq_num: int,
    received_at_ns: int,
    dates: TradeDates,
    contracts: Contracts = CONTRACTS,
    trader_tag: bytes = b"",
) -> list[Trade]:
    """The trades that a TradeCaptureReport reports, one for each side; none if it moves no position.

    The ExecID of a trade is "AE:" and TradeReportID(571), with ":B" or ":S" behind it where the report has both sides.
    The frame is with the first alone: see `trades.codec`.

    Raises:
        Invalid: a field is missing or impossible, or the message cannot be read.
    """
    refuse_repeated(message, _LOOKED_AT)
    fields = message.fields
    action = capture_action(fields)
    if action is None or why_none(fields):
        return []
    name = _id(fields, b"571", "TradeReportID(571)", "without it a trade has no identity")
    reference = ""
    if action != ACTION_TRADE:
        reference = _id(fields, b"572", "TradeReportRefID(572)", "a cancel or a replacement must name what it changes")
    deal = deal_of(fields, action, received_at_ns, dates, contracts)
    sides = _sides(message)
    return [
        Trade(
            session,
            epoch,
            msg_seq_num,
            f"{CAPTURED}{name}{which}",
            f"{CAPTURED}{reference}{which}" if reference else "",
            action,
            side,
            deal.instrument,
            trader_of(_trader(entry, message, trader_tag), trader_tag),
            name_of(fields.get(STRATEGY_TAG, b""), STRATEGY_TAG, "the strategy's name"),
            name_of(entry.fields.get(b"1") or fields.get(b"1", b""), b"1", "Account(1)"),
            deal.last_qty_e8,
            deal.last_px_e8,
            deal.transact_time_ns,
            received_at_ns,
            frame if number == 0 else b"",
            trade_date=deal.trade_date,
            time_source=deal.time_source,
            multiplier_e8=deal.multiplier_e8,
        )
        for number, (entry, side, which) in enumerate(sides)
    ]


def trades_of(message: Message, frame: bytes, **how: Unpack[How]) -> list[Trade]:
    """The trades of an ExecutionReport or a TradeCaptureReport; none if it moves no position.

    Raises:
        Invalid: see `trade_of` and `captures_of`.
    """
    if message.fields.get(b"35") == CAPTURE:
        return captures_of(message, frame, **how)
    trade = trade_of(message, frame, **how)
    return [] if trade is None else [trade]


def why_no_trade(fields: Fields) -> str:
    """Why a report that trades something is none of our trades; "" if there is nothing odd about it."""
    return _why_no_capture(fields) if fields.get(b"35") == CAPTURE else why_none(fields)


def _sides(message: Message) -> list[tuple[Part, int, str]]:
    """The sides of a report, each with its direction and what tells it from the other."""
    entries = message.groups.get(SIDES)
    if not entries:
        raise missing(SIDES, "NoSides(552) is missing: nobody can tell who has bought and who has sold")
    if len(entries) > _MOST_SIDES:
        raise Invalid(SIDES, f"NoSides(552)={len(entries)}: a trade has one side or two")
    sides = [side_of(entry.fields) for entry in entries]
    if len(sides) == 1:
        return [(entries[0], sides[0], "")]
    if sides[0] == sides[1]:
        raise Invalid(b"54", "Side(54) of both sides is the same: one buys, the other sells")
    return [(entry, side, ":B" if side == SIDE_BUY else ":S") for entry, side in zip(entries, sides, strict=True)]


def _trader(entry: Part, message: Message, tag: bytes) -> bytes:
    """Who traded on a side: by the field that says so, there or in the message, else the executing party of either."""
    return entry.fields.get(tag) or message.fields.get(tag) or executing_trader(entry) or executing_trader(message)


def _id(fields: Fields, tag: bytes, name: str, why: str) -> str:
    value = fields.get(tag)
    if not value:
        raise missing(tag, f"{name} is missing: {why}")
    if len(value) > MAX_ID_BYTES:
        raise Invalid(tag, f"{name} has {len(value)} bytes; at most {MAX_ID_BYTES} are kept", Reason.OUT_OF_RANGE)
    return value.decode("latin-1")


def _text(value: bytes) -> str:
    return value.decode("latin-1")
