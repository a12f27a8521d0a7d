"""The short way for what a close is made of: plain executions go from the socket's bytes to rows by the kernel.

It is open only while the session has nothing to decide: logged on, no gap, not closed. The kernel stops in front of
whatever it does not take; the connection then lets the pure code have one frame, and asks again.
"""

from __future__ import annotations

from collections.abc import Callable

from eod_workers import kernel
from eod_workers.fix.frames import FrameBuffer
from eod_workers.fix.session import Session
from eod_workers.trades.columns import Columns
from eod_workers.trades.dates import TradeDates

PlainReader = Callable[[FrameBuffer, Session, str, int, TradeDates], tuple[int, int] | None]
"""(buffer, session, its name, received at, its dates) → the bytes of the frames that were taken into the
columns, and how many they are; None if there are none."""


def plain_reader(columns: Columns, currency: str) -> PlainReader | None:
    """Reads into these columns, or None if they are not the kernel's. `currency` is that of the house."""
    if not kernel.available():
        return None
    from eod_workers.ingestion.plain_kernel import take_plain  # noqa: PLC0415 - the kernel is loaded when used
    from eod_workers.trades.columns_kernel import TradeColumns  # noqa: PLC0415 - the same

    if not isinstance(columns, TradeColumns):
        return None
    rows, house = columns, currency.encode()

    def read(
        buffer: FrameBuffer, session: Session, name: str, received_at_ns: int, dates: TradeDates
    ) -> tuple[int, int] | None:
        if not session.logged_on or session.held or session.closed:
            return None
        before = buffer.position
        buffer.position, taken = take_plain(
            buffer.data,
            before,
            rows,
            begin_string=session.begin_string,
            sender=session.target,
            target=session.sender,
            session=name,
            epoch=session.sequence.epoch,
            expected=session.sequence.inbound,
            received_at_ns=received_at_ns,
            dates=dates,
            accuracy_ns=session.rules.accuracy_ns,
            currency=house,
        )
        if not taken:
            return None
        session.took(taken, received_at_ns)
        return buffer.position - before, taken

    return read
