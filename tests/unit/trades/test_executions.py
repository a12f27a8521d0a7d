"""Which ExecutionReports are trades, what each one must carry, and what is wrong with those that are refused."""

from __future__ import annotations

import pytest
from eod_workers.fix.fields import Fields
from eod_workers.fix.frames import frame
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import STRATEGY_TAG, Invalid, action_of, trade_of
from eod_workers.trades.model import (
    ACTION_BUST,
    ACTION_CORRECT,
    ACTION_TRADE,
    SIDE_BUY,
    SIDE_SELL,
    TIME_SOURCE_SENDING_TIME,
    TIME_SOURCE_TRANSACT_TIME,
    Trade,
)
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import parsed, soh

AT_NS = 1_767_387_600_123_000_000  # 20260102-21:00:00.123
DATES = TradeDates()
USUAL = {
    "52": "20260102-21:00:00.000",
    "37": "O1", "17": "X1", "150": "F", "39": "2", "1": "ACC1", "448": "T001", "447": "D", "452": "12", "55": "IBM",
    "54": "1", "38": "900", "44": "77.7", "32": "100", "31": "12.5", "151": "0", "14": "100", "6": "12.5",
    "60": "20260102-21:00:00.123", "6061": "VWAP",
}  # fmt: skip


def booked(changes: dict[str, str | None] | None = None) -> Trade | None:
    """What the usual report becomes with some fields changed, or left out where None."""
    fields = {tag: value for tag, value in {**USUAL, **(changes or {})}.items() if value is not None}
    raw = frame(
        b"FIX.4.4", soh("35=8|49=ACME|56=EOD|34=7|" + "".join(f"{tag}={value}|" for tag, value in fields.items()))
    )
    return trade_of(parsed(raw), raw, session="ACME->EOD", epoch=3, msg_seq_num=7, received_at_ns=42, dates=DATES)


def refusal(changes: dict[str, str | None]) -> tuple[str, str]:
    """The tag at fault and the sentence."""
    with pytest.raises(Invalid) as caught:
        booked(changes)
    return caught.value.tag.decode(), str(caught.value)


def test_a_trade_carries_every_field_of_its_report() -> None:
    trade = booked()
    assert trade is not None
    assert trade._replace(frame=b"") == Trade(
        session="ACME->EOD",
        epoch=3,
        msg_seq_num=7,
        exec_id="X1",
        exec_ref_id="",
        action=ACTION_TRADE,
        side=SIDE_BUY,
        symbol="IBM",
        trader="T001",
        strategy="VWAP",
        account="ACC1",
        last_qty_e8=100 * 10**8,
        last_px_e8=1_250_000_000,
        transact_time_ns=AT_NS,
        received_at_ns=42,
        frame=b"",
        trade_date=20260102,
    )
    assert trade.frame.startswith(b"8=FIX.4.4\x01")
    assert STRATEGY_TAG == b"6061"


# --- which reports are trades -------------------------------------------------------------------------------

_ACTIONS = [
    # ExecType, ExecTransType, what it is
    ("F", None, ACTION_TRADE),
    ("H", None, ACTION_BUST),
    ("G", None, ACTION_CORRECT),
    *[(kind, None, None) for kind in "03456789ABCDEIJKL"],
    ("1", "0", ACTION_TRADE),
    ("2", "0", ACTION_TRADE),
    ("F", "0", ACTION_TRADE),
    ("0", "0", None),
    ("3", "0", None),
    ("4", "0", None),
    ("5", "0", None),
    ("8", "0", None),
    ("C", "0", None),
    ("1", "1", ACTION_BUST),
    ("2", "1", ACTION_BUST),
    ("1", "2", ACTION_CORRECT),
    ("2", "2", ACTION_CORRECT),
    ("1", "3", None),
    ("2", "3", None),
    ("F", "3", None),
    ("0", "3", None),
]


