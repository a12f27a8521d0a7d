"""One process's worth of a pipeline on embedded adapters, each of which can be taken down and brought back."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.embedded import embedded
from eod_workers.ports import Clock, Record, TopicPartition, TopicSpec, Unavailable
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.health import Health
from eod_workers.runtime.stages import Context, Ports, Stage, assemble
from eod_workers.runtime.variables import TopicNames
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of

from support.patience import limited

PARTITIONS = 12
TOPICS = ("trades.raw", "prices.updates", "trades.dlq", "sessions.raw")


class Flaky:
    """A port in front of another that raises `Unavailable` while it is down, and notes the calls that went through."""

    def __init__(self, port: Any, name: str) -> None:
        self.down = False
        self.down_for: set[str] = set()
        """Names of calls that are refused while the others work."""
        self.port = port
        self.refused = 0
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, list[Any]] = defaultdict(list)
        self.after: Callable[[str], None] = lambda _name: None
        """Told of each call after it went through, before its caller is: may raise, as a lost answer would."""
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """The port's own methods."""
        method = getattr(self.port, name)
        if not inspect.iscoroutinefunction(method) or name == "close":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.down or name in self.down_for:
                self.refused += 1
                raise Unavailable(f"the {self._name} is down")
            answer = await method(*args, **kwargs)
            self.calls.append((name, args))
            self.answers[name].append(answer)
            self.after(name)
            return answer

        return call


class WithIds:
    """A log in memory, before whose topics there were others of the same names: see `StageWorld.make_anew`."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._made: Counter[str] = Counter()
        self._late: dict[tuple[str, str], dict[int, int]] = {}
        self._by_hand: dict[tuple[str, str], dict[int, int]] = {}

    def __getattr__(self, name: str) -> Any:
        """The log's own methods."""
        return getattr(self._log, name)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """See `ports.Log`."""
        return {topic: f"{topic}-{self._made[topic]}" for topic in topics}

    async def outdated(self, group: str, topic: str) -> dict[int, int]:
        """See `ports.Log`."""
        now = await self._log.committed(group, topic)
        return {number: at for number, at in self._late.get((group, topic), {}).items() if number not in now}

    async def unsigned(self, group: str, topic: str) -> dict[int, int]:
        """See `ports.Log`."""
        by_hand = self._by_hand.get((group, topic), {})
        now = await self._log.committed(group, topic)
        return {number: at for number, at in by_hand.items() if now.get(number) == at}

    def commit_by_hand(self, group: str, topic: str, offsets: dict[int, int]) -> None:
        """Set a group's offsets while nobody is in it, as tools can."""
        self._by_hand[group, topic] = offsets
        self._log._group(group).committed.update({TopicPartition(topic, n): at for n, at in offsets.items()})

    def make_anew(self, topic: str) -> None:
        """Delete a topic, and make another. What groups had committed of it comes late, as can happen on Kafka."""
        self._made[topic] += 1
        for group in self._log._groups.values():
            gone = [source for source in group.committed if source.topic == topic]
            self._late[group.name, topic] = {source.partition: group.committed.pop(source) for source in gone}
        partitions = len(self._log._topics.pop(topic).partitions)
        self._log._make(TopicSpec(topic, partitions))


@dataclass
class Worker:
    """A running stage."""

    service: Any
    task: asyncio.Task[None]
    health: Health
    metrics: Any

    @property
    def loop(self) -> BatchLoop:
        """Its batch loop."""
        return self.service if isinstance(self.service, BatchLoop) else self.service.loop  # type: ignore[no-any-return]

    async def stop(self) -> None:
        """Drain, as SIGTERM asks for."""
        await self.service.stop()
        await self.task

    def kill(self) -> None:
        """End at once, as kill -9 does: nothing is flushed or committed, and the group expels it."""
        self.loop._consumer.abandon()  # type: ignore[attr-defined]
        self.task.cancel()


