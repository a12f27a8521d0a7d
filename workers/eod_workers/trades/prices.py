"""Prices ↔ `PriceBatch` (protos/eod/v1/prices.proto)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eod_workers.layouts import PRICE_BATCH, UndecodableBatch
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE, PRICE_SOURCE_PREVIOUS_CLOSE, PriceBatch


class Price(NamedTuple):
    """A price of one symbol. `source` is a `PriceSource`, `session_date` the trading session as yyyymmdd."""

    symbol: str
    source: int
    px_e8: int
    event_time_ns: int
    session_date: int


def encode_prices(prices: Sequence[Price]) -> bytes:
    """Prices of one partition as the value of one record."""
    table: dict[str, int] = {"": 0}
    batch = PriceBatch(
        version=PRICE_BATCH.version,
        symbol=[table.setdefault(price.symbol, len(table)) for price in prices],
        source=[price.source for price in prices],
        px_e8=[price.px_e8 for price in prices],
        event_time_ns=[price.event_time_ns for price in prices],
        session_date=[price.session_date for price in prices],
    )
    batch.strings.extend(table)
    return batch.SerializeToString()


def decode_prices(value: bytes) -> list[Price]:
    """The prices of one record.

    Raises:
        UndecodableBatch: not a `PriceBatch` of a known version, columns that do not fit together, or a price whose
            source is outside the schema and so has no rank among the marks.
    """
    batch = PRICE_BATCH.parse(value)
    try:
        prices = [
            Price(batch.strings[symbol], source, px, at, date)
            for symbol, source, px, at, date in zip(
                batch.symbol, batch.source, batch.px_e8, batch.event_time_ns, batch.session_date, strict=True
            )
        ]
    except (ValueError, IndexError) as error:
        raise UndecodableBatch(f"columns of the PriceBatch do not fit together: {error}") from error
    for price in prices:
        if not PRICE_SOURCE_PREVIOUS_CLOSE <= price.source <= PRICE_SOURCE_OFFICIAL_CLOSE:
            raise UndecodableBatch(f"a price of {price.symbol}: source {price.source} is outside the schema")
    return prices
