"""The archive stage: log records in, immutable segments out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from eod_contract.kinds import ARCHIVE

from eod_workers.archive.segments import agree_on, decode_segment, encode_segment, segment_key
from eod_workers.archive.settings import ArchiveSettings
from eod_workers.ports import ArchiveConflict, Record, TopicPartition
from eod_workers.runtime import telemetry
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.stages import Service, Stage, StageContext

log = structlog.get_logger()


class ArchiveHandler:
    """Collects records per partition until there are enough bytes or the oldest has waited long enough."""

    name = ARCHIVE.name

    def __init__(self, context: StageContext, settings: ArchiveSettings) -> None:
        """Takes the archive and the clock of the context."""
        self._context = context
        self._settings = settings
        self._pending: dict[TopicPartition, list[Record]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._bytes = 0
        self._waiting_since: float | None = None

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Goes on at the committed offsets: they follow the segments. An archive that is not there is told now."""
        await self._context.archive.check()
        for source in partitions:
            self._pending[source] = []
        return {}

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored: the next owner reads it again."""
        for source in partitions:
            self._pending.pop(source, None)
            self._next.pop(source, None)
        self._measure()

    async def apply(self, records: Sequence[Record]) -> None:
        """Keeps the records until the next flush."""
        for record in records:
            pending = self._pending.get(record.source)
            if pending is None or record.offset < self._next.get(record.source, 0):
                continue
            pending.append(record)
            self._bytes += len(record.value)
        if self._waiting_since is None and any(self._pending.values()):
            self._waiting_since = self._context.clock.monotonic()

    def due(self, now: float) -> bool:
        """Enough bytes, or the oldest record has waited long enough."""
        settings = self._settings
        return self._waiting_since is not None and (
            self._bytes >= settings.segment_bytes or now - self._waiting_since >= settings.flush_interval_s
        )

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores one segment a partition; where a segment is there already, goes on behind it."""
        del final
        for source, records in self._pending.items():
            while records:
                following = await self._store(source, records)
                self._next[source] = following
                del records[: sum(record.offset < following for record in records)]
        self._measure()
        return dict(self._next)

    async def _store(self, source: TopicPartition, records: Sequence[Record]) -> int:
        """Returns the offset behind the segment that begins with the first record.

        Raises:
            BrokenArchive: a segment is there that contradicts the log.
        """
        key = segment_key(source.topic, source.partition, records[0].offset)
        try:
            await self._context.archive.put_once(key, encode_segment(records))
        except ArchiveConflict:
            stored = await self._context.archive.get(key)
            following = agree_on(decode_segment(stored or b""), records)
            log.info("archive.segment_found", key=key, next_offset=following)
            return following
        telemetry.PROCESSED.labels(self.name).inc(len(records))
        return records[-1].offset + 1

    def _measure(self) -> None:
        self._bytes = sum(len(record.value) for records in self._pending.values() for record in records)
        self._waiting_since = self._context.clock.monotonic() if any(self._pending.values()) else None


def start(context: StageContext, settings: ArchiveSettings) -> Service:
    """The stage over every topic that holds received bytes."""
    consumer = context.log.consumer(settings.consumed(ARCHIVE), settings.group_of(ARCHIVE))
    return BatchLoop(ArchiveHandler(context, settings), consumer, context.clock, context.health)


STAGE = Stage(ARCHIVE, start, ArchiveSettings)
