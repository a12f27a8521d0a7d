"""One SQLite file that keeps what is handed in, several calls in one transaction.

What comes while a transaction runs goes into the next one together, so that the disk is waited for once and not once a
call (group commit). The file belongs to one process: a second one is refused.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from eod_workers.ports import Unavailable

Statement = tuple[str, Sequence[Sequence[Any]]]
"""SQL, and the rows that it is run for."""


class _Asked(NamedTuple):
    statements: Sequence[Statement]
    done: Callable[[], None]
    kept: asyncio.Future[None]


class InUse(ValueError):
    """Another process has the file open."""


class Keeper:
    """Keeps statements in the order in which they come, each call's all or none."""

    def __init__(self, path: Path, schema: Iterable[str]) -> None:
        """Opens the file, and makes it and its tables if they are not there.

        Raises:
            InUse: another process has it.
            ValueError: it cannot be opened, or is no SQLite file.
        """
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"keeper {path.name}")
        self._waiting: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None
        self.lost: list[Callable[[], None]] = []
        """Called when what was handed in could not be kept."""
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            for statement in (
                "PRAGMA locking_mode = EXCLUSIVE",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                *schema,
            ):
                self._connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise InUse(f"{path} is in use by another process: stop that one, or name another folder") from None
            raise ValueError(f"{path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} cannot be read: {error}; name another folder") from error

    def rows(self, query: str) -> sqlite3.Cursor:
        """What is kept; for the beginning, when nothing has been handed in."""
        return self._connection.execute(query)

    def keep(self, statements: Sequence[Statement], done: Callable[[], None] = lambda: None) -> asyncio.Future[None]:
        """Hands statements in. `done` is called when they are on the disk, in the order of the calls.

        The future fails with `Unavailable` if they could not be kept: what was handed in behind them is not either.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(statements, done, kept))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"keeper {self._path.name}")
        return kept

    async def close(self) -> None:
        """Closes the file once all that was handed in is kept."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        self._thread.shutdown()
        self._connection.close()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._commit, [one.statements for one in asked])
            except sqlite3.Error as error:
                self._fail([*asked, *self._waiting], error)
                continue
            for one in asked:
                one.done()
                if not one.kept.done():  # its caller has been cancelled
                    one.kept.set_result(None)

    def _fail(self, asked: Sequence[_Asked], error: sqlite3.Error) -> None:
        self._waiting = []
        for lost in self.lost:
            lost()
        for one in asked:
            if not one.kept.done():
                one.kept.set_exception(Unavailable(f"{self._path}: {error}"))
                one.kept.exception()  # who does not wait for it is not told by the event loop either

    def _commit(self, all_statements: Sequence[Sequence[Statement]]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statements in all_statements:
                for sql, rows in statements:
                    connection.executemany(sql, rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
