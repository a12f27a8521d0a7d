"""Reading the archive back: every hash, every segment's place, every received byte."""

from __future__ import annotations

from dataclasses import dataclass, field

from eod_workers.archive.segments import BrokenArchive, decode_segment, received_frames, segment_key
from eod_workers.ports import ObjectArchive
from eod_workers.runtime.stages import StageOptions


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
        return "\n".join([head, *self.problems, "" if self.problems else "every hash and every offset is in order"])


async def verify(archive: ObjectArchive, options: StageOptions) -> ArchiveReport:
    """Reads everything and reports; raises nothing but `Unavailable`."""
    report = ArchiveReport()
    behind: dict[tuple[str, int], int] = {}
    async for item in archive.objects():
        try:
            records = decode_segment(await archive.get(item.key) or b"")
        except (ValueError, BrokenArchive) as error:
            report.problems.append(f"{item.key}: {error}")
            continue
        report.segments += 1
        report.records += len(records)
        if not records:
            report.problems.append(f"{item.key}: holds no record")
            continue
        first = records[0]
        if item.key != segment_key(first.topic, first.partition, first.offset):
            report.problems.append(f"{item.key}: holds {first.topic}[{first.partition}] from {first.offset}")
        expected = behind.get((first.topic, first.partition))
        if expected is not None and first.offset != expected:
            report.problems.append(f"{item.key}: the segment before it ends at {expected}")
        behind[first.topic, first.partition] = records[-1].offset + 1
        for record in records:
            frames = received_frames(record, sessions_topic=options.sessions_topic, letters_topic=options.letters_topic)
            report.received_bytes += sum(map(len, frames))
    return report
