"""ExecutionReport → trade: which reports are trades, what they must carry, and what is wrong with those that are not.

FIX 4.4: ExecType(150) F is a trade, H cancels one, G corrects one. FIX 4.2: ExecTransType(20) 0 with ExecType 1 or 2
(or F) is a trade, 1 cancels, 2 corrects, 3 is a status. New, Canceled, Replaced, Rejected … move no position.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from eod_workers.fix.fields import Fields, parse_date, parse_timestamp_ns, quoted, text_of
from eod_workers.fix.reading import PARTIES, Message, Part, Reason
from eod_workers.trades.contracts import BadTerms, Contracts
from eod_workers.trades.dates import TradeDates, why_impossible
from eod_workers.trades.instruments import INSTRUMENT_TAGS, NoInstrument, instrument_of
from eod_workers.trades.model import (
    ACTION_BUST,
    ACTION_CORRECT,
    ACTION_TRADE,
    SIDE_BUY,
    SIDE_SELL,
    TIME_SOURCE_SENDING_TIME,
    TIME_SOURCE_TRANSACT_TIME,
    UNASSIGNED,
    Trade,
)
from eod_workers.trades.numbers import parse_e8

STRATEGY_TAG = b"6061"
"""User-defined tag that names the strategy; FIX 4.4 has no field for it (StrategyParametersGrp came with 5.0)."""

# FIX 4.4 vol. 6, field 54: buy, buy minus / sell, sell plus, sell short, sell short exempt.
_SIDES = {b"1": SIDE_BUY, b"3": SIDE_BUY, b"2": SIDE_SELL, b"4": SIDE_SELL, b"5": SIDE_SELL, b"6": SIDE_SELL}
# FIX 4.4 vol. 6, field 150, without the trades; and those that FIX 4.2 calls trades.
_NOT_TRADES = frozenset(b"0 3 4 5 6 7 8 9 A B C D E I J K L".split())
_FILLS_42 = frozenset((b"1", b"2", b"F"))
_MULTILEG = b"3"
"""MultiLegReportingType(442), FIX 4.4 vol. 6: 1 a single security, 2 one leg, 3 the multileg security itself."""
MAX_ID_BYTES = 64
"""Of an identifier."""
MAX_NAME_BYTES = 128
"""Of the name of a trader, a strategy, an account or a symbol: positions, snapshots and caches are by names."""
_MAX_INSTRUMENT = 2 * MAX_NAME_BYTES
_TIMES_AGAIN = (
    (b"60", "TransactTime(60)", TIME_SOURCE_TRANSACT_TIME),
    (b"122", "OrigSendingTime(122)", TIME_SOURCE_SENDING_TIME),
    (b"52", "SendingTime(52)", TIME_SOURCE_SENDING_TIME),
)
_TIMES = (_TIMES_AGAIN[0], _TIMES_AGAIN[2])
"""What says when a trade happened, the first that is there; OrigSendingTime only of a report that is sent again."""
_cached_number = lru_cache(maxsize=65_536)(parse_e8)
_EXECUTING_TRADER = b"12"
_LOOKED_AT = frozenset(b"1 15 17 19 20 31 32 54 60 75 150 231 442".split()) | INSTRUMENT_TAGS | {STRATEGY_TAG}


CONTRACTS = Contracts()
"""Nothing is known of any instrument."""


class Invalid(Exception):
    """The report cannot be booked. `tag` is the field at fault; the message says what to send instead."""

    def __init__(self, tag: bytes, message: str, reason: Reason = Reason.OUT_OF_RANGE) -> None:
        super().__init__(message)
        self.tag = tag
        self.reason = reason


def missing(tag: bytes, message: str) -> Invalid:
    """What says that a field is not there."""
    return Invalid(tag, message, Reason.REQUIRED_TAG_MISSING)


def executing_trader(part: Part) -> bytes:
    """PartyID(448) of the party with PartyRole(452)=12, executing trader (FIX 4.4 vol. 6, appendix 6-G), or b""."""
    for party in part.groups.get(PARTIES, ()):
        if party.fields.get(b"452") == _EXECUTING_TRADER:
            return party.fields.get(b"448", b"")
    return b""


def name_of(value: bytes, tag: bytes, what: str) -> str:
    """A name as text.

    Raises:
        Invalid: it is too long.
    """
    if len(value) > MAX_NAME_BYTES:
        raise Invalid(tag, f"{what} has {len(value):,} bytes; at most {MAX_NAME_BYTES} are kept")
    return text_of(value)


def trader_of(value: bytes, tag: bytes) -> str:
    """The trader's name, "" for nobody; that is what one with our name for nobody, `UNASSIGNED`, is taken for.

    Args:
        value: what the report says.
        tag: of the session's own field for it, if it has one.

    Raises:
        Invalid: it is too long.
    """
    name = name_of(value, tag or b"448", "the trader's name")
    return "" if name == UNASSIGNED else name


def why_none(fields: Fields) -> str:
    """Why a report that trades something is none of our trades; "" if there is nothing odd about it."""
    if fields.get(b"442") == _MULTILEG:
        return "MultiLegReportingType(442)=3: it sums up legs, each of which is reported by itself"
    return ""


def action_of(fields: Fields) -> int | None:
    """ACTION_TRADE, ACTION_BUST or ACTION_CORRECT of an ExecutionReport; None if it moves no position.

    Raises:
        Invalid: ExecType(150) or ExecTransType(20) has a value that FIX does not know.
    """
    exec_type = fields.get(b"150")
    if exec_type is None:
        raise missing(b"150", "ExecType(150) is missing: an ExecutionReport must say what it reports")
    trans = fields.get(b"20")
    if trans is not None:
        if trans == b"1":
            return ACTION_BUST
        if trans == b"2":
            return ACTION_CORRECT
        if trans == b"3":
            return None
        if trans != b"0":
            raise Invalid(b"20", f"ExecTransType(20)={quoted(trans)} is not one of 0, 1, 2, 3")
        if exec_type in _FILLS_42:
            return ACTION_TRADE
    if exec_type == b"F":
        return ACTION_TRADE
    if exec_type == b"H":
        return ACTION_BUST
    if exec_type == b"G":
        return ACTION_CORRECT
    if exec_type in _NOT_TRADES:
        return None
    if trans is None and exec_type in _FILLS_42:
        raise missing(
            b"20",
            f"ExecTransType(20) is missing: ExecType(150)={quoted(exec_type)} is a fill only in FIX 4.2, "
            "which has that field; FIX 4.4 says F",
        )
    raise Invalid(b"150", f"ExecType(150)={quoted(exec_type)} is not a value of FIX 4.2 or 4.4")


def trade_of(
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
) -> Trade | None:
    """The trade that an ExecutionReport reports, or None if it moves no position.

    Its time is TransactTime(60), which FIX does not require; without it SendingTime(52), or OrigSendingTime(122) of a
    report that is sent again. It must not lie too far from when it was reported. Its day is TradeDate(75), which FIX
    does not require either; without it the day of its time by `dates`. Its money is by `contracts`. Who traded is in
    the field `trader_tag`, if there is one, else the executing party.

    Raises:
        Invalid: a field is missing or impossible, or the message cannot be read.
    """
    refuse_repeated(message)
    fields = message.fields
    action = action_of(fields)
    if action is None or why_none(fields):
        return None
    get = fields.get
    exec_id = get(b"17")
    if not exec_id:
        raise missing(b"17", "ExecID(17) is missing: without it a trade has no identity")
    if len(exec_id) > MAX_ID_BYTES:
        raise Invalid(b"17", f"ExecID(17) has {len(exec_id)} bytes; at most {MAX_ID_BYTES} are kept")
    reference = get(b"19", b"")
    if action != ACTION_TRADE and not reference:
        raise missing(b"19", "ExecRefID(19) is missing: a bust or a correction must name the trade it changes")
    if len(reference) > MAX_ID_BYTES:
        raise Invalid(b"19", f"ExecRefID(19) has {len(reference):,} bytes; no ExecID has more than {MAX_ID_BYTES}")
    deal = deal_of(fields, action, received_at_ns, dates, contracts)
    side = side_of(fields)
    return Trade(
        session,
        epoch,
        msg_seq_num,
        exec_id.decode("latin-1"),
        reference.decode("latin-1"),
        action,
        side,
        deal.instrument,
        trader_of(get(trader_tag) or executing_trader(message), trader_tag),
        name_of(get(STRATEGY_TAG, b""), STRATEGY_TAG, "the strategy's name"),
        name_of(get(b"1", b""), b"1", "Account(1)"),
        deal.last_qty_e8,
        deal.last_px_e8,
        deal.transact_time_ns,
        received_at_ns,
        frame,
        trade_date=deal.trade_date,
        time_source=deal.time_source,
        multiplier_e8=deal.multiplier_e8,
    )


class Deal(NamedTuple):
    """What was traded, at what price and when: see `trades.model.Trade`."""

    instrument: str
    multiplier_e8: int
    last_qty_e8: int
    last_px_e8: int
    transact_time_ns: int
    time_source: int
    trade_date: int


def refuse_repeated(message: Message, more: frozenset[bytes] = frozenset()) -> None:
    """Refuses a message that cannot be read, or has a field twice that is looked at; `more` are further ones.

    Raises:
        Invalid: it is such.
    """
    if message.problem is not None:
        raise Invalid(message.problem.tag, message.problem.detail, message.problem.reason)
    if tags := message.repeated & (_LOOKED_AT | more):
        tag = min(tags)
        raise Invalid(tag, f"tag {tag.decode()} appears more than once", Reason.APPEARS_TWICE)


def deal_of(fields: Fields, action: int, received_at_ns: int, dates: TradeDates, contracts: Contracts) -> Deal:
    """The deal that the fields of a report say, which was received then.

    Raises:
        Invalid: a field is missing or impossible.
    """
    try:
        instrument, multiplier_e8 = contracts.terms(fields, instrument_of(fields))
    except (NoInstrument, BadTerms) as why:
        raise Invalid(why.tag, str(why), Reason.BAD_FORMAT) from None
    if not instrument:
        raise missing(b"55", "Symbol(55) is missing")
    if len(fields.get(b"55", b"")) > MAX_NAME_BYTES or len(instrument) > _MAX_INSTRUMENT:
        said = (
            f"at most {MAX_NAME_BYTES} bytes of Symbol(55) are kept, and {_MAX_INSTRUMENT} characters of an instrument"
        )
        raise Invalid(b"55", f"the instrument has {len(instrument):,} characters; {said}")
    time_ns, source = _time(fields, received_at_ns)
    return Deal(
        instrument,
        multiplier_e8,
        _quantity(fields, action),
        _number(fields, b"31", "LastPx(31)", action),
        time_ns,
        source,
        _trade_date(fields.get(b"75")) or dates.of(time_ns),
    )


def side_of(fields: Fields) -> int:
    """SIDE_BUY or SIDE_SELL.

    Raises:
        Invalid: Side(54) is missing, or none that has a direction.
    """
    text = fields.get(b"54")
    if text is None:
        raise missing(b"54", "Side(54) is missing")
    side = _SIDES.get(text)
    if side is None:
        raise Invalid(b"54", f"Side(54)={quoted(text)} is not one of 1, 2, 3, 4, 5, 6")
    return side


def _quantity(fields: Fields, action: int) -> int:
    value = _number(fields, b"32", "LastQty(32)", action)
    if value < 0 or (value == 0 and action != ACTION_BUST):
        least = "at least" if action == ACTION_BUST else "above"
        raise Invalid(b"32", f"LastQty(32)={quoted(fields[b'32'])} must be {least} 0")
    return value


def _number(fields: Fields, tag: bytes, name: str, action: int) -> int:
    """A quantity or a price in 1e-8; 0 when a bust names none, as it may (FIX 4.4 vol. 4, ExecutionReport).

    A price may be below 0: of a spread, of a rate, and of oil on 20 April 2020.
    """
    text = fields.get(tag)
    if text is None:
        if action == ACTION_BUST:
            return 0
        raise missing(tag, f"{name} is missing: a trade needs its own quantity and price, not those of the order")
    try:
        return _cached_number(text)
    except ValueError as error:
        raise Invalid(tag, f"{name}: {error}", Reason.BAD_FORMAT) from None


def _time(fields: Fields, received_at_ns: int) -> tuple[int, int]:
    """When the trade happened, and which field says so."""
    for tag, name, source in _TIMES_AGAIN if fields.get(b"43") == b"Y" else _TIMES:
        if (text := fields.get(tag)) is not None:
            try:
                time_ns = parse_timestamp_ns(text)
            except ValueError as error:
                raise Invalid(tag, f"{name}: {error}", Reason.BAD_FORMAT) from None
            if why := why_impossible(time_ns, _reported_ns(fields, received_at_ns)):
                sent = quoted(fields.get(b"52", b""))
                raise Invalid(tag, f"{name}={text_of(text)} is {why}: SendingTime(52) is {sent}")
            return time_ns, source
    raise missing(b"60", "TransactTime(60) is missing, and SendingTime(52) as well: the time of a trade is not guessed")


def _reported_ns(fields: Fields, received_at_ns: int) -> int:
    """When a trade was reported: by SendingTime(52), which is the same whenever it is read, else when it came."""
    try:
        return parse_timestamp_ns(fields.get(b"52", b""))
    except ValueError:
        return received_at_ns


def _trade_date(text: bytes | None) -> int:
    """TradeDate(75) as a number; 0 if there is none."""
    if text is None:
        return 0
    try:
        return parse_date(text)
    except ValueError as error:
        raise Invalid(b"75", f"TradeDate(75): {error}", Reason.BAD_FORMAT) from None
