"""What a played market has sent, by its own tally, against what arrived: in the log, or in the stores of the demo.

Legitimately different are garbled frames, which became dead letters and were sent again, and messages that came twice,
which count once. Both are in the tally, so they are compared too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from eod_workers.letters import is_first_hand
from eod_workers.market.tally import Tally, digest
from eod_workers.ports import TradeRow
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.reconcile.report import Break
from eod_workers.trades.model import SIDE_BUY, Identity, Trade

_FIELDS = ("exec_ref_id", "action", "symbol", "trader", "strategy", "signed last_qty_e8", "last_px_e8",
           "transact_time_ns", "multiplier_e8")  # fmt: skip
_KIND = re.compile(rb"\x0135=([^\x01]+)\x01")
_OF_THE_SESSION = frozenset(b"0 1 2 3 4 5 A".split())
_HEAD_BYTES = 40


class Arrived:
    """Takes what arrived, in any order, and says what is not as it was sent."""

    def __init__(self, tally: Tally) -> None:
        """Holds a digest of every frame that arrives."""
        self.tally = tally
        self.found: set[Identity] = set()
        self.garbled: set[bytes] = set()
        self.bytes_received = 0
        self._frames: Counter[bytes] = Counter()
        self._messages = 0

    @property
    def duplicates(self) -> int:
        """Application messages that arrived whole beyond those that were sent."""
        return self._messages - self.tally.messages

    def execution(self, one: Trade | TradeRow, where: str) -> Iterator[Break]:
        """The first time that a trade is met."""
        identity = (one.session, one.trade_date, one.exec_id)
        if identity in self.found:
            return
        self.found.add(identity)
        about = f"{one.exec_id} of {one.session}"
        sent = self.tally.executions.get(identity)
        if sent is None:
            yield Break("sent", "extra", where, about, "a trade", "nothing: it was never sent")
            return
        facts = (
            one.exec_ref_id,
            one.action,
            one.symbol,
            one.trader,
            one.strategy,
            one.last_qty_e8 if one.side == SIDE_BUY else -one.last_qty_e8,
            one.last_px_e8,
            one.transact_time_ns,
            one.multiplier_e8,
        )
        odd = [
            (f"{name} is {is_!r}", repr(was))
            for name, is_, was in zip(_FIELDS, facts, sent[3:], strict=True)
            if is_ != was
        ]
        if odd:
            is_, was = (", ".join(side) for side in zip(*odd, strict=True))
            yield Break("sent", "different", where, about, is_, f"{was}, as sent")

    def frame(self, raw: bytes, *, whole: bool) -> None:
        """Bytes that were received; `whole` unless they were refused as garbled."""
        self._frames[digest(raw)] += 1
        self.bytes_received += len(raw)
        if whole and (kind := _KIND.search(raw, 0, _HEAD_BYTES)):
            self._messages += kind[1] not in _OF_THE_SESSION

    def letter(self, letter: DeadLetter) -> None:
        """A dead letter; those that stages wrote about trades hold nothing of their own."""
        if is_first_hand(letter):
            self.garbled.add(digest(letter.raw))

    def missing(self, where: str) -> Iterator[Break]:
        """The executions that have not arrived."""
        for session, _, exec_id in self.tally.executions.keys() - self.found:
            about = f"{exec_id} of {session}"
            yield Break("sent", "missing", where, about, "sent, and not there", "there")

    def frames(self, where: str) -> Iterator[Break]:
        """Frames as multisets: each that was written to a socket is there, as often as it was written.

        Where a connection was lost, frames on their way may be missing: they were sent again under PossDupFlag.
        """
        sent = self.tally.frames
        for kind, difference, found in (
            ("missing", sent - self._frames, "frames that were sent are not there"),
            ("extra", self._frames - sent, "frames are there that were never sent"),
        ):
            if difference and not (kind == "missing" and self.tally.reconnects):
                yield Break("sent", kind, where, "", f"{difference.total():,} {found}", "each frame as often as sent")

    def letters(self, where: str) -> Iterator[Break]:
        """The garbled frames and the refused messages are the dead letters."""
        odd = self.garbled ^ (self.tally.garbled | self.tally.refused)
        if odd:
            found = f"{len(odd):,} garbled or refused frames are not the dead letters there are"
            yield Break("sent", "different", where, "", found, "one letter for each such frame")

    def repeats(self, where: str, again_intact: int) -> Iterator[Break]:
        """As many messages came twice as were sent twice, on purpose or because they were asked for again.

        Where a connection was lost, the market does not know which of the reports on their way came.
        """
        if self.tally.reconnects:
            return
        wanted = self.tally.duplicates + again_intact
        # What is missing, or was never sent, is named by itself.
        sent = self.tally.executions.keys()
        again = self.duplicates + len(sent - self.found) - len(self.found - sent)
        if again != wanted:
            found = f"{again:,} messages came twice"
            yield Break("sent", "different", where, "", found, f"{wanted:,}")
