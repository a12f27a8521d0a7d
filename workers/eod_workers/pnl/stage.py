"""The flash P&L stage: trades and prices of its partitions in; positions, snapshots and updates out.

Where reading goes on is in the snapshot, never in the committed offset: that one only tells the operator how far we
are. While the state store is away the book keeps computing, and the latest state is published when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import structlog
from eod_contract.kinds import FLASH_PNL

from eod_workers.letters import (
    BOOKED,
    KNOWN,
    OUTCOMES_KEY,
    REFUSED,
    Outcome,
    is_redriven_for,
    redriven_from,
    trade_letter,
)
from eod_workers.pnl.ledger import make_ledger
from eod_workers.pnl.metrics import PnlMetrics
from eod_workers.pnl.published import positions_key, updates_channel
from eod_workers.pnl.schedule import SnapshotSchedule
from eod_workers.pnl.settings import PnlSettings
from eod_workers.pnl.snapshot import ReadTo
from eod_workers.ports import Record, StateWrites, TopicPartition, Unavailable, UnevenTopics, UnknownTopic, are_two
from eod_workers.protos.dead_letter_pb2 import REASON_PROCESSING, DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.trades.spread import spread_of

logger = structlog.get_logger()
COMMIT_INTERVAL_S = 0.5
"""Offsets tell the operator how far we are; more often than this nobody looks."""
POSITIONS_A_WRITE = 5_000
"""Positions published in one round trip: a price of what everybody holds makes everybody due, and the log waits too."""
OUTCOMES_REMEMBERED = 1_000
"""Of redriven letters: one that was booked is told so also to who redrives it once more."""
_NAP_S = 0.005
"""The longest sleep until somebody's turn: another may come earlier, of whom nothing was known when it began."""


VERSIONS_A_REMAKE = 1 << 44
"""A topic that was made anew begins at offset 0 again, and a snapshot of it is newer than all of the old one."""


def snapshot_key(group: str, partition: int) -> str:
    """Where the snapshot of a partition is kept."""
    return f"snapshot:{group}:{partition}"


