"""What flash P&L shows the world, as its readers see it: a hash of positions a trader, and a channel of updates.

The words are those of `publishing`. Whoever shows or checks positions reads them here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Inexact, InvalidOperation, Overflow
from typing import Any, Final

from eod_workers.pnl.marks import SOURCES
from eod_workers.ports import StateStore
from eod_workers.trades.model import UNASSIGNED
from eod_workers.trades.numbers import E8

POSITIONS: Final = "positions:"
"""Before a trader, the key of the hash symbol → position."""

UPDATES: Final = "pnl-updates:"
"""Before a trader, the channel of the updates."""

Key = tuple[str, str]
"""(trader as published, symbol)."""

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
"""More digits than a position ever has; a number that would be rounded is refused."""
_SOURCES = {name: source for source, name in SOURCES.items()}


class Unreadable(ValueError):
    """What was published is no position, or no update; the message says why, and shows its beginning."""


@dataclass(frozen=True, slots=True)
class Published:
    """A position as it was published: quantities and prices in 1e-8, money in 1e-16.

    Attributes:
        average_price_e8: None when flat.
        unrealized_e16: None while an open position has no mark.
        total_e16: realized and unrealized; None likewise.
        mark_e8: the price that it is valued at, None without one.
        mark_source: a PriceSource; None without a mark.
        trades: how many made it.
        multiplier_e8: how many times quantity times price the money is, in 1e-8.
        approximate: whether average and realized P&L are as a book had them that saw a trade which was taken back.
    """

    quantity_e8: int
    average_price_e8: int | None
    cost_e16: int
    realized_e16: int
    unrealized_e16: int | None
    total_e16: int | None
    mark_e8: int | None
    mark_source: int | None
    trades: int
    multiplier_e8: int = E8
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """A message: the positions of one trader that have changed in one partition.

    Attributes:
        trader: whose they are, `UNASSIGNED` for nobody's.
        partition: of `trades.raw`.
        as_of_ns: wall clock at which the book was read.
        positions: symbol → position.
    """

    trader: str
    partition: int
    as_of_ns: int
    positions: Mapping[str, Published]


def positions_key(trader: str) -> str:
    """The hash of a trader's positions: symbol → JSON (see `publishing.position_field`)."""
    return f"{POSITIONS}{trader or UNASSIGNED}"


def updates_channel(trader: str) -> str:
    """The channel of a trader's updates (see `publishing.update_message`)."""
    return f"{UPDATES}{trader or UNASSIGNED}"


def read_position(value: bytes) -> Published:
    """A position from its bytes in the hash.

    Raises:
        Unreadable: it is none.
    """
    return _position(_object(value, "a position"), value)


def read_update(message: bytes) -> Update:
    """An update from the bytes of its message.

    Raises:
        Unreadable: it is none.
    """
    told = _object(message, "an update")
    try:
        positions = {symbol: _position(position, message) for symbol, position in told["positions"].items()}
        return Update(told["trader"] or UNASSIGNED, int(told["partition"]), int(told["as_of_ns"]), positions)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"no update ({error!r}): {_said(message)}") from error


async def stored(state: StateStore, traders: Iterable[str] | None = None) -> dict[Key, bytes]:
    """The positions in the store as they stand there, of some traders (as published) or of all."""
    keys = await state.keys(POSITIONS) if traders is None else [positions_key(trader) for trader in traders]
    return {
        (key.removeprefix(POSITIONS), symbol): value
        for key in keys
        for symbol, value in (await state.hash_get_all(key)).items()
    }


async def updates(state: StateStore, trader: str | None = None) -> AsyncIterator[Update]:
    """The updates of one trader, or of all, from now on.

    Raises:
        Unavailable: some may have been lost: read what is stored, and listen again.
        Unreadable: a message is no update.
    """
    subscription = await state.subscribe(f"{UPDATES}*" if trader is None else updates_channel(trader))
    try:
        async for _, message in subscription:
            yield read_update(message)
    finally:
        await subscription.close()


def _object(value: bytes, what: str) -> dict[str, Any]:
    try:
        told = json.loads(value)
    except ValueError as error:
        raise Unreadable(f"not {what}, no JSON: {_said(value)}") from error
    if not isinstance(told, dict):
        raise Unreadable(f"not {what}, no JSON object: {_said(value)}")
    return told


def _position(told: Mapping[str, Any], value: bytes) -> Published:
    try:
        source = told["mark_source"]
        return Published(
            _units(told["quantity"], 8),
            _units_or_none(told["average_price"], 8),
            _units(told["cost"], 16),
            _units(told["realized"], 16),
            _units_or_none(told["unrealized"], 16),
            _units_or_none(told["total"], 16),
            _units_or_none(told["mark"], 8),
            None if source is None else _SOURCES[source],
            int(told["trades"]),
            _units(told.get("multiplier", "1"), 8),
            bool(told.get("approximate")),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Unreadable(f"no position ({error!r}): {_said(value)}") from error


def _units(text: str, places: int) -> int:
    """Decimal text in units of 10^-places.

    Raises:
        ValueError: it has more decimals, or is no number.
    """
    value = _EXACT.scaleb(_EXACT.create_decimal(text), places)
    whole = int(value)
    if value != whole:
        raise ValueError(f"{text} has more than {places} decimals")
    return whole


def _units_or_none(text: str | None, places: int) -> int | None:
    return None if text is None else _units(text, places)


def _said(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - a line
