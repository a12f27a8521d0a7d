"""Segments: runs of log records as immutable objects.

A segment's key names topic, partition and first offset; its content is the records themselves. The next segment begins
where this one ends, so segments never overlap. Whoever comes back after a crash and would cut differently finds the key
taken, checks that the records agree, and goes on behind the segment that is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eod_workers.layouts import ARCHIVE_SEGMENT, UndecodableBatch
from eod_workers.letters import decode_letter, is_first_hand
from eod_workers.ports import ObjectArchive, Record
from eod_workers.protos.storage_pb2 import ArchiveSegment
from eod_workers.trades.codec import decode_frames, read_trades

_FIRST_OFFSET = re.compile(r"/(\d{20})\.segment\Z")


class BrokenArchive(Exception):
    """An object contradicts the log or itself: somebody has changed one of the two."""


def segment_folder(topic: str, partition: int, topic_id: str = "") -> str:
    """Where the segments of a partition are; without an id, where earlier releases put them."""
    return "/".join([topic, *([topic_id] if topic_id else []), f"{partition:04d}"])


def segment_key(topic: str, partition: int, first_offset: int, topic_id: str = "") -> str:
    """The key of the segment that begins at an offset; keys of a partition sort by offset.

    With the id of its topic: one that was deleted and made anew begins at offset 0 again.
    """
    return place_in(segment_folder(topic, partition, topic_id), first_offset)


def first_offset(key: str) -> int | None:
    """The offset that a segment begins with, by its key; None if it is no segment's."""
    found = _FIRST_OFFSET.search(key)
    return int(found[1]) if found else None


def place_in(folder: str, first_offset: int) -> str:
    """The key of the segment of a folder that begins at an offset."""
    return f"{folder}/{first_offset:020d}.segment"


async def last_until(archive: ObjectArchive, folder: str, offset: int) -> str | None:
    """The key of the last segment of a folder that begins at an offset or before it; None if there is none.

    A store lists keys forward only. So it looks behind an offset a little before, then behind one ten times as far.
    """
    last, back = None, 1
    while last is None:
        after = place_in(folder, offset - back) if back <= offset else ""
        begin = after
        while keys := await archive.keys(f"{folder}/", after=begin):
            found = [(first, key) for key in keys if (first := first_offset(key)) is not None]
            last = next((key for first, key in reversed(found) if first <= offset), last)
            if found and found[-1][0] > offset:
                break
            begin = keys[-1]
        if not after:
            break
        back *= 10
    return last


def encode_segment(records: Sequence[Record], topic_id: str = "") -> bytes:
    """The content of the segment that holds these records of one partition, in offset order."""
    first, last = records[0], records[-1]
    segment = ArchiveSegment(
        version=ARCHIVE_SEGMENT.version,
        topic=first.topic,
        partition=first.partition,
        first_offset=first.offset,
        next_offset=last.offset + 1,
        topic_id=topic_id,
    )
    for record in records:
        segment.entries.add(
            offset=record.offset, key=record.key or b"", value=record.value, timestamp_ms=record.timestamp_ms
        )
    return segment.SerializeToString()


def decode_segment(body: bytes) -> list[Record]:
    """The records of a segment.

    Raises:
        BrokenArchive: not a segment of a known version.
    """
    return decode_with_id(body)[1]


def decode_with_id(body: bytes) -> tuple[str, list[Record]]:
    """The id of a segment's topic, and its records.

    Raises:
        BrokenArchive: not a segment of a known version.
    """
    try:
        segment = ARCHIVE_SEGMENT.parse(body)
    except UndecodableBatch as error:
        raise BrokenArchive(f"no archive segment: {error}") from error
    return segment.topic_id, [
        Record(segment.topic, segment.partition, entry.offset, entry.key or None, entry.value, entry.timestamp_ms)
        for entry in segment.entries
    ]


def agree_on(stored: Sequence[Record], ours: Sequence[Record]) -> int:
    """The offset behind a stored segment, having checked that it holds the same records as the log does.

    Raises:
        BrokenArchive: a record differs.
    """
    values = {record.offset: record.value for record in stored}
    following = stored[-1].offset + 1
    for record in ours:
        if record.offset < following and values.get(record.offset) != record.value:
            raise BrokenArchive(
                f"{record.topic}[{record.partition}] offset {record.offset}: the archived record is not the log's"
            )
    return following


def received_frames(record: Record, *, sessions_topic: str, letters_topic: str) -> list[bytes]:
    """The bytes that a record holds of what counterparties sent: each received byte is in exactly one record.

    A record that does not decode holds none; redriven trades and letters about other records were not received again.
    """
    try:
        if record.topic == sessions_topic:
            return decode_frames(record.value)[1]
        if record.topic == letters_topic:
            letter = decode_letter(record.value)
            return [letter.raw] if is_first_hand(letter) else []
        trades = read_trades(record.value)
        return [] if trades.columns.redrive_of else trades.received()
    except UndecodableBatch:
        return []