class PnlCore(Core):
    """Books of the partitions owned, and when to publish and to snapshot them."""

    kind = FLASH_PNL

    def __init__(self, context: StageContext[PnlMetrics], settings: PnlSettings) -> None:
        """Takes state and clock of the context."""
        self._context = context
        self._metrics = context.metrics
        self._settings = settings
        self._group = settings.group_of(FLASH_PNL)
        self._topics = (settings.trades_topic, settings.prices_topic)
        self._ledger = make_ledger(settings.publish_interval_ms / 1_000)
        self._read: dict[int, Mapping[str, ReadTo]] = {}  # how far each topic was, when its partition was loaded
        self._flushed_at = 0.0
        self._snapshots = SnapshotSchedule(settings.snapshot_interval_s)
        self._storing: asyncio.Task[bool] | None = None
        self._partitions = 0
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()  # of letters redriven lately
        self._untold: set[str] = set()
        self._publishing = asyncio.Lock()
        self._changed = asyncio.Event()  # set when somebody's turn may have come, who had none

    # --- the batch loop's -----------------------------------------------------------------------------------

    async def may_join(self) -> None:
        """Trades and prices are assigned alike where both topics have as many partitions."""
        counts = {topic: await self._context.log.partition_count(topic) for topic in self._topics}
        if len(set(counts.values())) > 1:
            raise Unavailable(self._uneven(counts))

    @staticmethod
    def _uneven(counts: Mapping[str, int]) -> str:
        most = max(counts.values())
        few = next(topic for topic, count in counts.items() if count < most)
        told = " and ".join(f"{topic} {count}" for topic, count in counts.items())
        return (
            f"partitions of trades and prices go together, and {told} is what there is: give {few} as many "
            f"(kafka-topics --alter --topic {few} --partitions {most})"
        )

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Loads the snapshots; everything in them is published again, since the last publication may be missing.

        Of a topic that was made anew the book stays, and knows by their ExecIDs the trades that come again.

        Raises:
            UnevenTopics: a book would be two workers' at once: one of the topics has more partitions than before.
        """
        numbers = [{source.partition for source in partitions if source.topic == topic} for topic in self._topics]
        books = numbers[0] & numbers[1]
        apart = [source for source in partitions if source.partition not in books]
        settings = self._settings
        context = self._context
        self._partitions = await spread_of(context.log, context.state, settings.trades_topic, warn=True)
        starts = await self._half_books(apart) if apart else {}
        outdated: dict[TopicPartition, int] = {}
        for number in sorted(books):
            stored = await self._context.state.get_versioned(snapshot_key(self._group, number))
            now = self._context.clock.monotonic()
            before = self._ledger.open(number, stored[1] if stored else None, now)
            self._read[number] = {
                topic: self._go_on(before.get(topic), topic_ids.get(topic, "")) for topic in self._topics
            }
            self._snapshots.opened(number, len(stored[1]) if stored else 0, now)
            for topic, to in self._read[number].items():
                if topic in before and to.remakes > before[topic].remakes:
                    outdated[TopicPartition(topic, number)] = before[topic].offset
                    self._snapshots.failed(number)
        self._changed.set()
        starts |= {
            TopicPartition(topic, number): self._read[number][topic].offset
            for topic in self._topics
            for number in books
        }
        return Starts(starts, outdated)

    async def _half_books(self, sources: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Partitions whose other half we have not been given are nobody's book; what is read of them says nothing.

        So it is when the group gives out partitions while one of the topics is being made anew. Once it is there, the
        group gives them out again.
        """
        ends: dict[str, Mapping[int, int]] = {}
        for topic in self._topics:
            with contextlib.suppress(UnknownTopic):
                ends[topic] = await self._context.log.end_offsets(topic)
        counts = {topic: len(partitions) for topic, partitions in ends.items()}
        if len(set(counts.values())) > 1:
            raise UnevenTopics(self._uneven(counts))
        gone = [topic for topic in self._topics if topic not in ends]
        logger.warning("stage.half_books", stage=self.kind.name, partitions=len(sources), do_not_exist=gone)
        return {source: ends.get(source.topic, {}).get(source.partition, 0) for source in sources}

    @staticmethod
    def _go_on(before: ReadTo | None, topic_id: str) -> ReadTo:
        """Where to read on in the topic of this id."""
        if before is None:
            return ReadTo(0, topic_id)
        if are_two(before.topic_id, topic_id):
            return ReadTo(0, topic_id, before.remakes + 1)
        return before._replace(topic_id=topic_id or before.topic_id)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Forgets the partitions. Nothing is published any more: their next owner may have done so already."""
        for source in partitions:
            self._ledger.close(source.partition)
            self._snapshots.closed(source.partition)
            self._read.pop(source.partition, None)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Applies trades and prices in log order."""
        if not self._ledger.owns(record.partition):
            return 0
        now = self._context.clock.monotonic()
        try:
            if record.topic == self._settings.prices_topic:
                self._ledger.apply_prices(record.partition, record.value, now)
                return 0
            if not is_redriven_for(record, self.kind.name):
                return 0
            return self._trades(record, now, letters)
        finally:  # also of what does not decode: it was read
            self._snapshots.read(record.partition, len(record.value))
            self._changed.set()

    def _trades(self, record: Record, now: float, letters: Callable[[DeadLetter], None]) -> int:
        rows, duplicates, refused = self._ledger.apply_trades(record.partition, record.value, now)
        stage = self.kind.name
        for trade, result in refused:
            letters(trade_letter(trade, REASON_PROCESSING, result.detail, stage=stage, record=record))
        if letter := redriven_from(record):
            what = REFUSED if refused else KNOWN if duplicates == rows else BOOKED
            why = refused[0][1].detail if refused else ""
            outcome = Outcome(what, why, record.topic, record.partition, record.offset, record.offset)
            before = self._outcomes.get(letter)
            self._outcomes[letter] = before.and_then(outcome) if before else outcome
            self._outcomes.move_to_end(letter)
            self._untold.add(letter)
        now_ns = self._context.clock.now_ns()
        latency = self._metrics.applied_latency
        latency.add(*self._ledger.applied_lateness(now_ns, latency.bounds_ns))
        self._metrics.processed.labels(stage).inc(rows)
        if duplicates:
            self._metrics.duplicates.labels(stage).inc(duplicates)
        return rows

    def due(self, now: float) -> bool:
        """Snapshots have a schedule of their own, and outcomes wait for the store, also when nothing comes."""
        return now - self._flushed_at >= COMMIT_INTERVAL_S and bool(self._untold or self._snapshots.due(now))

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Snapshots when it is time (the store being away only postpones that) and reports how far we are."""
        if final:
            with contextlib.suppress(Unavailable):  # the next owner publishes all that the snapshot holds
                await self.publish(everything=True)
        now = self._context.clock.monotonic()
        self._flushed_at = now
        self._metrics.positions.set(self._ledger.size)
        await self._snapshot(offsets.next, now, final=final)
        await self._tell_outcomes()
        return offsets.next

    async def _tell_outcomes(self) -> None:
        """Says what became of redriven letters; whoever waits for it asks again if that never comes."""
        if not self._untold:
            return
        fields = {letter: self._outcomes[letter].stored() for letter in self._untold}
        with contextlib.suppress(Unavailable):
            await self._context.state.write(StateWrites({OUTCOMES_KEY: fields}))
            self._untold.clear()
            while len(self._outcomes) > OUTCOMES_REMEMBERED:
                self._outcomes.popitem(last=False)

    async def _snapshot(self, read: Mapping[TopicPartition, int], now: float, *, final: bool) -> None:
        """Of the partitions whose snapshot is due the one that waits longest (a large one takes a while), or all.

        What is not final is stored while work goes on, one at a time: a store compares versions, not times.
        """
        if self._storing is not None and (final or self._storing.done()):
            await self._storing
            self._storing = None
        due = self._snapshots.changed() if final else self._snapshots.due(now)
        if final:
            for number in due:
                if not await self._store(number, *self._dump(number, read, now)):
                    return
        elif due and self._storing is None:
            self._storing = asyncio.create_task(self._store(due[0], *self._dump(due[0], read, now)))

    def _dump(self, number: int, read: Mapping[TopicPartition, int], now: float) -> tuple[int, bytes]:
        """The snapshot of a partition as it is now, with its version."""
        to = {
            topic: before._replace(offset=read.get(TopicPartition(topic, number), before.offset))
            for topic, before in self._read[number].items()
        }
        data = self._ledger.dump(number, to)
        self._snapshots.taken(number, len(data), now)
        return sum(one.offset + one.remakes * VERSIONS_A_REMAKE for one in to.values()), data

    async def _store(self, number: int, version: int, data: bytes) -> bool:
        """Stores a snapshot; False while the store is away: the next one will do."""
        try:
            await self._context.state.put_if_newer(snapshot_key(self._group, number), version, data)
        except Unavailable as error:
            logger.warning("pnl.snapshot_postponed", partition=number, error=str(error))
            self._snapshots.failed(number)
            return False
        return True

    def close(self) -> None:
        """Lets go of a snapshot that is under way."""
        if self._storing is not None:
            self._storing.cancel()

    # --- publishing -----------------------------------------------------------------------------------------

    async def publish(self, *, everything: bool = False) -> None:
        """Publishes the traders that are due: their changed positions to the hash and the channel, in one round trip.

        One publication at a time: a later state must not overtake an earlier one on its way to the store.

        Raises:
            Unavailable: the store is away; the changes stay due.
        """
        async with self._publishing:
            until = float("inf") if everything else self._context.clock.monotonic()
            while await self._publish(until):
                pass

    async def _publish(self, until: float) -> bool:
        """Publishes some of the traders that are due; whether there were any."""
        clock = self._context.clock
        as_of_ns = clock.now_ns()
        due = self._ledger.due(until, as_of_ns=as_of_ns, partitions=self._partitions, limit=POSITIONS_A_WRITE)
        if not due:
            return False
        writes = StateWrites()
        for trader, parts, _ in due:
            for part in parts:
                writes.fields.setdefault(positions_key(trader), {}).update(part.fields)
                writes.publications.append((updates_channel(trader), part.message))
        try:
            await self._context.state.write(writes)
        except Unavailable:
            self._ledger.announce_again(due, clock.monotonic())
            raise
        published_ns = clock.now_ns()
        latency = self._metrics.published_latency
        latency.add(*self._ledger.lateness(due, published_ns, latency.bounds_ns))
        for publication in due:
            self._context.published(publication.received_at_ns, published_ns)
        return True

    async def publish_forever(self) -> None:
        """Publishes whenever something is due; survives the store's absence."""
        clock = self._context.clock
        while True:
            self._changed.clear()
            following = self._ledger.next_due()
            if following is None:
                await self._changed.wait()
            else:
                await clock.sleep(min(max(following - clock.monotonic(), 0.0), _NAP_S))
            try:
                await self.publish()
            except Unavailable as error:
                logger.warning("pnl.publishing_postponed", error=str(error))
                await clock.sleep(self._settings.publish_interval_ms / 1_000)


