"""Trying a dead letter again, as often as it takes.

What is redriven keeps its identity, by which each sink takes a trade once. So nothing is claimed beforehand: who
redrives a letter twice, or while its trade comes by itself, changes nothing. Both sinks must be left with the same
trades, though, and of a letter that a stage wrote the other one has the trade, as it was sent: what is set is limited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from eod_contract.kinds import REGULATORY

from eod_workers.appends import acknowledged
from eod_workers.dead_letters.index import REDRIVEN_KEY
from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.frames import FrameBuffer, Garbled, frame
from eod_workers.fix.reading import read, repeating, tokens
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import BOOKED, KNOWN, OUTCOMES_KEY, REDRIVE_FOR_HEADER, REDRIVE_HEADER, Outcome, missed_by
from eod_workers.ports import Appended, Log, StateStore, StateWrites, TopicPartition, place
from eod_workers.protos.dead_letter_pb2 import CONTENT_RECORD, REASON_DOWNSTREAM, DeadLetter
from eod_workers.trades.captures import trades_of
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.contracts import Contracts
from eod_workers.trades.dates import NEW_YORK, TradeDates
from eod_workers.trades.executions import Invalid, trader_of
from eod_workers.trades.model import ACTION_TRADE, Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.spread import spread_of

_CONTRACTS = Contracts()
_DATING = frozenset(("52", "60", "75", "122"))
"""Fields that say which day a trade is of."""
_EXEC_ID = "17"
_FIXED = {
    "8": "BeginString", "9": "BodyLength", "10": "CheckSum", "34": "MsgSeqNum", "35": "MsgType", "49": "SenderCompID",
    "56": "TargetCompID",
}  # fmt: skip
"""Fields that say what a message is and whose."""


class NotRedrivable(Exception):
    """The letter cannot be redriven as it is; the message says why and what would help."""


async def redrive(
    state: StateStore,
    log: Log,
    letter: DeadLetter,
    *,
    trades_topic: str,
    now_ms: int,
    amend: Mapping[str, str] | None = None,
    trader: str = "",
    contracts: Contracts = _CONTRACTS,
) -> Appended:
    """Puts a letter's content back on the log; returns where it stands now.

    Args:
        state: where it is noted, and where flash P&L says what became of it.
        log: where its content goes.
        letter: which letter.
        trades_topic: topic of trades made from FIX frames.
        now_ms: wall clock.
        amend: tag → value, fields of a FIX frame to set before it is read again.
        trader: whose trade it is; "" for whom it says.
        contracts: what is known of the money of instruments.

    Raises:
        NotRedrivable: booked already, still not acceptable, or not to be changed so.
        Unavailable: the log or the store is away; the letter can be redriven later.
        UnknownTopic: the topic it came from does not exist any more; the letter can be redriven later.
    """
    done = await outcome_of(state, letter.id)
    missing = missed_by(letter)
    if done is not None and done.what in {BOOKED, KNOWN} and missing != REGULATORY.name:
        where = f"{done.topic}[{done.partition}]@{done.offset}"
        raise NotRedrivable(f"dead letter {letter.id} has been redriven: {done.what}, at {where}")
    topic, partition, value = await _content(state, log, letter, trades_topic, amend or {}, trader, contracts)
    before = await state.hash_get(REDRIVEN_KEY, letter.id)
    if before is not None and missing != REGULATORY.name and topic == trades_topic:
        last = Appended(*(json.loads(before)[name] for name in Appended._fields))
        if last[:2] != (topic, partition) and (done is None or done.of(last) is None):
            raise NotRedrivable(
                f"dead letter {letter.id} is on its way already, in another instrument ({last.topic}[{last.partition}]"
                f"@{last.offset}), and flash P&L has not come to that yet: which of the two is it?"
            )
    headers = [(REDRIVE_HEADER, letter.id.encode())]
    if missing == REGULATORY.name:
        headers.append((REDRIVE_FOR_HEADER, missing.encode()))
    producer = await log.producer()
    try:
        (at,) = await acknowledged(producer, [await producer.send(topic, partition, value, headers=headers)])
    finally:
        await producer.close()
    noted = json.dumps({**at._asdict(), "at_ms": now_ms}).encode()
    await state.write(StateWrites({REDRIVEN_KEY: {letter.id: noted}}))
    return at


async def outcome_of(state: StateStore, letter_id: str, at: Appended | None = None) -> Outcome | None:
    """What became of a letter's latest redrive; with `at`, of that one. None while flash P&L has not come to it."""
    found = Outcome.read(await state.hash_get(OUTCOMES_KEY, letter_id))
    return found if found is None or at is None else found.of(at)


