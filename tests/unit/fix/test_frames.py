"""Bytes to frames: nothing is dropped, whatever the cuts; a good frame behind garbage is always found."""

from __future__ import annotations

import random
from itertools import groupby

import pytest
from eod_workers.fix.frames import MAX_FRAME_BYTES, MAX_GARBAGE_BYTES, FrameBuffer, Garbled, checksum, frame
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import message, report, soh

GOOD = [message("A", 1, "98=0|108=30|"), report(2, "X1"), message("0", 3), report(4, "X2", "58=ÄÖ|")]
LAST = report(99, "LAST")


def raw_of(item: bytes | Garbled) -> bytes:
    """The bytes of an item."""
    return item.raw if isinstance(item, Garbled) else item


def fed(*chunks: bytes) -> list[bytes | Garbled]:
    """What a buffer makes of the chunks, with what is left at the end of the connection."""
    buffer = FrameBuffer()
    items = [item for chunk in chunks for item in buffer.feed(chunk)]
    rest = buffer.close()
    return [*items, rest] if rest else items


def frames_of(items: list[bytes | Garbled]) -> list[bytes]:
    """The good ones."""
    return [item for item in items if not isinstance(item, Garbled)]


def with_length(length: int, raw: bytes = GOOD[1]) -> bytes:
    """The frame with another BodyLength and the checksum that goes with it."""
    begin, _, rest = raw.split(b"\x01", 2)
    head = b"%b\x019=%d\x01%b" % (begin, length, rest[:-7])
    return b"%b10=%03d\x01" % (head, checksum(head))


BODY = len(GOOD[1].split(b"\x01", 2)[2]) - 7
GARBAGE = {
    "a wrong checksum": GOOD[1][:-4] + b"%03d\x01" % ((int(GOOD[1][-4:-1]) + 1) % 256),
    "a checksum without leading zero": soh("8=FIX.4.4|9=5|35=0|10=1|"),
    "a checksum that is no number": GOOD[1][:-4] + b"abc\x01",
    "a changed byte": GOOD[1].replace(b"31=12.5", b"31=99.5"),
    "a BodyLength too short by one": with_length(BODY - 1),
    "a BodyLength too short by many": with_length(BODY - 100),
    "a BodyLength of nought": with_length(0),
    "a BodyLength too long by one": with_length(BODY + 1),
    "a BodyLength too long by less than a frame": with_length(BODY + 60),
    "a BodyLength too long by several frames": with_length(BODY + 900),
    "a BodyLength beyond the limit": with_length(MAX_FRAME_BYTES + 1),
    "a BodyLength that is no number": GOOD[1].replace(b"\x019=", b"\x019=x", 1),
    "a negative BodyLength": GOOD[1].replace(b"\x019=", b"\x019=-", 1),
    "a BodyLength that is missing": GOOD[1].split(b"\x01")[0] + b"\x01" + GOOD[1].split(b"\x01", 2)[2],
    "a BodyLength of very many digits": b"8=FIX.4.4\x019=" + b"0" * 40 + b"5\x0135=0\x01",
    "a header cut in BeginString": b"8=FIX.4",
    "a header cut before BodyLength": b"8=FIX.4.4\x01",
    "a header cut in BodyLength": b"8=FIX.4.4\x019=2",
    "a frame cut in its body": GOOD[1][:60],
    "a frame cut in its checksum": GOOD[1][:-3],
    "a frame without its end": GOOD[1][:-1],
    "a frame without its beginning": GOOD[1][1:],
    "a stray SOH": b"\x01",
    "a blank line": b"\r\n",
    "another protocol": b"GET / HTTP/1.1\r\nHost: eod\r\n\r\n",
    "half of a frame's start": b"8=F",
    "a start twice": b"8=FIX.4.4\x018=FIX.4.4\x01",
    "zeros": bytes(300),
}


