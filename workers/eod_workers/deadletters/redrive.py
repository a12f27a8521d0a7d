"""Listing dead letters, and trying one again: once.

A redrive first claims the letter in the state store, so that two people cannot redrive it, and its trades keep their
ExecID, so that one whose acknowledgement was lost cannot count twice either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from eod_workers.deadletters.stage import INDEX_KEY, LETTERS_KEY, REDRIVEN_PREFIX
from eod_workers.fix.fields import parse
from eod_workers.fix.frames import SOH, FrameBuffer, Garbled, frame
from eod_workers.letters import decode_letter
from eod_workers.ports import Appended, Log, StateStore, Unavailable, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import CONTENT_RECORD, DeadLetter
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.executions import Invalid, trade_of
from eod_workers.trades.partitioner import partition_of

_NAMED = 5
"""Letters that are named when an id could be any of them."""


class NotRedrivable(Exception):
    """The letter cannot be redriven as it is; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class ListedLetter:
    """One line of the list: the letter's id, what the stage wrote about it, and whether it was redriven."""

    id: str
    summary: Mapping[str, object]
    redriven: bool


async def list_letters(state: StateStore) -> list[ListedLetter]:
    """All letters, oldest first."""
    redriven = {key.removeprefix(REDRIVEN_PREFIX) for key in await state.keys(REDRIVEN_PREFIX)}
    letters = [
        ListedLetter(letter_id, json.loads(summary), letter_id in redriven)
        for letter_id, summary in (await state.hash_get_all(INDEX_KEY)).items()
    ]
    return sorted(letters, key=lambda letter: (int(str(letter.summary["received_at_ns"])), letter.id))


async def find_letter(state: StateStore, prefix: str) -> DeadLetter:
    """The letter whose id begins so.

    Raises:
        NotRedrivable: there is none, or several.
    """
    letters = await state.hash_get_all(LETTERS_KEY)
    found = [prefix] if prefix in letters else sorted(one for one in letters if prefix and one.startswith(prefix))
    if not found:
        raise NotRedrivable(f"there is no dead letter {prefix}: 'eod dlq list' shows those there are")
    if len(found) > 1:
        some = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise NotRedrivable(f"{len(found):,} dead letters begin with {prefix}: {some}")
    return decode_letter(letters[found[0]])


async def redrive(
    state: StateStore, log: Log, letter_id: str, *, trades_topic: str, amend: Mapping[str, str] | None = None
) -> Appended:
    """Puts a letter's content back on the log, once; returns where it stands now.

    Args:
        state: where the dead-letters stage keeps the letters.
        log: where it goes.
        letter_id: which letter.
        trades_topic: topic of trades made from FIX frames.
        amend: tag → value, fields of a FIX frame to set before it is read again.

    Raises:
        NotRedrivable: no such letter, redriven already, or still not acceptable.
        Unavailable: the log or the store is away; the letter can be redriven later.
        UnknownTopic: the topic it came from does not exist any more; the letter can be redriven later.
    """
    stored = (await state.hash_get_all(LETTERS_KEY)).get(letter_id)
    if stored is None:
        raise NotRedrivable(f"there is no dead letter {letter_id}: 'eod dlq list' shows those there are")
    letter = decode_letter(stored)
    topic, partition, value = await _content(log, letter, trades_topic, amend or {})
    if not await state.put_if_absent(REDRIVEN_PREFIX + letter_id, json.dumps({"topic": topic}).encode()):
        raise NotRedrivable(f"dead letter {letter_id} has been redriven already")
    try:
        producer = await log.producer()
        try:
            return await (await producer.send(topic, partition, value))
        finally:
            await producer.close()
    except (Unavailable, UnknownTopic):
        await state.delete(REDRIVEN_PREFIX + letter_id)
        raise


async def _content(log: Log, letter: DeadLetter, trades_topic: str, amend: Mapping[str, str]) -> tuple[str, int, bytes]:
    if letter.content == CONTENT_RECORD:
        if amend:
            raise NotRedrivable("a log record has no FIX fields to amend")
        return letter.source_topic, letter.source_partition, letter.raw
    raw = _amended(letter.raw, amend)
    frames = FrameBuffer().feed(raw)
    if len(frames) != 1 or isinstance(frames[0], Garbled):
        why = frames[0].why if frames and isinstance(frames[0], Garbled) else "it holds no whole frame"
        raise NotRedrivable(f"the bytes are no FIX frame ({why}): the session has asked the counterparty for it again")
    try:
        trade = trade_of(
            parse(raw),
            raw,
            session=letter.session,
            epoch=letter.epoch,
            msg_seq_num=letter.msg_seq_num,
            received_at_ns=letter.received_at_ns,
        )
    except Invalid as why:
        raise NotRedrivable(f"{why} (mend it with --set {why.tag.decode()}=VALUE)") from None
    except ValueError as why:
        raise NotRedrivable(f"the bytes are no FIX frame ({why})") from None
    if trade is None:
        raise NotRedrivable("the report moves no position")
    partition = partition_of(trade.symbol, await log.partition_count(trades_topic))
    return trades_topic, partition, encode_trades([trade._replace(redrive_of=letter.id)])


def _amended(raw: bytes, amend: Mapping[str, str]) -> bytes:
    """The frame with fields set (replaced where they stand, else added at the end), length and checksum made anew."""
    if not amend:
        return raw
    pairs = raw[:-1].split(SOH)
    body = pairs[2:-1]
    for tag, value in amend.items():
        start = f"{tag}=".encode()
        try:
            changed = start + value.encode("latin-1")
        except UnicodeEncodeError:
            raise NotRedrivable(
                f"--set {tag}={value}: FIX fields here are Latin-1, which has not all of these"
            ) from None
        if any(pair.startswith(start) for pair in body):
            body = [changed if pair.startswith(start) else pair for pair in body]
        else:
            body.append(changed)
    return frame(pairs[0].removeprefix(b"8="), SOH.join(body) + SOH)
