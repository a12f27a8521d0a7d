"""The regulatory store in one SQLite file, which several processes may write at the same time.

One thread of its own makes every call, so that the event loop never waits for the disk. A `store` is one transaction
that takes the write lock first; the file is in WAL mode with synchronous=FULL, so what was stored survives the
machine. Triggers refuse to change or delete rows, whoever asks.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from eod_workers.adapters.sqlite_reports import VIEWS
from eod_workers.ports import (
    NO_IDS,
    REFERENCE,
    Changes,
    Claimed,
    ExceptionRow,
    ReferenceRows,
    StaleEpoch,
    Stored,
    TopicPartition,
    TradeRow,
    Unavailable,
    are_two,
    changes,
)
from eod_workers.runtime.variables import SettingsError
from eod_workers.trades.conflicts import FIELD, conflict, substance

DEFAULT_BUSY_TIMEOUT_S = 5.0
_READ_ROWS = 5_000
_OPEN_RETRY_S = 0.01
Answer = TypeVar("Answer")

_TABLES = (
    """
    CREATE TABLE trades (
        session TEXT NOT NULL, trade_date INTEGER NOT NULL, exec_id TEXT NOT NULL,
        epoch INTEGER NOT NULL, msg_seq_num INTEGER NOT NULL,
        action INTEGER NOT NULL, exec_ref_id TEXT NOT NULL,
        symbol TEXT NOT NULL, side INTEGER NOT NULL,
        last_qty_e8 INTEGER NOT NULL, last_px_e8 INTEGER NOT NULL,
        transact_time_ns INTEGER NOT NULL, time_source INTEGER NOT NULL,
        multiplier_e8 INTEGER NOT NULL,
        trader TEXT NOT NULL, strategy TEXT NOT NULL, account TEXT NOT NULL,
        trader_name TEXT NOT NULL, desk TEXT NOT NULL, strategy_name TEXT NOT NULL, isin TEXT NOT NULL,
        topic TEXT NOT NULL, "partition" INTEGER NOT NULL, "offset" INTEGER NOT NULL,
        PRIMARY KEY (session, trade_date, exec_id)
    ) STRICT
    """,
    """
    CREATE TABLE exceptions (
        session TEXT NOT NULL, trade_date INTEGER NOT NULL, exec_id TEXT NOT NULL, field TEXT NOT NULL,
        value TEXT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (session, trade_date, exec_id, field, detail)
    ) STRICT
    """,
    """
    CREATE TABLE offsets (
        grp TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL,
        next_offset INTEGER, epoch INTEGER NOT NULL, topic_id TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (grp, topic, part)
    ) STRICT, WITHOUT ROWID
    """,
)

# INSERT OR REPLACE would delete without asking the second trigger. The third leaves a row that exists as it is: that
# refuses replacement, and it is also how a trade that comes again is dropped.
_APPEND_ONLY = (
    """
    CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
    """,
    """
    CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
    """,
    """
    CREATE TRIGGER {table}_keep_first BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})
    BEGIN SELECT RAISE(IGNORE); END
    """,
)

_SAME_TRADE = "session = NEW.session AND trade_date = NEW.trade_date AND exec_id = NEW.exec_id"
_SCHEMA_VERSION = 7
_TYPES = {str: "TEXT", int: "INTEGER"}


def _reference_table(table: str, row: type) -> str:
    (first, kind), *rest = get_type_hints(row).items()
    columns = "".join(f", {name} {_TYPES[kind]} NOT NULL" for name, kind in rest)
    return f"CREATE TABLE {table} ({first} {_TYPES[kind]} NOT NULL PRIMARY KEY{columns}) STRICT, WITHOUT ROWID"


_REFERENCE_TABLES = tuple(_reference_table(table, row) for table, row in REFERENCE.items())
_AT_THIS_VERSION = f"PRAGMA user_version = {_SCHEMA_VERSION}"
_SAME_EXCEPTION = f"{_SAME_TRADE} AND field = NEW.field AND (NEW.field <> '{FIELD}' OR detail = NEW.detail)"
_TRADES_TRIGGERS = tuple(trigger.format(table="trades", same=_SAME_TRADE) for trigger in _APPEND_ONLY)
_EXCEPTIONS_TRIGGERS = tuple(trigger.format(table="exceptions", same=_SAME_EXCEPTION) for trigger in _APPEND_ONLY)
_TRIGGERS = (*_TRADES_TRIGGERS, *_EXCEPTIONS_TRIGGERS)
_SINCE_6 = ("ALTER TABLE offsets ADD COLUMN topic_id TEXT NOT NULL DEFAULT ''", _AT_THIS_VERSION)
_SINCE_4 = (*VIEWS.values(), *_SINCE_6)
_SINCE_3 = (*_REFERENCE_TABLES, *_SINCE_4)


def _carry_over(table: str, added: Mapping[str, str], columns: Sequence[str]) -> Iterator[str]:
    """Renames a table, whose key and order of columns cannot be changed where they stand, and copies its rows."""
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(added.get(name, f'"{name}"') for name in columns)
    yield from (f"DROP TRIGGER {table}_{trigger}" for trigger in ("no_update", "no_delete", "keep_first"))
    yield f"ALTER TABLE {table} RENAME TO {table}_old"
    yield _TABLES[0 if table == "trades" else 1]
    yield f"INSERT INTO {table} ({names}) SELECT {values} FROM {table}_old ORDER BY rowid"  # noqa: S608  our own names
    yield f"DROP TABLE {table}_old"


_EXCEPTIONS_ANEW = (*_carry_over("exceptions", {}, ExceptionRow._fields), *_EXCEPTIONS_TRIGGERS)
"""Until version 5 only the first of several other trades under one ExecID could be noted."""
_CHANGES = {
    0: (*_TABLES, *_TRIGGERS, *_REFERENCE_TABLES, *VIEWS.values(), _AT_THIS_VERSION),
    # What was stored before days were kept has the day 0, as its record in the log has; and its time is TransactTime.
    1: (
        *_carry_over("trades", {"trade_date": "0", "time_source": "0", "multiplier_e8": "0"}, TradeRow._fields),
        *_carry_over("exceptions", {"trade_date": "0"}, ExceptionRow._fields),
        *_TRIGGERS,
        *_SINCE_3,
    ),
    # And what was stored before multipliers were has the 0 of one that nobody said.
    2: (
        *_carry_over("trades", {"multiplier_e8": "0"}, TradeRow._fields),
        *_carry_over("exceptions", {}, ExceptionRow._fields),
        *_TRIGGERS,
        *_SINCE_3,
    ),
    3: (*_EXCEPTIONS_ANEW, *_SINCE_3),
    4: (*_EXCEPTIONS_ANEW, *_SINCE_4),
    5: (*_EXCEPTIONS_ANEW, *(f"DROP VIEW {view}" for view in VIEWS), *_SINCE_4),
    6: _SINCE_6,
}
"""Version that a file has → what makes it one of `_SCHEMA_VERSION`; 0 is a new file."""

_INSERT_TRADE = f"INSERT INTO trades VALUES ({', '.join('?' * len(TradeRow._fields))})"  # noqa: S608  only question marks
_INSERT_EXCEPTION = f"INSERT INTO exceptions VALUES ({', '.join('?' * len(ExceptionRow._fields))})"  # noqa: S608  only question marks
_TAKE_OVER = """
INSERT INTO offsets (grp, topic, part, next_offset, epoch, topic_id) VALUES (:grp, :topic, :part, NULL, 1, :topic_id)
ON CONFLICT DO UPDATE SET epoch = epoch + 1, next_offset = :next_offset, topic_id = :topic_id
RETURNING epoch
"""
_STORED_OFFSET = "SELECT next_offset, topic_id FROM offsets WHERE grp = ? AND topic = ? AND part = ?"

_OWN_TABLES = frozenset({"trades", "exceptions", "offsets"})
_IS_STORED = "SELECT * FROM trades WHERE session = ? AND trade_date = ? AND exec_id = ?"

_TRY_AGAIN = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_IMPOSSIBLE_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,  # a number of more than 64 bits
)
_NO_DATABASE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE = 0xFF  # the low byte of an extended result code


class SqliteRegulatoryStore:
    """Rows and offsets in the file at `path`, which is created at the first call; see `ports.RegulatoryStore`.

    Args:
        path: the file; its folder exists.
        busy_timeout_s: how long a call waits for another process's transaction before it raises `Unavailable`.
    """

    migrations: Mapping[int, str] = MappingProxyType(
        {
            1: "trades, exceptions, the offsets that they came from",
            2: "the trading day, and where a time comes from",
            3: "the multiplier of a contract",
            4: "traders, strategies, securities and market participants",
            5: "views of what stands after busts and corrections",
            6: "an exception for each other trade of an ExecID",
            7: "of which topic of a name the offsets are",
        }
    )

    def __init__(self, path: Path | str, *, busy_timeout_s: float = DEFAULT_BUSY_TIMEOUT_S) -> None:
        self._path = Path(path)
        self.where = str(path)
        self._busy_timeout_s = busy_timeout_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite {self._path.name}")
        self._connection: sqlite3.Connection | None = None  # belongs to the thread
        self._closed = False

    async def take_over(
        self, group: str, partitions: Iterable[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Claimed]:
        """Makes the caller the owner of the partitions: raises each one's epoch by one."""
        return await self._call(partial(self._take_over, group, sorted(set(partitions)), topic_ids))

    async def store(
        self,
        group: str,
        trades: Sequence[TradeRow],
        exceptions: Sequence[ExceptionRow],
        offsets: Mapping[TopicPartition, tuple[int, int]],
    ) -> Stored:
        """Stores rows and offsets in one transaction."""
        return await self._call(partial(self._store, group, trades, exceptions, dict(offsets)))

    async def trades(self) -> AsyncIterator[TradeRow]:
        """All rows, in the order in which they were stored."""
        async for row in self._rows("trades"):
            yield TradeRow._make(row)

    async def exceptions(self) -> AsyncIterator[ExceptionRow]:
        """All exceptions, in the order in which they were stored."""
        async for row in self._rows("exceptions"):
            yield ExceptionRow._make(row)

    async def put_reference(self, rows: ReferenceRows) -> dict[str, Changes]:
        """Makes these all that the tables hold, in one transaction."""
        return await self._call(partial(self._put_reference, rows))

    async def reference(self) -> ReferenceRows:
        """All that the tables hold."""
        return await self._call(lambda: {table: _reference(self._connected(), table) for table in REFERENCE})

    async def schema_version(self) -> int | None:
        """The version that is there, None if there is none; see `ports.SchemaOwner`."""
        if advice := self._advice(0):
            raise Unavailable(f"{self._path}{advice}")
        return await self._call(self._found)

    async def migrate(self) -> tuple[int | None, list[int]]:
        """Opens the file, which brings it to this release's version as every worker does that opens it."""
        before = await self._call(self._found)
        await self._call(self._connected)
        return before, [version for version in self.migrations if version > (before or 0)]

    async def close(self) -> None:
        """Closes the file after the calls under way."""
        if self._closed:
            return
        await self._call(self._disconnect)
        self._closed = True
        self._thread.shutdown(wait=False)

    async def _rows(self, table: str) -> AsyncIterator[tuple[Any, ...]]:
        """Reads in pages, so that no transaction stays open; rows are never deleted, so that none is missed."""
        after = 0
        while page := await self._call(partial(self._page, table, after)):
            for row in page:
                yield row[1:]
            after = page[-1][0]

    async def _call(self, call: Callable[[], Answer]) -> Answer:
        if self._closed:
            raise RuntimeError("this store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._translate, call)

    # --- what follows runs in the thread ----------------------------------------------------------

    def _translate(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except _IMPOSSIBLE_ROW as error:
            raise ValueError(f"{self._path} refuses the row: {error}") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
            if code != sqlite3.SQLITE_BUSY:
                self._disconnect()
            if code in _TRY_AGAIN:
                raise Unavailable(f"{self._path}: {error}{self._advice(code)}") from error
            if code in _NO_DATABASE:
                raise SettingsError(
                    f"{self._path} is no regulatory store, or a damaged one ({error}): move it away, or name another"
                ) from error
            raise RuntimeError(f"{self._path} cannot be used: {error}") from error

    def _advice(self, code: int) -> str:
        folder = self._path.absolute().parent
        if not folder.is_dir():
            return f"; there is no folder {folder}: make it, or name another file"
        if self._path.is_dir():
            return "; it is a folder: name a file in it"
        return "; it cannot be written: mend its rights" if code == sqlite3.SQLITE_READONLY else ""

    def _found(self) -> int | None:
        if not self._path.exists():
            return None
        with closing(self._looking()) as connection:
            return self._own_version(connection) or None

    def _looking(self) -> sqlite3.Connection:
        """A connection that makes no file; one that may write leaves none of SQLite's own behind."""
        uri = self._path.absolute().as_uri()
        mode = "rw" if os.access(self._path, os.W_OK) else "ro"
        return sqlite3.connect(f"{uri}?mode={mode}", uri=True, timeout=self._busy_timeout_s)

    def _own_version(self, connection: sqlite3.Connection) -> int:
        """The schema's version, 0 if the file is empty.

        Raises:
            SettingsError: another program's tables are in it.
        """
        connection.execute("BEGIN")  # both are of one moment: another process may be making the tables just now
        try:
            version = self._schema_version(connection)
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        finally:
            connection.rollback()
        if found and not (version and found >= _OWN_TABLES):
            raise SettingsError(f"{self._path} is a database of another program: name another file")
        return version

    def _take_over(
        self, group: str, sources: Sequence[TopicPartition], topic_ids: Mapping[str, str]
    ) -> dict[TopicPartition, Claimed]:
        taken = {}
        with self._transaction() as connection:
            for source in sources:
                stored = connection.execute(_STORED_OFFSET, (group, *source)).fetchall()
                next_offset, of = stored[0] if stored else (None, "")
                topic_id = topic_ids.get(source.topic, "")
                outdated = None
                if are_two(of, topic_id):
                    next_offset, outdated = None, next_offset
                row = {"grp": group, "topic": source.topic, "part": source.partition, "next_offset": next_offset}
                told = connection.execute(_TAKE_OVER, {**row, "topic_id": topic_id or of}).fetchall()  # ends it
                taken[source] = Claimed(told[0][0], next_offset, outdated)
        return taken

    def _store(
        self,
        group: str,
        trades: Sequence[TradeRow],
        exceptions: Sequence[ExceptionRow],
        offsets: Mapping[TopicPartition, tuple[int, int]],
    ) -> Stored:
        with self._transaction() as connection:
            for source, (epoch, next_offset) in offsets.items():
                moved = connection.execute(
                    "UPDATE offsets SET next_offset = ? WHERE grp = ? AND topic = ? AND part = ? AND epoch = ?",
                    (next_offset, group, *source, epoch),
                )
                if moved.rowcount != 1:
                    raise StaleEpoch(
                        f"{source.topic}-{source.partition} has been taken over in group {group} since epoch {epoch}"
                    )
            inserted = connection.executemany(_INSERT_TRADE, trades).rowcount if trades else 0
            others = list(_conflicts(connection, trades)) if inserted < len(trades) else []
            notes = [*exceptions, *map(conflict, others)]
            noted = connection.executemany(_INSERT_EXCEPTION, notes).rowcount if notes else 0
        return Stored(inserted, len(trades) - inserted, noted, len(others))

    def _put_reference(self, rows: ReferenceRows) -> dict[str, Changes]:
        made = {}
        with self._transaction() as connection:
            for table, some in rows.items():
                made[table] = changes(_reference(connection, table), some)
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  our own names
                places = ", ".join("?" * len(REFERENCE[table]._fields))
                connection.executemany(f"INSERT INTO {table} VALUES ({places})", some)  # noqa: S608  our own names
        return made

    def _page(self, table: str, after: int) -> list[tuple[Any, ...]]:
        query = f"SELECT rowid, * FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608  our own names
        return self._connected().execute(query, (after, _READ_ROWS)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, timeout=self._busy_timeout_s, isolation_level=None)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._own_version(connection)
        deadline = time.monotonic() + self._busy_timeout_s
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:  # another process is at it; SQLite does not wait here by itself
                if time.monotonic() > deadline:
                    raise
                time.sleep(_OPEN_RETRY_S)
        connection.execute("PRAGMA synchronous = FULL")
        if self._schema_version(connection) in _CHANGES:
            connection.execute("BEGIN IMMEDIATE")
            found = self._schema_version(connection)  # another process may have been quicker
            for statement in _CHANGES.get(found, ()):
                connection.execute(statement)
            connection.execute("COMMIT")
        if (found := self._schema_version(connection)) != _SCHEMA_VERSION:
            raise SettingsError(
                f"{self._path} has schema version {found}, this program needs {_SCHEMA_VERSION}: it is of a later "
                "release, which can read it, or of another program"
            )

    @staticmethod
    def _schema_version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _reference(connection: sqlite3.Connection, table: str) -> list[Any]:
    query = f"SELECT * FROM {table} ORDER BY 1"  # noqa: S608  our own names
    return [REFERENCE[table]._make(row) for row in connection.execute(query)]


def _conflicts(connection: sqlite3.Connection, trades: Sequence[TradeRow]) -> Iterator[TradeRow]:
    """Those trades that are stored as others."""
    for trade in trades:
        stored = TradeRow._make(connection.execute(_IS_STORED, trade[:3]).fetchone())
        if substance(stored) != substance(trade):
            yield trade