@pytest.mark.parametrize(("exec_type", "trans", "action"), _ACTIONS)
def test_exec_type_and_exec_trans_type_say_what_a_report_is(
    exec_type: str, trans: str | None, action: int | None
) -> None:
    """News, cancels, replaces and rejects move no position, although they carry quantities and prices."""
    trade = booked({"150": exec_type, "20": trans, "19": "X0"})
    assert (trade.action if trade else None) == action


@pytest.mark.parametrize(
    ("exec_type", "trans", "tag", "says"),
    [
        (None, None, "150", "ExecType(150) is missing"),
        (None, "0", "150", "ExecType(150) is missing"),
        ("", None, "150", "ExecType(150)='' is not a value of FIX 4.2 or 4.4"),
        ("Z", None, "150", "ExecType(150)='Z' is not a value of FIX 4.2 or 4.4"),
        ("f", None, "150", "ExecType(150)='f' is not a value of FIX 4.2 or 4.4"),
        ("FF", None, "150", "ExecType(150)='FF' is not a value of FIX 4.2 or 4.4"),
        ("Z", "0", "150", "ExecType(150)='Z' is not a value of FIX 4.2 or 4.4"),
        ("1", None, "20", "ExecTransType(20) is missing: ExecType(150)='1' is a fill only in FIX 4.2"),
        ("2", None, "20", "ExecTransType(20) is missing: ExecType(150)='2' is a fill only in FIX 4.2"),
        ("F", "4", "20", "ExecTransType(20)='4' is not one of 0, 1, 2, 3"),
        ("2", "", "20", "ExecTransType(20)='' is not one of 0, 1, 2, 3"),
        ("2", "x", "20", "ExecTransType(20)='x' is not one of 0, 1, 2, 3"),
    ],
)
def test_an_unknown_kind_of_report_is_refused_and_never_ignored(
    exec_type: str | None, trans: str | None, tag: str, says: str
) -> None:
    found, sentence = refusal({"150": exec_type, "20": trans})
    assert (found, sentence[: len(says)]) == (tag, says)


# --- what a trade must carry --------------------------------------------------------------------------------