# --- checksums ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["0xff", "0x00", "random"])
def test_the_checksum_is_the_sum_of_all_bytes_at_every_length_up_to_2000(fill: str) -> None:
    source = random.Random(7)
    data = {"0xff": b"\xff" * 2_000, "0x00": bytes(2_000), "random": source.randbytes(2_000)}[fill]
    wrong = [length for length in range(2_001) if checksum(data[:length]) != sum(data[:length]) % 256]
    assert wrong == []


@given(data=st.binary(max_size=600))
def test_the_checksum_of_any_bytes_is_their_sum(data: bytes) -> None:
    assert checksum(data) == sum(data) % 256


def test_a_frame_has_its_length_and_its_checksum_in_three_digits() -> None:
    assert frame(b"FIX.4.2", b"35=0\x0134=1\x01") == b"8=FIX.4.2\x019=10\x0135=0\x0134=1\x0110=163\x01"
    assert sum(b"8=FIX.4.2\x019=10\x0135=0\x0134=1\x01") % 256 == 163


# --- cutting ------------------------------------------------------------------------------------------------


def test_a_stream_of_good_frames_comes_out_as_those_frames() -> None:
    assert fed(b"".join(GOOD)) == GOOD


def test_every_cut_in_two_gives_the_same_frames() -> None:
    stream = b"".join(GOOD)
    wrong = [at for at in range(len(stream) + 1) if fed(stream[:at], stream[at:]) != GOOD]
    assert wrong == []


def test_byte_by_byte_gives_the_same_frames() -> None:
    assert fed(*(bytes([byte]) for byte in b"".join(GOOD))) == GOOD


@given(data=st.data())
def test_every_split_of_any_stream_gives_the_same_items(data: st.DataObject) -> None:
    """The raw bytes of each item and whether it is good; the words of the reason may depend on what was seen so far."""
    stream = _stream(data.draw)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert _kinds(fed(*chunks)) == _kinds(fed(stream))


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_byte_by_byte_gives_the_items_of_garbage_at_once(what: str) -> None:
    stream = GOOD[0] + GARBAGE[what] + b"".join(GOOD)
    assert _kinds(fed(*(bytes([byte]) for byte in stream))) == _kinds(fed(stream))


def test_a_header_as_long_as_is_allowed_does_not_depend_on_the_cut() -> None:
    """24 bytes may follow BeginString before BodyLength must have ended, in one chunk or byte by byte."""
    for digits in range(15, 30):
        stream = b"8=FIX.4.4\x019=" + b"0" * digits + b"5\x0135=0\x01"
        stream += b"10=%03d\x01" % checksum(stream)
        assert _kinds(fed(*(bytes([byte]) for byte in stream))) == _kinds(fed(stream)), digits


# --- frames inside frames -----------------------------------------------------------------------------------

_FIELDS = st.sampled_from(
    [
        "58=x|",
        "95=0|96=|",
        "95=14|96=|8=FIX.4.2|9=5|",
        "212=7|213=8=FIX.4|",
        "95=6|96=|8=FIX|",
        "355=|8=FIX|",
        "95=x|",
        "95=9|",
    ]
)


def wrapper(number: int, fields: list[str]) -> bytes:
    """A message of such fields; the starts of frames that they hold are data where a length says so."""
    return message("n", number, "".join(fields))


def test_the_starts_of_frames_inside_data_are_data_wherever_it_is_cut() -> None:
    inner = "8=FIX.4.2|9=5|35=0|10=163|"
    raw = wrapper(2, [f"212={2 * len(inner)}|213={inner * 2}|", "95=6|96=|8=FIX|", "58=x|"])
    stream = GOOD[0] + raw + LAST
    wrong = [at for at in range(len(stream) + 1) if fed(stream[:at], stream[at:]) != [GOOD[0], raw, LAST]]
    assert wrong == []
    assert fed(*(bytes([byte]) for byte in stream)) == [GOOD[0], raw, LAST]


