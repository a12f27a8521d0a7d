"""What a played market has sent: the plain, independent account that the system's answers are held against.

Nothing in here comes from the stages: positions are kept with fractions, average cost by the textbook.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from eod_workers.trades.model import ACTION_BUST, Identity

_FORM = "eod-tally-3"


class Execution(NamedTuple):
    """One report as it was meant: quantity signed (negative for a sale), numbers in 1e-8."""

    session: str
    trade_date: int
    exec_id: str
    exec_ref_id: str
    action: int
    symbol: str
    trader: str
    strategy: str
    quantity_e8: int
    px_e8: int
    transact_time_ns: int
    multiplier_e8: int = 0

    @property
    def identity(self) -> Identity:
        """As every store has it."""
        return (self.session, self.trade_date, self.exec_id)


@dataclass(slots=True)
class Holding:
    """Average cost by the textbook: quantity, cost of what is open, realized P&L, and the cash that must explain it."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    cash: Fraction = Fraction(0)
    trades: int = 0
    multiplier: Fraction = Fraction(1)
    """Money is so many times quantity and price."""

    def trade(self, quantity: Fraction, price: Fraction) -> None:
        """Buys (positive) or sells (negative) at a price."""
        price *= self.multiplier
        self.cash -= quantity * price
        self.trades += 1
        if self.quantity * quantity < 0:
            closing = -min(abs(quantity), abs(self.quantity)) * (1 if self.quantity > 0 else -1)
            average = self.cost / self.quantity
            self.realized += -closing * (price - average)
            self.cost += closing * average
            self.quantity += closing
            quantity -= closing
        self.quantity += quantity
        self.cost += quantity * price


def digest(raw: bytes) -> bytes:
    """A short name for a frame's bytes."""
    return blake2b(raw, digest_size=12).digest()


@dataclass(slots=True)
class Tally:
    """Everything sent. `frames` counts each whole frame on the wire by its digest, garbled ones included."""

    executions: dict[Identity, Execution] = field(default_factory=dict)
    frames: Counter[bytes] = field(default_factory=Counter)
    garbled: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    """Sound frames that cannot be booked: each is rejected, and a dead letter."""
    unknown: set[Identity] = field(default_factory=set)
    messages: int = 0
    """Distinct application messages that are not refused."""
    bytes_sent: int = 0
    odd: int = 0
    """Messages that were written as counterparties really do (see `market.oddities`)."""
    turns: Counter[str] = field(default_factory=Counter)
    """How often a session took which turn (see `market.play.TURNS`)."""
    duplicates: int = 0
    busts: int = 0
    reconnects: int = 0
    """How often a connection was lost: frames on their way may be gone then, and are sent again as duplicates."""
    marks_e8: dict[str, int] = field(default_factory=dict)

    def wrote(self, raw: bytes) -> None:
        """Bytes went to a socket."""
        self.bytes_sent += len(raw)
        self.frames[digest(raw)] += 1

    def positions(self) -> dict[tuple[str, str], Holding]:
        """(trader, symbol) → holding after all executions, in the order each session sent them.

        What was busted is left out, and a correction stands in the place of its trade.
        """
        holdings: dict[tuple[str, str], Holding] = {}
        days = sorted({execution.trade_date for execution in self.executions.values()}, reverse=True)
        changes = [execution for execution in self.executions.values() if execution.exec_ref_id]
        stands = {self._changed_by(change, days).identity: change for change in changes}
        for execution in self.executions.values():
            if execution.exec_ref_id:
                continue
            holding = holdings.setdefault((execution.trader, execution.symbol), Holding())
            if execution.multiplier_e8:
                holding.multiplier = Fraction(execution.multiplier_e8, 10**8)
            standing = stands.get(execution.identity, execution)
            if standing.action != ACTION_BUST:
                holding.trade(Fraction(standing.quantity_e8, 10**8), Fraction(standing.px_e8, 10**8))
        return holdings

    def _changed_by(self, bust: Execution, days: Iterable[int]) -> Execution:
        """Of the same day, or else of the latest."""
        found = (self.executions.get((bust.session, day, bust.exec_ref_id)) for day in (bust.trade_date, *days))
        return next(one for one in found if one is not None)


class BadTally(Exception):
    """The file is no tally that this version reads; the message says which file, where, and what was expected."""


def write_tally(tally: Tally, path: Path, *, again_intact: int) -> None:
    """Writes a tally as JSON lines: the numbers first, then a line an execution, then a line a frame.

    Args:
        tally: of a market that has been played.
        path: the file, which is replaced.
        again_intact: messages resent on request although they had arrived whole.
    """
    head = {
        "form": _FORM,
        "bytes_sent": tally.bytes_sent,
        "messages": tally.messages,
        "duplicates": tally.duplicates,
        "again_intact": again_intact,
        "busts": tally.busts,
        "reconnects": tally.reconnects,
        "marks_e8": tally.marks_e8,
        "executions": len(tally.executions),
        "frames": len(tally.frames),
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head) + "\n")
        for identity, execution in tally.executions.items():
            file.write(json.dumps({"execution": execution, "unknown": identity in tally.unknown}) + "\n")
        for name, times in tally.frames.items():
            file.write(
                json.dumps(
                    {
                        "frame": name.hex(),
                        "times": times,
                        "garbled": name in tally.garbled,
                        "refused": name in tally.refused,
                    }
                )
                + "\n"
            )


def read_tally(path: Path) -> tuple[Tally, int]:
    """What `write_tally` wrote: the tally and `again_intact`.

    Raises:
        BadTally: the file cannot be read, or is not a whole tally.
    """
    tally, number = Tally(), 1
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(next(file, "{}"))
            if head.get("form") != _FORM:
                raise BadTally(f"{path} is no tally of this version: 'eod market play --tally {path}' writes one")
            tally.bytes_sent, tally.duplicates, tally.busts = head["bytes_sent"], head["duplicates"], head["busts"]
            tally.marks_e8, tally.reconnects = head["marks_e8"], head["reconnects"]
            tally.messages = head["messages"]
            for line in file:
                number += 1
                _take(tally, json.loads(line))
    except OSError as error:
        raise BadTally(f"the tally {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTally(f"{path}: line {number} is no line of a tally: {error!r}") from None
    if (len(tally.executions), len(tally.frames)) != (head["executions"], head["frames"]):
        raise BadTally(
            f"{path} ends too early: it has {len(tally.executions):,} of {head['executions']:,} executions and "
            f"{len(tally.frames):,} of {head['frames']:,} frames; play the market again"
        )
    return tally, head["again_intact"]


def _take(tally: Tally, line: dict[str, object]) -> None:
    """Adds what a line says.

    Raises:
        KeyError: it is not a line of a tally; ValueError and TypeError mean the same.
    """
    if "execution" in line:
        execution = Execution(*line["execution"])  # type: ignore[misc]  # a wrong shape is what TypeError is for
        tally.executions[execution.identity] = execution
        if line["unknown"]:
            tally.unknown.add(execution.identity)
        return
    name = bytes.fromhex(str(line["frame"]))
    tally.frames[name] = int(str(line["times"]))
    if line["garbled"]:
        tally.garbled.add(name)
    if line["refused"]:
        tally.refused.add(name)
