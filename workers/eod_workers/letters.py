"""Dead letters: how they are made, named and read."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eod_workers.layouts import DEAD_LETTER
from eod_workers.ports import Appended, Producer, Record, RecordTooLarge, TopicPartition
from eod_workers.protos.dead_letter_pb2 import (
    CONTENT_FIX,
    CONTENT_RECORD,
    REASON_DESERIALIZATION,
    REASON_DOWNSTREAM,
    REASON_PROCESSING,
    REASON_TIMEOUT,
    REASON_UNKNOWN,
    REASON_VALIDATION,
    DeadLetter,
    Reason,
)
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of

REASONS: dict[Reason.ValueType, str] = {
    REASON_UNKNOWN: "Unknown",
    REASON_DESERIALIZATION: "Deserialization",
    REASON_VALIDATION: "Validation",
    REASON_PROCESSING: "Processing",
    REASON_DOWNSTREAM: "Downstream",
    REASON_TIMEOUT: "Timeout",
}
"""How a reason is shown."""


REDRIVE_HEADER = "eod-redrive-of"
"""Header of a record that was redriven: the id of its letter."""
REDRIVE_FOR_HEADER = "eod-redrive-for"
"""Header of a record that was redriven for one stage, which alone has not had it; flash P&L remembers not for ever."""
OUTCOMES_KEY = "dlq:outcomes"
"""Hash: letter id → `Outcome` of its latest redrive."""
BOOKED, KNOWN, REFUSED = "booked", "already booked", "refused"
"""It changed positions; its trades had come already, and nothing changed; it could not be applied."""


MAX_RECORD_HELD = 512 << 10
"""Bytes of a log record that a letter about it holds: one that fits no topic would hold up its stage for ever. One of
ours is seldom longer; the whole of a longer one is where it came from."""


MAX_DETAIL = 4_000
"""Characters of a letter's detail where an error says it, which may hold the record."""


_LENGTHS_BYTES = 32
"""What a letter's other fields may grow by when its bytes are shortened."""


def _fitting(detail: str) -> str:
    """Text of an error as a letter can hold it: short, and without what is no text."""
    short = detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…"
    return short.encode(errors="backslashreplace").decode()


def _letter_id(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]


def fix_letter(
    raw: bytes,
    reason: Reason.ValueType,
    detail: str,
    *,
    session: str,
    epoch: int,
    msg_seq_num: int,
    received_at_ns: int,
    zone: str = "",
    trader_tag: int = 0,
) -> DeadLetter:
    """A letter about bytes that ingestion read from a socket.

    `zone` is that of the session's trading days, `trader_tag` the field that names its traders, 0 if none does.
    """
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("fix", session, raw.hex()),
        reason=reason,
        detail=detail,
        stage="ingestion",
        content=CONTENT_FIX,
        raw=raw,
        session=session,
        epoch=epoch,
        msg_seq_num=msg_seq_num,
        received_at_ns=received_at_ns,
        zone=zone,
        trader_tag=trader_tag,
    )


def summary_letter(detail: str, *, session: str, received_at_ns: int) -> DeadLetter:
    """A letter that stands for others of a session, of which there are too many; it has no bytes of its own."""
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("summary", session, received_at_ns),
        reason=REASON_DESERIALIZATION,
        detail=detail,
        stage="ingestion",
        content=CONTENT_FIX,
        session=session,
        received_at_ns=received_at_ns,
    )


def trade_letter(trade: Trade, reason: Reason.ValueType, detail: str, *, stage: str, record: Record) -> DeadLetter:
    """A letter about a trade that decoded well but that a stage could not apply."""
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("trade", stage, *trade.identity),
        reason=reason,
        detail=detail,
        stage=stage,
        content=CONTENT_FIX,
        raw=trade.frame,
        session=trade.session,
        epoch=trade.epoch,
        msg_seq_num=trade.msg_seq_num,
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        received_at_ns=trade.received_at_ns,
        trade_date=trade.trade_date,
        trader=trade.trader,
    )