def test_a_frame_that_begins_outside_data_ends_the_one_before() -> None:
    """Its BodyLength leads beyond it; the data in front of the start does not hide that."""
    cut = wrapper(2, ["95=6|96=|8=FIX|", "58=" + "x" * 200 + "|"])[:90]
    items = fed(cut[:-1] + b"\x01", LAST)
    assert frames_of(items) == [LAST]
    assert b"".join(map(raw_of, items)) == cut[:-1] + b"\x01" + LAST


@given(fields=st.lists(_FIELDS, max_size=8), data=st.data())
def test_what_is_inside_a_frame_does_not_depend_on_the_cuts(fields: list[str], data: st.DataObject) -> None:
    stream = wrapper(2, fields) + LAST
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    items = fed(*chunks)
    assert b"".join(map(raw_of, items)) == stream
    assert LAST in frames_of(items)
    if not any(starts in "".join(fields) for starts in ("355=|8=FIX", "95=x|", "95=9|")):
        assert items == [wrapper(2, fields), LAST]


def test_a_long_frame_may_come_byte_by_byte() -> None:
    inner = "|8=FIX.4.2|9=5|35=0|10=163|" * 2_000
    raw = wrapper(2, [f"212={len(inner)}|213={inner}|"])
    buffer = FrameBuffer()
    items = [item for byte in raw for item in buffer.feed(bytes([byte]))]
    assert items == [raw]
    assert buffer.pending_bytes == 0


def test_a_buffer_may_have_a_lower_limit() -> None:
    long = message("B", 2, f"58={'x' * 2_000}|")
    low = FrameBuffer(limit=1_000)
    (garbled, good) = low.feed(long + LAST)
    assert isinstance(garbled, Garbled)
    assert "beyond the limit of 1000 bytes" in garbled.why
    assert good == LAST
    low.limit = 3_000
    assert low.feed(long) == [long]


# --- nothing is dropped -------------------------------------------------------------------------------------


@given(data=st.data())
def test_all_outputs_together_are_the_input_whatever_it_is(data: st.DataObject) -> None:
    stream = _stream(data.draw)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    items = fed(*chunks)
    assert b"".join(map(raw_of, items)) == stream
    assert all(raw_of(item) for item in items)


@given(data=st.data())
def test_no_frame_comes_out_with_a_wrong_checksum_or_length(data: st.DataObject) -> None:
    for raw in frames_of(fed(_stream(data.draw))):
        assert raw[-7:-4] == b"10="
        assert int(raw[-4:-1]) == sum(raw[:-7]) % 256
        begin, length, rest = raw.split(b"\x01", 2)
        assert begin.startswith(b"8=FIX")
        assert length == b"9=%d" % (len(rest) - 7)


def test_nothing_is_dropped_of_garbage_beyond_the_limit_and_little_is_kept_waiting() -> None:
    noise = random.Random(3).randbytes(3 * MAX_GARBAGE_BYTES).replace(b"8=FIX", b"_____")
    buffer = FrameBuffer()
    out, most = b"", 0
    for at in range(0, len(noise), 1_000):
        out += b"".join(map(raw_of, buffer.feed(noise[at : at + 1_000])))
        most = max(most, buffer.pending_bytes)
    rest = buffer.close()
    assert out + (rest.raw if rest else b"") == noise
    assert most <= MAX_GARBAGE_BYTES + 1_000


# --- resynchronizing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", GARBAGE)
def test_the_good_frames_around_garbage_are_recovered(what: str) -> None:
    """Two follow, since a length that reaches into the next frame shows only when the one after that begins."""
    items = fed(GOOD[0] + GARBAGE[what] + GOOD[2] + LAST)
    assert frames_of(items) == [GOOD[0], GOOD[2], LAST]
    assert b"".join(raw_of(item) for item in items if isinstance(item, Garbled)) == GARBAGE[what]


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_says_what_is_wrong_with_it(what: str) -> None:
    reasons = [item.why for item in fed(GARBAGE[what] + GOOD[2] + LAST) if isinstance(item, Garbled)]
    assert reasons
    assert all(any(tag in why for tag in ("(8)", "(9)", "(10)")) for why in reasons), reasons


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from([*GARBAGE.values()]) | st.binary(max_size=20).filter(lambda noise: b"8" not in noise),
            st.lists(st.sampled_from(GOOD), min_size=1, max_size=3),
        ),
        max_size=8,
    )
)
def test_good_frames_survive_any_garbage_between_them(parts: list[tuple[bytes, list[bytes]]]) -> None:
    stream = b"".join(garbage + b"".join(good) for garbage, good in parts) + GOOD[0] + LAST
    expected = [raw for _, good in parts for raw in good] + [GOOD[0], LAST]
    assert frames_of(fed(stream)) == expected


