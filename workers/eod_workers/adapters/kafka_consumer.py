"""A member of a Kafka consumer group, on aiokafka's classic (eager) protocol.

What aiokafka leaves to us:
- It calls `on_partitions_assigned` while it sends no heartbeats. A listener that loads state for longer than the
  session timeout would be expelled, so ours runs in a task of its own, and `poll` waits for it.
- It begins to fetch from the committed offsets before the listener has said where to start. Records that slip out are
  thrown away and read again from the right place.
- Its commit may reach the broker after the next generation began. A revocation therefore waits for commits under way.
- `stop` does not tell the listener. `close` does.
- `stop` raises the CancelledError of its own fetcher when the broker is away. `stop_consumer` does not.
- It takes polls that are cancelled, by a deadline too, for none, and those that wait for a rebalance as well. A member
  that has not polled for long leaves the group and joins it no more. `_polling` says when it does.
- It has been seen to stop delivering without an error. A watchdog in `poll` compares positions with the log's end, and
  takes a second look: the first one may come in the moment in which a long silence ends.
- It reads on in a topic that was deleted and made anew, at the offset that it had come to in the old one. The ids of
  the topics are looked at while polling; a new one takes all partitions from the listener and gives them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, GroupCoordinatorNotAvailableError, IllegalStateError

from eod_workers.adapters.kafka_access import KafkaAccess
from eod_workers.adapters.kafka_errors import translated
from eod_workers.adapters.kafka_ids import note
from eod_workers.adapters.kafka_leaders import Leaders
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.ports import (
    NO_ATTEMPTS,
    Attempt,
    CommitRefused,
    RebalanceListener,
    Record,
    Stalled,
    TopicPartition,
    Unavailable,
    UnknownTopic,
    are_two,
)

_HEARTBEATS_PER_SESSION = 3
_HEARTBEAT_MS = 1_000  # at most: members hear of a rebalance by the answer to a heartbeat, and all wait for the last
_REBALANCE_TIMEOUT_MS = 60_000  # how long the others wait for our `revoked`
_MAX_POLL_INTERVAL_MS = 300_000
_METADATA_AGE_MS = 10_000
"""How old what is known of the topics may be: one that was gone is back, or has more partitions. aiokafka looks anew
after five minutes, and a member whose topic had gone reads nothing until then."""
_FETCH_WAIT_MS = 100  # the broker's long poll; a seek takes effect after it at the latest
_MS_PER_S = 1_000
_RETRY_S = 0.5
_IDS_LOOK_S = 5.0
"""How often topics are looked at for having been made anew. What is read of the new one until then comes again."""
_SECOND_LOOK_SHARE = 1 / 3
"""Of the watchdog's patience: how long records must wait where they were."""

logger = structlog.get_logger()

Answer = TypeVar("Answer")
EndOffsets = Callable[[str, Collection[int]], Awaitable[dict[int, int]]]
TopicIds = Callable[[Sequence[str]], Awaitable[dict[str, str]]]


