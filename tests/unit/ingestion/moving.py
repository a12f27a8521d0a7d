"""Two ingestions, one store, one log and a counterparty that moves between them, one step at a time from a seed.

The ingestions are the real admission, connections and writers; the counterparty is a real session. What lies between
them is not: every byte read, append, acknowledgement, state call, answer and turn of a clock is a step that the
simulation chooses, or leaves out for as long as it likes, which is what a frozen process looks like. Neither hears what
the other asks of it about a session, so that each logon takes it over. One that is killed
leaves behind what it had sent: some of its appends and some of its state calls arrive, at once or late.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, cast

from eod_workers.adapters.memory_state import MemoryState
from eod_workers.fix.sent import Kept
from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.admission import Admission
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.tenure import sent_key, state_key
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.ports import Appended, Producer, StateStore, TopicPartition
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.model import Trade
from support.manual_clock import ManualClock
from unit.ingestion.moving_broker import START_NS, Broker, Link

SESSION = "ACME->EOD"
PARTITIONS = 2
_TURNS = 12
_LINGER_S = 0.003


async def turns(count: int = _TURNS) -> None:
    """Let the tasks of this loop do what they can."""
    for _ in range(count):
        await asyncio.sleep(0)


class Queued(NamedTuple):
    """A record on its way to the log."""

    topic: str
    partition: int
    value: bytes
    ack: asyncio.Future[Appended]


class Call(NamedTuple):
    """A state call on its way to the store."""

    name: str
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any]


@dataclass
class Replica:
    """One ingestion process."""

    world: Moving
    max_in_flight_bytes: int
    frozen: bool = False
    links: list[Link] = field(default_factory=list)
    queue: list[Queued] = field(default_factory=list)
    unacknowledged: list[tuple[Queued, int]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answers: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = ManualClock(START_NS)
        settings, metrics = IngestionSettings(fix_comp_id="EOD", fix_admit_anybody=True), IngestionMetrics()
        self.admission = Admission(settings, cast("StateStore", self), self.clock, metrics, drawn_name="one")
        self.writer = LogWriter(
            cast("Producer", self),
            cast("StateStore", self),
            self.clock,
            Topics("trades", PARTITIONS, "sessions", 1, "letters", 1),
            full=self.admission.hold_back,
            superseded=self.admission.superseded,
            waits=self.admission.wait,
            metrics=metrics,
            linger_s=_LINGER_S,
            max_in_flight_bytes=self.max_in_flight_bytes,
        )
        self.task = asyncio.create_task(self.writer.run())

    def accept(self) -> Link:
        """A new connection."""
        link = Link()
        link.connection = self.admission.connected(self.writer)
        link.connection.connection_made(cast("asyncio.Transport", link))
        self.links.append(link)
        return link

    async def kill(self) -> None:
        """End; what was on its way stays on its way for the world to deliver or not."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        for link in self.links:
            link.left = True
            link.close()
        await turns()

    # --- the ports, as this process sees them ---------------------------------------------------------------

    async def send(self, topic: str, partition: int, value: bytes, **_: object) -> asyncio.Future[Appended]:
        """`Producer.send`."""
        ack: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.queue.append(Queued(topic, partition, value, ack))
        return ack

    def leaderless(self) -> frozenset[TopicPartition]:
        """`Producer.leaderless`."""
        return frozenset()

    def __getattr__(self, name: str) -> Any:
        if name not in {"take_over", "put_if_newer", "get_versioned", "publish"}:
            raise AttributeError(name)

        async def call(*arguments: Any) -> Any:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.calls.append(Call(name, arguments, answer))
            return await answer

        return call