@pytest.mark.parametrize("behind", [b"", b"\x01", b"8=F", b"8=FIX.4.4\x01", b"\x0110=0", b"\x0110=12345", b"x" * 100])
def test_what_is_garbled_and_has_its_end_does_not_wait_for_what_follows(behind: bytes) -> None:
    """Its session asks for it again, and somebody may be waiting for the letter."""
    items = FrameBuffer().feed(GARBAGE["a wrong checksum"] + GARBAGE["a changed byte"] + behind)
    assert b"".join(map(raw_of, items)).startswith(GARBAGE["a wrong checksum"] + GARBAGE["a changed byte"])
    assert not frames_of(items)


def test_one_changed_byte_costs_that_frame_and_no_other() -> None:
    """Every byte of the middle frame, changed in turn."""
    lost = []
    for at in range(len(GOOD[1])):
        bad = bytearray(GOOD[1])
        bad[at] ^= 0x15
        found = frames_of(fed(GOOD[0] + bytes(bad) + GOOD[2] + LAST))
        if found != [GOOD[0], GOOD[2], LAST]:
            lost.append((at, found))
    assert lost == []


def test_an_unfinished_frame_is_handed_over_when_the_connection_ends() -> None:
    buffer = FrameBuffer()
    assert buffer.feed(GOOD[1][:-5]) == []
    assert buffer.pending_bytes == len(GOOD[1]) - 5
    rest = buffer.close()
    assert rest == Garbled(GOOD[1][:-5], "the connection ended inside this frame")
    assert buffer.close() is None


def test_frames_can_be_taken_one_by_one_and_some_by_other_means() -> None:
    """Whoever moves the position on has taken those bytes; nothing comes twice, nothing is left out."""
    buffer = FrameBuffer()
    assert buffer.take() is None
    buffer.push(b"".join(GOOD) + LAST[:9])
    assert buffer.take() == GOOD[0]
    assert buffer.data.startswith(GOOD[1], buffer.position)
    buffer.position += len(GOOD[1])
    buffer.push(LAST[9:] + GOOD[1])
    assert [buffer.take() for _ in range(len(GOOD))] == [*GOOD[2:], LAST, GOOD[1]]
    assert (buffer.take(), buffer.pending_bytes, buffer.close()) == (None, 0, None)


def _kinds(items: list[bytes | Garbled]) -> list[tuple[bool, bytes]]:
    """Frames, and what is garbled between them: that may come in one run or in several."""
    return [
        (garbled, raw)
        for garbled, some in groupby(items, lambda item: isinstance(item, Garbled))
        for raw in ([b"".join(map(raw_of, some))] if garbled else map(raw_of, some))
    ]


def _stream(draw: st.DrawFn) -> bytes:
    """Frames and garbage, with a few bytes changed, dropped or added afterwards."""
    parts = draw(st.lists(st.sampled_from([*GOOD, *GARBAGE.values()]) | st.binary(max_size=12), max_size=7))
    stream = bytearray(b"".join(parts))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(stream) - 1)))
        match draw(st.sampled_from(["change", "drop", "add", "soh"])):
            case "change" if stream:
                stream[at] = draw(st.integers(0, 255))
            case "drop":
                del stream[at : at + draw(st.integers(1, 30))]
            case "soh" if stream:
                stream[at] = 1
            case _:
                stream[at:at] = draw(st.binary(max_size=5) | st.just(b"8=FIX"))
    return bytes(stream)
