"""The archive stage: log records in, immutable segments out."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
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
        self._firsts: dict[TopicPartition, list[int]] = {}  # of segments that there are, where somebody set the offset
        self._with_id: set[TopicPartition] = set()  # that have no more segments of a release which knew no ids

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Goes on at the committed offsets: they follow the segments. An archive that is not there is told now."""
        del partitions
        await self._archive.check()
        self._topic_ids = topic_ids
        return Starts()

    async def resume(self, source: TopicPartition, offset: int) -> tuple[int, int]:
        """There, or where the segment begins that it is in: none may overlap another. Those that there are stay."""
        segments = await self._segments(source)
        firsts = self._firsts[source] = [first for first, _ in segments]
        if not segments:
            return offset, 0
        reached = decode_segment(await self._archive.get(segments[-1][1]) or b"")[-1].offset + 1
        before = bisect_right(firsts, offset)
        return firsts[before - 1] if before and offset < reached else offset, reached

    async def _segments(self, source: TopicPartition) -> list[tuple[int, str]]:
        """First offsets and keys; those of a release that knew no ids are before the first with an id."""
        topic_id = self._topic_ids.get(source.topic, "")
        own = await self._within(segment_folder(*source, topic_id))
        if not topic_id or (own and not own[0][0]):
            return own
        earlier = await self._within(segment_folder(*source))
        return [one for one in earlier if not own or one[0] < own[0][0]] + own

    async def _within(self, folder: str) -> list[tuple[int, str]]:
        found = [(first_offset(item.key), item.key) async for item in self._archive.objects(f"{folder}/")]
        return sorted((first, key) for first, key in found if first is not None)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored."""
        for source in partitions:
            self._pending.pop(source, None)
            self._behind.pop(source, None)
            self._firsts.pop(source, None)
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
        following = bisect_right(self._firsts.get(source, ()), records[0].offset)
        if beyond := self._firsts.get(source, [])[following:]:
            records = [record for record in records if record.offset < beyond[0]]
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