_REFUSED = [
    ({"17": None}, "17", "ExecID(17) is missing"),
    ({"17": ""}, "17", "ExecID(17) is missing"),
    ({"17": "x" * 65}, "17", "ExecID(17) has 65 bytes; at most 64"),
    ({"448": "x" * 129}, "448", "the trader's name has 129 bytes; at most 128 are kept"),
    ({"6061": "x" * 14_000}, "6061", "the strategy's name has 14,000 bytes; at most 128"),
    ({"1": "x" * 129}, "1", "Account(1) has 129 bytes; at most 128"),
    ({"55": "x" * 129}, "55", "the instrument has 129 characters; at most 128 bytes of Symbol(55) are kept"),
    ({"207": "y" * 200, "55": "x" * 100}, "55", "the instrument has 301 characters; at most 128 bytes"),
    ({"150": "H", "19": "x" * 65}, "19", "ExecRefID(19) has 65 bytes; no ExecID has more than 64"),
    ({"19": "x" * 14_000}, "19", "ExecRefID(19) has 14,000 bytes"),
    ({"150": "H"}, "19", "ExecRefID(19) is missing"),
    ({"150": "G"}, "19", "ExecRefID(19) is missing"),
    ({"150": "H", "19": ""}, "19", "ExecRefID(19) is missing"),
    ({"150": "2", "20": "1"}, "19", "ExecRefID(19) is missing"),
    ({"55": None}, "55", "Symbol(55) is missing"),
    ({"55": ""}, "55", "Symbol(55) is missing"),
    ({"54": None}, "54", "Side(54) is missing"),
    ({"54": ""}, "54", "Side(54)='' is not one of"),
    ({"54": "0"}, "54", "Side(54)='0' is not one of"),
    ({"54": "7"}, "54", "Side(54)='7' is not one of"),
    ({"54": "8"}, "54", "Side(54)='8' is not one of"),
    ({"54": "B"}, "54", "Side(54)='B' is not one of"),
    ({"54": "12"}, "54", "Side(54)='12' is not one of"),
    ({"32": None}, "32", "LastQty(32) is missing: a trade needs its own quantity and price, not those of the order"),
    ({"32": ""}, "32", "LastQty(32): '' is not a decimal number"),
    ({"32": "0"}, "32", "LastQty(32)='0' must be above 0"),
    ({"32": "0.000"}, "32", "LastQty(32)='0.000' must be above 0"),
    ({"32": "-100"}, "32", "LastQty(32)='-100' must be above 0"),
    ({"32": "1e3"}, "32", "LastQty(32): '1e3' is not a decimal number"),
    ({"32": "1,000"}, "32", "LastQty(32): '1,000' is not a decimal number"),
    ({"32": "0.000000001"}, "32", "LastQty(32): '0.000000001' has more than 8 decimals"),
    ({"32": "92233720369"}, "32", "LastQty(32): '92233720369' is too large"),
    ({"32": "9" * 5_000}, "32", "LastQty(32): "),
    ({"31": None}, "31", "LastPx(31) is missing: a trade needs its own quantity and price, not those of the order"),
    ({"31": ""}, "31", "LastPx(31): '' is not a decimal number"),
    ({"31": "12.5 "}, "31", "LastPx(31): '12.5 ' is not a decimal number"),
    ({"31": "NaN"}, "31", "LastPx(31): 'NaN' is not a decimal number"),
    ({"60": None, "52": "soon"}, "52", "SendingTime(52): 'soon' is not a UTC time stamp"),
    ({"60": None, "52": None}, "60", "TransactTime(60) is missing, and SendingTime(52) as well"),
    ({"75": "20260230"}, "75", "TradeDate(75): '20260230': day"),
    ({"75": "today"}, "75", "TradeDate(75): 'today' is not a date (yyyymmdd)"),
    ({"75": "19691231"}, "75", "TradeDate(75): '19691231': the year must be between 1970 and 2261"),
    ({"60": ""}, "60", "TransactTime(60): '' is not a UTC time stamp"),
    ({"60": "20260102"}, "60", "TransactTime(60): '20260102' is not a UTC time stamp"),
    ({"60": "2026-01-02T21:00:00Z"}, "60", "TransactTime(60): '2026-01-02T21:00:00Z' is not a UTC time stamp"),
    ({"60": "20260102-25:00:00"}, "60", "TransactTime(60): '20260102-25:00:00' is no time of day"),
    ({"60": "20260230-21:00:00"}, "60", "TransactTime(60): '20260230-21:00:00': day is out of range"),
    ({"60": "99991231-21:00:00"}, "60", "TransactTime(60): '99991231-21:00:00': the year must be between"),
    ({"60": "19700101-00:00:00"}, "60", "TransactTime(60)=19700101-00:00:00 is 20,455 days before its report, and at most"),
    ({"60": "20300102-21:00:00"}, "60", "TransactTime(60)=20300102-21:00:00 is 1,461 days after its report, and at most 1"),
    ({"60": "20300102-21:00:00", "150": "H", "19": "X0"}, "60", "TransactTime(60)=20300102-21:00:00 is 1,461 days after"),
    ({"60": "20260102-21:00:00", "52": None}, "60", "TransactTime(60)=20260102-21:00:00 is 20,455 days after"),
    ({"60": None, "43": "Y", "122": "20150102-21:00:00"}, "122", "OrigSendingTime(122)=20150102-21:00:00 is 4,018 days"),
    ({"150": "G", "19": "X0", "32": None}, "32", "LastQty(32) is missing"),
    ({"150": "G", "19": "X0", "31": None}, "31", "LastPx(31) is missing"),
    ({"150": "H", "19": "X0", "32": ""}, "32", "LastQty(32): '' is not a decimal number"),
    ({"150": "G", "19": "X0", "32": "0"}, "32", "LastQty(32)='0' must be above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "tag", "says"), _REFUSED, ids=[f"{c} {t}"[:60] for c, t, _ in _REFUSED])
def test_a_field_that_is_missing_or_wrong_is_named_with_the_reason(
    changes: dict[str, str | None], tag: str, says: str
) -> None:
    found, sentence = refusal(changes)
    assert (found, sentence[: len(says)]) == (tag, says)


@pytest.mark.parametrize("tag", ["37", "39", "1", "448", "452", "38", "44", "151", "14", "6", "6061"])
def test_a_report_without_other_fields_is_a_trade_all_the_same(tag: str) -> None:
    assert booked({tag: None}) is not None


def test_who_is_called_as_we_call_nobody_is_nobody() -> None:
    """Else the positions of the two overwrote each other."""
    nobody, somebody = booked({"448": "UNASSIGNED"}), booked({"448": "UNASSIGNED2"})
    assert (nobody and nobody.trader, somebody and somebody.trader) == ("", "UNASSIGNED2")


@pytest.mark.parametrize(("order_qty", "order_px"), [("900", "77.7"), ("0", "0"), ("junk", "junk")])
def test_quantity_and_price_are_those_of_the_fill_and_never_those_of_the_order(order_qty: str, order_px: str) -> None:
    trade = booked({"38": order_qty, "44": order_px})
    assert trade is not None
    assert (trade.last_qty_e8, trade.last_px_e8) == (100 * 10**8, 1_250_000_000)


def test_a_cancelled_order_with_quantities_and_prices_is_no_trade() -> None:
    assert booked({"150": "4", "39": "4", "32": "0", "31": "0"}) is None
    assert booked({"150": "4", "39": "4", "54": "?", "60": None}) is None


@pytest.mark.parametrize(
    ("side", "booked_as"),
    [("1", SIDE_BUY), ("3", SIDE_BUY), ("2", SIDE_SELL), ("4", SIDE_SELL), ("5", SIDE_SELL), ("6", SIDE_SELL)],
)
def test_every_side_of_fix_that_has_a_direction_is_booked_in_that_direction(side: str, booked_as: int) -> None:
    trade = booked({"54": side})
    assert trade is not None
    assert trade.side == booked_as


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("20260102-21:00:00", AT_NS - 123_000_000),
        ("20260102-21:00:00.1", AT_NS - 23_000_000),
        ("20260102-21:00:00.123", AT_NS),
        ("20260102-21:00:00.123456", AT_NS + 456_000),
        ("20260102-21:00:00.123456789", AT_NS + 456_789),
    ],
)
def test_the_time_of_a_trade_is_its_transact_time(text: str, at_ns: int) -> None:
    trade = booked({"60": text})
    assert trade is not None
    assert trade.transact_time_ns == at_ns


