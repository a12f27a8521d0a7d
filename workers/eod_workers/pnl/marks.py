"""Which of the prices known for a symbol values its positions.

Official close > last trade > mid > previous close: within a session a lower source never replaces a higher one, so
that mids trickling in after the bell leave the close alone. A new session starts over.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eod_workers.protos import prices_pb2

SOURCES: Final[dict[int, str]] = {
    prices_pb2.PRICE_SOURCE_PREVIOUS_CLOSE: "previous_close",
    prices_pb2.PRICE_SOURCE_MID: "mid",
    prices_pb2.PRICE_SOURCE_LAST_TRADE: "last_trade",
    prices_pb2.PRICE_SOURCE_OFFICIAL_CLOSE: "official_close",
}
"""PriceSource → its name outside. The numbers of PriceSource rise with rank."""


class Mark(NamedTuple):
    """A price that values positions: its PriceSource, when it was made and the session (yyyymmdd) it belongs to."""

    source: int
    px_e8: int
    event_time_ns: int
    session_date: int


def choose(current: Mark | None, incoming: Mark) -> Mark:
    """The better of two marks of one symbol.

    The later session wins; within a session the higher source; within a source the later event time; among equals
    the incoming one, which corrects the current one.

    Raises:
        ValueError: the incoming mark's source is unknown, so it has no rank.
    """
    if incoming.source not in SOURCES:
        raise ValueError(f"PriceSource {incoming.source} is unknown; it must be one of {sorted(SOURCES)}")
    if current is None:
        return incoming
    # A comparison of tuples decides by their first difference.
    newer = (incoming.session_date, incoming.source, incoming.event_time_ns)
    return incoming if newer >= (current.session_date, current.source, current.event_time_ns) else current