def record_letter(record: Record, detail: str, *, stage: str) -> DeadLetter:
    """A letter about a log record that does not decode. Every stage that meets it gives it the same id.

    Whatever the record is and an error says of it, there is a letter, and it fits its topic: see `MAX_RECORD_HELD`.
    """
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("record", record.topic, record.partition, record.offset),
        reason=REASON_DESERIALIZATION,
        detail=_fitting(detail),
        stage=stage,
        content=CONTENT_RECORD,
        raw=record.value[:MAX_RECORD_HELD],
        left_out=max(0, len(record.value) - MAX_RECORD_HELD),
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        received_at_ns=record.timestamp_ms * 1_000_000,
    )


def unexpected_letter(record: Record, error: Exception, *, stage: str) -> DeadLetter:
    """A letter about a record that a stage stumbled over, though it decodes. Each stage has its own."""
    letter = record_letter(record, f"unexpected {type(error).__name__}: {error}", stage=stage)
    letter.id = _letter_id("record", stage, record.topic, record.partition, record.offset)
    letter.reason = REASON_PROCESSING
    return letter


def ended_letter(record: Record, times: int, *, stage: str) -> DeadLetter:
    """A letter about a record over which so many workers of a stage have ended in turn."""
    letter = unexpected_letter(record, RuntimeError(), stage=stage)
    letter.detail = (
        f"{times} workers of {stage} in turn have ended over this record (their last words are in the logs), so it is "
        "set apart, and its trades are missing in what the stage says: have that mended before it is redriven"
    )
    return letter


def lost_letter(source: TopicPartition, first: int, end: int, *, stage: str, now_ns: int) -> DeadLetter:
    """A letter about records that their topic had deleted before a stage had read them: `first` <= offset < `end`."""
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("lost", stage, *source, first, end),
        reason=REASON_DOWNSTREAM,
        detail=f"offsets {first} to {end - 1} of {source.topic}[{source.partition}] had been deleted before {stage} "
        "read them, and are missing in what it says: keep the topic for longer (retention.ms, retention.bytes), or run "
        "more of the stage; the archive may have them",
        stage=stage,
        content=CONTENT_RECORD,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=first,
        received_at_ns=now_ns,
    )


def anew_letter(
    topic: str, topic_id: str, read: Mapping[TopicPartition, int], *, stage: str, now_ns: int
) -> DeadLetter:
    """A letter about a topic that was deleted and made anew; `read` is how far a stage had read the old one."""
    upto = ", ".join(f"[{source.partition}] to {offset}" for source, offset in sorted(read.items()))
    return DeadLetter(
        version=DEAD_LETTER.version,
        id=_letter_id("anew", stage, topic, topic_id, *(source.partition for source in sorted(read))),
        reason=REASON_DOWNSTREAM,
        detail=_fitting(
            f"{topic} was deleted and made anew (its id is now {topic_id}): {stage} had read the old one's {upto}; "
            "what came behind that is missing in what it says, unless the archive has it; the new one is read from its "
            "beginning, and no trade counts twice"
        ),
        stage=stage,
        content=CONTENT_RECORD,
        source_topic=topic,
        source_partition=min(read).partition,
        received_at_ns=now_ns,
    )


class Outcome(NamedTuple):
    """What became of a letter's content when flash P&L came to it.

    Attributes:
        what: `BOOKED`, `KNOWN` or `REFUSED`.
        detail: why it was refused.
        topic: with partition and offset, of the record that was redriven; of several the last.
        first: offset of the first of them, whose outcome it is.
    """

    what: str
    detail: str
    topic: str
    partition: int
    offset: int
    first: int

    @classmethod
    def read(cls, value: bytes | None) -> Outcome | None:
        """As it was stored; None if it never was."""
        return cls(**json.loads(value)) if value else None

    def and_then(self, later: Outcome) -> Outcome:
        """What became of it after the same letter came once more: it was booked once, and stays so."""
        if (self.what, later.what) == (BOOKED, KNOWN) and self.partition == later.partition:
            return self._replace(offset=later.offset)
        return later

    def of(self, at: Appended) -> Outcome | None:
        """What became of that record; None if this is of earlier ones, or of another partition's."""
        if (self.topic, self.partition) != (at.topic, at.partition) or self.offset < at.offset:
            return None
        return self._replace(what=KNOWN) if self.what == BOOKED and self.first != at.offset else self

    def stored(self) -> bytes:
        """For the store."""
        return json.dumps(self._asdict()).encode()