@pytest.mark.parametrize("named", ["0", None])
@pytest.mark.parametrize("said", [{"150": "H"}, {"150": "2", "20": "1"}])
def test_a_bust_may_have_no_quantity_and_a_trade_may_be_free(said: dict[str, str], named: str | None) -> None:
    """LastQty(32) and LastPx(31) are required of a trade and of its correction (FIX 4.4 vol. 4, ExecutionReport)."""
    bust = booked({**said, "19": "X0", "32": named, "31": named})
    free = booked({"31": "0"})
    assert bust is not None
    assert free is not None
    assert (bust.action, bust.exec_ref_id, bust.last_qty_e8, bust.last_px_e8) == (ACTION_BUST, "X0", 0, 0)
    assert free.last_px_e8 == 0


@pytest.mark.parametrize(("text", "px_e8"), [("-37.63", -3_763_000_000), ("-0", 0), ("-0.00000001", -1)])
def test_a_price_may_be_below_zero(text: str, px_e8: int) -> None:
    """Oil was, on 20 April 2020; spreads and rates are."""
    trade = booked({"31": text})
    assert trade is not None
    assert trade.last_px_e8 == px_e8


def test_names_in_latin_1_are_kept() -> None:
    trade = booked({"17": "É-1", "55": "ÄÖ", "1": "Zürich", "448": "Jürgen", "6061": "±"})
    assert trade is not None
    names = (trade.exec_id, trade.symbol, trade.account, trade.trader, trade.strategy)
    assert names == ("É-1", "ÄÖ", "Zürich", "Jürgen", "±")


