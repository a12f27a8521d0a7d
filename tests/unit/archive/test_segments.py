"""Segments: what is in one, what it agrees with, and which of its bytes were received."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_workers.archive.segments import (
    BrokenArchive,
    agree_on,
    decode_segment,
    encode_segment,
    last_until,
    received_frames,
    segment_folder,
    segment_key,
)
from eod_workers.letters import fix_letter, record_letter, trade_letter
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_PROCESSING
from eod_workers.protos.storage_pb2 import ArchiveSegment
from eod_workers.trades.codec import encode_frames, encode_trades
from hypothesis import given
from hypothesis import strategies as st
from support.trade_rows import row

RECORDS = st.lists(
    st.tuples(st.none() | st.binary(min_size=1, max_size=9), st.binary(max_size=30), st.integers(0, 2**53)),
    min_size=1,
    max_size=9,
)


def run(*values: bytes, first: int = 0) -> list[Record]:
    """Records of one partition, one after the other."""
    return [Record("trades.raw", 3, first + i, None, value, 1_000 + i) for i, value in enumerate(values)]


@given(content=RECORDS, first=st.integers(0, 2**40))
def test_records_come_back_byte_for_byte(content: list[tuple[bytes | None, bytes, int]], first: int) -> None:
    records = [Record("trades.raw", 3, first + i, key, value, at) for i, (key, value, at) in enumerate(content)]
    assert decode_segment(encode_segment(records)) == records


class Listing:
    """An archive with keys and nothing else, that lists three at once."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = sorted(keys)
        self.asked = 0

    async def keys(self, prefix: str, *, after: str = "", most: int = 3) -> list[str]:
        self.asked += 1
        return [key for key in self._keys if key.startswith(prefix) and key > after][:most]


@given(
    firsts=st.sets(st.integers(0, 10**7), max_size=40), near=st.sets(st.integers(0, 60)), offset=st.integers(0, 10**7)
)
def test_the_last_segment_until_an_offset_is_found_without_listing_all(
    firsts: set[int], near: set[int], offset: int
) -> None:
    """However many there are between, and whatever else lies beside them."""
    firsts |= {max(0, offset - one) for one in near}
    keys = [segment_key("t", 3, first, "id") for first in firsts]
    beside = ["t/id/0002/00000000000000000001.segment", "t/id/0003/!notes", "t/id/0003/notes", "t/id/00030"]
    archive: Any = Listing([*keys, *beside])
    before = [first for first in firsts if first <= offset]
    found = asyncio.run(last_until(archive, segment_folder("t", 3, "id"), offset))
    assert found == (segment_key("t", 3, max(before), "id") if before else None)


async def test_what_is_near_is_found_with_a_few_questions() -> None:
    archive: Any = Listing([segment_key("t", 3, first) for first in range(0, 1_000_000, 50)])
    assert await last_until(archive, segment_folder("t", 3), 777_777) == segment_key("t", 3, 777_750)
    assert archive.asked < 8


@given(content=RECORDS)
def test_the_content_is_a_function_of_the_records(content: list[tuple[bytes | None, bytes, int]]) -> None:
    """Two workers that archive the same run must write the same bytes: trace headers differ and are left out."""
    records = [Record("t", 0, i, key, value, at, ()) for i, (key, value, at) in enumerate(content)]
    traced = [record._replace(headers=(("traceparent", b"00-1"),)) for record in records]
    assert encode_segment(records) == encode_segment(traced)


def test_a_segment_says_where_it_begins_and_where_the_next_one_does() -> None:
    segment = ArchiveSegment.FromString(encode_segment(run(b"a", b"b", b"c", first=7)))
    assert (segment.topic, segment.partition, segment.first_offset, segment.next_offset) == ("trades.raw", 3, 7, 10)


def test_keys_of_a_partition_sort_by_offset() -> None:
    offsets = [0, 1, 9, 10, 99, 100, 10**6, 10**12, 2**63 - 1]
    keys = [segment_key("trades.raw", 3, offset) for offset in offsets]
    assert keys == sorted(keys)
    assert keys[0] == "trades.raw/0003/00000000000000000000.segment"
    assert segment_key("trades.raw", 2, 99) < segment_key("trades.raw", 10, 0)


@pytest.mark.parametrize("body", [b"", b"\xff\xff", b"no segment", ArchiveSegment(version=2).SerializeToString()])
def test_anything_else_is_a_broken_archive(body: bytes) -> None:
    with pytest.raises(BrokenArchive, match="segment"):
        decode_segment(body)


@pytest.mark.parametrize(("stored", "ours", "behind"), [
    ((b"a", b"b", b"c"), (b"a", b"b"), 3),
    ((b"a", b"b"), (b"a", b"b", b"c"), 2),
    ((b"a",), (b"a",), 1),
])  # fmt: skip
def test_segments_of_other_cuts_agree_where_they_overlap(
    stored: tuple[bytes, ...], ours: tuple[bytes, ...], behind: int
) -> None:
    assert agree_on(run(*stored), run(*ours)) == behind


@pytest.mark.parametrize("ours", [(b"a", b"X"), (b"X",), (b"a", b"b", b"c", b"d")])
def test_a_record_that_differs_from_the_log_is_a_broken_archive_and_named(ours: tuple[bytes, ...]) -> None:
    stored = run(b"a", b"b", b"c", b"d")
    if len(ours) == 4:
        del stored[1]  # one is missing
    with pytest.raises(BrokenArchive, match=r"trades.raw\[3\] offset [01]"):
        agree_on(stored, run(*ours))


# --- received bytes -----------------------------------------------------------------------------------------


def received(topic: str, value: bytes) -> list[bytes]:
    return received_frames(
        Record(topic, 0, 0, None, value, 0), sessions_topic="sessions.raw", letters_topic="trades.dlq"
    )


LETTER = fix_letter(b"garbled", REASON_DESERIALIZATION, "x", session="S", epoch=1, msg_seq_num=0, received_at_ns=1)
SOURCE = Record("trades.raw", 0, 5, None, b"value", 0)


@pytest.mark.parametrize(
    ("topic", "value", "frames"),
    [
        ("trades.raw", encode_trades([row(1), row(2)]), [row(1).frame, row(2).frame]),
        ("trades.raw", encode_trades([row(1, redrive_of="abc")]), []),
        ("trades.raw", b"\xff\xff", []),
        ("sessions.raw", encode_frames("S", [b"a", b"b"], [1, 2]), [b"a", b"b"]),
        ("sessions.raw", b"\xff\xff", []),
        ("trades.dlq", LETTER.SerializeToString(), [b"garbled"]),
        ("trades.dlq", record_letter(SOURCE, "x", stage="s").SerializeToString(), []),
        (
            "trades.dlq",
            trade_letter(row(1), REASON_PROCESSING, "x", stage="s", record=SOURCE).SerializeToString(),
            [],
        ),
        ("trades.dlq", b"\xff\xff", []),
    ],
)
def test_each_received_byte_is_in_exactly_one_record(topic: str, value: bytes, frames: list[bytes]) -> None:
    """Redriven trades, and letters about what is on another topic, were not received again."""
    assert received(topic, value) == frames
