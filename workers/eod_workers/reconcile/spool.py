"""Sorting more trades than fit into memory: a private SQLite database that lives in a file without a name.

Log and regulatory store are in orders of their own, so each side is written here as it is read, and read back sorted
by trade. SQLite keeps `CACHE_KIB` of it in memory and the rest in a temporary file, which the system deletes when this
process ends, however it ends. The file is in the folder that SQLITE_TMPDIR or TMPDIR names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eod_workers.ports import ExceptionRow, TradeRow
from eod_workers.reconcile.report import NotComparable
from eod_workers.reconcile.trades import Occurrence

CACHE_KIB = 16 * 1024
_FETCHED_ROWS = 5_000


class Spool:
    """Occurrences of trades in the log, rows and exceptions of the store; see the module."""

    def __init__(self) -> None:
        # An empty name is SQLite's for a database of this connection alone, on disk only as far as it must.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        for table, columns in (
            ("occurrences", Occurrence._fields),
            ("rows", TradeRow._fields),
            ("exceptions", ExceptionRow._fields),
        ):
            self._db.execute(f"CREATE TABLE {table} ({', '.join(map(_quoted, columns))})")

    def add_occurrences(self, some: Sequence[Occurrence]) -> None:
        """Takes trades as the log has them."""
        self._add("occurrences", some)

    def add_rows(self, some: Sequence[TradeRow]) -> None:
        """Takes rows of the store."""
        self._add("rows", some)

    def add_exceptions(self, some: Sequence[ExceptionRow]) -> None:
        """Takes exceptions of the store."""
        self._add("exceptions", some)

    def occurrences(self) -> Iterator[Occurrence]:
        """Sorted by trade, then by place in the log."""
        order = 'session, trade_date, exec_id, "partition", "offset", nth'
        return map(Occurrence._make, self._select(f"SELECT * FROM occurrences ORDER BY {order}"))  # noqa: S608 - our own names

    def rows(self) -> Iterator[TradeRow]:
        """Sorted by trade."""
        return map(TradeRow._make, self._select("SELECT * FROM rows ORDER BY session, trade_date, exec_id"))

    def exceptions(self) -> Iterator[ExceptionRow]:
        """Sorted by trade, then by field."""
        return map(
            ExceptionRow._make, self._select("SELECT * FROM exceptions ORDER BY session, trade_date, exec_id, field")
        )

    def rows_before(self, topic: str, partition: int, offset: int) -> Iterator[TradeRow]:
        """Rows of the records before an offset, in the order of the log; within a record as they were stored."""
        query = (
            'SELECT * FROM rows WHERE topic = ? AND "partition" = ? AND "offset" < ? ORDER BY "offset", rowid'  # a scan
        )
        return map(TradeRow._make, self._select(query, topic, partition, offset))

    @property
    def size_bytes(self) -> int:
        """Of everything added; sorting takes as much again for a while."""
        (pages,), (page_bytes,) = (
            self._db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return int(pages * page_bytes)

    def close(self) -> None:
        """Deletes everything."""
        self._db.close()

    def _add(self, table: str, some: Sequence[Sequence[object]]) -> None:
        if some:
            marks = ", ".join("?" * len(some[0]))
            with _room():
                self._db.execute("BEGIN")
                self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", some)  # noqa: S608 - only question marks
                self._db.execute("COMMIT")

    def _select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with _room():
            cursor = self._db.execute(query, values)
            while page := cursor.fetchmany(_FETCHED_ROWS):
                yield from page


@contextmanager
def _room() -> Iterator[None]:
    """Says what to do when the temporary file cannot grow.

    Raises:
        NotComparable: no room, or no folder to write in.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise NotComparable(
            f"the temporary file that trades are sorted in cannot be written ({error}): "
            "set TMPDIR to a folder with room; docs/reconcile.md says how much a million trades take"
        ) from error


def _quoted(name: str) -> str:
    return f'"{name}"'