_VALUES = st.sampled_from(
    [
        None,
        "",
        "0",
        "1",
        "2",
        "F",
        "H",
        "G",
        "9" * 30,
        "-1",
        "12.5",
        "20260102-21:00:00",
        "99991231-00:00:00",
        "é",
        "IBM",
    ]
)


@given(changes=st.dictionaries(st.sampled_from(["17", "19", "20", "31", "32", "54", "55", "60", "150"]), _VALUES))
def test_whatever_a_report_says_it_is_a_trade_that_fits_the_log_or_no_trade_or_invalid(
    changes: dict[str, str | None],
) -> None:
    try:
        trade = booked(changes)
    except Invalid as why:
        assert why.tag.isdigit()  # noqa: PT017
        assert f"({why.tag.decode()})" in str(why)  # noqa: PT017
        return
    assert trade is None or decode_trades(encode_trades([trade])) == [trade]


def test_only_the_fields_that_say_so_decide_what_a_report_is() -> None:
    """OrdStatus(39) filled does not make a trade of a report whose ExecType says otherwise."""
    fields: Fields = {b"150": b"0", b"39": b"2"}
    assert action_of(fields) is None


# --- when, and on which day ------------------------------------------------------------------------------------


SENT = {"52": "20260105-01:30:00.250"}


@pytest.mark.parametrize(
    ("changes", "time_ns", "source", "date"),
    [
        ({}, AT_NS, TIME_SOURCE_TRANSACT_TIME, 20260102),
        # 20:30 on Sunday in New York, though it is Monday by UTC.
        ({**SENT, "60": None}, 1_767_576_600_250_000_000, TIME_SOURCE_SENDING_TIME, 20260104),
        # Only of what is sent again, OrigSendingTime is when it was first.
        ({**SENT, "60": None, "43": "Y", "122": "20260102-20:59:59"}, 1_767_387_599_000_000_000, 1, 20260102),
        ({**SENT, "60": None, "122": "20260102-20:59:59"}, 1_767_576_600_250_000_000, 1, 20260104),
        ({**SENT, "60": None, "43": "N", "122": "20260102-20:59:59"}, 1_767_576_600_250_000_000, 1, 20260104),
        ({**SENT, "60": None, "43": "Y"}, 1_767_576_600_250_000_000, 1, 20260104),
        ({**SENT, "43": "Y", "122": "20260101-00:00:00"}, AT_NS, TIME_SOURCE_TRANSACT_TIME, 20260102),
        # What the counterparty says goes before what its time would say.
        ({"75": "20260105"}, AT_NS, TIME_SOURCE_TRANSACT_TIME, 20260105),
        ({**SENT, "60": None, "75": "20260105"}, 1_767_576_600_250_000_000, 1, 20260105),
        ({"60": "20260103-04:59:59.999999999"}, 1_767_416_399_999_999_999, 0, 20260102),
        ({"60": "20260103-05:00:00"}, 1_767_416_400_000_000_000, 0, 20260103),
    ],
)
def test_when_a_trade_was_and_on_which_day(
    changes: dict[str, str | None], time_ns: int, source: int, date: int
) -> None:
    trade = booked(changes)
    assert trade is not None
    assert (trade.transact_time_ns, trade.time_source, trade.trade_date) == (time_ns, source, date)
    assert trade.identity == ("ACME->EOD", date, "X1")
    (again,) = decode_trades(encode_trades([trade]))
    assert again == trade
