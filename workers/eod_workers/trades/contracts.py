"""What the money of a trade is: what one unit of quantity at one unit of price comes to, and in which currency.

Both are terms of the instrument. ContractMultiplier(231) and Currency(15) of a report say them (FIX 4.4 vol. 6),
without them reference data, and else the multiplier is 1 and the currency that of the house.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from eod_workers.fix.fields import Fields, text_of
from eod_workers.trades.numbers import E8, format_e8, parse_e8

HOUSE: Final = "USD"
"""The currency of the house unless it says otherwise."""
CURRENCY: Final = re.compile(r"[A-Z][A-Za-z]{2}\Z")
"""ISO 4217, and the like of GBp for pence."""
_IN_KEY = re.compile(r" \(([A-Z][A-Za-z]{2})\)\Z")


class Contract(NamedTuple):
    """Terms of an instrument. 0 and "" are not said."""

    multiplier_e8: int = 0
    currency: str = ""


class BadTerms(ValueError):
    """A field of the terms is impossible, or contradicts reference data. `tag` is that field."""

    def __init__(self, tag: bytes, message: str) -> None:
        super().__init__(message)
        self.tag = tag


_NOTHING_SAID = Contract()


@dataclass(frozen=True, slots=True)
class Contracts:
    """The terms of all instruments.

    Attributes:
        house: the currency of what names none.
        known: what reference data says, by instrument (see `trades.instruments`) or by Symbol(55).
    """

    house: str = HOUSE
    known: Mapping[str, Contract] = field(default_factory=dict)

    def terms(self, fields: Fields, instrument: str) -> tuple[str, int]:
        """The instrument's key with its currency, and its multiplier in 1e-8, 0 if nobody says it.

        A key tells the currency if it is not that of the house: what is in two currencies is not added up.

        Raises:
            BadTerms: a field is impossible, or says another multiplier than reference data, or another
                currency than the symbol.
        """
        multiplier, currency = fields.get(b"231"), fields.get(b"15")
        known = _NOTHING_SAID
        if self.known:
            known = self.known.get(instrument) or self._of_symbol(fields)
        elif multiplier is None and currency is None and not instrument.endswith(")"):
            return instrument, 0
        multiplier_e8 = _multiplier(multiplier)
        if multiplier_e8 and known.multiplier_e8 and multiplier_e8 != known.multiplier_e8:
            raise BadTerms(
                b"231",
                f"ContractMultiplier(231) is {format_e8(multiplier_e8)}, and {format_e8(known.multiplier_e8)} in the "
                f"reference data for {instrument}: whichever is wrong must be mended",
            )
        own = currency_of(instrument)  # of a symbol that is written as a key
        said = text_of(currency or b"") or own or known.currency or self.house
        if not CURRENCY.match(said):
            raise BadTerms(b"15", f"Currency(15)={said[:32]!r} is no currency such as USD (ISO 4217)")
        if own and said != own:
            raise BadTerms(b"15", f"Currency(15) is {said}, and Symbol(55) says {own}: {instrument}")
        key = instrument if said == (own or self.house) or not instrument else f"{instrument} ({said})"
        return key, multiplier_e8 or known.multiplier_e8

    def _of_symbol(self, fields: Fields) -> Contract:
        """What is known of a Symbol(55). The multiplier of an option is not that of what it is about."""
        known = self.known.get(text_of(fields.get(b"55", b"").strip(b" ")), _NOTHING_SAID)
        is_option = fields.get(b"167") == b"OPT" or b"201" in fields or b"202" in fields
        return known._replace(multiplier_e8=0) if is_option or fields.get(b"461", b"")[:1] == b"O" else known


def currency_of(instrument: str) -> str:
    """The currency that the key of an instrument tells; "" for that of the house."""
    found = _IN_KEY.search(instrument)
    return found[1] if found else ""


def money_e16(value_e16: int, multiplier_e8: int) -> int:
    """Money of quantity times price in 1e-16: times the multiplier (0 is 1), to the nearest 1e-16, ties up."""
    if multiplier_e8 in {0, E8}:
        return value_e16
    return (2 * value_e16 * multiplier_e8 + E8) // (2 * E8)


def _multiplier(text: bytes | None) -> int:
    if text is None:
        return 0
    try:
        value = parse_e8(text)
    except ValueError as error:
        raise BadTerms(b"231", f"ContractMultiplier(231): {error}") from None
    if value <= 0:
        raise BadTerms(b"231", f"ContractMultiplier(231)={format_e8(value)} must be above 0")
    return value
