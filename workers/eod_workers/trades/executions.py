"""ExecutionReport → trade: which reports are trades, what they must carry, and what is wrong with those that are not.

FIX 4.4: ExecType(150) F is a trade, H cancels one, G corrects one. FIX 4.2: ExecTransType(20) 0 with ExecType 1 or 2
(or F) is a trade, 1 cancels, 2 corrects, 3 is a status. New, Canceled, Replaced, Rejected … move no position.
"""

from __future__ import annotations

from functools import lru_cache

from eod_workers.fix.fields import Fields, executing_trader, parse_timestamp_ns
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from eod_workers.trades.numbers import parse_e8

STRATEGY_TAG = b"6061"
"""User-defined tag that names the strategy; FIX 4.4 has no field for it (StrategyParametersGrp came with 5.0)."""

# FIX 4.4 vol. 6, field 54: buy, buy minus / sell, sell plus, sell short, sell short exempt.
_SIDES = {b"1": SIDE_BUY, b"3": SIDE_BUY, b"2": SIDE_SELL, b"4": SIDE_SELL, b"5": SIDE_SELL, b"6": SIDE_SELL}
# FIX 4.4 vol. 6, field 150, without the trades; and those that FIX 4.2 calls trades.
_NOT_TRADES = frozenset(b"0 3 4 5 6 7 8 9 A B C D E I J K L".split())
_FILLS_42 = frozenset((b"1", b"2", b"F"))
_MAX_ID_BYTES = 64
_cached_number = lru_cache(maxsize=65_536)(parse_e8)
_decode = lru_cache(maxsize=65_536)(lambda raw: raw.decode("latin-1"))


class Invalid(Exception):
    """The report cannot be booked. `tag` is the field at fault; the message says what to send instead."""

    def __init__(self, tag: bytes, message: str) -> None:
        super().__init__(message)
        self.tag = tag


def action_of(fields: Fields) -> int | None:
    """ACTION_TRADE, ACTION_BUST or ACTION_CORRECT of an ExecutionReport; None if it moves no position.

    Raises:
        Invalid: ExecType(150) or ExecTransType(20) has a value that FIX does not know.
    """
    exec_type = fields.get(b"150")
    if exec_type is None:
        raise Invalid(b"150", "ExecType(150) is missing: an ExecutionReport must say what it reports")
    trans = fields.get(b"20")
    if trans is not None:
        if trans == b"1":
            return ACTION_BUST
        if trans == b"2":
            return ACTION_CORRECT
        if trans == b"3":
            return None
        if trans != b"0":
            raise Invalid(b"20", f"ExecTransType(20)={_show(trans)} is not one of 0, 1, 2, 3")
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
        raise Invalid(
            b"20",
            f"ExecTransType(20) is missing: ExecType(150)={_show(exec_type)} is a fill only in FIX 4.2, "
            "which has that field; FIX 4.4 says F",
        )
    raise Invalid(b"150", f"ExecType(150)={_show(exec_type)} is not a value of FIX 4.2 or 4.4")


def trade_of(
    fields: Fields, frame: bytes, *, session: str, epoch: int, msg_seq_num: int, received_at_ns: int
) -> Trade | None:
    """The trade that an ExecutionReport reports, or None if it moves no position.

    Raises:
        Invalid: a field is missing or impossible.
    """
    action = action_of(fields)
    if action is None:
        return None
    get = fields.get
    exec_id = get(b"17")
    if not exec_id:
        raise Invalid(b"17", "ExecID(17) is missing: without it a trade has no identity")
    if len(exec_id) > _MAX_ID_BYTES:
        raise Invalid(b"17", f"ExecID(17) has {len(exec_id)} bytes; at most {_MAX_ID_BYTES} are kept")
    reference = get(b"19", b"")
    if action != ACTION_TRADE and not reference:
        raise Invalid(b"19", "ExecRefID(19) is missing: a bust or a correction must name the trade it changes")
    symbol = get(b"55")
    if not symbol:
        raise Invalid(b"55", "Symbol(55) is missing")
    side = _SIDES.get(get(b"54", b""))
    if side is None:
        raise Invalid(b"54", f"Side(54)={_show(get(b'54', b''))} is not one of 1, 2, 3, 4, 5, 6")
    return Trade(
        session,
        epoch,
        msg_seq_num,
        exec_id.decode("latin-1"),
        reference.decode("latin-1"),
        action,
        side,
        _decode(symbol),
        _decode(executing_trader(frame)),
        _decode(get(STRATEGY_TAG, b"")),
        _decode(get(b"1", b"")),
        _number(fields, b"32", "LastQty(32)", action, positive=action != ACTION_BUST),
        _number(fields, b"31", "LastPx(31)", action, positive=False),
        _transact_time(get(b"60")),
        received_at_ns,
        frame,
    )


def _number(fields: Fields, tag: bytes, name: str, action: int, *, positive: bool) -> int:
    """A quantity or a price in 1e-8; 0 when a bust names none, as it may (FIX 4.4 vol. 4, ExecutionReport)."""
    text = fields.get(tag)
    if text is None:
        if action == ACTION_BUST:
            return 0
        raise Invalid(tag, f"{name} is missing: a trade needs its own quantity and price, not those of the order")
    try:
        value = _cached_number(text)
    except ValueError as error:
        raise Invalid(tag, f"{name}: {error}") from None
    if value < 0 or (positive and value == 0):
        raise Invalid(tag, f"{name}={_show(text)} must be {'above' if positive else 'at least'} 0")
    return value


def _transact_time(text: bytes | None) -> int:
    if text is None:
        raise Invalid(b"60", "TransactTime(60) is missing: the time of a trade is never guessed")
    try:
        return parse_timestamp_ns(text)
    except ValueError as error:
        raise Invalid(b"60", f"TransactTime(60): {error}") from None


def _show(raw: bytes) -> str:
    return repr(raw[:32].decode("latin-1"))
