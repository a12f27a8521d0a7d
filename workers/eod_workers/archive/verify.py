"""Reading the archive back: every hash, every segment's place, every received byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from eod_workers.archive.segments import BrokenArchive, decode_with_id, received_frames, segment_key
from eod_workers.ports import ObjectArchive, Record
from eod_workers.runtime.variables import TopicNames


@dataclass(slots=True)
class ArchiveReport:
    """What the archive holds and what is wrong with it."""

    segments: int = 0
    records: int = 0
    received_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        head = f"{self.segments:,} segments, {self.records:,} records, {self.received_bytes:,} received bytes"
        well = "every hash and every offset is in order" if self.segments else "nothing is archived there"
        return "\n".join([head, *self.problems, "" if self.problems else well])


class Segment(NamedTuple):
    """An object as it was read back: its records, or what is wrong with it (then `records` may be empty)."""

    key: str
    records: list[Record]
    problem: str


async def read_segment(archive: ObjectArchive, key: str) -> Segment:
    """Reads an object and checks all that can be said of it alone: hash, form, and that its key names what it holds."""
    try:
        body = await archive.get(key)
        if body is None:
            return Segment(key, [], "is listed and not there")
        topic_id, records = decode_with_id(body)
    except (ValueError, BrokenArchive) as error:
        return Segment(key, [], str(error))
    if not records:
        return Segment(key, [], "holds no record")
    first = records[0]
    if key != segment_key(first.topic, first.partition, first.offset, topic_id):
        of = f" of topic id {topic_id}" if topic_id else ""
        return Segment(key, records, f"holds {first.topic}[{first.partition}]{of} from {first.offset}")
    return Segment(key, records, "")


async def verify(archive: ObjectArchive, topics: TopicNames) -> ArchiveReport:
    """Reads everything and reports; raises nothing but `Unavailable`."""
    report = ArchiveReport()
    behind: dict[str, int] = {}
    async for item in archive.objects():
        segment = await read_segment(archive, item.key)
        if segment.problem:
            report.problems.append(f"{item.key}: {segment.problem}")
        records = segment.records
        if not records:
            continue
        report.segments += 1
        report.records += len(records)
        folder = item.key.rpartition("/")[0]
        expected = behind.get(folder)
        if expected is not None and records[0].offset != expected:
            report.problems.append(f"{item.key}: the segment before it ends at {expected}")
        behind[folder] = records[-1].offset + 1
        for record in records:
            frames = received_frames(record, sessions_topic=topics.sessions_topic, letters_topic=topics.letters_topic)
            report.received_bytes += sum(map(len, frames))
    return report
