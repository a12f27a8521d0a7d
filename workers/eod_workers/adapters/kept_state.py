"""The state store of `memory_state` with a file behind it: what is stored outlives the process.

A call returns when what it has changed is on the disk. Readers may see it a moment earlier.
"""

from __future__ import annotations

from eod_workers.adapters.keeper import Keeper, Statement
from eod_workers.adapters.memory_state import MemoryState, Versioned
from eod_workers.ports import StateWrites, Taken, Unavailable

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, version INTEGER, value BLOB NOT NULL)
    STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS fields (
        key TEXT NOT NULL, field TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (key, field)
    ) STRICT, WITHOUT ROWID
    """,
)
_SET = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)"
_SET_FIELD = "INSERT OR REPLACE INTO fields VALUES (?, ?, ?)"
_DELETE_FIELD = "DELETE FROM fields WHERE key = ? AND field = ?"
_DELETE = ("DELETE FROM entries WHERE key = ?", "DELETE FROM fields WHERE key = ?")


class KeptState(MemoryState):
    """Keyed state; see `ports.StateStore`. The file is its owner's, who closes it after the store."""

    def __init__(self, keeper: Keeper) -> None:
        """Reads what is kept; `keeper` has the tables of `SCHEMA`."""
        super().__init__()
        self._keeper = keeper
        for key, version, value in keeper.rows("SELECT key, version, value FROM entries"):
            self._entries[key] = value if version is None else Versioned(version, value)
        hashes: dict[str, dict[str, bytes]] = {}
        for key, field, value in keeper.rows("SELECT key, field, value FROM fields"):
            hashes.setdefault(key, {})[field] = value
        self._entries.update(hashes)

    async def put(self, key: str, value: bytes) -> None:
        """Sets the value."""
        await super().put(key, value)
        await self._keep(key)

    async def put_if_newer(self, key: str, version: int, value: bytes) -> bool:
        """Sets value and version unless a higher version is stored."""
        done = await super().put_if_newer(key, version, value)
        if done:
            await self._keep(key)
        return done

    async def take_over(self, key: str, at_least: int) -> Taken:
        """Raises the version, to `at_least` or one above the stored; the value stays."""
        taken = await super().take_over(key, at_least)
        await self._keep(key)
        return taken

    async def put_if_absent(self, key: str, value: bytes) -> bool:
        """Sets the value if the key does not exist; True if it was set."""
        done = await super().put_if_absent(key, value)
        if done:
            try:
                await self._keep(key)
            except Unavailable:
                self._entries.pop(key, None)  # or nobody could try again
                raise
        return done

    async def delete(self, key: str) -> None:
        """Removes the key, whatever it holds."""
        await super().delete(key)
        await self._keep(key)

    async def write(self, writes: StateWrites) -> None:
        """Applies the fields, all or none, then publishes."""
        await super().write(writes)
        rows = [(key, field, value) for key, fields in writes.fields.items() for field, value in fields.items()]
        gone = [(key, field) for key, fields in writes.gone.items() for field in fields]
        statements: list[Statement] = [(_SET_FIELD, rows)] if rows else []
        if gone:
            statements.append((_DELETE_FIELD, gone))
        if statements:
            await self._keeper.keep(statements)

    async def _keep(self, key: str) -> None:
        """Keeps a key as it is now."""
        entry = self._entries.get(key)
        statements: list[Statement] = [(sql, [(key,)]) for sql in _DELETE]
        if isinstance(entry, Versioned):
            statements.append((_SET, [(key, entry.version, entry.value)]))
        elif isinstance(entry, bytes):
            statements.append((_SET, [(key, None, entry)]))
        elif entry is not None:
            statements.append((_SET_FIELD, [(key, field, value) for field, value in entry.items()]))
        await self._keeper.keep(statements)
