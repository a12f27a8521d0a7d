"""The executions of a benchmark as columns, and as the frames and records that the two sides read: the same trades.

A trader sends through one session only, so the trades of a position have one order, whichever way they are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from eod_workers.fix.frames import frame
from eod_workers.market.play import report
from eod_workers.market.tally import Execution
from eod_workers.market.universe import make_universe
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.model import ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from eod_workers.trades.partitioner import partition_of
from numpy.typing import NDArray

TARGET: Final = "EOD"
PARTITIONS: Final = 12
ROWS: Final = 500
"""Trades of one of our records: the most that ingestion puts into one."""

FIRST_SEQ: Final = 2
"""MsgSeqNum of a session's first execution, behind its Logon."""

BEGAN_NS: Final = 1_795_000_000_000_000_000
_DAY: Final = TradeDates().of(BEGAN_NS)
_SENDING_TIME: Final = b"20261120-20:59:59.123"
_E8: Final = 10**8
_TICK_E8: Final = 10**6


@dataclass(frozen=True, slots=True)
class Shape:
    """Who trades what: each execution takes a trader and a symbol at random."""

    symbols: int = 100
    traders: int = 50
    sessions: int = 4
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Flow:
    """Executions as columns of one length; names are indexes.

    Attributes:
        tag: what its ExecIDs begin with: another for executions that are not the same.
        shape: what it was drawn from.
        symbols: names of the indexes in `symbol`.
        traders: names of the indexes in `trader`.
        symbol: index of each execution's symbol.
        trader: index of its trader.
        quantity_e8: negative for a sale.
        px_e8: above 0.
        seq: MsgSeqNum in the session of its trader.
    """

    tag: str
    shape: Shape
    symbols: tuple[str, ...]
    traders: tuple[str, ...]
    symbol: NDArray[np.int64]
    trader: NDArray[np.int64]
    quantity_e8: NDArray[np.int64]
    px_e8: NDArray[np.int64]
    seq: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.symbol)

    @property
    def senders(self) -> tuple[str, ...]:
        """CompIDs of the sessions."""
        return tuple(f"BROKER{number + 1}" for number in range(self.shape.sessions))

    @property
    def session(self) -> NDArray[np.int64]:
        """Index of the session that sends each execution."""
        return self.trader % self.shape.sessions

    def exec_id(self, row: int) -> str:
        """ExecID(17) of an execution."""
        return f"{self.tag}-{row:08d}"

    def exec_ids(self) -> set[tuple[str, str]]:
        """(session, ExecID) of all."""
        sessions = [f"{sender}->{TARGET}" for sender in self.senders]
        return {(sessions[number], self.exec_id(row)) for row, number in enumerate(self.session.tolist())}

    def executions(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Execution, int, bytes]]:
        """Each execution with its MsgSeqNum and its frame."""
        chosen = slice(start, len(self) if stop is None else stop)
        columns = (self.symbol, self.trader, self.quantity_e8, self.px_e8, self.seq)
        rows = zip(*(column[chosen].tolist() for column in columns), strict=True)
        senders = self.senders
        for row, (symbol, trader, quantity, px, seq) in enumerate(rows, start):
            sender = senders[trader % len(senders)]
            execution = Execution(
                f"{sender}->{TARGET}",
                _DAY,
                self.exec_id(row),
                "",
                ACTION_TRADE,
                self.symbols[symbol],
                self.traders[trader],
                "VWAP",
                quantity,
                px,
                BEGAN_NS + row * 1_000_000,
            )
            head = b"35=8\x0149=%b\x0156=EOD\x0134=%d\x0152=%b\x01" % (sender.encode(), seq, _SENDING_TIME)
            yield execution, seq, frame(b"FIX.4.4", head + report(execution))


def make_flow(tag: str, trades: int, shape: Shape) -> Flow:
    """Executions that are the same for the same tag, number and shape."""
    random = np.random.default_rng([shape.seed, trades, *tag.encode()])
    universe = make_universe(shape.seed, symbols=shape.symbols, traders=shape.traders)
    trader = random.integers(0, shape.traders, trades)
    session = trader % shape.sessions
    seq = np.empty(trades, np.int64)
    for number in range(shape.sessions):
        (mine,) = np.nonzero(session == number)
        seq[mine] = np.arange(FIRST_SEQ, FIRST_SEQ + len(mine))
    return Flow(
        tag=tag,
        shape=shape,
        symbols=universe.symbols,
        traders=universe.traders,
        symbol=random.integers(0, shape.symbols, trades),
        trader=trader,
        quantity_e8=random.integers(1, 51, trades) * 100 * _E8 * random.choice((1, -1), trades),
        px_e8=random.integers(500, 50_000, trades) * _TICK_E8,
        seq=seq,
    )


def logon(sender: str) -> bytes:
    """The frame that opens a session anew, both numbers at 1."""
    body = b"35=A\x0149=%b\x0156=EOD\x0134=1\x0152=%b\x0198=0\x01108=300\x01141=Y\x01"
    return frame(b"FIX.4.4", body % (sender.encode(), _SENDING_TIME))


def logout(sender: str, seq: int) -> bytes:
    """The frame that ends a session."""
    body = b"35=5\x0149=%b\x0156=EOD\x0134=%d\x0152=%b\x01"
    return frame(b"FIX.4.4", body % (sender.encode(), seq, _SENDING_TIME))


def our_records(flow: Flow, start: int = 0, stop: int | None = None, *, epoch: int = 1) -> dict[int, list[bytes]]:
    """The executions as ingestion writes them: partition → values of full records.

    Each flow counts its messages from the beginning: those that follow another on one topic need an epoch of their own,
    as after a Logon with ResetSeqNumFlag, or a book takes them for trades that it has forgotten.
    """
    waiting: dict[int, list[Trade]] = {}
    values: dict[int, list[bytes]] = {}
    for execution, seq, raw in flow.executions(start, stop):
        number = partition_of(execution.symbol, PARTITIONS)
        rows = waiting.setdefault(number, [])
        rows.append(
            Trade(
                execution.session,
                epoch,
                seq,
                execution.exec_id,
                "",
                ACTION_TRADE,
                SIDE_BUY if execution.quantity_e8 > 0 else SIDE_SELL,
                execution.symbol,
                execution.trader,
                execution.strategy,
                f"ACC{execution.trader[-2:]}",
                abs(execution.quantity_e8),
                execution.px_e8,
                execution.transact_time_ns,
                execution.transact_time_ns,
                raw,
                trade_date=execution.trade_date,
            )
        )
        if len(rows) == ROWS:
            values.setdefault(number, []).append(encode_trades(rows))
            rows.clear()
    for number, rows in waiting.items():
        if rows:
            values.setdefault(number, []).append(encode_trades(rows))
    return values
