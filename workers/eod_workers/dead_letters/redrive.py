"""Trying a dead letter again: once.

A redrive first claims the letter in the state store, so that two people cannot redrive it, and its trades keep their
ExecID, so that one whose acknowledgement was lost cannot count twice either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from eod_workers.dead_letters.index import REDRIVEN_PREFIX
from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.frames import FrameBuffer, Garbled, frame
from eod_workers.fix.reading import read, repeating, tokens
from eod_workers.ports import Appended, Log, StateStore, Unavailable, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import CONTENT_RECORD, DeadLetter
from eod_workers.trades.captures import trades_of
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.contracts import Contracts
from eod_workers.trades.dates import NEW_YORK, TradeDates
from eod_workers.trades.executions import Invalid
from eod_workers.trades.partitioner import partition_of

_CONTRACTS = Contracts()
_DATING = frozenset(("52", "60", "75", "122"))
"""Fields that say which day a trade is of."""
_TRADER = frozenset(("448", "452", "453"))
"""Fields that say who traded, unless another one of the session does."""


class NotRedrivable(Exception):
    """The letter cannot be redriven as it is; the message says why and what would help."""


async def redrive(
    state: StateStore,
    log: Log,
    letter: DeadLetter,
    *,
    trades_topic: str,
    amend: Mapping[str, str] | None = None,
    contracts: Contracts = _CONTRACTS,
) -> Appended:
    """Puts a letter's content back on the log, once; returns where it stands now.

    Args:
        state: where it is noted that the letter was redriven.
        log: where its content goes.
        letter: which letter.
        trades_topic: topic of trades made from FIX frames.
        amend: tag → value, fields of a FIX frame to set before it is read again.
        contracts: what is known of the money of instruments.

    Raises:
        NotRedrivable: redriven already, or still not acceptable.
        Unavailable: the log or the store is away; the letter can be redriven later.
        UnknownTopic: the topic it came from does not exist any more; the letter can be redriven later.
    """
    topic, partition, value = await _content(log, letter, trades_topic, amend or {}, contracts)
    if not await state.put_if_absent(REDRIVEN_PREFIX + letter.id, json.dumps({"topic": topic}).encode()):
        raise NotRedrivable(f"dead letter {letter.id} has been redriven already")
    try:
        producer = await log.producer()
        try:
            return await (await producer.send(topic, partition, value))
        finally:
            await producer.close()
    except (Unavailable, UnknownTopic):
        await state.delete(REDRIVEN_PREFIX + letter.id)
        raise


async def _content(
    log: Log, letter: DeadLetter, trades_topic: str, amend: Mapping[str, str], contracts: Contracts
) -> tuple[str, int, bytes]:
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
        trades = trades_of(
            read(raw, _known(raw)),
            raw,
            session=letter.session,
            epoch=letter.epoch,
            msg_seq_num=letter.msg_seq_num,
            received_at_ns=letter.received_at_ns,
            dates=TradeDates(letter.zone or NEW_YORK),
            contracts=contracts,
            trader_tag=b"%d" % letter.trader_tag if letter.trader_tag else b"",
        )
    except Invalid as why:
        raise NotRedrivable(f"{why} (mend it with --set {why.tag.decode('latin-1') or 'TAG'}=VALUE)") from None
    if not trades:
        raise NotRedrivable("the report moves no position")
    if letter.trade_date and not amend.keys() & _DATING:
        # They have been trades of that day already.
        trades = [trade._replace(trade_date=letter.trade_date) for trade in trades]
    if letter.trader and len(trades) == 1 and not amend.keys() & _TRADER:
        trades = [trades[0]._replace(trader=letter.trader)]
    partition = partition_of(trades[0].symbol, await log.partition_count(trades_topic))
    return trades_topic, partition, encode_trades([trade._replace(redrive_of=letter.id) for trade in trades])


def _known(raw: bytes) -> Dictionary:
    """The dictionary of a frame's version."""
    version = raw[2 : raw.find(b"\x01")]
    return dictionary(version if version in VERSIONS else VERSIONS[-1])


def _amended(raw: bytes, amend: Mapping[str, str]) -> bytes:
    """The frame with fields set, length and checksum made anew.

    A field is replaced where it stands. Where it stands again it is gone, unless it is of a repeating group; one that
    is missing comes at the end. What is no field, for want of a "=", is gone as well.
    """
    if not amend:
        return raw
    known = _known(raw)
    found, _ = tokens(raw, known)
    if [tag for tag, _ in found[:2]] != [b"8", b"9"]:
        return raw  # which is no frame, and will be refused as such
    several = repeating(known, next((value for tag, value in found if tag == b"35"), b""))
    changed = {tag.encode(): value.encode() for tag, value in amend.items()}
    body: list[tuple[bytes, bytes]] = []
    said: set[bytes] = set()
    for tag, value in found[2:-1]:
        if tag not in changed:
            body.append((tag, value))
        elif tag not in said or tag in several:
            said.add(tag)
            body.append((tag, changed[tag]))
    body += [(tag, value) for tag, value in changed.items() if tag not in said]
    return frame(found[0][1], b"".join(b"%b=%b\x01" % field for field in body))
