"""The one loop that every consuming stage runs: poll → apply the batch → make it durable → only then commit.

It owns the progress: which partitions are ours, how far each is read, what is not durable yet and how long it has been
waiting. A record below its partition's offset is skipped. One that a core stumbles over becomes a dead letter, and the
next is applied; a core of a kind that writes no letters must stumble over nothing: its stage ends if it does. All calls
into a core are serialized by one lock, rebalances included.

A store that cannot be reached stops consumption (lag grows, nothing is skipped) and is tried again for ever; one that
refuses us, and a topic that is missing, for `LET_IN_WITHIN_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TypeVar, cast

import structlog
from eod_contract.streams import LETTERS

from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import anew_letter, ended_letter, lost_letter, record_letter, unexpected_letter
from eod_workers.ports import (
    Attempt,
    CommitRefused,
    Record,
    StaleEpoch,
    Stalled,
    TopicPartition,
    Unavailable,
    UnknownTopic,
    nobody_leads,
    place,
)
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime import tracing
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Refused, Starts
from eod_workers.runtime.letterbox import Letterbox
from eod_workers.runtime.metrics import FlushMetrics, LoopMetrics
from eod_workers.runtime.stages import Service, StageContext
from eod_workers.runtime.suspects import Step, Suspects
from eod_workers.runtime.variables import StageSettings

logger = structlog.get_logger()
_T = TypeVar("_T")
MAX_RECORDS_A_POLL = 500
POLL_TIMEOUT_S = 0.1
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
LET_IN_WITHIN_S = 60.0
"""How long a store may refuse our credentials, or a topic be missing: what makes them may be on its way."""
REJOIN_S = 20.0
"""A worker whose partitions were taken is given new ones within this time, or gives up so that it is started afresh."""
DRAIN_S = 15.0
"""How long a stopping stage tries to make its last batch durable before it leaves it to its successor."""


def _no_letters(letter: DeadLetter) -> None:
    raise ValueError(f"a stage that writes no letters has written one: {letter.detail}")


@dataclass(slots=True)
class Progress:
    """What a loop has done so far."""

    records: int = 0
    flushes: int = 0
    rebalances: int = 0


@dataclass(slots=True)
class _Pending:
    """What was applied of a partition and is not durable."""

    rows: int = 0
    size: int = 0


class BatchLoop(Service):
    """Runs one core over the topics of its kind."""

    def __init__(
        self, core: Core, context: StageContext[FlushMetrics], settings: StageSettings, flush: FlushPolicy
    ) -> None:
        """Makes the consumer; it joins its group when the loop runs, and the loop closes it."""
        kind = core.kind
        self.progress = Progress()
        self._core = core
        self._name = kind.name
        self._flush_policy = flush
        self._log, self._group = context.log, settings.group_of(kind)
        self._consumer = context.log.consumer(settings.consumed(kind), self._group)
        self._letters: Letterbox | None = None
        if LETTERS in kind.writes:
            self._letters = Letterbox(cast("StageContext[LoopMetrics]", context), kind.name)
        self._flush_seconds = context.metrics.flush_seconds.labels(kind.name)
        self._lost_total = context.metrics.lost
        self._anew_total = context.metrics.anew
        self._skipped_total = context.metrics.skipped
        self._leaderless_now = context.metrics.leaderless
        self._told_lost: set[tuple[TopicPartition, int, int]] = set()
        self._told_anew: set[tuple[TopicPartition, str]] = set()
        self._anew: dict[tuple[str, str], Mapping[TopicPartition, int]] = {}  # by topic and id, still to be told
        self._clock = context.clock
        self._health = context.health
        self._lock = asyncio.Lock()
        self._generation = 0
        self._owned: frozenset[TopicPartition] = frozenset()
        self._next: dict[TopicPartition, int] = {}
        self._fresh: dict[TopicPartition, _Pending] = {}
        self._begun: dict[TopicPartition, int | None] = {}  # of new partitions, where the core says that reading begins
        self._leaderless: frozenset[TopicPartition] = frozenset()  # of ours, at the last look
        self._uncommitted: dict[TopicPartition, int] = {}  # where the store says that reading goes on
        self._unsaid: set[TopicPartition] = set()  # of which nothing was taken in hand yet
        self._suspects: dict[TopicPartition, Suspects] = {}  # at which somebody has ended
        self._said: dict[TopicPartition, Attempt] = {}  # what was taken in hand, by us or by who ended over it
        self._in_hand: set[TopicPartition] = set()  # by us
        self._reached: dict[TopicPartition, int] = {}  # where reading goes on when we end
        self._waiting_since = 0.0  # the oldest of what is not durable
        self._origins = tracing.Origins()
        self._lost_since: float | None = None
        self._stopping = asyncio.Event()
        self._give_up_at = float("inf")
        self._gave_up = False
        self._unloaded: Exception | None = None  # why the partitions of the last assignment could not be loaded

    async def stop(self) -> None:
        """Lets `run` finish: the current batch is applied, flushed and committed first."""
        self._give_up_at = self._clock.monotonic() + DRAIN_S
        self._stopping.set()

    async def run(self) -> None:
        """Consumes until `stop`.

        Raises:
            UnknownTopic: a topic has not existed for `LET_IN_WITHIN_S`.
            UnevenTopics: of topics that belong together one has been given more partitions.
            CommitRefused: the group has taken our partitions and given us none for `REJOIN_S`.
            Stalled: the consumer reads nothing any more although records wait.
            PermissionError: a store has refused our credentials for `LET_IN_WITHIN_S`.
        """
        joining = asyncio.create_task(self._retry("joining the group", self._join))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({joining, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                await joining
                await self._consume()
        finally:
            for task in (joining, stopping):
                task.cancel()
            await asyncio.wait({joining, stopping})
            self._give_up_at = self._clock.monotonic()  # leaving waits for a rebalance under way: it tries no more
            await self._leave()

    async def _join(self) -> None:
        await self._core.may_join()
        await self._consumer.start(self)

    async def _consume(self) -> None:
        """Works until `stop`; what cannot be made durable then is left to the successor, who reads it again."""
        try:
            while not self._stopping.is_set():
                await self._step()
            async with asyncio.timeout(DRAIN_S), self._lock:
                await self._flush(final=True)
        except (TimeoutError, Unavailable, PermissionError) as error:
            if isinstance(error, Stalled) or not self._stopping.is_set():
                raise
            self._gave_up = True
            logger.warning("stage.drain_gave_up", stage=self._name, seconds=DRAIN_S, error=str(error))

    async def _leave(self) -> None:
        """Leaves the group; partitions that could not be loaded any more are left to the others: no failure."""
        try:
            await self._consumer.close()
        except (Unavailable, PermissionError) as error:
            if error is not self._unloaded:
                raise
            logger.warning("stage.left_unloaded", stage=self._name, error=str(error))

    async def _step(self) -> None:
        if self._lost_since is not None and self._clock.monotonic() - self._lost_since > REJOIN_S:
            raise CommitRefused(f"{self._name}: partitions were taken over and no new assignment has come")
        self._look_for_leaders()
        if self._anew or not self._begun.keys() <= self._leaderless:
            await self._look_for_gone()
        try:
            records = await self._consumer.poll(MAX_RECORDS_A_POLL, POLL_TIMEOUT_S)
        except Stalled:
            raise  # only a new process gets a consumer that works
        except Unavailable as error:
            self._health.not_ready(str(error))
            logger.warning("stage.log_unavailable", stage=self._name, error=str(error))
            await self._clock.sleep(_FIRST_RETRY_S)
            return
        if self._health.why_not and self._lost_since is None:
            self._health.ready()
        # A rebalance that begins from here on resets the positions: these records come again, or are not ours.
        generation = self._generation
        async with self._lock:
            if generation != self._generation:
                return
            if self._unsaid or self._suspects:
                if not await self._apply_warily(records):
                    return
            else:
                for record in records:
                    self._apply(record)
            if self._is_due(self._clock.monotonic()):
                await self._flush(final=False)
            elif self._uncommitted:
                await self._commit({})

    # --- a batch --------------------------------------------------------------------------------------------

    def _apply(self, record: Record) -> None:
        source = record.source
        if source not in self._owned or record.offset < self._next.get(source, 0):
            return
        self._take(record, self._rows_of(record))

    def _take(self, record: Record, rows: int) -> None:
        source = record.source
        self._next[source] = record.offset + 1
        if not self._fresh:
            self._waiting_since = self._clock.monotonic()
        pending = self._fresh.setdefault(source, _Pending())
        pending.rows += rows
        pending.size += len(record.value)
        self._origins.add(record.headers)
        self.progress.records += 1

    async def _apply_warily(self, records: Sequence[Record]) -> bool:
        """Applies records of partitions of which some are new to us; False if partitions were lost meanwhile.

        What is taken in hand is said first, in what the group commits: whoever succeeds us knows over what we ended.
        """
        generation = self._generation
        new = {
            one.source: Attempt(one.offset, None, 1)
            for one in reversed(records)
            if one.source in self._unsaid and one.offset >= self._next.get(one.source, 0)
        }
        if new:
            await self._say(new)
            self._unsaid -= new.keys()
        for source, run in groupby(records, attrgetter("source")):
            theirs = [record for record in run if source in self._owned and record.offset >= self._next.get(source, 0)]
            suspects = self._suspects.get(source)
            steps = suspects.steps(theirs) if suspects is not None and theirs else [Step(theirs)]
            for step in steps:
                if step.said is not None:
                    await self._say({source: step.said})
                if generation != self._generation:
                    return False
                for record in step.records:
                    if step.set_apart:
                        self._set_apart(record, step.set_apart)
                    else:
                        self._apply(record)
                if step.alone:  # that a record was set apart must be durable, or it would be met again
                    await self._flush(final=bool(step.set_apart))
            if suspects is not None and suspects.found is None:
                self._suspects.pop(source, None)
        return generation == self._generation

    async def _say(self, attempts: Mapping[TopicPartition, Attempt]) -> None:
        """Commits where we are in partitions, with what is taken in hand of them."""
        offsets = {source: self._reached.get(source, attempt.first) for source, attempt in attempts.items()}
        try:
            await self._retry("saying what is begun", lambda: self._consumer.commit(offsets, attempts))
        except (CommitRefused, StaleEpoch) as error:
            self._lost(error)
            return
        self._said |= attempts
        self._in_hand |= attempts.keys()
        for source in attempts:
            self._uncommitted.pop(source, None)

    async def _take_back(self) -> None:
        """Says of what we have taken in hand that it did not end us; if that cannot be said, so be it."""
        taken_back = {source: self._said.pop(source)._replace(times=0) for source in self._in_hand}
        for source in self._in_hand:
            self._suspects.pop(source, None)
        self._in_hand.clear()
        if taken_back:
            offsets = {source: self._reached.get(source, attempt.first) for source, attempt in taken_back.items()}
            with suppress(Unavailable, CommitRefused, StaleEpoch, PermissionError):
                await self._consumer.commit(offsets, taken_back)

    def _set_apart(self, record: Record, times: int) -> None:
        """Steps over a record that ends whoever takes it in hand."""
        logger.error(
            "stage.record_set_apart",
            stage=self._name,
            at=place(record.source, record.offset),
            workers=times,
            why="so many workers in turn have ended over it; it is a dead letter now",
        )
        if self._letters is not None:
            self._letters.add(ended_letter(record, times, stage=self._name))
        self._take(record, 0)

    def _rows_of(self, record: Record) -> int:
        """Applies a record; one that cannot be becomes a letter, and holds up no other.

        A stage that writes no letters may pass over none: there the error ends it.
        """
        letters = self._letters
        if letters is None:
            return self._core.apply(record, _no_letters)
        try:
            return self._core.apply(record, letters.add)
        except UndecodableBatch as error:
            letters.add(record_letter(record, str(error), stage=self._name))
        except Exception as error:
            logger.exception("stage.unexpected", stage=self._name, at=place(record.source, record.offset))
            letters.add(unexpected_letter(record, error, stage=self._name))
        return 0

    def _is_due(self, now: float) -> bool:
        policy, fresh = self._flush_policy, self._fresh.values()
        if fresh and (
            now - self._waiting_since >= policy.seconds
            or (policy.rows is not None and sum(one.rows for one in fresh) >= policy.rows)
            or (policy.size is not None and sum(one.size for one in fresh) >= policy.size)
        ):
            return True
        return self._core.due(now)

    async def _make_durable(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Letters first: a committed record that became one is nowhere else any more."""
        while True:
            if self._letters is not None:
                await self._letters.flush()
            offsets = Offsets(self._next, {source: self._next[source] for source in self._fresh})
            try:
                return await self._core.make_durable(offsets, final=final)
            except Refused as refused:
                if self._letters is None:
                    raise
                for letter in refused.letters:
                    self._letters.add(letter)

    async def _make_durable_or_wait(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """`_make_durable`; where a store is away, that is what we wait for, and what is in hand has not ended us."""
        try:
            return await self._make_durable(final=final)
        except (Unavailable, PermissionError):
            await self._take_back()
            raise

    def _is_durable(self, offsets: Mapping[TopicPartition, int]) -> None:
        """What was applied is durable, and perhaps more."""
        for source, offset in offsets.items():
            if source in self._owned:
                self._next[source] = max(offset, self._next.get(source, 0))
        self._fresh.clear()
        self._origins.clear()

    def _forget(self, partitions: frozenset[TopicPartition]) -> None:
        self._core.revoke(partitions)
        self._owned -= partitions
        self._unsaid -= partitions
        self._in_hand -= partitions
        for source in partitions:
            self._next.pop(source, None)
            self._begun.pop(source, None)
            self._fresh.pop(source, None)
            self._uncommitted.pop(source, None)
            self._suspects.pop(source, None)
            self._said.pop(source, None)
            self._reached.pop(source, None)

    async def _flush(self, *, final: bool) -> None:
        with (
            self._flush_seconds.time(),
            tracing.span(f"{self._name}.flush", self._origins),
        ):
            try:
                offsets = await self._retry("flushing", lambda: self._make_durable_or_wait(final=final))
            except (CommitRefused, StaleEpoch) as error:
                self._lost(error)
                return
            self._is_durable(offsets)
            if await self._commit(offsets):
                self.progress.flushes += 1

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commits what is durable, and where the store says that reading goes on; False if the partitions were lost.

        The last owner of a partition may have stored and not lived to commit: if nobody writes to it now, the operator
        would see a lag that is none.
        """
        offsets = {**self._uncommitted, **offsets}
        try:
            if offsets:
                said = self._still_said(offsets)
                await self._retry("committing", lambda: self._consumer.commit(offsets, said))
        except (CommitRefused, StaleEpoch) as error:
            self._lost(error)
            return False
        self._uncommitted.clear()
        self._reached |= {source: offset for source, offset in offsets.items() if source in self._owned}
        return True

    def _still_said(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Attempt]:
        """What of that which was taken in hand is not behind these offsets."""
        self._said = {s: one for s, one in self._said.items() if one.first >= offsets.get(s, 0)}
        self._in_hand &= self._said.keys()
        return {source: self._said[source] for source in offsets if source in self._said}

    def _lost(self, error: Exception) -> None:
        logger.warning("stage.partitions_lost", stage=self._name, error=str(error))
        self._forget(self._owned)
        self._generation += 1
        if self._lost_since is None:  # another refusal does not put off giving up
            self._lost_since = self._clock.monotonic()

    async def _retry(self, doing: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Calls until the store answers; raises the last `Unavailable` `DRAIN_S` after `stop`, or once `run` ends."""
        delay = _FIRST_RETRY_S
        refused_since: float | None = None
        while True:
            try:
                result = await call()
            except (Unavailable, PermissionError, UnknownTopic) as error:
                now = self._clock.monotonic()
                if not isinstance(error, Unavailable):
                    refused_since = now if refused_since is None else refused_since
                    if now - refused_since >= LET_IN_WITHIN_S:
                        raise
                self._health.not_ready(f"{doing}: {error}")
                logger.warning("stage.unavailable", stage=self._name, doing=doing, error=str(error), retry_in_s=delay)
                if now + delay > self._give_up_at:
                    raise
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY_S)
            else:
                if self._health.why_not and doing != "joining the group":
                    self._health.ready()
                return result

    # --- rebalances -----------------------------------------------------------------------------------------

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Flushes and commits, then lets go. If the store is down now, the next owner reads the batch again."""
        async with self._lock:
            try:
                if not self._gave_up:
                    offsets = await self._make_durable(final=True)
                    self._is_durable(offsets)
                    if offsets:
                        await self._consumer.commit(offsets, self._still_said(offsets))
                        self._reached |= offsets
            except (Unavailable, CommitRefused, StaleEpoch) as error:
                logger.warning("stage.revoked_unflushed", stage=self._name, error=str(error))
            await self._take_back()
            self._forget(partitions)
            self._generation += 1

    def _look_for_leaders(self) -> None:
        """Says which partitions of ours wait for a leader, and which have one again; the others go on."""
        found = self._consumer.leaderless()
        if found == self._leaderless:
            return
        before, self._leaderless = self._leaderless, found
        for topic in {source.topic for source in found | before}:
            count = sum(source.topic == topic for source in found)
            self._leaderless_now.labels(self._name, topic).set(count)
        if new := found - before:
            logger.error("stage.partitions_leaderless", stage=self._name, why=nobody_leads(new))
        if back := before - found:
            places = [f"{source.topic}[{source.partition}]" for source in sorted(back)]
            logger.info("stage.partitions_led", stage=self._name, partitions=places)

    async def _look_for_gone(self) -> None:
        """Says which records are gone that we had still to read: retention has overtaken a snapshot or an offset.

        Reading goes on at the first that there is. Of a partition without a leader that is asked when it has one. The
        log is asked outside of the lock: a rebalance waits for nobody.
        """
        generation, begun = self._generation, dict(self._begun)

        async def look() -> tuple[Mapping[TopicPartition, int | None], list[tuple[TopicPartition, int, int]]]:
            self._look_for_leaders()
            led = {source: at for source, at in begun.items() if source not in self._leaderless}
            return led, await self._gone(led)

        led, lost = await self._retry("looking for what is gone", look)
        async with self._lock:
            if generation != self._generation:
                return  # what is ours now is looked at with the next step
            for source in led:
                self._begun.pop(source, None)
            for (topic, topic_id), read in self._anew.items():
                self._made_anew(topic, topic_id, read)
            self._anew.clear()
            for source, first, end in lost:
                self._lost_records(source, first, end)
            if self._letters is not None:
                await self._retry("writing letters", self._letters.flush)

    async def _gone(self, begun: Mapping[TopicPartition, int | None]) -> list[tuple[TopicPartition, int, int]]:
        """Of partitions and where reading begins: what is before the first record that there is, as first and end.

        Where a core says nothing it begins at the committed offset. Of what was never read before nothing is missed.
        """
        lost = []
        for topic in sorted({source.topic for source in begun}):
            asked = [source.partition for source in begun if source.topic == topic]
            firsts = await self._log.start_offsets(topic, partitions=asked)
            later = [one for one in sorted(begun) if one.topic == topic and firsts.get(one.partition)]
            committed: Mapping[int, int] = {}
            if any(begun[source] is None for source in later):
                committed = await self._log.committed(self._group, topic)
            for source in later:
                at, first = begun[source], firsts[source.partition]
                at = committed.get(source.partition, first) if at is None else at
                if at < first:
                    lost.append((source, at, first))
        return lost

    def _skipped(self, source: TopicPartition, first: int, end: int) -> None:
        """Says that somebody has set the group's offset forward."""
        self._skipped_total.labels(self._name, source.topic).inc(end - first)
        logger.error(
            "stage.records_skipped",
            stage=self._name,
            records=end - first,
            first=place(source, first),
            goes_on_at=place(source, end),
            why=f"somebody has set the offset of group {self._group} forward; while nobody is in the group, set it "
            f"back to {first} to have them (kafka-consumer-groups --reset-offsets)",
        )

    def _lost_records(self, source: TopicPartition, first: int, end: int) -> None:
        told = (source, first, end)
        if told in self._told_lost:
            return
        self._told_lost.add(told)
        self._lost_total.labels(self._name, source.topic).inc(end - first)
        logger.error(
            "stage.records_lost",
            stage=self._name,
            records=end - first,
            first=place(source, first),
            goes_on_at=place(source, end),
            why="their topic has deleted them (retention.ms, retention.bytes) before this stage had read them",
        )
        self._core.lost(source, first, end)
        if self._letters is not None:
            self._letters.add(lost_letter(*told, stage=self._name, now_ns=self._clock.now_ns()))

    def _made_anew(self, topic: str, topic_id: str, read: Mapping[TopicPartition, int]) -> None:
        """Says that a topic was deleted since partitions of it were read, and made anew."""
        self._anew_total.labels(self._name, topic).inc(len(read))
        logger.error(
            "stage.topic_made_anew",
            stage=self._name,
            topic=topic,
            topic_id=topic_id,
            read={f"[{source.partition}]": offset for source, offset in sorted(read.items())},
            why="the topic was deleted and made anew; what this stage had not read of the old one is lost to it, and "
            "the new one is read from its beginning",
        )
        if self._letters is not None:
            now_ns = self._clock.now_ns()
            self._letters.add(anew_letter(topic, topic_id, read, stage=self._name, now_ns=now_ns))

    async def _starts_of(self, partitions: frozenset[TopicPartition]) -> Starts:
        """Has the core load, and adds what the group has committed of earlier topics."""
        topics = sorted({source.topic for source in partitions})
        ids = await self._log.topic_ids(topics)
        loaded = await self._core.load(partitions, ids)
        starts, outdated = dict(loaded.next), dict(loaded.outdated)
        skipped: dict[TopicPartition, tuple[int, int]] = {}
        for topic in topics:
            left = {source.partition for source in partitions - starts.keys() if source.topic == topic}
            if not left or not ids[topic]:
                continue
            for number, offset in (await self._log.outdated(self._group, topic)).items():
                if number in left:
                    source = TopicPartition(topic, number)
                    starts[source], outdated[source] = 0, offset
            for number, offset in (await self._log.unsigned(self._group, topic)).items():
                if number in left:
                    source = TopicPartition(topic, number)
                    starts[source], reached = await self._core.resume(source, offset)  # committed anew, and signed
                    skipped[source] = (reached, offset)
        for source, (first, end) in skipped.items():
            if first < end:
                self._skipped(source, first, end)
        for topic in topics:
            new = {s: outdated[s] for s in outdated if s.topic == topic and (s, ids[topic]) not in self._told_anew}
            if new:
                self._told_anew |= {(source, ids[topic]) for source in new}
                self._anew[topic, ids[topic]] = new
        return Starts(starts, outdated)

    async def _attempts_at(
        self, partitions: frozenset[TopicPartition], starts: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Attempt]:
        """What those before us had in hand where we begin; what is behind that has been lived through."""
        if self._letters is None:
            return {}
        found: dict[TopicPartition, Attempt] = {}
        for topic in sorted({source.topic for source in partitions}):
            for number, attempt in (await self._log.attempts(self._group, topic)).items():
                source = TopicPartition(topic, number)
                if source in partitions and attempt.times and attempt.first >= starts.get(source, 0):
                    found[source] = attempt
        for source, attempt in sorted(found.items()):
            logger.warning(
                "stage.begun_before",
                stage=self._name,
                at=place(source, attempt.first),
                workers=attempt.times,
                why="so many workers in turn began here and got no further: what comes is taken in smaller pieces",
            )
        return found

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Loads the partitions' state and says where to start."""
        async with self._lock:
            self.progress.rebalances += 1
            self._generation += 1
            try:
                starts = (await self._retry("loading partitions", lambda: self._starts_of(partitions))).next
                attempts = await self._retry("loading partitions", lambda: self._attempts_at(partitions, starts))
            except (Unavailable, PermissionError) as error:
                self._unloaded = error
                raise
            self._owned |= partitions
            self._next |= starts
            self._begun |= {source: starts.get(source) for source in partitions}
            self._uncommitted |= {source: start for source, start in starts.items() if start and source in partitions}
            self._said |= attempts
            self._reached |= {source: start for source, start in starts.items() if source in partitions}
            self._suspects |= {source: Suspects(attempt) for source, attempt in attempts.items()}
            if self._letters is not None:
                self._unsaid |= partitions - attempts.keys()
            self._lost_since = None
            self._health.ready()
            logger.info("stage.assigned", stage=self._name, partitions=len(partitions))
            return starts