async def _content(
    state: StateStore,
    log: Log,
    letter: DeadLetter,
    trades_topic: str,
    amend: Mapping[str, str],
    trader: str,
    contracts: Contracts,
) -> tuple[str, int, bytes]:
    if letter.content == CONTENT_RECORD:
        if amend or trader:
            raise NotRedrivable("a log record has no FIX fields to amend")
        if letter.reason == REASON_DOWNSTREAM:
            raise NotRedrivable(f"there is nothing to be redriven: {letter.detail}")
        value = await _whole(log, letter) if letter.left_out else letter.raw
        value = _of_record(letter, value) if letter.source_topic == trades_topic else value
        return letter.source_topic, letter.source_partition, value
    if letter.left_out:
        held, sent = len(letter.raw), len(letter.raw) + letter.left_out
        raise NotRedrivable(
            f"the letter holds {held:,} of {sent:,} bytes, since its own topic takes no more; its counterparty has "
            "the whole message"
        )
    _refuse_fixed(letter.raw, amend)
    trades = _trades(letter, _amended(letter.raw, amend), amend, contracts)
    if trader:
        try:
            named = trader_of(trader.encode("latin-1"), b"448")
        except (Invalid, UnicodeEncodeError) as why:
            raise NotRedrivable(f"--trader {trader!r}: {why}") from None
        trades = [trade._replace(trader=named) for trade in trades]
    if letter.source_topic and (amend or trader):
        _refuse_half(letter, _trades(letter, letter.raw, {}, contracts), trades)
    partition = partition_of(trades[0].symbol, await spread_of(log, state, trades_topic))
    return trades_topic, partition, encode_trades([trade._replace(redrive_of=letter.id) for trade in trades])


async def _whole(log: Log, letter: DeadLetter) -> bytes:
    """The record that a letter holds the beginning of."""
    source, offset = TopicPartition(letter.source_topic, letter.source_partition), letter.source_offset
    async for record in log.read(source, offset, offset + 1):
        if record.offset == offset:
            return record.value
    raise NotRedrivable(
        f"the letter holds {len(letter.raw):,} of {len(letter.raw) + letter.left_out:,} bytes, and the whole record is "
        f"not at {place(source, offset)} any more: the archive has it if there is one"
    )


def _of_record(letter: DeadLetter, value: bytes) -> bytes:
    """The trades of a record as a letter's: they come behind later ones, and their bytes are archived already."""
    try:
        trades = decode_trades(value)
    except UndecodableBatch as error:
        raise NotRedrivable(f"this release cannot read the record either: {error}") from None
    return encode_trades([trade._replace(redrive_of=letter.id) for trade in trades])


def _trades(letter: DeadLetter, raw: bytes, amend: Mapping[str, str], contracts: Contracts) -> list[Trade]:
    """The trades of a frame, as of the letter's session."""
    whole = _garbled(letter.raw)
    if whole and _EXEC_ID not in amend:
        raise NotRedrivable(
            f"the bytes are no FIX frame ({whole}): the session has asked the counterparty for it again. If it never "
            "came, say which trade it is with --set 17=EXECID, so that it counts once if it comes after all"
        )
    if why := _garbled(raw):
        raise NotRedrivable(f"the bytes are no FIX frame ({why}), and setting fields does not make one of them")
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
    except Invalid as why_not:
        raise NotRedrivable(f"{why_not} (mend it with --set {why_not.tag.decode('latin-1') or 'TAG'}=VALUE)") from None
    if not trades:
        raise NotRedrivable("the report moves no position")
    if letter.trade_date and not amend.keys() & _DATING:
        # They have been trades of that day already.
        trades = [trade._replace(trade_date=letter.trade_date) for trade in trades]
    if letter.trader and len(trades) == 1:
        trades = [trades[0]._replace(trader=letter.trader)]
    return trades


