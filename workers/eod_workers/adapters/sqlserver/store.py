"""What the stages see of SQL Server: `ports.RegulatoryStore`, by calls to the driver's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.frames import chunk_count, chunks
from eod_workers.adapters.sqlserver.process import DriverProcess
from eod_workers.adapters.sqlserver.schema import MIGRATIONS
from eod_workers.ports import (
    NO_IDS,
    REFERENCE,
    Changes,
    Claimed,
    ExceptionRow,
    ReferenceRows,
    Stored,
    TopicPartition,
    TradeRow,
    changes,
)

LOGIN_WITHIN_S = 10
ANSWER_WITHIN_S = 30
CALL_WITHIN_S = 60.0


class SqlServerRegulatoryStore:
    """Rows and offsets in the database at `address`, which has the schema already; see `ports.RegulatoryStore`.

    Args:
        address: of the server.
        login_within_s: how long connecting may take.
        answer_within_s: how long the server may be silent within a call.
        call_within_s: how long a call may take before it is `Unavailable`.
    """

    migrations: Mapping[int, str] = MappingProxyType({one.version: one.what for one in MIGRATIONS})

    def __init__(
        self,
        address: Address,
        *,
        login_within_s: int = LOGIN_WITHIN_S,
        answer_within_s: int = ANSWER_WITHIN_S,
        call_within_s: float = CALL_WITHIN_S,
    ) -> None:
        self.where = f"{address.host}/{address.database}"
        self._driver = DriverProcess(
            address, login_within_s=login_within_s, answer_within_s=answer_within_s, call_within_s=call_within_s
        )

    async def take_over(
        self, group: str, partitions: Iterable[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Claimed]:
        """Makes the caller the owner of the partitions: raises each one's epoch by one."""
        sources = [(*source, topic_ids.get(source.topic, "")) for source in sorted(set(partitions))]
        if not sources:
            return {}
        taken = await self._driver.call("take_over", group, sources)
        return {TopicPartition(topic, part): Claimed(*found) for topic, part, *found in taken}

    async def store(
        self,
        group: str,
        trades: Sequence[TradeRow],
        exceptions: Sequence[ExceptionRow],
        offsets: Mapping[TopicPartition, tuple[int, int]],
    ) -> Stored:
        """Stores rows and offsets in one transaction. Within an epoch an offset never goes back."""
        claims = [(*source, epoch, next_offset) for source, (epoch, next_offset) in offsets.items()]
        counts = (chunk_count(trades), chunk_count(exceptions))
        frames = chain(chunks(trades), chunks(exceptions))
        inserted, noted, conflicts = await self._driver.call("store", group, claims, *counts, frames=frames)
        return Stored(inserted, len(trades) - inserted, noted, conflicts)

    async def trades(self) -> AsyncIterator[TradeRow]:
        """All rows, in the order in which they were stored."""
        async for row in self._rows("trades"):
            yield TradeRow._make(row)

    async def exceptions(self) -> AsyncIterator[ExceptionRow]:
        """All exceptions, in the order in which they were stored."""
        async for row in self._rows("exceptions"):
            yield ExceptionRow._make(row)

    async def put_reference(self, rows: ReferenceRows) -> dict[str, Changes]:
        """Makes these all that the tables hold; needs a user that may delete from them."""
        plain = {table: [tuple(row) for row in some] for table, some in rows.items()}
        before = await self._driver.call("put_reference", plain)
        return {table: changes(before[table], some) for table, some in plain.items()}

    async def reference(self) -> ReferenceRows:
        """All that the tables hold."""
        found = await self._driver.call("reference")
        return {table: [row._make(values) for values in found[table]] for table, row in REFERENCE.items()}

    async def schema_version(self) -> int | None:
        """The version that is there, None if there is none; see `ports.SchemaOwner`."""
        version: int | None = await self._driver.call("schema_version")
        return version

    async def migrate(self) -> tuple[int | None, list[int]]:
        """Makes what is missing of the schema; needs a user that may make tables."""
        before, applied = await self._driver.call("migrate")
        return before, list(applied)

    async def close(self) -> None:
        """Ends the driver's process after the calls under way."""
        await self._driver.close()

    async def _rows(self, table: str) -> AsyncIterator[tuple[Any, ...]]:
        """Reads in pages, so that no transaction stays open; rows are never deleted, so that none is missed."""
        after = 0
        while page := await self._driver.call("page", table, after):
            for row in page:
                yield row[1:]
            after = page[-1][0]