def redriven_from(record: Record) -> str:
    """The id of the letter whose content this record is; "" if it is not redriven."""
    return next((value.decode() for name, value in record.headers if name == REDRIVE_HEADER), "")


def missed_by(letter: DeadLetter) -> str:
    """The one stage that has not had what a letter is about; "" if none has: it is unreadable, or was on no log."""
    return "" if letter.stage == "ingestion" or letter.reason == REASON_DESERIALIZATION else letter.stage


def is_redriven_for(record: Record, stage: str) -> bool:
    """Whether a stage should look at the record: anything but what was redriven for another one."""
    wanted = next((value.decode() for name, value in record.headers if name == REDRIVE_FOR_HEADER), "")
    return wanted in {"", stage}


def decode_letter(value: bytes) -> DeadLetter:
    """The letter of one record.

    Raises:
        UndecodableBatch: not a `DeadLetter` of a known version.
    """
    return DEAD_LETTER.parse(value)


def unfit_letter(trade: Trade, error: RecordTooLarge) -> DeadLetter:
    """A letter about a trade that ingestion has read and that no record of its topic has room for."""
    letter = fix_letter(
        trade.frame,
        REASON_VALIDATION,
        str(error),
        session=trade.session,
        epoch=trade.epoch,
        msg_seq_num=trade.msg_seq_num,
        received_at_ns=trade.received_at_ns,
    )
    letter.trade_date, letter.trader = trade.trade_date, trade.trader
    return letter


def shortened(letter: DeadLetter, limit: int) -> DeadLetter:
    """The letter with as much of its bytes as a record of `limit` bytes has room for."""
    short = DeadLetter()
    short.CopyFrom(letter)
    over = letter.ByteSize() + len(letter.id) + _LENGTHS_BYTES - limit
    short.raw = letter.raw[: max(0, len(letter.raw) - over)]
    short.left_out = letter.left_out + len(letter.raw) - len(short.raw)
    return short


def record_of(letter: DeadLetter, partitions: int) -> tuple[int, bytes, bytes]:
    """Partition, value and key of a letter's record: one that is written again comes behind itself."""
    return partition_of(letter.id, partitions), letter.SerializeToString(), letter.id.encode()


async def send_letter(
    producer: Producer, topic: str, letter: DeadLetter, partitions: int, headers: Sequence[tuple[str, bytes]] = ()
) -> asyncio.Future[Appended]:
    """Sends a letter; one that its topic has no room for without as much of its bytes.

    Raises:
        Unavailable: as `Producer.send` does.
        RecordTooLarge: it has no room without them either.
    """
    try:
        partition, value, key = record_of(letter, partitions)
        return await producer.send(topic, partition, value, key=key, headers=headers)
    except RecordTooLarge as error:
        partition, value, key = record_of(shortened(letter, error.limit), partitions)
        return await producer.send(topic, partition, value, key=key, headers=headers)


def is_of_a_stranger(letter: DeadLetter) -> bool:
    """Whether it is about what somebody sent who had not logged on: no session has an epoch then."""
    return bool(letter.raw) and letter.content == CONTENT_FIX and not letter.source_topic and not letter.epoch


def is_first_hand(letter: DeadLetter) -> bool:
    """Whether the letter holds bytes that are in no other record: read from a socket, and on no other topic."""
    return letter.content == CONTENT_FIX and not letter.source_topic