def _garbled(raw: bytes) -> str:
    """Why the bytes are not one frame; "" if they are."""
    frames = FrameBuffer().feed(raw)
    if len(frames) == 1 and not isinstance(frames[0], Garbled):
        return ""
    return frames[0].why if frames and isinstance(frames[0], Garbled) else "it holds no whole frame"


def _refuse_fixed(raw: bytes, amend: Mapping[str, str]) -> None:
    """Refuses to set what cannot be set: what a message is and whose, and fields of which there may be several."""
    for tag in amend:
        if tag in _FIXED:
            raise NotRedrivable(f"--set {tag}: {_FIXED[tag]}({tag}) says what the message is and whose; it stays")
    known = _known(raw)
    kind = next((value for tag, value in tokens(raw, known)[0] if tag == b"35"), b"")
    for tag in sorted(amend.keys() & {tag.decode() for tag in repeating(known, kind)}):
        trader = "; a trader is set with --trader NAME" if tag in {"448", "452"} else ""
        raise NotRedrivable(f"--set {tag}: the field is of a repeating group, which has no one value{trader}")


def _refuse_half(letter: DeadLetter, sent: Sequence[Trade], set_: Sequence[Trade]) -> None:
    """Refuses what would leave the sinks with different trades: one of them has this one as it was sent."""
    if missed_by(letter) == REGULATORY.name:
        if [_booked(trade) for trade in sent] != [_booked(trade) for trade in set_]:
            raise NotRedrivable(
                "flash P&L has booked this trade as it was sent, and would not book another: only what positions do "
                "not depend on can be set. What is wrong with it its counterparty must bust or correct"
            )
        return
    if any(trade.action == ACTION_TRADE for trade in sent):
        raise NotRedrivable(
            "the regulatory store has this trade as it was sent, and counts it: redrive it as it is once what it "
            "contradicts is mended (reference data, for one), or have its counterparty bust or correct it"
        )
    if {trade.exec_id for trade in sent} & {trade.exec_id for trade in set_}:
        raise NotRedrivable(
            "the regulatory store has this report as it was sent, and takes one of its ExecID(17) once: give what you "
            "send instead an ExecID of its own, too: --set 17=EXECID"
        )


def _booked(trade: Trade) -> tuple[object, ...]:
    """What positions depend on."""
    return (
        trade.identity, trade.action, trade.exec_ref_id, trade.symbol, trade.side, trade.last_qty_e8, trade.last_px_e8,
        trade.trader, trade.multiplier_e8,
    )  # fmt: skip


def _known(raw: bytes) -> Dictionary:
    """The dictionary of a frame's version."""
    version = raw[2 : raw.find(b"\x01")]
    return dictionary(version if version in VERSIONS else VERSIONS[-1])


def _amended(raw: bytes, amend: Mapping[str, str]) -> bytes:
    """The frame with fields set, length and checksum made anew.

    A field is replaced where it stands, and is gone where it stands again; one that is missing comes at the end. What
    is no field, for want of a "=", is gone as well.
    """
    if not amend:
        return raw
    known = _known(raw)
    found, _ = tokens(raw, known)
    if [tag for tag, _ in found[:2]] != [b"8", b"9"]:
        return raw  # which is no frame, and will be refused as such
    changed = {tag.encode(): value.encode() for tag, value in amend.items()}
    body: list[tuple[bytes, bytes]] = []
    said: set[bytes] = set()
    for tag, value in found[2:-1]:
        if tag not in changed:
            body.append((tag, value))
        elif tag not in said:
            said.add(tag)
            body.append((tag, changed[tag]))
    body += [(tag, value) for tag, value in changed.items() if tag not in said]
    return frame(found[0][1], b"".join(b"%b=%b\x01" % field for field in body))
