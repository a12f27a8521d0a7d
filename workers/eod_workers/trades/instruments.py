"""Which instrument a report is about, as one text: the key of positions, prices and partitions.

A share is its Symbol(55). What else the Instrument block says (FIX 4.4 vol. 1, component block Instrument; FIX 4.2 has
the fields singly) makes it another instrument, so it is in the key as far as it is there: an option as the Options
Clearing Corporation writes it (OSI, "IBM   260116C00150000"), a future as "ES 202603", others with their SecurityType.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from eod_workers.fix.fields import Fields, quoted, text_of
from eod_workers.trades.numbers import E8, format_e8, parse_e8

INSTRUMENT_TAGS = frozenset(b"55 65 167 200 201 202 205 207 461 541".split())
"""What the key is made of."""

_PLAIN = frozenset((b"", b"CS"))
"""SecurityType(167) of what its symbol names already: not said, common stock."""
_OF_CFI = {b"O": b"OPT", b"F": b"FUT"}
"""The first letter of CFICode(461), ISO 10962: listed options, futures."""
_RIGHTS = {b"0": "P", b"1": "C"}
_RIGHTS_OF_CFI = {b"OC": "C", b"OP": "P"}
_DAY = re.compile(rb"\d{8}\Z")
_MONTH = re.compile(rb"\d{6}\Z")
_OSI = re.compile(r"(\S{1,6}) *(\d{6}[CP]\d{8})\Z")
_ROOT, _STRIKE_DIGITS, _MILLS = 6, 8, E8 // 1000


class NoInstrument(ValueError):
    """A field of the instrument is impossible. `tag` is that field."""

    def __init__(self, tag: bytes, message: str) -> None:
        super().__init__(message)
        self.tag = tag


def instrument_of(fields: Fields) -> str:
    """The key of the instrument that the fields name; "" without Symbol(55), whose blanks at either end mean nothing.

    Raises:
        NoInstrument: StrikePrice(202) is no number, PutOrCall(201) neither put nor call, or MaturityMonthYear(200) or
            MaturityDate(541) no month or day that there is.
    """
    symbol = fields.get(b"55", b"").strip(b" ")
    if INSTRUMENT_TAGS.isdisjoint(fields.keys() - {b"55"}):
        return text_of(symbol)
    return _key(symbol, *map(fields.get, (b"65", b"167", b"200", b"201", b"202", b"205", b"207", b"461", b"541")))


@lru_cache(maxsize=65_536)
def _key(
    symbol: bytes,
    suffix: bytes | None,
    kind: bytes | None,
    month: bytes | None,
    put_or_call: bytes | None,
    strike: bytes | None,
    day: bytes | None,
    exchange: bytes | None,
    cfi: bytes | None,
    maturity_date: bytes | None,
) -> str:
    name = text_of(symbol)
    if not name:
        return ""
    if suffix:
        name = f"{name}/{text_of(suffix)}"
    kind = kind or _OF_CFI.get((cfi or b"")[:1], b"")
    maturity = _maturity(month, day, maturity_date)
    right = _RIGHTS.get(put_or_call, "") if put_or_call else _RIGHTS_OF_CFI.get((cfi or b"")[:2], "")
    if put_or_call and not right:
        raise NoInstrument(b"201", f"PutOrCall(201)={quoted(put_or_call)} is neither 0, a put, nor 1, a call")
    if right != _RIGHTS_OF_CFI.get((cfi or b"")[:2], right):
        raise NoInstrument(b"201", f"PutOrCall(201) says {right}, and CFICode(461)={quoted(cfi or b'')} something else")
    price = _strike(strike)
    if kind == b"OPT" and (found := _OSI.match(name)):
        name = f"{found[1]:<{_ROOT}}{found[2]}"
    elif kind in {b"", b"OPT"} and maturity and right and price is not None:
        name = _osi(name, maturity, right, price) or f"{name} OPT {maturity} {right}{format_e8(price)}"
    elif kind not in _PLAIN or maturity or price is not None:
        told = "" if kind == b"FUT" and maturity else text_of(kind)
        terms = right + ("" if price is None else format_e8(price))
        name = " ".join(part for part in (name, told, maturity, terms) if part)
    return f"{name}@{text_of(exchange)}" if exchange else name


def _maturity(month: bytes | None, day: bytes | None, whole: bytes | None) -> str:
    """MaturityDate(541), or MaturityMonthYear(200) with MaturityDay(205) of FIX 4.2, as far as they are there.

    Other words than a month or a day ("202603w2", "JUN26") are taken as they are.
    """
    if whole:
        return text_of(_there_is(b"541", "MaturityDate(541)", whole))
    if not month:
        return ""
    _there_is(b"200", "MaturityMonthYear(200)", month)
    if day and _MONTH.match(month) and day.isdigit():
        return text_of(_there_is(b"205", "MaturityMonthYear(200) and MaturityDay(205)", b"%b%02d" % (month, int(day))))
    return text_of(month)


def _there_is(tag: bytes, name: str, value: bytes) -> bytes:
    """The value, unless it is to be a month or a day and is none. Only MaturityMonthYear(200) may be something else."""
    may_be_other = tag == b"200"
    if not _DAY.match(value) and not (may_be_other and _MONTH.match(value)):
        if may_be_other:
            return value
    elif _is_in_a_year(value):
        return value
    raise NoInstrument(tag, f"{name}={quoted(value)} is no month or day that there is (YYYYMM or YYYYMMDD)")


def _is_in_a_year(digits: bytes) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:] or b"1"))
    except ValueError:
        return False
    return True


def _strike(text: bytes | None) -> int | None:
    if not text:
        return None
    try:
        return parse_e8(text)
    except ValueError as error:
        raise NoInstrument(b"202", f"StrikePrice(202): {error}") from None


def _osi(root: str, maturity: str, right: str, price_e8: int) -> str:
    """The 21 characters of the Options Symbology Initiative, with the day 00 where only the month is known.

    "" for what they cannot say: a longer root, weeks, a strike that has more digits.
    """
    raw = maturity.encode()
    yymmdd = maturity[2:] if _DAY.match(raw) else f"{maturity[2:]}00" if _MONTH.match(raw) else ""
    mills, rest = divmod(price_e8, _MILLS)
    if not yymmdd or len(root) > _ROOT or " " in root or rest or not 0 <= mills < 10**_STRIKE_DIGITS:
        return ""
    return f"{root:<{_ROOT}}{yymmdd}{right}{mills:0{_STRIKE_DIGITS}}"
