"""TradeCaptureReports: which are trades, one for each side, and what is wrong with those that are not."""

from __future__ import annotations

import pytest
from eod_workers.fix.reading import Reason
from eod_workers.trades.captures import captures_of, trades_of, why_no_trade
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import Invalid
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from support.fix_messages import capture, message, parsed, report

DATES = TradeDates()


def read(raw: bytes) -> list[Trade]:
    """The trades of a frame."""
    return trades_of(parsed(raw), raw, session="S", epoch=3, msg_seq_num=7, received_at_ns=42, dates=DATES)


def test_both_sides_are_trades_each_with_its_party_and_account() -> None:
    raw = capture(7, "R1")
    assert read(raw) == [
        Trade(
            session="S",
            epoch=3,
            msg_seq_num=7,
            exec_id=exec_id,
            exec_ref_id="",
            action=ACTION_TRADE,
            side=side,
            symbol="IBM",
            trader=trader,
            strategy="VWAP",
            account=account,
            last_qty_e8=100 * 10**8,
            last_px_e8=1_250_000_000,
            transact_time_ns=1_767_387_600_123_000_000,
            received_at_ns=42,
            frame=frame,
            trade_date=20260102,
        )
        for exec_id, side, trader, account, frame in (
            ("AE:R1:B", SIDE_BUY, "T001", "ACC1", raw),
            ("AE:R1:S", SIDE_SELL, "T002", "ACC2", b""),
        )
    ]


def test_one_side_needs_nothing_that_tells_it_from_another() -> None:
    (trade,) = read(capture(7, "R1", sides=("54=5|37=O1|448=|",)).replace(b"448=\x01", b""))
    assert (trade.exec_id, trade.side, trade.trader, trade.account) == ("AE:R1", SIDE_SELL, "", "")


ONE = ("54=1|37=O1|453=1|448=T001|447=D|452=12|1=ACC1|",)


@pytest.mark.parametrize(
    ("said", "action"),
    [
        ("", ACTION_TRADE),
        ("487=0|", ACTION_TRADE),
        ("487=0|856=0|150=F|", ACTION_TRADE),
        ("856=2|", ACTION_TRADE),
        ("487=1|", ACTION_BUST),
        ("487=4|", ACTION_BUST),
        ("487=0|856=6|", ACTION_BUST),
        ("856=7|487=1|", ACTION_BUST),
        ("150=H|", ACTION_BUST),
        ("487=2|", ACTION_CORRECT),
        ("487=2|856=0|150=F|", ACTION_CORRECT),
        ("856=5|", ACTION_CORRECT),
        ("150=G|", ACTION_CORRECT),
        ("487=3|", None),
        ("856=1|", None),
        ("856=3|", None),
        ("856=4|487=0|", None),
        ("442=3|", None),
        ("442=2|", ACTION_TRADE),
    ],
)
def test_what_a_capture_does(said: str, action: int | None) -> None:
    raw = capture(7, "R2", f"572=R1|{said}", sides=ONE)
    trades = read(raw)
    assert [trade.action for trade in trades] == ([] if action is None else [action])
    assert [trade.exec_ref_id for trade in trades if trade.action != ACTION_TRADE] == ["AE:R1"] * (
        action in {ACTION_BUST, ACTION_CORRECT}
    )
    assert bool(why_no_trade(parsed(raw).fields)) == (action is None)


def test_a_cancel_of_both_sides_names_both() -> None:
    trades = read(capture(7, "R2", "487=1|572=R1|"))
    assert [(trade.exec_id, trade.exec_ref_id) for trade in trades] == [
        ("AE:R2:B", "AE:R1:B"),
        ("AE:R2:S", "AE:R1:S"),
    ]


def test_a_cancel_needs_no_quantity_and_no_price() -> None:
    raw = message("AE", 7, "571=R2|572=R1|487=1|570=N|55=IBM|75=20260102|60=20260102-21:00:00|552=1|54=1|37=NONE|")
    (trade,) = read(raw)
    assert (trade.action, trade.last_qty_e8, trade.last_px_e8) == (ACTION_BUST, 0, 0)


@pytest.mark.parametrize(
    ("raw", "tag", "reason", "says"),
    [
        (capture(7, ""), b"571", Reason.REQUIRED_TAG_MISSING, "TradeReportID"),
        (capture(7, "R" * 65), b"571", Reason.OUT_OF_RANGE, "at most 64"),
        (capture(7, "R2", "487=1|"), b"572", Reason.REQUIRED_TAG_MISSING, "TradeReportRefID"),
        (capture(7, "R2", "487=9|"), b"487", Reason.OUT_OF_RANGE, "is not one of 0, 1, 2, 3, 4"),
        (capture(7, "R2", "856=9|"), b"856", Reason.OUT_OF_RANGE, "is not one of 0"),
        (capture(7, "R2", "150=2|"), b"150", Reason.OUT_OF_RANGE, "is not one of F, G, H"),
        (capture(7, "R2", "572=R1|487=1|150=G|"), b"487", Reason.OUT_OF_RANGE, "contradict each other"),
        (capture(7, "R1", sides=()).replace(b"552=0\x01", b""), b"552", Reason.REQUIRED_TAG_MISSING, "NoSides"),
        (capture(7, "R1", sides=()), b"552", Reason.REQUIRED_TAG_MISSING, "NoSides"),
        (capture(7, "R1", sides=ONE * 2), b"54", Reason.OUT_OF_RANGE, "is the same"),
        (capture(7, "R1", sides=("54=1|37=O1|", "54=2|37=O2|", "54=2|37=O3|")), b"552", Reason.OUT_OF_RANGE, "one side or two"),
        (capture(7, "R1", sides=("54=9|37=O1|",)), b"54", Reason.OUT_OF_RANGE, "is not one of 1, 2, 3, 4, 5, 6"),
        (capture(7, "R1", sides=("37=O1|",)), b"54", Reason.REQUIRED_TAG_MISSING, "Side"),
        (capture(7, "R1").replace(b"32=100\x01", b""), b"32", Reason.REQUIRED_TAG_MISSING, "LastQty"),
        (capture(7, "R1").replace(b"55=IBM\x01", b""), b"55", Reason.REQUIRED_TAG_MISSING, "Symbol"),
        (capture(7, "R1", "571=R2|"), b"571", Reason.APPEARS_TWICE, "more than once"),
        (capture(7, "R1").replace(b"552=2", b"552=3"), b"552", Reason.WRONG_COUNT, "announces 3"),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_or_wrong_is_named(raw: bytes, tag: bytes, reason: Reason, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        captures_of(parsed(raw), raw, session="S", epoch=1, msg_seq_num=7, received_at_ns=0, dates=DATES)
    assert (refused.value.tag, refused.value.reason) == (tag, reason)


def test_an_execution_report_is_one_trade_and_a_new_order_is_none() -> None:
    assert [trade.exec_id for trade in read(report(7, "X1"))] == ["X1"]
    assert read(message("8", 7, "37=O|17=1|150=0|39=0|55=IBM|54=1|151=1|14=0|6=0|")) == []
