"""The whole comparison over the ports of one pipeline: reads each topic once, hands its records to every check.

It writes to no store and joins no group. Memory holds one book, the expected positions, the ids of dead letters and,
with a tally, a digest a frame; trades are sorted on disk (`spool`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from eod_contract.kinds import FLASH_PNL

from eod_workers.archive.segments import received_frames
from eod_workers.dead_letters.index import UNLISTED_KEY, Unlisted, index_key
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import decode_letter, is_redriven_for
from eod_workers.market.tally import Tally
from eod_workers.pnl import published
from eod_workers.pnl.book import PartitionBook
from eod_workers.pnl.marks import Mark
from eod_workers.ports import Record, TopicPartition, place
from eod_workers.reconcile import letters, positions
from eod_workers.reconcile.archived import PartitionCheck
from eod_workers.reconcile.naming import Names
from eod_workers.reconcile.report import NotComparable, Report
from eod_workers.reconcile.sent import Arrived
from eod_workers.reconcile.span import Span, Wanted, behind, say, span_of, topics_of, wait_until_read
from eod_workers.reconcile.spool import Spool
from eod_workers.reconcile.trades import Counts, Occurrence, Scope, compare
from eod_workers.runtime.stages import Context
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.gone import FIELD as GONE
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import decode_prices
from eod_workers.trades.reference import ReferenceData

_BATCH = 5_000
_SETTLE_POLL_S = 0.5
Row = TypeVar("Row")


class Progress(Protocol):
    """Who is told how far we are."""

    def phase(self, text: str, total: int | None = None) -> None:
        """Something new has begun; it takes `total` steps if that is known."""
        ...

    def advance(self, steps: int = 1) -> None:
        """So many steps further."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare.

    Attributes:
        checks: of `report.CHECKS`.
        groups: stage → its consumer group.
        wanted: what of the log.
        wait_s: how long what is on its way may take: from the sockets to the log, and from there to the stores.
        anyway: compare although a stage has not.
        reference: what rows are enriched with, if that is to be compared.
        settle_s: how long a position may differ at least: a worker commits a little before it publishes what it has
            read.
        sent: a played market's tally and how many messages it resent intact.
    """

    checks: frozenset[str]
    groups: Mapping[str, str]
    wanted: Wanted = field(default_factory=Wanted)
    wait_s: float = 0.0
    anyway: bool = False
    reference: ReferenceData | None = None
    settle_s: float = 5.0
    sent: tuple[Tally, int] | None = None


async def reconcile(context: Context, request: Request, max_breaks: int, progress: Progress) -> Report:
    """Compares everything that the request names.

    A counterparty has its answer before the log has its last frames. So where nothing differs but what was sent, all is
    compared again until it is equal or `wait_s` is over.

    Raises:
        NotComparable: a stage has not read so far, or what was asked for does not exist.
        UnknownTopic: a topic does not exist.
        Unavailable: the log or a store cannot be reached.
    """
    clock = context.clock
    deadline = clock.monotonic() + request.wait_s
    while True:
        left_s = max(0.0, deadline - clock.monotonic())
        report = Report(max_breaks)
        await _Reconciliation(context, replace(request, wait_s=left_s), report, progress).run()
        if set(report.counts) != {"sent"} or clock.monotonic() >= deadline:
            return report
        progress.phase(f"{report.counts['sent']:,} differences to what was sent: it may be on its way")
        await clock.sleep(_SETTLE_POLL_S)


class _Reconciliation:
    """One comparison; `run` makes it and fills `report`."""

    def __init__(self, context: Context, request: Request, report: Report, progress: Progress) -> None:
        self._context = context
        self._deadline = context.clock.monotonic() + request.wait_s
        self._request = request
        self._report = report
        self._progress = progress
        self._spans: dict[str, Span] = {}
        self._logged_letters = letters.LoggedLetters()
        self._arrived = Arrived(request.sent[0]) if request.sent else None
        self._expected: dict[published.Key, positions.Expected] = {}
        self._scope = Scope(context.topics.trades_topic, {}, request.reference, whole=True)
        self._undecodable = 0

    async def run(self) -> None:
        """See `reconcile`."""
        await self._look()
        for check in sorted(self._request.checks):
            self._report.numbers[check] = {}
        with closing(Spool()) as spool:
            if self._request.checks & {"rows", "exceptions"} or self._needs_rows_for_books():
                await self._read_store(spool)
            for topic, span in self._spans.items():
                if topic != self._context.topics.prices_topic:
                    await self._read_topic(span, spool)
            if self._request.checks & {"rows", "exceptions"}:
                await self._compare_trades(spool)
        if "positions" in self._request.checks:
            await self._compare_positions()
        if "letters" in self._request.checks:
            await self._compare_letters()
        if self._arrived is not None and self._request.sent is not None:
            self._compare_sent(self._arrived, self._request.sent[1])

    # --- the log ------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Where the log begins and ends now; then waits for the stages."""
        context, request = self._context, self._request
        topics = dict.fromkeys(t for check in sorted(request.checks) for t in topics_of(check, context.topics))
        for topic in topics:
            self._spans[topic] = await span_of(context.log, topic, request.wanted)
        trades = self._spans.get(context.topics.trades_topic)
        if trades is not None:
            whole = len(trades.offsets) == trades.partitions
            self._scope = Scope(trades.topic, trades.offsets, request.reference, whole=whole)

        async def look() -> dict[str, int]:
            return await behind(context.log, self._spans, sorted(request.checks), request.groups, context.topics)

        self._progress.phase("looking how far the stages are")
        lags = await wait_until_read(look, context.clock, request.wait_s, self._progress.phase)
        if lags and not request.anyway:
            groups = ", ".join(f"{stage}={request.groups[stage]}" for stage in lags)
            raise NotComparable(
                f"{say(lags)}: let it run and --wait more than {request.wait_s:g} seconds, name its consumer group "
                f"with --group if it is another one than {groups}, or compare --anyway and see what is not there yet"
            )
        if lags:
            self._report.notes.append(f"{say(lags)}: what it has not read yet counts as missing")

    def _needs_rows_for_books(self) -> bool:
        span = self._spans.get(self._context.topics.trades_topic)
        if "positions" not in self._request.checks or span is None:
            return False
        return not all(map(span.whole, span.offsets))

    async def _read_topic(self, span: Span, spool: Spool) -> None:
        self._progress.phase(f"reading {span.topic}", span.records)
        archived = {}
        topic_id = (await self._context.log.topic_ids([span.topic]))[span.topic]
        for number, (start, end) in sorted(span.offsets.items()):
            source = TopicPartition(span.topic, number)
            check = None
            if "archive" in self._request.checks:
                check = PartitionCheck(self._context.archive, source, topic_id, start, end)
            if span.topic == self._context.topics.trades_topic:
                await self._read_trades(source, start, end, spool, check)
            else:
                async for record in self._records(source, start, end, check):
                    self._take_received(record)
                    if span.topic == self._context.topics.letters_topic:
                        self._logged_letters.record(record)
            if check is not None:
                ends = await self._context.log.end_offsets(span.topic)
                archived[f"{span.topic}[{number}]"] = await check.end(ends[number])
                self._report.extend(check.breaks)
        if archived:
            numbers = self._report.numbers["archive"]
            for name in ("log_records", "archived_records"):
                numbers[name] = numbers.get(name, 0) + sum(one[name] for one in archived.values())
            numbers.setdefault("partitions", {}).update(archived)

    async def _records(
        self, source: TopicPartition, start: int, end: int, check: PartitionCheck | None
    ) -> AsyncIterator[Record]:
        async for record in self._context.log.read(source, start, end):
            if check is not None:
                await check.record(record)
            yield record
            self._progress.advance()

    async def _read_trades(
        self, source: TopicPartition, start: int, end: int, spool: Spool, check: PartitionCheck | None
    ) -> None:
        """A partition of the trades: for the rows, the books and the tally."""
        rows = bool(self._request.checks & {"rows", "exceptions"})
        book = None
        if "positions" in self._request.checks:
            book = positions.book_of(spool.rows_before(source.topic, source.partition, start) if start else ())
        waiting: list[Occurrence] = []
        async for record in self._records(source, start, end, check):
            try:
                trades = decode_trades(record.value)
            except UndecodableBatch:
                self._undecodable += 1  # every stage makes the same dead letter of it
                continue
            if rows:
                waiting += [self._scope.occurrence(trade, record, nth) for nth, trade in enumerate(trades)]
            if len(waiting) >= _BATCH:
                spool.add_occurrences(waiting)
                waiting.clear()
            if book is not None and is_redriven_for(record, FLASH_PNL.name):
                for trade in trades:
                    book.apply(trade)
            self._take_trades(record, trades)
            self._take_received(record)
        spool.add_occurrences(waiting)
        if book is not None:
            await self._mark(book, source.partition)
            self._expected |= positions.expected_of(book, source.partition)

    async def _mark(self, book: PartitionBook, number: int) -> None:
        topic = self._context.topics.prices_topic
        start, end = self._spans[topic].offsets[number]
        async for record in self._context.log.read(TopicPartition(topic, number), start, end):
            try:
                prices = decode_prices(record.value)
            except UndecodableBatch:
                continue
            for price in prices:
                book.apply_price(price.symbol, Mark(price.source, price.px_e8, price.event_time_ns, price.session_date))

    def _take_trades(self, record: Record, trades: Sequence[Trade]) -> None:
        if self._arrived is not None:
            where = place(record.source, record.offset)
            for trade in trades:
                self._report.extend(self._arrived.execution(trade, where))

    def _take_received(self, record: Record) -> None:
        if self._arrived is None:
            return
        topics = self._context.topics
        for raw in received_frames(record, sessions_topic=topics.sessions_topic, letters_topic=topics.letters_topic):
            self._arrived.frame(raw, whole=record.topic != topics.letters_topic)
        if record.topic == topics.letters_topic:
            with suppress(UndecodableBatch):  # counted with the letters
                self._arrived.letter(decode_letter(record.value))

    # --- the regulatory store -----------------------------------------------------------------------

    async def _read_store(self, spool: Spool) -> None:
        """Exceptions before rows: a row is stored with its exceptions, so none is met without its row."""
        store = self._context.regulatory
        if "exceptions" in self._request.checks:
            self._progress.phase("reading exceptions")
            async for some in _pages(store.exceptions()):
                spool.add_exceptions([one for one in some if one.field != GONE])
                self._progress.advance(len(some))
        self._progress.phase("reading rows")
        async for page in _pages(store.trades()):
            spool.add_rows(page)
            self._progress.advance(len(page))

    async def _compare_trades(self, spool: Spool) -> None:
        self._progress.phase("comparing trades")
        counts = Counts()
        ends = await self._context.log.end_offsets(self._scope.topic)  # after the rows were read
        self._scope = replace(self._scope, log_ends=ends)
        names = Names(self._context.log, self._scope)
        for finding in compare(spool.occurrences(), spool.rows(), spool.exceptions(), self._scope, counts):
            if finding.check in self._request.checks:
                self._report.add(names.briefly(finding) if self._report.full else await names.of(finding))
        numbers = self._report.numbers
        if "rows" in numbers:
            numbers["rows"] = {
                "trades": counts.trades,
                "rows": counts.rows,
                "duplicates": counts.duplicates,
                "rows_outside": counts.rows_elsewhere,
                "undecodable_records": self._undecodable,
                "sorted_bytes": spool.size_bytes,
            }
        if "exceptions" in numbers:
            numbers["exceptions"] = {"exceptions": counts.exceptions}

    # --- the state store ----------------------------------------------------------------------------

    async def _compare_positions(self) -> None:
        """Positions that differ are looked at again for a while; where trades still come in, nobody can tell."""
        context, span = self._context, self._spans[self._context.topics.trades_topic]
        prices = self._spans[context.topics.prices_topic]
        self._progress.phase("comparing positions", len(self._expected))
        found = self._in_scope(await published.stored(context.state))
        trading, quoting = await self._moved(span), await self._moved(prices)
        marked = frozenset(n for n in span.offsets if n not in quoting and prices.whole(n))
        differing = dict(positions.compare(self._expected, found, marked=marked))
        deadline = max(self._deadline, context.clock.monotonic() + self._request.settle_s)
        while differing and context.clock.monotonic() < deadline:
            await context.clock.sleep(_SETTLE_POLL_S)
            again = await published.stored(context.state, sorted({trader for trader, _ in differing}))
            wanted = {key: self._expected[key] for key in differing if key in self._expected}
            now = {key: value for key, value in self._in_scope(again).items() if key in differing}
            differing = dict(positions.compare(wanted, now, marked=marked))
        trading |= await self._moved(span)
        unsettled = {key for key in differing if partition_of(key[1], span.partitions) in trading}
        self._report.extend(differing[key] for key in differing if key not in unsettled)
        self._report.numbers["positions"] = {"positions": len(found), "expected": len(self._expected)}
        if unsettled:
            self._report.undone.append(
                f"{len(unsettled):,} positions changed while they were compared, since trades still come in: "
                "reconcile again when the market is quiet"
            )
        unmarked = len(span.offsets) - len(marked)
        if unmarked:
            self._report.notes.append(
                f"marks of {unmarked} partitions are taken as published: their prices still come in, or the log does "
                "not reach back to the first of them; quantities, costs and the arithmetic are compared"
            )

    def _in_scope(self, found: Mapping[published.Key, bytes]) -> dict[published.Key, bytes]:
        span = self._spans[self._context.topics.trades_topic]
        return {key: value for key, value in found.items() if partition_of(key[1], span.partitions) in span.offsets}

    async def _moved(self, span: Span) -> set[int]:
        ends = await self._context.log.end_offsets(span.topic)
        return {number for number, (_, end) in span.offsets.items() if ends[number] > end}

    async def _compare_letters(self) -> None:
        """Letters in the store that the compared part of the log cannot have are left out."""
        span = self._spans[self._context.topics.letters_topic]
        self._progress.phase("comparing dead letters")
        state = self._context.state
        of = {number: await state.hash_get_all(index_key(number)) for number in range(span.partitions)}
        unlisted = {
            int(number): Unlisted.read(value) for number, value in (await state.hash_get_all(UNLISTED_KEY)).items()
        }
        elsewhere = {
            one for number, lines in of.items() for one in lines if number not in span.offsets or not span.whole(number)
        }
        listed = {one: line for lines in of.values() for one, line in lines.items()}
        later = letters.LoggedLetters()
        for number, end in (await self._context.log.end_offsets(span.topic)).items():
            if number in span.offsets:
                source = TopicPartition(span.topic, number)
                async for record in self._context.log.read(source, span.offsets[number][1], end):
                    later.record(record)
        logged = self._logged_letters
        for letter_id in later.last.keys() & logged.last.keys():
            del logged.last[letter_id]  # written once more since: the store may have either
        beyond = elsewhere | later.last.keys()
        self._report.extend(letters.compare(logged, listed, unlisted, beyond=beyond))
        self._report.numbers["letters"] = {
            "records": logged.records,
            "letters": len(logged.last),
            "stored": len(listed),
            "unlisted": sum(one.letters for one in unlisted.values()),
            "undecodable": logged.undecodable,
        }

    # --- the tally ----------------------------------------------------------------------------------

    def _compare_sent(self, arrived: Arrived, again_intact: int) -> None:
        for found in (
            arrived.missing("the log"),
            arrived.frames("the log"),
            arrived.letters(self._context.topics.letters_topic),
            arrived.repeats("the log", again_intact),
        ):
            self._report.extend(found)
        self._report.numbers["sent"] = {
            "executions": len(arrived.tally.executions),
            "arrived": len(arrived.found & arrived.tally.executions.keys()),
            "duplicates": arrived.duplicates,
            "garbled": len(arrived.garbled),
            "bytes": arrived.bytes_received,
        }


async def _pages(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    page: list[Row] = []
    async for row in rows:
        page.append(row)
        if len(page) == _BATCH:
            yield page
            page = []
    if page:
        yield page


def stores_of(checks: Iterable[str]) -> dict[str, str]:
    """Port → the comparison that needs it."""
    of = {
        "archive": "archive",
        "rows": "regulatory",
        "exceptions": "regulatory",
        "positions": "state",
        "letters": "state",
    }
    return {of[check]: check for check in checks if check in of}
