"""A close that QuickFIX/J sends to a pipeline, and every difference between what it sent and what the stores hold."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Self

from aiokafka.partitioner import murmur2
from testbed.process import Process, tail
from testbed.quickfixj import QuickFixJ

from support import known_close
from support.patience import eventually_nothing
from support.pipeline import PARTITIONS, TARGET, Pipeline

MARKS_E8 = {symbol: (100 + number) * 10**8 + 25_000_000 for number, symbol in enumerate(known_close.SYMBOLS)}
CUT = "the connection ended inside this frame"
NAMED = 20
_SOH = b"\x01"
_COMPLETE = re.compile(rb"\x0110=\d{3}\x01$")
_COLUMNS = (
    "session, exec_id, msg_seq_num, topic, partition, action, exec_ref_id, symbol, side, last_qty_e8, last_px_e8, "
    "transact_time_ns, trader, strategy, trader_name, desk, strategy_name, isin, trade_date, time_source"
)


class Close:
    """One run of the counterparty.

    Args:
        pipeline: where it sends to; every stage of it runs.
        peer: the compiled counterparty.
        tag: prefix of everything in this close; no other close on the pipeline has it.
        count: how many reports.
        per_s: how many a second.
        seed: of the content.
    """

    def __init__(self, pipeline: Pipeline, peer: QuickFixJ, *, tag: str, count: int, per_s: float, seed: int) -> None:
        self.reports = known_close.compose(tag, count, seed)
        self.tag = tag
        self._pipeline = pipeline
        self._folder = pipeline.folder / f"close-{tag}"
        self._folder.mkdir()
        self._log = self._folder / "counterparty.log"
        table = self._folder / "table"
        known_close.write_table(self.reports, table)
        self._command = peer.command(["127.0.0.1", str(pipeline.fix_port), TARGET, table, self._folder, str(per_s)])
        self._process: Process | None = None
        self.senders = sorted({report.sender for report in self.reports})
        self.sessions = {f"{sender}->{TARGET}" for sender in self.senders}

    def __enter__(self) -> Self:
        self._process = Process.spawn("counterparty", self._command, log=self._log, env={}, tethered=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()

    def outgoing(self, sender: str) -> list[bytes]:
        """Every frame that the counterparty has handed to its socket, in order."""
        file = self._folder / f"outgoing-{sender}"
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        return lines[:-1]

    def await_sent(self, share: float) -> None:
        """Return once this share of the reports was sent."""
        assert self._process is not None
        process, wanted = self._process, share * len(self.reports)
        progress = self._folder / "sent"

        def unmet() -> str:
            assert process.alive, f"the counterparty has ended\n{tail(self._log)}"
            sent = progress.stat().st_size if progress.exists() else 0
            return f"{sent} of {wanted:.0f} reports sent" if sent < wanted else ""

        eventually_nothing(unmet)

    def finish(self) -> None:
        """Let everything arrive, then log out, then let every stage finish what it has."""
        self.await_sent(1.0)
        assert self._process is not None
        process = self._process
        expected = known_close.rows(self.reports, TARGET).keys()

        def missing() -> str:
            absent = sorted(expected - self._stored().keys())
            return f"{len(absent)} trades not stored, such as {absent[:3]}" if absent else ""

        try:
            eventually_nothing(missing)
            (self._folder / "stop").touch()
            eventually_nothing(lambda: "the counterparty still runs" if process.alive else "")
            assert process.exit_code == 0
            # A Logout is answered before the log has it: before this, no lag can mean that it was not appended yet.
            eventually_nothing(self._last_words_missing)
            eventually_nothing(self._pipeline.lag)
            eventually_nothing(self._position_differences, 10)
        except AssertionError as error:
            logs = [tail(stage.log, 8) for stage in self._pipeline.stages.values()]
            raise AssertionError("\n".join([str(error), *logs, tail(self._log)])) from None

    def _last_words_missing(self) -> list[str]:
        archived = set(self._pipeline.archive.frames())
        last = {sender: self.outgoing(sender)[-1] for sender in self.senders}
        return [
            f"the archive lacks what {sender} wrote last" for sender, frame in last.items() if frame not in archived
        ]

    # --- differences ----------------------------------------------------------------------------------------

    def check(self, *, disturbed: bool = False, others: Collection[bytes] = ()) -> None:
        """Fail with the first differences, each naming its trade.

        `disturbed`: the counterparty had to connect anew and to resend, so that frames it wrote may never have arrived,
        others twice, and of the last one before a connection ended perhaps the beginning: kept, and a dead letter.

        `others`: frames that somebody else has written in the name of these senders.
        """
        found = [
            *self._row_differences(),
            *self._exception_differences(),
            *self._position_differences(),
            *self._byte_differences(others, disturbed=disturbed),
            *self._pipeline.archive.gaps(),
            *self._letter_differences(disturbed=disturbed),
        ]
        assert not found, "\n".join([f"{len(found)} differences", *found[:NAMED]])

    def _stored(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        marks = ", ".join("?" * len(self.sessions))
        rows = self._pipeline.select(f"SELECT {_COLUMNS} FROM trades WHERE session IN ({marks})", *self.sessions)  # noqa: S608
        assert len({row[:2] for row in rows}) == len(rows)
        return {row[:2]: row[2:] for row in rows}

    def _numbers(self) -> dict[tuple[str, str], int]:
        """(session, ExecID) → the lowest MsgSeqNum that it has: what was numbered off line is written later."""
        found: dict[tuple[str, str], int] = {}
        for sender in self.senders:
            for frame in self.outgoing(sender):
                fields = _fields(frame)
                if fields[b"35"] == b"8":
                    identity, number = (f"{sender}->{TARGET}", fields[b"17"].decode()), int(fields[b"34"])
                    found[identity] = min(number, found.get(identity, number))
        return found

    def _row_differences(self) -> Iterator[str]:
        expected, stored, numbers = known_close.rows(self.reports, TARGET), self._stored(), self._numbers()
        for identity in expected.keys() - stored.keys():
            yield f"sent but not stored: {identity}"
        for identity in stored.keys() - expected.keys():
            yield f"stored but never sent as a trade: {identity}"
        for identity in expected.keys() & stored.keys():
            symbol = expected[identity][2]
            right = (
                numbers[identity],
                self._pipeline.topics["trades"],
                (murmur2(symbol.encode()) & 0x7FFFFFFF) % PARTITIONS,
                *expected[identity],
            )
            if stored[identity] != right:
                yield f"row of {identity} is {stored[identity]}, sent was {right}"

    def _exception_differences(self) -> Iterator[str]:
        marks = ", ".join("?" * len(self.sessions))
        found = set(
            self._pipeline.select(
                f"SELECT session, exec_id, field, value FROM exceptions WHERE session IN ({marks})",  # noqa: S608
                *self.sessions,
            )
        )
        for row in found ^ known_close.exceptions(self.reports, TARGET):
            yield f"exception {'unfounded' if row in found else 'missing'}: {row}"

    def _position_differences(self) -> list[str]:
        expected = known_close.positions(self.reports)
        published = {
            (trader, symbol): position
            for trader in {trader for trader, _ in expected}
            for symbol, position in self._pipeline.positions(trader).items()
        }
        found = [
            f"position {at} is {'missing' if at in expected else 'unfounded'}"
            for at in expected.keys() ^ published.keys()
        ]
        for at in expected.keys() & published.keys():
            holding, position, mark = expected[at], published[at], Fraction(MARKS_E8[at[1]], 10**8)
            exact = {
                "quantity": holding.quantity,
                "mark": mark,
                "total": holding.cash + holding.quantity * mark,
                "trades": Fraction(holding.standing),
            }
            for name, right in exact.items():
                if _fraction(position[name]) != right:
                    found.append(f"position {at}: {name} is {position[name]}, should be {float(right)}")
            # A partial close rounds its share of the cost by less than 1e-16.
            rounding = Fraction(holding.moves, 10**16)
            for name, close in (("realized", holding.realized), ("cost", holding.cost)):
                if abs(_fraction(position[name]) - close) > rounding:
                    found.append(f"position {at}: {name} is {position[name]}, should be {float(close)}")
        return found

    def _byte_differences(self, others: Collection[bytes], *, disturbed: bool) -> Iterator[str]:
        archived: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        for frame in self._pipeline.archive.frames():
            sender = _sender(frame)
            if sender in self.senders:
                archived[sender][frame] += 1
        for sender in self.senders:
            written = Counter([*self.outgoing(sender), *(frame for frame in others if _sender(frame) == sender)])
            for frame in archived[sender] - written:
                if disturbed and not _COMPLETE.search(frame) and any(whole.startswith(frame) for whole in written):
                    continue  # a letter says so, see _letter_differences
                where = [place for one, place in self._pipeline.archive.placed() if one == frame]
                yield f"archived more often than {sender} wrote it ({'; '.join(where)}): {_show(frame)}"
            if not disturbed:
                for frame in written - archived[sender]:
                    yield f"written by {sender} and not archived: {_show(frame)}"
            kept = {fields[b"34"] for fields in map(_fields, archived[sender]) if fields[b"35"] == b"8"}
            for fields in map(_fields, written):
                if fields[b"35"] == b"8" and fields[b"34"] not in kept:
                    yield f"no bytes of MsgSeqNum {fields[b'34'].decode()} of {sender}, ExecID {fields[b'17'].decode()}"

    def _letter_differences(self, *, disturbed: bool) -> Iterator[str]:
        """A letter may only be the beginning of a frame that a connection's end cut, and that is archived as it came."""
        frames = Counter(frame for frame in self._pipeline.archive.frames() if not _COMPLETE.search(frame))
        cut = Counter(map(len, frames.elements()))
        for letter in self._pipeline.letters():
            known = disturbed and letter["detail"] == CUT and cut[letter["bytes"]] > 0
            cut[letter["bytes"]] -= known
            if letter["session"] in self.sessions and not known:
                yield f"a dead letter nobody expected: {letter}"
        if disturbed:
            for frame in frames:
                sender = _sender(frame)
                if sender in self.senders and cut[len(frame)] > 0:
                    yield f"the beginning of a frame of {sender}, archived without a letter: {_show(frame)}"


def _fraction(text: object) -> Fraction:
    return Fraction(Decimal(str(text))) if text is not None else Fraction(-1, 7)


def _fields(frame: bytes) -> dict[bytes, bytes]:
    return dict(pair.split(b"=", 1) for pair in frame.split(_SOH) if b"=" in pair)


def _sender(frame: bytes) -> str:
    return frame.partition(b"\x0149=")[2].partition(_SOH)[0].decode()


def _show(frame: bytes) -> str:
    return frame.replace(_SOH, b"|").decode("latin-1")