@dataclass
class StageWorld:
    """The ports, and the stages that run on them."""

    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    told: dict[str, Any] = field(default_factory=dict)
    """What all workers are told, as far as their stages know of it."""
    partitions: int = PARTITIONS
    workers: list[Worker] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def open(self) -> StageWorld:
        """Make log and topics."""
        self._outside = await self._stack.enter_async_context(embedded(self.folder, clock=self.clock))
        self.log: Any = WithIds(self._outside.log)
        self.state = Flaky(self._outside.state, "state store")
        self.regulatory = Flaky(self._outside.regulatory, "regulatory store")
        self.archive = Flaky(self._outside.archive, "archive")
        await self.log.ensure_topics(TopicSpec(topic, self.partitions) for topic in TOPICS)
        return self

    def make_anew(self, topic: str) -> None:
        """Delete a topic that nobody reads now, and make another of its name, as people can do to Kafka."""
        self.log.make_anew(topic)

    async def close(self) -> None:
        """Stop what still runs, and close the ports."""
        for port in (self.state, self.regulatory, self.archive):
            port.down = False
            port.down_for.clear()
            port.after = lambda _name: None
        for worker in self.workers:
            if not worker.task.done():
                worker.task.cancel()
        await asyncio.gather(*(worker.task for worker in self.workers), return_exceptions=True)
        await self._stack.aclose()

    @property
    def ports(self) -> Ports:
        """What workers are given that start now."""
        flaky: dict[str, Any] = {"state": self.state, "regulatory": self.regulatory, "archive": self.archive}
        return dataclasses.replace(self._outside, log=self.log, **flaky)

    @property
    def context(self) -> Context:
        """What commands are given."""
        return Context(
            **{one.name: getattr(self.ports, one.name) for one in dataclasses.fields(Ports)}, topics=TopicNames()
        )

    def settings(self, stage: Stage, **told: Any) -> Any:
        """What a worker is told: what is usual here, and what the stage must know how to take."""
        assert told.keys() <= stage.settings.model_fields.keys()
        usual = {"flush_interval_s": 0.05, "publish_interval_ms": 20.0, "snapshot_interval_s": 0.05}
        usual |= {"fix_host": "127.0.0.1", "fix_port": 0, "fix_admit_anybody": True}
        usual |= {"fix_sending_time_within_s": 0}  # the messages of most tests are of the same day for ever
        return stage.settings.fitting({**usual, **self.told, **told})

    def start(self, stage: Stage, **told: Any) -> Worker:
        """Start a worker of a stage."""
        made = assemble(stage, self.settings(stage, **told), self.ports)
        worker = Worker(
            made.service, asyncio.create_task(made.service.run(), name=stage.kind.name), made.health, made.metrics
        )
        self.workers.append(worker)
        return worker

    async def append(self, topic: str, partition: int, *values: bytes) -> list[TopicPartition]:
        """Append records."""
        producer = await self.log.producer()
        for value in values:
            await producer.send(topic, partition, value)
        return [TopicPartition(topic, partition)]

    async def trade(self, trades: Iterable[Trade], *, batch: int = 1) -> None:
        """Append trades as ingestion does: each to the partition of its symbol, `batch` of them to a record."""
        by_partition: dict[int, list[Trade]] = {}
        for trade in trades:
            by_partition.setdefault(partition_of(trade.symbol, self.partitions), []).append(trade)
        for partition, some in by_partition.items():
            values = [encode_trades(some[i : i + batch]) for i in range(0, len(some), batch)]
            await self.append("trades.raw", partition, *values)

    async def lag(self, stage: Stage) -> int:
        """How many records the stage's group has not committed."""
        behind = 0
        for topic in stage.kind.consumes:
            committed = await self.log.committed(stage.kind.group, topic)
            ends = await self.log.end_offsets(topic)
            behind += sum(end - committed.get(number, 0) for number, end in ends.items())
        return behind

    async def drained(self, stage: Stage) -> None:
        """Wait until the stage's group has committed all there is; 30 s without any progress are too long."""
        behind = -1
        async with limited(30) as limit:
            while True:
                for worker in self.workers:
                    if worker.task.done() and not worker.task.cancelled() and worker.task.exception():
                        await worker.task
                behind, before = await self.lag(stage), behind
                if not behind:
                    return
                if behind != before:
                    limit.reschedule(asyncio.get_running_loop().time() + 30)
                await asyncio.sleep(0.01)

    async def records(self, topic: str) -> list[Record]:
        """All records of a topic."""
        found = []
        for partition, end in (await self.log.end_offsets(topic)).items():
            found += [record async for record in self.log.read(TopicPartition(topic, partition), 0, end)]
        return found

    async def rows(self) -> list[Any]:
        """The rows of the regulatory store."""
        return [row async for row in self.regulatory.trades()]

    async def hashes(self, prefix: str) -> Mapping[str, Mapping[str, bytes]]:
        """Key → fields of the state store's hashes under a prefix."""
        return {key: await self.state.port.hash_get_all(key) for key in await self.state.port.keys(prefix)}


async def opened(stack: AsyncExitStack, folder: Path, **settings: Any) -> StageWorld:
    """A world that the stack closes."""
    world = await StageWorld(folder, **settings).open()
    stack.push_async_callback(world.close)
    return world


__all__ = ["PARTITIONS", "Flaky", "StageWorld", "Worker", "opened"]
