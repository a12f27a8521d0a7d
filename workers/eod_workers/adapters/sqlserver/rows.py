"""Rows as the bulk copy takes them, checked: what it cannot carry it would cut off without a word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import itemgetter

from eod_workers.adapters.sqlserver.schema import KINDS, TEXT_UNITS, UNBOUNDED
from eod_workers.ports import REFERENCE
from eod_workers.trades.conflicts import FIELD

_LEAST, _MOST = -(2**63), 2**63 - 1
_ENCODING = "utf-16-le"
_KEYS = {"trades": 3, "exceptions": 4, **dict.fromkeys(REFERENCE, 1)}
"""How many of the first columns make a row's identity."""

Staged = tuple[bytes | int, ...]


def staged(table: str, rows: Iterable[Sequence[object]]) -> list[Staged]:
    """The rows with their keys, the first of each key alone.

    Raises:
        ValueError: a row cannot be stored; the message names the column.
    """
    identity = _identity(table)
    given = list(zip(*rows, strict=True))
    columns = [
        _integers(name, column) if kind is int else _texts(name, column)
        for (name, kind), column in zip(KINDS[table].items(), given or repeat(()), strict=bool(given))
    ]
    firsts: dict[bytes, Staged] = {}
    for values in zip(*columns, strict=True):
        key = _key(identity(values))
        if key not in firsts:
            firsts[key] = (key, *values)
    return list(firsts.values())


def _identity(table: str) -> Callable[[Sequence[bytes | int]], Sequence[bytes | int]]:
    """Takes what a row is told apart by: its first columns, and of an ExecID of two trades also which the other is."""
    first, detail = _KEYS[table], list(KINDS[table]).index("detail") if "detail" in KINDS[table] else 0
    if not detail:
        return itemgetter(slice(first))
    field, another = first - 1, FIELD.encode(_ENCODING)
    return lambda values: (*values[:first], values[detail]) if values[field] == another else values[:first]


def _integers(name: str, column: Sequence[object]) -> Sequence[int]:
    """A column at once, if there is nothing odd about it."""
    if set(map(type, column)) == {int} and min(column) >= _LEAST and max(column) <= _MOST:  # type: ignore[type-var,operator]
        return column  # type: ignore[return-value]
    return [_integer(name, value) for value in column]


def _texts(name: str, column: Sequence[object]) -> Sequence[bytes]:
    """The same; most columns say the same few things again and again."""
    if set(map(type, column)) != {str}:
        return [_text(name, value) for value in column]
    different = {text: _text(name, text) for text in set(column)}
    return [different[text] for text in column]


def _integer(name: str, value: object) -> int:
    if type(value) is not int or not _LEAST <= value <= _MOST:
        raise ValueError(f"SQL Server refuses the row: {name}={value!r} is no integer of 64 bits")
    return value


def _text(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"SQL Server refuses the row: {name}={value!r} is no text")  # noqa: TRY004 - see the port
    try:
        data = value.encode(_ENCODING)
    except UnicodeEncodeError as error:
        raise ValueError(f"SQL Server refuses the row: {name} is no Unicode: {error}") from None
    if len(data) > 2 * TEXT_UNITS and name not in UNBOUNDED:
        raise ValueError(
            f"SQL Server refuses the row: {name} has {len(data) // 2:,} characters, {TEXT_UNITS:,} are kept"
        )
    return data


def _key(values: Sequence[bytes | int]) -> bytes:
    """A hash of texts, each with its length before it, so that no two lists of texts look alike, and of a trade date.

    A date that is not known adds nothing: rows that were stored before there were dates keep their keys.
    """
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, bytes):
            digest.update(len(value).to_bytes(4, "little"))
            digest.update(value)
        elif value:
            digest.update(b"\xff\xff\xff\xff")  # no length of a text
            digest.update(value.to_bytes(8, "little", signed=True))
    return digest.digest()
