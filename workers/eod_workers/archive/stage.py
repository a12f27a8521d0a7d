"""The archive stage: log records in, immutable segments out."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog
from eod_contract.kinds import ARCHIVE

from eod_workers.archive.segments import (
    BrokenArchive,
    agree_on,
    decode_segment,
    encode_segment,
    first_offset,
    last_until,
    place_in,
    segment_folder,
    segment_key,
)
from eod_workers.archive.settings import ArchiveSettings
from eod_workers.ports import ArchiveConflict, ObjectArchive, Record, TopicPartition
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.metrics import StoredMetrics
from eod_workers.runtime.stages import Service, Stage, StageContext

logger = structlog.get_logger()


class ArchiveCore(Core):
    """Records per partition that are in no segment yet."""

    kind = ARCHIVE

    def __init__(self, archive: ObjectArchive, metrics: StoredMetrics) -> None:
        """Stores segments there."""
        self._archive = archive
        self._metrics = metrics
        self._pending: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        self._behind: dict[TopicPartition, int] = {}
        self._topic_ids: Mapping[str, str] = {}
        self._ahead: dict[TopicPartition, int] = {}  # where a segment is already, if somebody set the offset back
        self._with_id: set[TopicPartition] = set()  # that have no more segments of a release which knew no ids

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Goes on at the committed offsets: they follow the segments. An archive that is not there is told now."""
        del partitions
        await self._archive.check()
        self._topic_ids = topic_ids
        return Starts()

    async def resume(self, source: TopicPartition, offset: int) -> tuple[int, int]:
        """There, or where the segment begins that it is in: none may overlap another. Those that there are stay."""
        await self._look_ahead(source, offset)
        for folder in await self._folders(source):
            key = await last_until(self._archive, folder, offset)
            if key is not None:
                records = decode_segment(await self._archive.get(key) or b"")
                reached = records[-1].offset + 1
                return (records[0].offset, offset) if reached > offset else (offset, reached)
        return offset, 0

    async def _folders(self, source: TopicPartition) -> list[str]:
        """Where the segments of a partition are, the later ones first.

        Those of a release that knew no ids are of this topic if the ones with its id do not begin at 0.
        """
        topic_id = self._topic_ids.get(source.topic, "")
        own, earlier = segment_folder(*source, topic_id), segment_folder(*source)
        if own == earlier:
            return [own]
        begin = await self._archive.keys(f"{own}/", most=1)
        return [own] if begin and first_offset(begin[0]) == 0 else [own, earlier]

    async def _look_ahead(self, source: TopicPartition, offset: int) -> None:
        """Notes the first segment that there is behind an offset."""
        found = [
            first
            for folder in await self._folders(source)
            for key in await self._archive.keys(f"{folder}/", after=place_in(folder, offset), most=1)
            if (first := first_offset(key)) is not None
        ]
        if found:
            self._ahead[source] = min(found)
        else:
            self._ahead.pop(source, None)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored."""
        for source in partitions:
            self._pending.pop(source, None)
            self._behind.pop(source, None)
            self._ahead.pop(source, None)
            self._with_id.discard(source)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Keeps the record until the next flush."""
        del letters
        self._pending[record.source].append(record)
        return 1

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores one segment a partition; where a segment is there already, goes on behind it."""
        del final
        for source, records in self._pending.items():
            while records:
                following = await self._store(source, records)
                self._behind[source] = following
                del records[: sum(record.offset < following for record in records)]
        return {source: self._behind[source] for source in offsets.fresh}

    async def _store(self, source: TopicPartition, records: Sequence[Record]) -> int:
        """Returns the offset behind the segment that begins with the first record.

        Raises:
            BrokenArchive: a segment is there that contradicts the log.
        """
        if records[0].offset >= self._ahead.get(source, records[0].offset + 1):
            await self._look_ahead(source, records[0].offset)
        if source in self._ahead:
            records = [record for record in records if record.offset < self._ahead[source]]
        topic_id = self._topic_ids.get(source.topic, "")
        if topic_id and source not in self._with_id:
            end = await self._of_an_earlier_release(source, records)
            if end is not None:
                return end
            self._with_id.add(source)
        key = segment_key(source.topic, source.partition, records[0].offset, topic_id)
        try:
            await self._archive.put_once(key, encode_segment(records, topic_id))
        except ArchiveConflict:
            stored = await self._archive.get(key)
            end = agree_on(decode_segment(stored or b""), records)
            logger.info("archive.segment_found", key=key, next_offset=end)
            return end
        self._metrics.processed.labels(self.kind.name).inc(len(records))
        return records[-1].offset + 1

    async def _of_an_earlier_release(self, source: TopicPartition, records: Sequence[Record]) -> int | None:
        """The offset behind a segment of these records that a release stored which knew no ids; None if there is none.

        That release may have ended before it had committed what it stored last.
        """
        key = segment_key(source.topic, source.partition, records[0].offset)
        stored = await self._archive.get(key)
        if stored is None:
            return None
        with contextlib.suppress(BrokenArchive):  # of an earlier topic of the name then
            end = agree_on(decode_segment(stored), records)
            logger.info("archive.segment_found", key=key, next_offset=end)
            return end
        return None


def start(context: StageContext[StoredMetrics], settings: ArchiveSettings) -> Service:
    """The stage over every topic that holds received bytes."""
    policy = FlushPolicy(settings.flush_interval_s, size=settings.segment_bytes)
    return BatchLoop(ArchiveCore(context.archive, context.metrics), context, settings, policy)


STAGE = Stage(ARCHIVE, start, ArchiveSettings, StoredMetrics)
