"""Trades ↔ `TradeBatch`: columns, a string table and the frames beside them (protos/eod/v1/trades.proto).

A trade whose frame is empty shares that of the one before it in its record: both are sides of one report.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat

from eod_workers.layouts import FRAME_BATCH, TRADE_BATCH, UndecodableBatch
from eod_workers.protos.trades_pb2 import FrameBatch, TradeBatch
from eod_workers.trades.model import (
    ACTION_BUST,
    ACTION_CORRECT,
    ACTION_TRADE,
    SIDE_BUY,
    SIDE_SELL,
    TIME_SOURCE_TRANSACT_TIME,
    Trade,
)
from eod_workers.trades.numbers import MAX_E8

_NO_MAGNITUDE = -(2**63)
"""The one 64-bit number whose opposite has more bits; FIX text never becomes it (`numbers.parse_e8`)."""
_ACTIONS = frozenset((ACTION_TRADE, ACTION_BUST, ACTION_CORRECT))
_SIDES = frozenset((SIDE_BUY, SIDE_SELL))


def encode_trades(trades: Sequence[Trade]) -> bytes:
    """Trades of one partition as the value of one record.

    All of them must carry the same `redrive_of`.
    """
    table: dict[str, int] = {"": 0}
    index = table.setdefault
    columns = list(zip(*trades, strict=True))
    session, epoch, seq, exec_id, ref, action, side, symbol, trader, strategy, account, qty, px, at, rx, *rest = columns
    frames, red, trade_date, time_source, multiplier = rest
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
        trade_date=trade_date,
    )
    if any(ref):
        batch.exec_ref_id.extend(ref)
    if any(time_source):
        batch.time_source.extend(time_source)
    if any(multiplier):
        batch.multiplier_e8.extend(multiplier)
    batch.strings.extend(table)
    return batch.SerializeToString()


class TradeRows:
    """The trades of one record as they stand in it: a column a field, with nothing made for each trade.

    Attributes:
        columns: the batch; names in it are indexes into `strings`.
        strings: the string table.
        exec_ref_ids: one for each row, also when the batch has left them out.
        trade_dates: the same; 0 where an earlier release has left them out.
        time_sources: the same.
        multipliers_e8: the same; 0 where nobody says.
    """

    __slots__ = ("_ends", "columns", "exec_ref_ids", "multipliers_e8", "strings", "time_sources", "trade_dates")

    def __init__(self, batch: TradeBatch) -> None:
        """Checks that columns fit together, and their values; names are looked at when they are asked for (`named`).

        Raises:
            UndecodableBatch: it does not.
        """
        self.columns = batch
        self.strings = list(batch.strings)
        self.exec_ref_ids: Sequence[str] = batch.exec_ref_id or [""] * len(batch.exec_id)
        self.trade_dates: Sequence[int] = batch.trade_date or [0] * len(batch.exec_id)
        self.time_sources: Sequence[int] = batch.time_source or [TIME_SOURCE_TRANSACT_TIME] * len(batch.exec_id)
        self.multipliers_e8: Sequence[int] = batch.multiplier_e8 or [0] * len(batch.exec_id)
        self._ends = list(accumulate(batch.frame_length))
        end = self._ends[-1] if self._ends else 0
        if end != len(batch.frames):
            raise UndecodableBatch(f"frames hold {len(batch.frames)} bytes, frame_length adds up to {end}")
        self._check_lengths()
        self._check_values()

    def __len__(self) -> int:
        """How many trades."""
        return len(self.columns.exec_id)

    def _check_lengths(self) -> None:
        one, rows = self.columns, len(self)
        together = (
            rows
            == len(self.exec_ref_ids)
            == len(self.trade_dates)
            == len(self.time_sources)
            == len(self.multipliers_e8)
            == len(one.session)
            == len(one.epoch)
            == len(one.msg_seq_num)
            == len(one.action)
            == len(one.side)
            == len(one.symbol)
            == len(one.trader)
            == len(one.strategy)
            == len(one.account)
            == len(one.last_qty_e8)
            == len(one.last_px_e8)
            == len(one.transact_time_ns)
            == len(one.received_at_ns)
            == len(one.frame_length)
        )
        if not together:
            raise UndecodableBatch(
                "columns of the TradeBatch do not fit together: one has more rows than another; exec_id has "
                f"{rows}, frame_length {len(one.frame_length)}"
            )

    def _check_values(self) -> None:
        batch = self.columns
        if (
            _ACTIONS.issuperset(batch.action)
            and _SIDES.issuperset(batch.side)
            and _NO_MAGNITUDE not in batch.last_qty_e8
            and max(batch.multiplier_e8, default=0) <= MAX_E8
        ):
            return
        for exec_id, action, side, quantity, multiplier in zip(
            batch.exec_id, batch.action, batch.side, batch.last_qty_e8, self.multipliers_e8, strict=True
        ):
            if multiplier > MAX_E8:
                raise UndecodableBatch(f"ExecID {exec_id}: the multiplier {multiplier} needs more than 63 bits")
            if action not in _ACTIONS or side not in _SIDES:
                raise UndecodableBatch(f"ExecID {exec_id}: action {action}, side {side} are outside the schema")
            if quantity == _NO_MAGNITUDE:
                raise UndecodableBatch(
                    f"ExecID {exec_id}: the quantity {quantity} cannot be sold, its opposite needs more than 64 bits"
                )

    def named(self, column: Sequence[int]) -> list[str]:
        """The names of a column of indexes, row by row.

        Raises:
            UndecodableBatch: an index is beyond the string table.
        """
        try:
            return list(map(self.strings.__getitem__, column))
        except IndexError:
            raise UndecodableBatch(
                f"columns of the TradeBatch do not fit together: string {max(column)} is named, and there are "
                f"{len(self.strings)}"
            ) from None

    def frame(self, row: int) -> bytes:
        """The FIX frame of one row."""
        lengths = self.columns.frame_length
        while row and not lengths[row]:
            row -= 1
        end = self._ends[row]
        return self.columns.frames[end - lengths[row] : end]

    def frames(self) -> list[bytes]:
        """The FIX frames of all rows, of those that share one too."""
        frames = self._slices()
        for row, frame in enumerate(frames):
            if not frame and row:
                frames[row] = frames[row - 1]
        return frames

    def received(self) -> list[bytes]:
        """The FIX frames that were received, each once."""
        return [frame for frame in self._slices() if frame]

    def _slices(self) -> list[bytes]:
        frames = self.columns.frames
        return [frames[begin:end] for begin, end in zip([0, *self._ends], self._ends, strict=False)]

    def trades(self) -> list[Trade]:
        """Every row as a trade.

        Raises:
            UndecodableBatch: see `named`.
        """
        batch = self.columns
        return list(
            map(
                Trade._make,
                zip(
                    self.named(batch.session),
                    batch.epoch,
                    batch.msg_seq_num,
                    batch.exec_id,
                    self.exec_ref_ids,
                    batch.action,
                    batch.side,
                    self.named(batch.symbol),
                    self.named(batch.trader),
                    self.named(batch.strategy),
                    self.named(batch.account),
                    batch.last_qty_e8,
                    batch.last_px_e8,
                    batch.transact_time_ns,
                    batch.received_at_ns,
                    self.frames(),
                    repeat(batch.redrive_of, len(self)),
                    self.trade_dates,
                    self.time_sources,
                    self.multipliers_e8,
                    strict=True,
                ),
            )
        )


def read_trades(value: bytes) -> TradeRows:
    """The trades of one record, in the order of the batch.

    Raises:
        UndecodableBatch: not a `TradeBatch`, a version this code does not know, or columns that do not fit together.
    """
    return TradeRows(TRADE_BATCH.parse(value))


def decode_trades(value: bytes) -> list[Trade]:
    """The same, each as a `Trade`: for whoever looks at them one by one.

    Raises:
        UndecodableBatch: as `read_trades` does.
    """
    return read_trades(value).trades()


def split_trades(value: bytes) -> tuple[bytes, bytes] | None:
    """The trades of a record as the values of two, in their order; None of one trade, or of two that share a frame."""
    read = read_trades(value)
    own = [
        t if length else t._replace(frame=b"")
        for t, length in zip(read.trades(), read.columns.frame_length, strict=True)
    ]
    cuts = [row for row in range(1, len(own)) if own[row].frame]
    if not cuts:
        return None
    cut = min(cuts, key=lambda row: abs(2 * row - len(own)))
    return encode_trades(own[:cut]), encode_trades(own[cut:])


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