class Moving:
    """The whole; `play` takes some steps with faults, `settle` lets everything come to rest without any."""

    def __init__(self, seed: int, *, holes: bool) -> None:
        """`holes`: of what one had sent that was killed, any part may arrive, not only a beginning."""
        self.random = Random(f"moving-{seed}")
        self.holes = holes
        self.state = MemoryState()
        self.log: list[tuple[int, bytes]] = []
        self.orphans: list[Callable[[], Any]] = []
        self.deaths = self.moves = self.resets = 0
        self.broker = Broker(self.random)
        self._log_speed = self.random.choice((1, 3))
        self._limit = self.random.choice((2_000, 1 << 20))
        self.replicas = [Replica(self, self._limit), Replica(self, self._limit)]

    # --- steps ----------------------------------------------------------------------------------------------

    async def play(self, steps: int) -> None:
        """Steps at random; some of them hurt."""
        random = self.random
        for _ in range(steps):
            replica = random.choice(self.replicas)
            dice = random.random()
            if dice < 0.25:
                self.broker.trade()
            elif dice < 0.27:
                replica.frozen = not replica.frozen
            elif dice < 0.29 or (self.broker.adrift and dice < 0.4):
                self._move()
            elif dice < 0.295:
                await self._kill(replica)
            elif dice < 0.31 and self.orphans:
                await self.orphans.pop(0)()
            elif not replica.frozen:
                await self._step(replica)
            self._listen()

    async def settle(self) -> None:
        """Nothing hurts any more: whoever was frozen wakes, what is late arrives, and the line stays up."""
        for replica in self.replicas:
            replica.frozen = False
        for turn in range(2_000):
            if turn % 40 == 0:
                self.broker.probe()
            for replica in self.replicas:
                for _ in range(10):
                    await self._step(replica)
                for connection in list(replica.admission.connections):
                    connection.tick()
            while self.orphans:
                await self.orphans.pop(0)()
            self._listen()
            if self.broker.adrift:
                self._move()
            elif await self._at_rest():
                return
        raise AssertionError(f"it never came to rest: {await self.saved()} of {self.broker.numbers}")

    async def close(self) -> None:
        """End what runs."""
        for replica in self.replicas:
            await replica.kill()

    def _move(self) -> None:
        """The counterparty connects to one of them, whatever becomes of its connection before."""
        able = [replica for replica in self.replicas if not replica.frozen] or self.replicas
        # SequenceNumbers may begin again once all of them have arrived: a counterparty that resets gives up what has not.
        reset = self.random.random() < 0.2 and self.booked() >= set(self.broker.sent)
        self.moves += 1
        self.resets += reset
        self.broker.connect(self.random.choice(able).accept(), reset=reset)

    def _listen(self) -> None:
        link = self.broker.link
        if link is not None and link.outward:
            data, link.outward = bytes(link.outward), bytearray()
            self.broker.hear(data)

    async def _step(self, replica: Replica) -> None:
        possible = self._possible(replica)
        await self.random.choice(possible)()

    def _possible(self, replica: Replica) -> list[Callable[[], Any]]:
        """What may happen to one that is awake."""
        steps: list[Callable[[], Any]] = [lambda: self._time(replica)] * 2
        for link in replica.links:
            if not link.closed and not link.paused and (link.inward or link.left):
                steps += [lambda link=link: self._read(link)] * 3  # type: ignore[misc]
        if replica.queue:
            steps += [lambda: self._append(replica)] * self._log_speed
        if replica.unacknowledged:
            steps += [lambda: self._acknowledge(replica)] * 2
        if replica.calls:
            steps += [lambda: self._carry_out(replica)] * 2
        if replica.answers:
            steps += [lambda: self._answer(replica)] * 2
        return steps

    async def _time(self, replica: Replica) -> None:
        await replica.clock.advance(self.random.choice((_LINGER_S, _LINGER_S, 0.6, 3.0)))
        if self.random.random() < 0.3:
            for connection in list(replica.admission.connections):
                connection.tick()

    async def _read(self, link: Link) -> None:
        assert link.connection is not None
        if link.inward:
            size = self.random.choice((1, 40, 400, 4_000))
            data = bytes(link.inward[:size])
            del link.inward[:size]
            link.connection.data_received(data)
        else:
            link.close()
        await turns()

    async def _append(self, replica: Replica) -> None:
        """The oldest record of some partition."""
        waiting: dict[tuple[str, int], Queued] = {}
        for record in replica.queue:
            waiting.setdefault((record.topic, record.partition), record)
        record = self.random.choice(list(waiting.values()))
        replica.queue.remove(record)
        replica.unacknowledged.append((record, self._store(record)))
        await turns(1)

    def _store(self, record: Queued) -> int:
        if record.topic == "trades":
            self.log.append((record.partition, record.value))
        return len(self.log)

    async def _acknowledge(self, replica: Replica) -> None:
        at = self.random.randrange(len(replica.unacknowledged))
        record, offset = replica.unacknowledged.pop(at)
        record.ack.set_result(Appended(record.topic, record.partition, offset))
        await turns()

    async def _carry_out(self, replica: Replica) -> None:
        call = replica.calls.pop(0)
        answer = await getattr(self.state, call.name)(*call.arguments)
        await self._check_saved()

        def give() -> None:
            if not call.answer.done():
                call.answer.set_result(answer)

        replica.answers.append(give)

    async def _answer(self, replica: Replica) -> None:
        replica.answers.pop(0)()
        await turns()

    async def _kill(self, replica: Replica) -> None:
        self.deaths += 1
        await replica.kill()
        by_partition: defaultdict[tuple[str, int], deque[Queued]] = defaultdict(deque)
        for record in replica.queue:
            by_partition[record.topic, record.partition].append(record)
        for records in by_partition.values():
            kept = list(records)[: self.random.randrange(len(records) + 1)]
            if self.holes:
                kept = [record for record in records if self.random.random() < 0.5]
            while kept and self.random.random() < 0.7:
                self._store(kept.pop(0))
            for record in kept:

                async def arrive(record: Queued = record) -> None:
                    self._store(record)

                self.orphans.append(arrive)
        for call in replica.calls:
            if self.random.random() < 0.5:

                async def reach(call: Call = call) -> None:
                    await getattr(self.state, call.name)(*call.arguments)
                    await self._check_saved()

                self.orphans.append(reach)
        self.replicas[self.replicas.index(replica)] = Replica(self, self._limit)

    # --- what holds -----------------------------------------------------------------------------------------

    async def saved(self) -> SequenceNumbers:
        """The numbers in the store."""
        stored = await self.state.get_versioned(state_key(SESSION))
        return SequenceNumbers(**json.loads(stored[1])) if stored and stored[1] else SequenceNumbers()

    async def kept(self) -> dict[int, int]:
        """Of the messages that were refused, MsgSeqNum → that of the refusal, as far as the store has it."""
        stored, saved = await self.state.get_versioned(sent_key(SESSION)), await self.saved()
        kept = Kept.decode(stored[1], saved.epoch).messages if stored else {}
        return {int(sent.body[3 : sent.body.index(b"\x01")]): number for number, sent in kept.items()}

    async def _check_saved(self) -> None:
        """No number is saved before the log has what it stands for, and the store what it was answered."""
        saved, kept = await self.saved(), await self.kept()
        history = self.broker.history
        unkept = [number for number, (kind, _) in history.items() if kind == b"B" and number < saved.inbound]
        assert kept.keys() >= set(unkept), f"{saved} is saved, and of the answers to {unkept} only {kept}"
        names = {(trade.epoch, trade.msg_seq_num) for trade in self.trades()}
        if any(epoch == saved.epoch for epoch, _ in names):
            have = {number for epoch, number in names if epoch == saved.epoch}
            trades = [number for number, (kind, _) in history.items() if kind == b"8"]
            missing = [number for number in trades if number < saved.inbound and number not in have]
            assert not missing, f"{saved} is saved, and the log has nothing of {missing}"

    async def _at_rest(self) -> bool:
        idle = not any(replica.queue or replica.unacknowledged or replica.calls for replica in self.replicas)
        return idle and (await self.saved()).inbound == self.broker.numbers.outbound

    def trades(self) -> list[Trade]:
        """Every trade on the log, as often as it is there."""
        return [trade for _, value in self.log for trade in decode_trades(value)]

    def booked(self) -> set[str]:
        """The ExecIDs on the log."""
        return {trade.exec_id for trade in self.trades()}
