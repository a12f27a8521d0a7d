"""Rows as the bulk copy takes them, checked: what it cannot carry it would cut off without a word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from eod_workers.adapters.sqlserver.schema import KINDS, TEXT_UNITS, UNBOUNDED

_LEAST, _MOST = -(2**63), 2**63 - 1
_ENCODING = "utf-16-le"
_KEYS = {"trades": 3, "exceptions": 4}
"""How many of the first columns make a row's identity."""

Staged = tuple[bytes | int, ...]


def staged(table: str, rows: Iterable[Sequence[object]]) -> list[Staged]:
    """The rows with their keys, the first of each key alone.

    Raises:
        ValueError: a row cannot be stored; the message names the column.
    """
    kinds = list(KINDS[table].items())
    identity = _KEYS[table]
    firsts: dict[bytes, Staged] = {}
    for row in rows:
        values = tuple(
            _integer(name, value) if kind is int else _text(name, value)
            for (name, kind), value in zip(kinds, row, strict=True)
        )
        key = _key(values[:identity])
        if key not in firsts:
            firsts[key] = (key, *values)
    return list(firsts.values())


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
