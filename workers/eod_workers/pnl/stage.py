"""The flash P&L stage: trades and prices of its partitions in; positions, snapshots and updates out.

Where reading goes on is in the snapshot, never in the committed offset: that one only tells the operator how far we
are. While the state store is away the book keeps computing, and the latest state is published when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from eod_workers.deadletters.letters import record_letter, trade_letter
from eod_workers.pnl.book import Outcome, PartitionBook
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.publishing import Coalescer, position_field, update_message
from eod_workers.pnl.snapshot import dump, load
from eod_workers.ports import Record, StateWrites, TopicPartition, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_PROCESSING
from eod_workers.runtime import telemetry
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.letterbox import Letterbox
from eod_workers.runtime.stages import Service, StageContext, StageKind
from eod_workers.trades.codec import UndecodableBatch, decode_trades
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import decode_prices

log = structlog.get_logger()
UNASSIGNED = "UNASSIGNED"
"""How the trader of a report that names nobody is shown."""
COMMIT_INTERVAL_S = 0.5
_IDLE_S = 0.02


def positions_key(trader: str) -> str:
    """The hash of a trader's positions: symbol → JSON (see `publishing.position_field`)."""
    return f"positions:{trader or UNASSIGNED}"


def updates_channel(trader: str) -> str:
    """The channel of a trader's updates (see `publishing.update_message`)."""
    return f"pnl-updates:{trader or UNASSIGNED}"


def snapshot_key(group: str, partition: int) -> str:
    """Where the snapshot of a partition is kept."""
    return f"snapshot:{group}:{partition}"


class PnlHandler:
    """Books of the partitions owned, and when to publish and to snapshot them."""

    name = "flash-pnl"

    def __init__(self, context: StageContext, group: str) -> None:
        """Takes state, clock and options of the context."""
        self._context = context
        self._group = group
        self._books: dict[int, PartitionBook] = {}
        self._next: dict[TopicPartition, int] = {}
        self._dirty: set[int] = set()
        self._coalescer = Coalescer(context.options.publish_interval_s)
        self._letters = Letterbox(context, self.name)
        self._committed_at = 0.0
        self._snapshot_at: dict[int, float] = {}
        self._partitions = 0
        self._publishing = asyncio.Lock()

    # --- the batch loop's -----------------------------------------------------------------------------------

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Loads the snapshots; everything in them is published again, since the last publication may be missing."""
        options = self._context.options
        self._partitions = await self._context.log.partition_count(options.trades_topic)
        starts: dict[TopicPartition, int] = {}
        for number in {source.partition for source in partitions}:
            stored = await self._context.state.get_versioned(snapshot_key(self._group, number))
            book, offsets = load(stored[1]) if stored else (PartitionBook(), {})
            self._books[number] = book
            for topic in (options.trades_topic, options.prices_topic):
                source = TopicPartition(topic, number)
                self._next[source] = starts[source] = offsets.get(topic, 0)
            now = self._context.clock.monotonic()
            for (trader, symbol), _ in book.positions():
                self._coalescer.changed(trader, symbol, None, now)
        return {source: start for source, start in starts.items() if source in partitions}

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Forgets the partitions. Nothing is published any more: their next owner may have done so already."""
        for source in partitions:
            self._books.pop(source.partition, None)
            self._dirty.discard(source.partition)
            self._next.pop(source, None)

    async def apply(self, records: Sequence[Record]) -> None:
        """Applies trades and prices in log order."""
        for record in records:
            book = self._books.get(record.partition)
            if book is None or record.offset < self._next.get(record.source, 0):
                continue
            try:
                if record.topic == self._context.options.prices_topic:
                    self._price(book, record)
                else:
                    self._trades(book, record)
            except UndecodableBatch as error:
                self._letters.add(record_letter(record, str(error), stage=self.name))
            self._next[record.source] = record.offset + 1
            self._dirty.add(record.partition)

    def _trades(self, book: PartitionBook, record: Record) -> None:
        now = self._context.clock.monotonic()
        trades = decode_trades(record.value)
        for trade in trades:
            result = book.apply(trade)
            for trader, symbol in result.changed:
                self._coalescer.changed(trader, symbol, trade.received_at_ns, now)
            if result.outcome is not Outcome.APPLIED:
                if result.outcome.refused:
                    self._letters.add(
                        trade_letter(trade, REASON_PROCESSING, result.detail, stage=self.name, record=record)
                    )
                else:
                    telemetry.DUPLICATES.labels(self.name).inc()
        telemetry.PROCESSED.labels(self.name).inc(len(trades))

    def _price(self, book: PartitionBook, record: Record) -> None:
        now = self._context.clock.monotonic()
        for price in decode_prices(record.value):
            mark = Mark(price.source, price.px_e8, price.event_time_ns, price.session_date)
            for trader, symbol in book.apply_price(price.symbol, mark):
                self._coalescer.changed(trader, symbol, None, now)

    def due(self, now: float) -> bool:
        """Offsets are reported twice a second; snapshots follow their own interval inside `flush`."""
        return bool(self._dirty) and now - self._committed_at >= COMMIT_INTERVAL_S

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Snapshots when it is time (the store being away only postpones that) and reports how far we are."""
        await self._letters.flush()
        if final:
            with contextlib.suppress(Unavailable):  # the next owner publishes all that the snapshot holds
                await self.publish(everything=True)
        now = self._context.clock.monotonic()
        self._committed_at = now
        telemetry.POSITIONS.set(sum(book.size for book in self._books.values()))
        await self._snapshot(now, final=final)
        return {source: offset for source, offset in self._next.items() if source.partition in self._books}

    async def _snapshot(self, now: float, *, final: bool) -> None:
        """Of the partitions whose snapshot is due the one that waits longest (a large one takes a while), or all."""
        interval_s = self._context.options.snapshot_interval_s
        due = [
            number
            for number in sorted(self._dirty, key=lambda number: self._snapshot_at.get(number, 0.0))
            if final or now - self._snapshot_at.get(number, 0.0) >= interval_s
        ]
        topics = (self._context.options.trades_topic, self._context.options.prices_topic)
        for number in due if final else due[:1]:
            offsets = {topic: self._next[TopicPartition(topic, number)] for topic in topics}
            data = dump(self._books[number], number, offsets)
            try:
                await self._context.state.put_if_newer(snapshot_key(self._group, number), sum(offsets.values()), data)
            except Unavailable as error:
                log.warning("pnl.snapshot_postponed", partition=number, error=str(error))
                return
            self._dirty.discard(number)
            self._snapshot_at[number] = now
            await asyncio.sleep(0)

    # --- publishing -----------------------------------------------------------------------------------------

    async def publish(self, *, everything: bool = False) -> None:
        """Publishes the traders that are due: their changed positions to the hash and the channel, in one round trip.

        One publication at a time: a later state must not overtake an earlier one on its way to the store.

        Raises:
            Unavailable: the store is away; the changes stay due.
        """
        async with self._publishing:
            await self._publish(everything=everything)

    async def _publish(self, *, everything: bool) -> None:
        clock = self._context.clock
        due = self._coalescer.due(float("inf") if everything else clock.monotonic())
        if not due:
            return
        writes = StateWrites()
        as_of_ns = clock.now_ns()
        for trader, symbols, _ in due:
            by_partition: dict[int, dict[str, bytes]] = {}
            for symbol in sorted(symbols):
                number = partition_of(symbol, self._partitions)
                book = self._books.get(number)
                position = book.position(trader, symbol) if book else None
                if book and position:
                    by_partition.setdefault(number, {})[symbol] = position_field(position, book.mark(symbol))
            for number, fields in by_partition.items():
                writes.fields.setdefault(positions_key(trader), {}).update(fields)
                writes.publications.append(
                    (updates_channel(trader), update_message(trader or UNASSIGNED, number, fields, as_of_ns))
                )
        try:
            await self._context.state.write(writes)
        except Unavailable:
            now = clock.monotonic()
            for trader, symbols, received in due:
                for symbol in symbols:
                    self._coalescer.changed(trader, symbol, None, now)
                if received:
                    self._coalescer.changed(trader, next(iter(symbols)), min(received), now)
            raise
        published_ns = clock.now_ns()
        for _, _, received in due:
            for at in received:
                telemetry.PNL_LATENCY.observe((published_ns - at) / 1e9)
            self._context.published(received, published_ns)

    async def publish_forever(self) -> None:
        """Publishes whenever something is due; survives the store's absence."""
        clock = self._context.clock
        while True:
            following = self._coalescer.next_due()
            await clock.sleep(_IDLE_S if following is None else min(max(following - clock.monotonic(), 0.0), _IDLE_S))
            try:
                await self.publish()
            except Unavailable as error:
                log.warning("pnl.publishing_postponed", error=str(error))
                await clock.sleep(self._context.options.publish_interval_s)