class FlashPnl(Service):
    """The batch loop over trades and prices, with the publisher beside it."""

    def __init__(self, context: StageContext[PnlMetrics], settings: PnlSettings) -> None:
        """Topics are the trades and prices topics of the settings; they must have the same partition count.

        Raises:
            ValueError: the settings name other than two topics.
        """
        if settings.topics:
            if len(settings.topics) != len(FLASH_PNL.reads):
                raise ValueError(
                    f"flash-pnl consumes a trades topic and a prices topic, in this order; EOD_TOPICS names "
                    f"{', '.join(settings.topics)}"
                )
            trades, prices = settings.topics
            settings = settings.model_copy(update={"trades_topic": trades, "prices_topic": prices})
        self.core = PnlCore(context, settings)
        self.loop = BatchLoop(self.core, context, settings, FlushPolicy(COMMIT_INTERVAL_S))

    async def run(self) -> None:
        """Runs until `stop`; the last update is published before it returns."""
        publisher = asyncio.create_task(self.core.publish_forever())
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
            self.core.close()
        if not publisher.cancelled():
            publisher.result()

    async def stop(self) -> None:
        """Drains, snapshots, publishes."""
        await self.loop.stop()


STAGE = Stage(FLASH_PNL, FlashPnl, PnlSettings, PnlMetrics)
