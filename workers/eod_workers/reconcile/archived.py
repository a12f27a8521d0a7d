"""One partition of the log against its segments in the archive, offset by offset, in one pass over both.

Both sides also get a running SHA-256 over (offset, key, value), so that a report can be compared with another one. Of
the archive only the segments that reach into the compared span are fetched; each is checked by itself as `eod archive
verify` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Container, Iterable
from typing import Any, NamedTuple

from eod_workers.archive.segments import first_offset, segment_folder
from eod_workers.archive.verify import read_segment
from eod_workers.layouts import UndecodableBatch
from eod_workers.ports import ObjectArchive, Record, TopicPartition, place
from eod_workers.reconcile.report import Break
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.model import Trade


class Archived(NamedTuple):
    """A record of the archive with the segment that holds it; or an unreadable segment, `record` being None."""

    key: str
    record: Record | None
    first_offset: int


class _Segments:
    """The segments of a partition, read one after the other.

    `breaks` collects what is wrong with one by itself; `reaches` is the highest offset met, within the span or not.
    """

    def __init__(self, archive: ObjectArchive, source: TopicPartition, topic_id: str, start: int, end: int) -> None:
        self.breaks: list[Break] = []
        self.reaches = -1
        self._archive = archive
        self._folder = segment_folder(*source, topic_id) + "/"
        self._earlier = segment_folder(*source) + "/" if topic_id else ""
        self._start, self._end = start, end

    async def records(self) -> AsyncIterator[Archived]:
        """The records with start ≤ offset < end, in offset order."""
        waiting: tuple[str, int] | None = None  # a segment ends where the next one begins
        async for key, first in self._listed():
            if waiting is not None and first > self._start:
                async for one in self._read(*waiting):
                    yield one
            waiting = (key, first)
            self.reaches = max(self.reaches, first)
        if waiting is not None:
            async for one in self._read(*waiting):
                yield one

    async def _listed(self) -> AsyncIterator[tuple[str, int]]:
        """The segments and their first offsets.

        Where those with the topic's id do not begin at 0, the ones before them are of a release that knew no ids; where
        they do, such are of an earlier topic.
        """
        own = [one async for one in self._within(self._folder)]
        if self._earlier and (not own or own[0][1]):
            async for key, first in self._within(self._earlier):
                if not own or first < own[0][1]:
                    yield key, first
        for key, first in own:
            yield key, first

    async def _within(self, folder: str) -> AsyncIterator[tuple[str, int]]:
        async for item in self._archive.objects(folder):
            first = first_offset(item.key)
            if first is None:
                self._break("extra", item.key, "an object that is no segment", "nothing")
            else:
                yield item.key, first

    async def _read(self, key: str, first: int) -> AsyncIterator[Archived]:
        if first >= self._end:
            return
        read = await read_segment(self._archive, key)
        if read.problem:
            self._break("unreadable", key, read.problem, "a segment as the archive stage stored it")
            yield Archived(key, None, first)
            return
        self.reaches = max(self.reaches, read.records[-1].offset)
        for record in read.records:
            if self._start <= record.offset < self._end:
                yield Archived(key, record, first)

    def _break(self, kind: str, key: str, found: str, expected: str) -> None:
        self.breaks.append(Break("archive", kind, key, "", found, expected))


class _Run(NamedTuple):
    """Neighbouring records with the same trouble: one break."""

    kind: str
    key: str
    first: int
    last: int
    records: int
    about: str


class PartitionCheck:
    """Takes the records of a partition of the log in offset order, and holds them against the archive's.

    `breaks` collects differences; a run of missing or of needless records is one of them. Records that an unreadable
    segment should hold are not missing once more.
    """

    def __init__(self, archive: ObjectArchive, source: TopicPartition, topic_id: str, start: int, end: int) -> None:
        """The span must be that of the records which `record` will be given."""
        self._source = source
        self._segments = _Segments(archive, source, topic_id, start, end)
        self.breaks = self._segments.breaks
        self._stored = self._segments.records()
        self._next: Archived | None = None
        self._in_unreadable = False
        self._unreadable = ""
        self._run: _Run | None = None
        self._highest_taken = -1
        self._log, self._archive = hashlib.sha256(), hashlib.sha256()
        self._log_records = self._archive_records = 0

    async def record(self, record: Record) -> None:
        """The next record of the log."""
        self._log_records += 1
        _update(self._log, record)
        stored = await self._peek()
        while stored is not None and _before(stored, record.offset):
            self._pass(stored)
            stored = await self._advance()
        theirs = None if stored is None else stored.record
        if stored is None or theirs is None or theirs.offset != record.offset:
            if self._in_unreadable:
                self._lost(record)
            else:
                self._note("missing", "", record)
            return
        self._in_unreadable = False
        self._end_run()
        self._take(theirs)
        if (theirs.key or b"", theirs.value) != (record.key or b"", record.value):
            found, right = _digest(theirs), _digest(record)
            trades = _trades(record)
            about = _about(trades, _trades(theirs)) or _about(trades)
            self._break("different", record.offset, f"{stored.key} has {found}", f"{right}, as the log has", about)
        self._next = None

    async def end(self, log_end: int) -> dict[str, Any]:
        """All records of the span were given; `log_end` is where the log ends by now. Returns the numbers."""
        stored = await self._peek()
        while stored is not None:
            self._pass(stored)
            stored = await self._advance()
        self._end_run()
        if self._segments.reaches >= log_end:
            found = "the archive has records from behind the end of the log"
            self._break("extra", self._segments.reaches, found, f"nothing from @{log_end} on: the log has lost records")
        return {
            "log_records": self._log_records,
            "archived_records": self._archive_records,
            "log_sha256": self._log.hexdigest(),
            "archive_sha256": self._archive.hexdigest(),
        }

    async def _peek(self) -> Archived | None:
        if self._next is None:
            self._next = await anext(self._stored, None)
        return self._next

    async def _advance(self) -> Archived | None:
        self._next = None
        return await self._peek()

    def _pass(self, stored: Archived) -> None:
        """Something of the archive that no record of the log goes with."""
        if stored.record is None:
            self._in_unreadable = True
            self._unreadable = stored.key
            self._end_run()
            return
        again = stored.record.offset <= self._highest_taken
        self._take(stored.record)
        self._note("twice" if again else "extra", stored.key, stored.record)

    def _take(self, record: Record) -> None:
        self._archive_records += 1
        self._highest_taken = max(self._highest_taken, record.offset)
        _update(self._archive, record)

    def _note(self, kind: str, key: str, record: Record) -> None:
        run = self._run
        if run is None or (run.kind, run.key) != (kind, key):
            self._end_run()
            run = _Run(kind, key, record.offset, record.offset, 0, _about(_trades(record)))
        self._run = run._replace(last=record.offset, records=run.records + 1)

    def _lost(self, record: Record) -> None:
        """The first record that an object which cannot be read should hold says of which trades it is."""
        key, self._unreadable = self._unreadable, ""
        for number, one in enumerate(self.breaks):
            if key and one.where == key:
                self.breaks[number] = one._replace(trade=_about(_trades(record)))

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        many = f"{run.records:,} records, to @{run.last}," if run.records > 1 else "the record"
        if run.kind == "missing":
            self._break(run.kind, run.first, f"{many} not in the archive", "archived as the log has it", run.about)
        elif run.kind == "twice":
            self._break(run.kind, run.first, f"{many} once more in {run.key}", "there once", run.about)
        else:
            self._break(run.kind, run.first, f"{many} in {run.key} and not in the log", "nothing", run.about)

    def _break(self, kind: str, offset: int, found: str, expected: str, about: str = "") -> None:
        self.breaks.append(Break("archive", kind, place(self._source, offset), about, found, expected))


def _trades(record: Record) -> list[Trade]:
    """Those of a record; none if it holds frames, or nothing that can be read."""
    try:
        return decode_trades(record.value)
    except UndecodableBatch:
        return []


def _about(trades: Iterable[Trade], known: Container[Trade] = ()) -> str:
    """The first of some trades that is not known, and how many more of them; "" if there is none."""
    odd = [trade for trade in trades if trade not in known]
    more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
    return f"{odd[0].exec_id} of {odd[0].session}{more}" if odd else ""


def _before(stored: Archived, offset: int) -> bool:
    if stored.record is None:
        return stored.first_offset <= offset
    return stored.record.offset < offset


def _update(running: Any, record: Record) -> None:
    """Offset, key and value, each with its length, so that no two lists of records hash alike."""
    key = record.key or b""
    running.update(b"%d %d %d\n" % (record.offset, len(key), len(record.value)))
    running.update(key)
    running.update(record.value)


def _digest(record: Record) -> str:
    hashed = hashlib.sha256()
    _update(hashed, record)
    return f"SHA-256 {hashed.hexdigest()[:16]}… ({len(record.value):,} bytes)"