class FlashPnl(Service):
    """The batch loop over trades and prices, with the publisher beside it."""

    def __init__(self, context: StageContext) -> None:
        """Topics are the trades and prices topics of the options; they must have the same partition count.

        Raises:
            ValueError: the options name other than two topics.
        """
        options = context.options
        if options.topics:
            if len(options.topics) != len(STAGE.topics):
                raise ValueError(
                    f"flash-pnl consumes a trades topic and a prices topic, in this order; EOD_TOPICS names "
                    f"{', '.join(options.topics)}"
                )
            trades, prices = options.topics
            options = replace(options, trades_topic=trades, prices_topic=prices)
            context = replace(context, options=options)
        group = options.group or STAGE.group
        self.handler = PnlHandler(context, group)
        consumer = context.log.consumer((options.trades_topic, options.prices_topic), group)
        self.loop = BatchLoop(self.handler, consumer, context.clock, context.health)

    async def run(self) -> None:
        """Runs until `stop`; the last update is published before it returns."""
        publisher = asyncio.create_task(self.handler.publish_forever())
        consuming = asyncio.create_task(self.loop.run())
        try:
            await asyncio.wait({publisher, consuming}, return_when=asyncio.FIRST_COMPLETED)
            if publisher.done():  # only a fault ends it: nobody would see positions any more
                await self.loop.stop()
            await consuming
        finally:
            consuming.cancel()
            publisher.cancel()
            await asyncio.wait({consuming, publisher})
        if not publisher.cancelled():
            publisher.result()

    async def stop(self) -> None:
        """Drains, snapshots, publishes."""
        await self.loop.stop()


STAGE = StageKind(
    name="flash-pnl",
    topics=("trades.raw", "prices.updates"),
    group="flash-pnl",
    start=FlashPnl,
    needs=frozenset({"state"}),
)
