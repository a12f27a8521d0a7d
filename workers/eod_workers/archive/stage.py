"""The archive stage: log records in, immutable segments out."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog
from eod_contract.kinds import ARCHIVE

from eod_workers.archive.segments import BrokenArchive, agree_on, decode_segment, encode_segment, segment_key
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
        self._with_id: set[TopicPartition] = set()  # that have no more segments of a release which knew no ids

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Goes on at the committed offsets: they follow the segments. An archive that is not there is told now."""
        del partitions
        await self._archive.check()
        self._topic_ids = topic_ids
        return Starts()

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored."""
        for source in partitions:
            self._pending.pop(source, None)
            self._behind.pop(source, None)
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
        topic_id = self._topic_ids.get(source.topic, "")
        if topic_id and source not in self._with_id:
            following = await self._of_an_earlier_release(source, records)
            if following is not None:
                return following
            self._with_id.add(source)
        key = segment_key(source.topic, source.partition, records[0].offset, topic_id)
        try:
            await self._archive.put_once(key, encode_segment(records, topic_id))
        except ArchiveConflict:
            stored = await self._archive.get(key)
            following = agree_on(decode_segment(stored or b""), records)
            logger.info("archive.segment_found", key=key, next_offset=following)
            return following
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
            following = agree_on(decode_segment(stored), records)
            logger.info("archive.segment_found", key=key, next_offset=following)
            return following
        return None


def start(context: StageContext[StoredMetrics], settings: ArchiveSettings) -> Service:
    """The stage over every topic that holds received bytes."""
    policy = FlushPolicy(settings.flush_interval_s, size=settings.segment_bytes)
    return BatchLoop(ArchiveCore(context.archive, context.metrics), context, settings, policy)


STAGE = Stage(ARCHIVE, start, ArchiveSettings, StoredMetrics)