class KafkaConsumer:
    """See `ports.Consumer`. Made by `KafkaLog.consumer`.

    Args:
        access: where the brokers are, and our credentials.
        group: the consumer group.
        topics: what to read.
        require_topics: raises UnknownTopic or Unavailable before the group is joined.
        may_join: returns when it is time to join the group.
        coordinated: raises Unavailable while nobody coordinates the group.
        end_offsets: of partitions of a topic, by another connection, for the watchdog.
        topic_ids: of topics, by another connection.
        session_timeout_s: a member that is silent for so long is expelled.
        stall_timeout_s: the watchdog's patience.
        request_timeout_s: limit of a commit.
    """

    def __init__(
        self,
        access: KafkaAccess,
        *,
        group: str,
        topics: Sequence[str],
        require_topics: Callable[[Sequence[str]], Awaitable[None]],
        may_join: Callable[[], Awaitable[None]],
        coordinated: Callable[[], Awaitable[None]],
        end_offsets: EndOffsets,
        topic_ids: TopicIds,
        session_timeout_s: float,
        stall_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        self._access = access
        self._group = group
        self._topics = tuple(topics)
        self._require_topics = require_topics
        self._may_join = may_join
        self._coordinated = coordinated
        self._uncoordinated_since: float | None = None
        self._why_uncoordinated = ""
        self._end_offsets = end_offsets
        self._topic_ids = topic_ids
        self._ids: dict[str, str] = {}  # of the topics that the listener was given
        self._rebalances = 0
        self._looking: asyncio.Task[None] | None = None  # for topics that were made anew
        self._ids_look_at = 0.0
        self._session_timeout_s = session_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._request_timeout_s = request_timeout_s
        self._kafka: Any = None  # AIOKafkaConsumer, which wants a running loop when it is made
        self._leaders: Leaders | None = None
        self._listener: RebalanceListener | None = None
        self._owned: frozenset[TopicPartition] = frozenset()
        self._ready = asyncio.Event()  # set while records may be handed out
        self._let_in = False  # the group has an assignment for us: what is missing to `_ready` is the listener's
        self._moved = asyncio.Event()  # `_ready` or `_let_in` may have changed
        self._started = asyncio.Event()
        self._calling = asyncio.Lock()  # one call of the listener at a time
        self._committing = asyncio.Lock()
        self._taking: asyncio.Task[None] | None = None  # referred to here, for the loop does not
        self._call: asyncio.Task[Any] | None = None  # of the listener
        self._slipped: dict[TopicPartition, int] = {}  # first offsets that were read before the listener had answered
        self._progress_at = 0.0
        self._look_at = 0.0
        self._seen_waiting: dict[TopicPartition, int] = {}  # positions of partitions with records at the last look
        self._failure: Exception | None = None
        self._closing = False
        self._closed = False

    async def start(self, listener: RebalanceListener) -> None:
        """Joins the group; returns when there is an assignment and the listener has seen it.

        After `Unavailable` it may be called again.
        """
        if self._listener is not None or self._closed:
            raise RuntimeError("this consumer was started or closed before: make another")
        await self._require_topics(self._topics)
        await self._may_join()
        self._listener = listener
        session_ms = round(self._session_timeout_s * _MS_PER_S)
        self._kafka = AIOKafkaConsumer(
            **self._access.arguments(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(session_ms // _HEARTBEATS_PER_SESSION, _HEARTBEAT_MS),
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        self._leaders = Leaders(self._kafka._client.cluster)  # noqa: SLF001  aiokafka has no public way to
        self._kafka.subscribe(topics=list(self._topics), listener=_Bridge(self._lost, self._gained))
        try:
            async with self._access.reaching(f"joining group {self._group}"):
                with self._polling():
                    await self._kafka.start()
            await self._until(self._started)
            self._check()
        except BaseException as error:
            self._closed = self._started.is_set() or not isinstance(error, Unavailable)
            self._listener = None
            failed, self._kafka = self._kafka, None
            await stop_consumer(failed)
            raise

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in offset order within each partition; empty after `timeout_s` without any.

        Raises:
            Unavailable: the group or the broker is lost, or records wait that do not come: make another consumer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await asyncio.sleep(0)  # a loop of polls that find records must not starve other tasks
        self._look_at_ids(loop.time())
        while True:
            self._check()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._until(self._ready)
                    with self._polling():
                        batches = await self._fetch(max_records, max(0.0, deadline - loop.time()))
            except TimeoutError:
                batches = {}
            self._check()
            if batches and not self._ready.is_set():  # a rebalance came in between
                for source, records in batches.items():
                    self._slipped.setdefault(TopicPartition(*source), records[0].offset)
                continue
            if batches:
                self._progressed(loop.time())
                return [record_of(record) for records in batches.values() for record in records]
            if loop.time() >= deadline:
                await self._look_for_coordinator(loop.time())
                await self._watch(loop.time())
                return []

    async def commit(
        self, offsets: Mapping[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        """Stores, for the group, the next offset to read of each partition, and an attempt of those that have one."""
        if not offsets:
            return
        async with self._committing:
            for source in offsets:
                if source not in self._owned:
                    raise CommitRefused(
                        f"{source.topic}-{source.partition} is not ours any more in group {self._group}"
                    )
            said = {
                KafkaPartition(*source): (offset, note(self._ids.get(source.topic, ""), attempts.get(source)))
                for source, offset in offsets.items()
            }
            with _while_its_topic_exists(), translated(f"committing for group {self._group}"):
                try:
                    async with asyncio.timeout(self._request_timeout_s):
                        await self._kafka.commit(said)
                except TimeoutError:
                    if self._kafka._coordinator.coordinator_id is None:  # noqa: SLF001
                        raise GroupCoordinatorNotAvailableError from None
                    raise

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Goes on reading an assigned partition at `offset`."""
        self._check()
        if partition not in self._owned or not self._ready.is_set():
            raise ValueError(f"{partition.topic}-{partition.partition} is not assigned: nowhere to seek")
        self._kafka.seek(KafkaPartition(*partition), offset)

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        return self._owned

    def leaderless(self) -> frozenset[TopicPartition]:
        """Partitions that nobody leads now, of those owned."""
        missing = self._leaders.missing if self._leaders is not None else frozenset()
        return frozenset(one for one in self._owned if one in missing) if missing else frozenset()

    async def close(self) -> None:
        """Leaves the group at once (`listener.revoked` is called first). If it is cancelled, so is the listener."""
        if self._closed:
            return
        failure_before = self._failure
        self._closing = True
        try:
            await self._give_back()
        finally:
            self._closed = True
            self._owned = frozenset()
            for task in (self._call, self._looking):
                if task is not None:
                    task.cancel()
            self._started.set()
            self._ready.set()  # wakes a poll, which then finds the consumer closed
            self._moved.set()
            if self._kafka is not None:
                await stop_consumer(self._kafka)
        if self._failure is not None and self._failure is not failure_before:
            raise self._failure

    # --- rebalances, in aiokafka's coordinator task -----------------------------------------------

    async def _lost(self) -> None:
        self._rebalances += 1
        await self._give_back()

    async def _give_back(self) -> None:
        self._ready.clear()
        self._let_in = False
        self._moved.set()
        async with self._calling:
            if self._owned and not self._closed and self._listener is not None:
                await self._ask(self._listener.revoked(self._owned))
            self._owned = frozenset()
        async with self._committing:  # a commit under way must not reach the next generation
            self._slipped.clear()

    async def _gained(self, assigned: frozenset[TopicPartition]) -> None:
        self._begin(assigned)

    def _begin(self, assigned: frozenset[TopicPartition], *, anew: bool = False) -> None:
        """Has the listener take partitions on; `anew` if the group does not know that we had let go of them."""
        if self._closing:  # a rebalance that ends while we leave: these go to somebody else at once
            return
        self._ready.clear()
        self._let_in = True
        self._moved.set()
        self._owned = assigned
        self._taking = asyncio.create_task(self._take(assigned, anew=anew), name=f"assigned in {self._group}")

    async def _take(self, assigned: frozenset[TopicPartition], *, anew: bool) -> None:
        async with self._calling:
            if self._closing or self._owned is not assigned or self._listener is None:
                return
            starts = await self._ask(self._assigned(self._listener, assigned, anew=anew))
            if starts is not None and not self._closed:
                try:
                    for source, offset in {**self._slipped, **starts}.items():
                        self._kafka.seek(KafkaPartition(*source), offset)
                except IllegalStateError:
                    return  # lost again already, which the next call of the listener will say
                self._progressed(asyncio.get_running_loop().time())
            self._ready.set()  # for records, or for a poll that raises the listener's failure
            self._moved.set()
            self._started.set()

    async def _assigned(
        self, listener: RebalanceListener, assigned: frozenset[TopicPartition], *, anew: bool
    ) -> Mapping[TopicPartition, int]:
        """Asks the listener; the ids first, so that they are not newer than what it loads."""
        self._ids = await self._existing_ids()
        starts = dict(await listener.assigned(assigned))
        left_out = [KafkaPartition(*source) for source in sorted(assigned - starts.keys())]
        if anew and left_out:  # after a rebalance aiokafka goes there by itself
            starts |= await self._where_left_off(left_out)
        return starts

    async def _where_left_off(self, partitions: Sequence[Any]) -> dict[Any, int]:
        """What the group has committed, else the beginnings; asks until it is answered, or the partitions are lost."""
        while self._let_in:
            try:
                with translated(f"going back to what group {self._group} has committed"):
                    async with asyncio.timeout(self._request_timeout_s):
                        missing = self._leaders.missing if self._leaders is not None else frozenset()
                        without = [one for one in partitions if one in missing]  # of a new topic: nothing is gone yet
                        led = [one for one in partitions if one not in missing]
                        starts: dict[Any, int] = dict.fromkeys(without, 0) | await self._kafka.beginning_offsets(led)
                        return starts | {one: at for one in partitions if (at := await self._kafka.committed(one))}
            except (Unavailable, PermissionError) as error:
                logger.warning("kafka.going_back_waits", group=self._group, error=str(error))
                await asyncio.sleep(_RETRY_S)
        return {}

    async def _existing_ids(self) -> dict[str, str]:
        """Of the topics that there are, as far as can be told now: one may have been deleted a moment ago."""
        with contextlib.suppress(UnknownTopic, Unavailable, PermissionError):
            return await self._topic_ids(self._topics)
        found: dict[str, str] = {}
        for topic in self._topics:
            with contextlib.suppress(UnknownTopic, Unavailable, PermissionError):
                found |= await self._topic_ids([topic])
        return found

    def _look_at_ids(self, now: float) -> None:
        """Looks from time to time, beside the polls, whether a topic was made anew."""
        if self._ready.is_set() and now >= self._ids_look_at and (self._looking is None or self._looking.done()):
            self._ids_look_at = now + _IDS_LOOK_S
            self._looking = asyncio.create_task(self._renew(), name=f"ids in {self._group}")

    async def _renew(self) -> None:
        """Takes the partitions from the listener and gives them back, if a topic of them was made anew."""
        rebalances, owned = self._rebalances, self._owned
        found = await self._existing_ids()
        if rebalances != self._rebalances or not self._ready.is_set():
            return
        anew = any(are_two(self._ids.get(topic, ""), identity) for topic, identity in found.items())
        self._ids = {**found, **self._ids}  # with what could not be told before
        if not anew:
            return
        await self._give_back()
        if rebalances == self._rebalances:  # otherwise the group has given them to somebody, or will
            self._begin(owned, anew=True)

    async def _ask(self, call: Coroutine[Any, Any, Answer]) -> Answer | None:
        """Calls the listener; what it raises is kept for the next poll, and then None is returned."""
        task = asyncio.ensure_future(call)
        self._call = task
        try:
            return await task
        except asyncio.CancelledError:
            if not self._closed:  # not by `close`: somebody cancels the caller
                raise
        except Exception as error:  # noqa: BLE001  whatever the stage's listener raises
            self._failure = error
        finally:
            self._call = None
        return None

    # --- reading ----------------------------------------------------------------------------------

    async def _until(self, settled: asyncio.Event) -> None:
        """Waits for `_ready` or `_started`: that there are partitions, and that the listener has taken them on.

        Waiting for the group is polling: it may take longer than a stage may take between two polls, and whoever is not
        polling then is not let in again. Waiting for the stage's own listener is not.
        """
        while not settled.is_set():
            self._moved.clear()
            with contextlib.nullcontext() if self._let_in else self._polling():
                await self._moved.wait()

    @contextlib.contextmanager
    def _polling(self) -> Iterator[None]:
        """Says that the stage polls, however it ends: whoever does not for `_MAX_POLL_INTERVAL_MS` leaves the group.

        aiokafka says so itself in getmany, but not when that is cancelled, as it is by a deadline of ours or of the
        stage: it would count as a poll that goes on for ever, or as none at all.
        """
        subscription = self._kafka._subscription  # noqa: SLF001
        polls = subscription._fetch_count  # noqa: SLF001
        subscription._fetch_count = polls + 1  # noqa: SLF001
        try:
            yield
        finally:
            subscription._fetch_count = polls  # noqa: SLF001
            subscription._last_fetch_ended = time.monotonic()  # noqa: SLF001

    async def _fetch(self, max_records: int, timeout_s: float) -> dict[Any, list[Any]]:
        try:
            with translated(f"reading in group {self._group}"):
                batches: dict[Any, list[Any]] = await self._kafka.getmany(
                    timeout_ms=round(timeout_s * _MS_PER_S), max_records=max_records
                )
        except ConsumerStoppedError:
            return {}  # the next look finds the consumer closed
        return batches

    def _progressed(self, now: float) -> None:
        self._progress_at, self._look_at = now, now + self._stall_timeout_s
        self._seen_waiting = {}

    async def _look_for_coordinator(self, now: float) -> None:
        """Raises Unavailable while nobody coordinates the group: aiokafka waits for that, and says nothing."""
        if self._kafka._coordinator.coordinator_id is not None:  # noqa: SLF001
            self._uncoordinated_since, self._why_uncoordinated = None, ""
            return
        if self._uncoordinated_since is None:
            self._uncoordinated_since = now
        elif not self._why_uncoordinated and now - self._uncoordinated_since >= self._request_timeout_s:
            try:
                with self._polling():
                    await self._coordinated()
            except Unavailable as error:
                self._why_uncoordinated = str(error)
            self._uncoordinated_since = None
        if self._why_uncoordinated:
            raise Unavailable(self._why_uncoordinated)

    async def _watch(self, now: float) -> None:
        """Raises Stalled if nothing came for `stall_timeout_s`, and records wait that did already a while ago."""
        if not self._owned or not self._ready.is_set() or now < self._look_at:
            return
        self._look_at = now + self._stall_timeout_s
        owned = self._owned
        led = sorted(owned - self.leaderless())
        numbers = {topic: [one.partition for one in led if one.topic == topic] for topic in {one.topic for one in led}}
        ends = {topic: await self._end_offsets(topic, some) for topic, some in numbers.items()}
        with translated(f"asking for the positions in group {self._group}"):
            async with asyncio.timeout(self._request_timeout_s):
                at = {source: await self._kafka.position(KafkaPartition(*source)) for source in led}
        if owned is not self._owned:
            return
        lag = {source: ends[source.topic][source.partition] - position for source, position in at.items()}
        stuck = [source for source in lag if lag[source] > 0 and self._seen_waiting.get(source) == at[source]]
        if stuck:
            raise Stalled(
                f"nothing was read in group {self._group} for {now - self._progress_at:.0f} s while records wait "
                f"({', '.join(f'{s.topic}-{s.partition}: {lag[s]}' for s in stuck)}): make another consumer"
            )
        self._seen_waiting = {source: position for source, position in at.items() if lag[source] > 0}
        if self._seen_waiting:
            self._look_at = now + self._stall_timeout_s * _SECOND_LOOK_SHARE

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RuntimeError("this consumer is closed")
        if self._kafka is None:
            raise RuntimeError("this consumer is not started")


@contextlib.contextmanager
def _while_its_topic_exists() -> Iterator[None]:
    """Of a topic that was deleted nobody owns anything."""
    try:
        yield
    except UnknownTopic as error:
        raise CommitRefused(str(error)) from error


class _Bridge(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Hands aiokafka's calls on."""

    def __init__(
        self, lost: Callable[[], Awaitable[None]], gained: Callable[[frozenset[TopicPartition]], Awaitable[None]]
    ) -> None:
        self._lost = lost
        self._gained = gained

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        del revoked  # eager: always all of them
        await self._lost()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        await self._gained(frozenset(TopicPartition(*source) for source in assigned))


async def stop_consumer(consumer: Any) -> None:
    """Stops an AIOKafkaConsumer, also while the broker is away."""
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait({stopping})
    finally:
        stopping.cancel()
    if stopping.cancelled():  # its fetcher was cancelled between two attempts, and it left the rest of itself open
        await consumer._client.close()  # noqa: SLF001  aiokafka has no public way to
    else:
        stopping.result()


def record_of(record: Any) -> Record:
    """Our record for aiokafka's."""
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value or b"",
        record.timestamp,
        tuple(record.headers),
    )
