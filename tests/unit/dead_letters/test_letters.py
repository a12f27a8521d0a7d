"""Dead letters: what they say, what they are called, and what is none."""

from __future__ import annotations

import pytest
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import (
    MAX_DETAIL,
    MAX_RECORD_HELD,
    REASONS,
    decode_letter,
    fix_letter,
    is_first_hand,
    record_letter,
    trade_letter,
    unexpected_letter,
)
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import (
    CONTENT_FIX,
    CONTENT_RECORD,
    REASON_DESERIALIZATION,
    REASON_PROCESSING,
    REASON_VALIDATION,
    DeadLetter,
    Reason,
)
from hypothesis import given
from hypothesis import strategies as st
from support.trade_rows import row

SOURCE = Record("trades.raw", 3, 17, None, b"\xff value", 1_000)


def of_bytes(raw: bytes = b"garbled", *, session: str = "S", detail: str = "why") -> DeadLetter:
    return fix_letter(raw, REASON_DESERIALIZATION, detail, session=session, epoch=2, msg_seq_num=7, received_at_ns=42)


def test_a_letter_about_received_bytes_keeps_them_and_where_they_came_from() -> None:
    letter = of_bytes()
    assert (letter.raw, letter.content, letter.stage) == (b"garbled", CONTENT_FIX, "ingestion")
    assert (letter.session, letter.epoch, letter.msg_seq_num, letter.received_at_ns) == ("S", 2, 7, 42)
    assert (letter.detail, letter.source_topic) == ("why", "")
    assert decode_letter(letter.SerializeToString()) == letter


def test_a_letter_about_a_record_keeps_the_record_and_its_place() -> None:
    letter = record_letter(SOURCE, "why", stage="regulatory")
    assert (letter.raw, letter.content, letter.reason) == (b"\xff value", CONTENT_RECORD, REASON_DESERIALIZATION)
    assert (letter.source_topic, letter.source_partition, letter.source_offset) == ("trades.raw", 3, 17)
    assert letter.received_at_ns == 1_000_000_000


@pytest.mark.parametrize("left_out", [0, 1, 5 << 20])
def test_a_letter_about_a_record_fits_its_topic_whatever_the_record_is(left_out: int) -> None:
    record = SOURCE._replace(value=b"v" * (MAX_RECORD_HELD + left_out))
    for letter in (record_letter(record, "why", stage="s"), unexpected_letter(record, KeyError("x"), stage="s")):
        assert (letter.raw, letter.left_out) == (record.value[:MAX_RECORD_HELD], left_out)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("w" * 9_000_000, "w" * (MAX_DETAIL - 1 - len("unexpected ValueError: ")) + "…", id="the record"),
        pytest.param("no \udcff text", "no \\udcff text", id="no text"),
    ],
)
def test_whatever_an_error_says_there_is_a_letter(said: str, kept: str) -> None:
    letter = unexpected_letter(SOURCE, ValueError(said), stage="s")
    assert letter.detail == f"unexpected ValueError: {kept}"
    assert decode_letter(letter.SerializeToString()) == letter


def test_a_letter_about_a_trade_keeps_its_frame_and_both_places() -> None:
    letter = trade_letter(row(7), REASON_PROCESSING, "why", stage="flash-pnl", record=SOURCE)
    assert (letter.raw, letter.session, letter.msg_seq_num) == (row(7).frame, row(7).session, 7)
    assert (letter.source_topic, letter.source_offset) == ("trades.raw", 17)


def test_an_undecodable_record_has_one_id_whoever_reports_it() -> None:
    ids = {record_letter(SOURCE, detail, stage=stage).id for stage in ("a", "b") for detail in ("x", "y")}
    assert len(ids) == 1
    others = [SOURCE._replace(offset=18), SOURCE._replace(partition=4), SOURCE._replace(topic="prices.updates")]
    assert not ids & {record_letter(other, "x", stage="a").id for other in others}


def test_the_same_bytes_of_the_same_session_are_the_same_letter() -> None:
    assert of_bytes().id == of_bytes(detail="other words").id
    assert len({of_bytes().id, of_bytes(b"garbles").id, of_bytes(session="T").id}) == 3


def test_the_same_trade_is_a_letter_of_its_own_for_each_stage() -> None:
    letters = [trade_letter(row(7), REASON_PROCESSING, "x", stage=s, record=SOURCE) for s in ("a", "b", "a")]
    assert letters[0].id == letters[2].id != letters[1].id


def test_only_bytes_read_from_a_socket_and_on_no_other_topic_are_first_hand() -> None:
    assert is_first_hand(of_bytes())
    assert not is_first_hand(record_letter(SOURCE, "x", stage="a"))
    assert not is_first_hand(trade_letter(row(7), REASON_VALIDATION, "x", stage="a", record=SOURCE))


def test_every_reason_of_the_schema_has_a_name() -> None:
    assert set(REASONS) == set(Reason.values())
    assert set(REASONS.values()) == {
        "Unknown", "Deserialization", "Validation", "Processing", "Downstream", "Timeout",
    }  # fmt: skip


@pytest.mark.parametrize("value", [b"", b"\xff\xff", DeadLetter(version=2, id="x").SerializeToString()])
def test_anything_else_is_undecodable(value: bytes) -> None:
    with pytest.raises(UndecodableBatch, match="DeadLetter"):
        decode_letter(value)


@given(value=st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_but_undecodable_batch(value: bytes) -> None:
    try:
        decode_letter(value)
    except UndecodableBatch as error:
        assert "DeadLetter" in str(error)  # noqa: PT017
