"""The one loop that every consuming stage runs: poll → apply the batch → make it durable → only then commit.

All calls into a handler are serialized by one lock, rebalances included, so a handler needs no locking of its own.
A store that cannot be reached stops consumption (lag grows, nothing is skipped) and is tried again for ever; one that
refuses us, for `LET_IN_WITHIN_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from eod_workers.ports import Clock, CommitRefused, Consumer, Record, StaleEpoch, Stalled, TopicPartition, Unavailable
from eod_workers.runtime import telemetry
from eod_workers.runtime.health import Health
from eod_workers.runtime.stages import Service

log = structlog.get_logger()
_T = TypeVar("_T")
MAX_RECORDS_A_POLL = 500
POLL_TIMEOUT_S = 0.1
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
LET_IN_WITHIN_S = 60.0
"""How long a store may refuse our credentials: what makes the login may be on its way. Then they are wrong."""
REJOIN_S = 20.0
"""A worker whose partitions were taken is given new ones within this time, or gives up so that it is started afresh."""
DRAIN_S = 15.0
"""How long a stopping stage tries to make its last batch durable before it leaves it to its successor."""


class Handler(Protocol):
    """What a stage supplies to the loop."""

    name: str

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Loads what these partitions need; returns where to start where that is not the committed offset."""
        ...

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Forgets these partitions; whatever was applied and not flushed will be read again by the next owner."""
        ...

    async def apply(self, records: Sequence[Record]) -> None:
        """Takes records in. Must not fail on bad content: that goes to the dead letters."""
        ...

    def due(self, now: float) -> bool:
        """Whether what was applied should be made durable now (`now` in monotonic seconds)."""
        ...

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Makes all that was applied durable and returns the offsets that may be committed.

        Called again after `Unavailable`. `final`: the partitions go to somebody else now, postpone nothing.
        """
        ...


@dataclass(slots=True)
class Progress:
    """What a loop has done so far."""

    records: int = 0
    flushes: int = 0
    rebalances: int = 0


class BatchLoop(Service):
    """Runs one handler over one consumer."""

    def __init__(self, handler: Handler, consumer: Consumer, clock: Clock, health: Health) -> None:
        """The consumer must not be started yet; the loop closes it."""
        self.progress = Progress()
        self._handler = handler
        self._consumer = consumer
        self._clock = clock
        self._health = health
        self._lock = asyncio.Lock()
        self._generation = 0
        self._owned: frozenset[TopicPartition] = frozenset()
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
            UnknownTopic: a topic does not exist.
            CommitRefused: the group has taken our partitions and given us none for `REJOIN_S`.
            Stalled: the consumer reads nothing any more although records wait.
            PermissionError: a store has refused our credentials for `LET_IN_WITHIN_S`.
        """
        joining = asyncio.create_task(self._retry("joining the group", lambda: self._consumer.start(self)))
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
            log.warning("stage.drain_gave_up", stage=self._handler.name, seconds=DRAIN_S, error=str(error))

    async def _leave(self) -> None:
        """Leaves the group; partitions that could not be loaded any more are left to the others: no failure."""
        try:
            await self._consumer.close()
        except (Unavailable, PermissionError) as error:
            if error is not self._unloaded:
                raise
            log.warning("stage.left_unloaded", stage=self._handler.name, error=str(error))

    async def _step(self) -> None:
        if self._lost_since is not None and self._clock.monotonic() - self._lost_since > REJOIN_S:
            raise CommitRefused(f"{self._handler.name}: partitions were taken over and no new assignment has come")
        try:
            records = await self._consumer.poll(MAX_RECORDS_A_POLL, POLL_TIMEOUT_S)
        except Stalled:
            raise  # only a new process gets a consumer that works
        except Unavailable as error:
            self._health.not_ready(str(error))
            log.warning("stage.log_unavailable", stage=self._handler.name, error=str(error))
            await self._clock.sleep(_FIRST_RETRY_S)
            return
        if self._health.why_not and self._lost_since is None:
            self._health.ready()
        # A rebalance that begins from here on resets the positions: these records come again, or are not ours.
        generation = self._generation
        async with self._lock:
            if generation != self._generation:
                return
            if records:
                await self._retry("applying", lambda: self._handler.apply(records))
                self.progress.records += len(records)
            if self._handler.due(self._clock.monotonic()):
                await self._flush(final=False)

    async def _flush(self, *, final: bool) -> None:
        with telemetry.FLUSH_SECONDS.labels(self._handler.name).time():
            try:
                offsets = await self._retry("flushing", lambda: self._handler.flush(final=final))
                if offsets:
                    await self._retry("committing", lambda: self._consumer.commit(offsets))
            except (CommitRefused, StaleEpoch) as error:
                log.warning("stage.partitions_lost", stage=self._handler.name, error=str(error))
                await self._handler.revoked(self._owned)
                self._owned = frozenset()
                self._generation += 1
                if self._lost_since is None:  # another refusal does not put off giving up
                    self._lost_since = self._clock.monotonic()
                return
        self.progress.flushes += 1

    async def _retry(self, doing: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Calls until the store answers; raises the last `Unavailable` `DRAIN_S` after `stop`, or once `run` ends."""
        delay = _FIRST_RETRY_S
        refused_since: float | None = None
        while True:
            try:
                result = await call()
            except (Unavailable, PermissionError) as error:
                now = self._clock.monotonic()
                if isinstance(error, PermissionError):
                    refused_since = now if refused_since is None else refused_since
                    if now - refused_since >= LET_IN_WITHIN_S:
                        raise
                self._health.not_ready(f"{doing}: {error}")
                log.warning(
                    "stage.unavailable", stage=self._handler.name, doing=doing, error=str(error), retry_in_s=delay
                )
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
                offsets = {} if self._gave_up else await self._handler.flush(final=True)
                if offsets:
                    await self._consumer.commit(offsets)
            except (Unavailable, CommitRefused, StaleEpoch) as error:
                log.warning("stage.revoked_unflushed", stage=self._handler.name, error=str(error))
            await self._handler.revoked(partitions)
            self._owned -= partitions
            self._generation += 1

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Loads the partitions' state and says where to start."""
        async with self._lock:
            self.progress.rebalances += 1
            self._generation += 1
            try:
                starts = await self._retry("loading partitions", lambda: self._handler.assigned(partitions))
            except (Unavailable, PermissionError) as error:
                self._unloaded = error
                raise
            self._owned |= partitions
            self._lost_since = None
            self._health.ready()
            log.info("stage.assigned", stage=self._handler.name, partitions=len(partitions))
            return starts
