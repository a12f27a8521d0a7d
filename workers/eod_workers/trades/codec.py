"""Trades ↔ `TradeBatch`: columns, a string table and the frames beside them (protos/eod/v1/trades.proto)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat

from eod_workers.layouts import FRAME_BATCH, TRADE_BATCH, UndecodableBatch
from eod_workers.protos.trades_pb2 import ACTION_CORRECT, ACTION_TRADE, SIDE_SELL, FrameBatch, TradeBatch
from eod_workers.trades.model import Trade

_NO_MAGNITUDE = -(2**63)
"""The one 64-bit number whose opposite has more bits; FIX text never becomes it (`numbers.parse_e8`)."""


def encode_trades(trades: Sequence[Trade]) -> bytes:
    """Trades of one partition as the value of one record.

    All of them must carry the same `redrive_of`.
    """
    table: dict[str, int] = {"": 0}
    index = table.setdefault
    columns = list(zip(*trades, strict=True))
    session, epoch, seq, exec_id, ref, action, side, symbol, trader, strategy, account, qty, px, at, rx, frames, red = (
        columns
    )
    batch = TradeBatch(
        version=TRADE_BATCH.version,
        session=[index(s, len(table)) for s in session],
        epoch=epoch,
        msg_seq_num=seq,
        exec_id=exec_id,
        action=action,
        side=side,
        symbol=[index(s, len(table)) for s in symbol],
        trader=[index(s, len(table)) for s in trader],
        strategy=[index(s, len(table)) for s in strategy],
        account=[index(s, len(table)) for s in account],
        last_qty_e8=qty,
        last_px_e8=px,
        transact_time_ns=at,
        received_at_ns=rx,
        frames=b"".join(frames),
        frame_length=[len(frame) for frame in frames],
        redrive_of=red[0],
    )
    if any(ref):
        batch.exec_ref_id.extend(ref)
    batch.strings.extend(table)
    return batch.SerializeToString()


def decode_trades(value: bytes) -> list[Trade]:
    """The trades of one record, in the order of the batch.

    Raises:
        UndecodableBatch: not a `TradeBatch`, a version this code does not know, or columns that do not fit together.
    """
    batch = TRADE_BATCH.parse(value)
    rows = len(batch.exec_id)
    ends = list(accumulate(batch.frame_length))
    frames = batch.frames
    if (ends[-1] if ends else 0) != len(frames):
        raise UndecodableBatch(f"frames hold {len(frames)} bytes, frame_length adds up to {ends[-1] if ends else 0}")
    strings = list(batch.strings)
    try:
        out = [
            Trade(*row)
            for row in zip(
                map(strings.__getitem__, batch.session),
                batch.epoch,
                batch.msg_seq_num,
                batch.exec_id,
                batch.exec_ref_id or repeat("", rows),
                batch.action,
                batch.side,
                map(strings.__getitem__, batch.symbol),
                map(strings.__getitem__, batch.trader),
                map(strings.__getitem__, batch.strategy),
                map(strings.__getitem__, batch.account),
                batch.last_qty_e8,
                batch.last_px_e8,
                batch.transact_time_ns,
                batch.received_at_ns,
                (frames[end - length : end] for end, length in zip(ends, batch.frame_length, strict=True)),
                repeat(batch.redrive_of, rows),
                strict=True,
            )
        ]
    except (ValueError, IndexError) as error:
        raise UndecodableBatch(f"columns of the TradeBatch do not fit together: {error}") from error
    for trade in out:
        if not (ACTION_TRADE <= trade.action <= ACTION_CORRECT and 0 < trade.side <= SIDE_SELL):
            raise UndecodableBatch(
                f"ExecID {trade.exec_id}: action {trade.action}, side {trade.side} are outside the schema"
            )
        if trade.last_qty_e8 == _NO_MAGNITUDE:
            raise UndecodableBatch(
                f"ExecID {trade.exec_id}: the quantity {trade.last_qty_e8} cannot be sold, its opposite needs more "
                "than 64 bits"
            )
    return out


def encode_frames(session: str, frames: Sequence[bytes], received_at_ns: Sequence[int]) -> bytes:
    """Frames of one session that moved no position, in the order received, as the value of one record."""
    return FrameBatch(
        version=FRAME_BATCH.version,
        session=session,
        frames=b"".join(frames),
        frame_length=[len(frame) for frame in frames],
        received_at_ns=received_at_ns,
    ).SerializeToString()


def decode_frames(value: bytes) -> tuple[str, list[bytes]]:
    """Session and frames of one record.

    Raises:
        UndecodableBatch: not a `FrameBatch` of a known version.
    """
    batch = FRAME_BATCH.parse(value)
    ends = accumulate(batch.frame_length)
    out = [batch.frames[end - length : end] for end, length in zip(ends, batch.frame_length, strict=True)]
    if sum(batch.frame_length) != len(batch.frames):
        raise UndecodableBatch("frames and frame_length of the FrameBatch do not fit together")
    return batch.session, out
