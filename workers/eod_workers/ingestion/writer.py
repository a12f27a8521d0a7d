"""From sessions to the log: batches per partition, and sequence numbers that advance only behind acknowledgements.

Every `linger_s` seconds, whatever the sessions have delivered is cut into one *generation*: a record per partition with
trades, a record per session with other frames, a record per dead letter, and a copy of every session's next inbound
number at the cut. While `ahead` generations wait for the broker, the next one grows instead: in a burst fewer and
larger records cost everybody less, and no trade would be acknowledged earlier in a smaller one. When all records of a
generation and of those before it are acknowledged, those numbers are saved, each under the token of its tenure (see
`tenure`). A crash in between makes the counterparty resend, and the deliveries carry the same numbers again.

While nobody leads some partition, only sessions that have sent something for it wait: they are not read, and their
numbers stay (see `generations`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.generations import Generation, Generations, Numbers, SentRecord
from eod_workers.ingestion.limits import FRAME_BYTES, LETTER_BYTES, MAX_IN_FLIGHT_BYTES
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.tenure import Tenure, save
from eod_workers.letters import REASONS, fix_letter, send_letter, unfit_letter
from eod_workers.ports import (
    Appended,
    Clock,
    Producer,
    RecordTooLarge,
    StateStore,
    TopicPartition,
    Unavailable,
    nobody_leads,
)
from eod_workers.protos.dead_letter_pb2 import REASON_VALIDATION, DeadLetter
from eod_workers.runtime import tracing
from eod_workers.trades.codec import decode_trades, encode_frames, split_trades
from eod_workers.trades.columns import Columns, make_columns, slices
from eod_workers.trades.contracts import Contracts
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of

logger = structlog.get_logger()
_PERSIST_AGAIN_S = 0.5
_LEADER_LOOK_S = 0.25
_TOLD = 10
"""Sessions that a line of the log names."""
Headers = Sequence[tuple[str, bytes]]
_CUT_BYTES = 4 << 20
"""A generation of this size waits for nobody."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where ingestion writes, with the number of partitions of each topic that it writes to."""

    trades: str
    trades_partitions: int
    sessions: str
    sessions_partitions: int
    letters: str
    letters_partitions: int


@dataclass(slots=True)
class _Open:
    """What has piled up since the last cut, beside the trades."""

    aside: dict[str, tuple[list[bytes], list[int]]] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    size: int = 0
    rows: int = 0
    received: list[tuple[int, int]] = field(default_factory=list)
    """When trades were read from a socket, and how many then: `rows` in all."""


class LogWriter:
    """Collects what sessions deliver and appends it. `run` is the task that does the work.

    `full` is called with True when more than `max_in_flight_bytes` of memory wait for the log, and with False once half
    of that is left: connections stop reading meanwhile, and TCP tells the counterparty. `superseded` is called with the
    tenure whose numbers the store has refused, because another ingestion serves the session. `waits` is called with the
    sessions that wait for partitions that nobody leads, when they are others than before: they are not to be read.
    What they wait with counts half for `full`: others go on.
    """

    def __init__(
        self,
        producer: Producer,
        state: StateStore,
        clock: Clock,
        topics: Topics,
        *,
        full: Callable[[bool], None],
        superseded: Callable[[Tenure], None],
        waits: Callable[[frozenset[str]], None],
        metrics: IngestionMetrics,
        linger_s: float = 0.004,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
        ahead: int = 2,
        save_every_s: float = 0.02,
        columns: Columns | None = None,
        contracts: Contracts = Contracts(),  # noqa: B008 - it never changes
    ) -> None:
        """The producer stays its owner's.

        Args:
            producer: of the log.
            state: keeps the numbers.
            clock: for waiting.
            topics: where to.
            full: see above.
            superseded: see above.
            waits: see above.
            metrics: count it.
            linger_s: before a cut.
            max_in_flight_bytes: beyond which connections stop reading.
            ahead: generations that may wait for the broker before the next one grows.
            save_every_s: the least time between two saves; a crash makes the counterparties resend so much more.
            columns: collect the trades; the fastest there are, if None is given.
            contracts: what is known of the money of instruments.
        """
        self.contracts = contracts
        self.columns = columns or make_columns(topics.trades_partitions, contracts.known)
        self.in_flight_bytes = 0
        self.live: dict[str, Tenure] = {}
        self._producer = producer
        self._state = state
        self._clock = clock
        self._topics = topics
        self._full = full
        self._superseded = superseded
        self._waits = waits
        self._metrics = metrics
        self._linger_s = linger_s
        self._max_in_flight_bytes = max_in_flight_bytes
        self._ahead = ahead
        self._save_every_s = save_every_s
        self._cuts = 0
        self._waiting = 0  # generations that the broker does not have, and could
        self._room = asyncio.Event()
        self.is_full = False
        self._open = _Open()
        self._work = asyncio.Event()
        self._acked = asyncio.Event()
        self._generations = Generations()
        self._unacknowledged: dict[str, DeadLetter] = {}
        self._stopping = False
        self._all_appended = False
        self._all_acknowledged = False
        self._due: Numbers = {}
        self._to_save = asyncio.Event()
        self._saved: dict[str, tuple[Tenure, SequenceNumbers]] = {}
        self._store_away = False
        self._progress = asyncio.Event()

    def trade(self, trade: Trade) -> None:
        """Adds a trade."""
        self.columns.add(trade)
        self.taken(len(trade.frame), trade.received_at_ns)

    def taken(self, size: int, received_at_ns: int) -> None:
        """Says that trades with frames of `size` bytes in all have come into `columns`, all read at one moment."""
        rows = self.columns.rows
        self._open.received.append((received_at_ns, rows - self._open.rows))
        self._open.rows = rows
        self._grow(size)

    def aside(self, session: str, raw: bytes, received_at_ns: int) -> None:
        """Adds a frame that moved no position."""
        frames, times = self._open.aside.setdefault(session, ([], []))
        frames.append(raw)
        times.append(received_at_ns)
        self._grow(len(raw) + FRAME_BYTES)

    def letter(self, letter: DeadLetter) -> None:
        """Adds a dead letter."""
        self._open.letters.append(letter)
        self._unacknowledged[letter.id] = letter
        self._metrics.dead_letters.labels("ingestion", REASONS[letter.reason]).inc()
        self._grow(len(letter.raw) + LETTER_BYTES)

    @property
    def waiting(self) -> frozenset[str]:
        """Sessions that wait for partitions that nobody leads."""
        return self._generations.waiting

    def unacknowledged_letters(self) -> list[DeadLetter]:
        """Dead letters that the log may not have, for the next writer: nobody sends garbled bytes a second time."""
        return list(self._unacknowledged.values())

    def _grow(self, size: int) -> None:
        self._open.size += size
        self.in_flight_bytes += size
        if not self.is_full and self._load >= self._max_in_flight_bytes:
            self.is_full = True
            self._full(True)
        if not self._work.is_set():
            self._work.set()
        if self._open.size >= _CUT_BYTES:
            self._room.set()

    @property
    def _load(self) -> float:
        return max(self.in_flight_bytes - self._generations.waiting_bytes, self.in_flight_bytes / 2)

    def stop(self) -> None:
        """Lets `run` end once everything added so far is acknowledged and saved."""
        self._stopping = True
        self._work.set()
        self._room.set()
        self._acked.set()

    async def settled(self) -> None:
        """Returns once everything added so far is acknowledged and its numbers are saved, or cannot be saved now."""
        while self.in_flight_bytes or (self._due and not self._store_away):
            self._progress.clear()
            await self._progress.wait()

    async def acknowledged_so_far(self, session: str) -> None:
        """Returns once the log has acknowledged everything that a session had added before the call."""
        last = self._cuts + bool(self._open.size)
        while self._generations.settled_to < last or session in self.waiting:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Cuts, appends, saves, until `stop`.

        Raises:
            Unavailable: an append failed. What was not acknowledged is not saved and will be asked for again.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect())
            group.create_task(self._persist())
            while not (self._stopping and not self._open.size):
                await self._work.wait()
                if not self._stopping:
                    await self._clock.sleep(self._linger_s)
                    await self._until_room()
                self._work.clear()
                if self._open.size:
                    await self._append()
            self._all_appended = True
            self._acked.set()

    async def _until_room(self) -> None:
        while self._waiting >= self._ahead and self._open.size < _CUT_BYTES and not self._stopping:
            self._room.clear()
            await self._room.wait()

    async def _append(self) -> None:
        cut, self._open = self._open, _Open()
        self._cuts += 1
        number = self._cuts
        records = self.columns.drain()
        numbers = {name: (tenure, replace(tenure.sequence)) for name, tenure in self.live.items()}
        sent: list[SentRecord] = []
        topics = self._topics
        with tracing.span("ingestion.append") as headers:
            for partition, rows, value in records:
                sent += await self._send_trades(partition, value, headers, cut.letters)
                self._metrics.ingested.inc(rows)
            for session, (frames, times) in cut.aside.items():
                for part in slices([len(frame) for frame in frames]):
                    sent += await self._send_aside(session, frames[part], times[part], headers, cut.letters)
            for letter in cut.letters:
                ack = await send_letter(self._producer, topics.letters, letter, topics.letters_partitions, headers)
                source = TopicPartition(topics.letters, partition_of(letter.id, topics.letters_partitions))
                sent.append(SentRecord(ack, source, frozenset({letter.session}), len(letter.raw) + LETTER_BYTES))
        self._waiting += 1
        total = sum(one.size for one in sent)
        for one in sent:
            one.size = cut.size * one.size // total
        generation = Generation(
            number, sent, asyncio.gather(*(one.acknowledged for one in sent)), numbers, cut.letters, cut.size
        )
        generation.acknowledged.add_done_callback(partial(self._stamp, generation, cut.received))
        self._generations.add(generation)
        self._acked.set()
        if without := self._producer.leaderless():
            self._settle(without)

    async def _send_trades(
        self, partition: int, value: bytes, headers: Headers, letters: list[DeadLetter]
    ) -> list[SentRecord]:
        """Sends a record of trades, in several if its topic takes none so large; what fits none is a letter."""
        sent, waiting = [], [value]
        source = TopicPartition(self._topics.trades, partition)
        while waiting:
            some = waiting.pop()
            try:
                ack = await self._producer.send(*source, some, headers=headers)
                sent.append(SentRecord(ack, source, some, len(some)))
            except RecordTooLarge as error:
                if halves := split_trades(some):
                    waiting += reversed(halves)
                else:
                    self._unfit(unfit_letter(decode_trades(some)[0], error), letters)
        return sent

    async def _send_aside(
        self, session: str, frames: list[bytes], times: list[int], headers: Headers, letters: list[DeadLetter]
    ) -> list[SentRecord]:
        """The same of frames that moved no position."""
        sent, waiting = [], [(frames, times)]
        source = TopicPartition(self._topics.sessions, partition_of(session, self._topics.sessions_partitions))
        while waiting:
            some, at = waiting.pop()
            value = encode_frames(session, some, at)
            try:
                ack = await self._producer.send(*source, value, key=session.encode(), headers=headers)
                sent.append(SentRecord(ack, source, frozenset({session}), len(value)))
            except RecordTooLarge as error:
                half = len(some) // 2
                if half:
                    waiting += [(some[half:], at[half:]), (some[:half], at[:half])]
                    continue
                epoch = self.live[session].sequence.epoch if session in self.live else 0
                letter = fix_letter(
                    some[0], REASON_VALIDATION, str(error),
                    session=session, epoch=epoch, msg_seq_num=0, received_at_ns=at[0],
                )  # fmt: skip
                self._unfit(letter, letters)
        return sent

    def _unfit(self, letter: DeadLetter, letters: list[DeadLetter]) -> None:
        """Has a letter sent with the generation whose frame it holds: its number may be saved then."""
        letters.append(letter)
        self._unacknowledged[letter.id] = letter
        self._metrics.dead_letters.labels("ingestion", REASONS[letter.reason]).inc()

    def _stamp(
        self, generation: Generation, received: list[tuple[int, int]], acknowledged: asyncio.Future[list[Appended]]
    ) -> None:
        """Makes room for the next generation, and counts how long trades took from the socket into the log."""
        self._waiting -= not generation.waits
        self._room.set()
        if not acknowledged.cancelled() and acknowledged.exception() is None:
            self._metrics.acknowledged_latency.count(received, self._clock.now_ns())

    async def _collect(self) -> None:
        """Gives back what the log has acknowledged, and hands its numbers on to be saved."""
        while self._generations or not self._all_appended:
            if not self._generations:
                self._acked.clear()
                await self._acked.wait()
                continue
            oldest = self._generations.oldest.acknowledged
            await asyncio.wait({oldest}, timeout=_LEADER_LOOK_S)
            without = frozenset() if oldest.done() else self._producer.leaderless()
            if oldest.done() or without:
                self._settle(without)
        self._all_acknowledged = True
        self._to_save.set()

    async def _persist(self) -> None:
        """Saves what is acknowledged. The store being away only postpones that: a crash then means more resends."""
        while self._due or not self._all_acknowledged:
            if not self._due:
                self._to_save.clear()
                await self._to_save.wait()
                continue
            try:
                for session, numbers in list(self._due.items()):
                    await self._save(*numbers)
                    if self._due[session] is numbers:
                        del self._due[session]
                self._store_away = False
                self._progress.set()
            except Unavailable as error:
                self._store_away = True
                self._progress.set()
                logger.warning("ingestion.persisting_postponed", error=str(error))
                if self._all_acknowledged:
                    return
                await self._clock.sleep(_PERSIST_AGAIN_S)
                continue
            if not self._stopping:
                await self._clock.sleep(self._save_every_s)

    async def _save(self, tenure: Tenure, numbers: SequenceNumbers) -> None:
        """Saves the numbers of one session, unless they are history: of an earlier tenure here, or before a reset."""
        session = tenure.session
        if self.live.get(session) is not tenure or numbers.epoch != tenure.sequence.epoch:
            return
        if self._saved.get(session) != (tenure, numbers):
            if await save(self._state, tenure, numbers):
                self._saved[session] = (tenure, numbers)
            elif self.live.get(session) is tenure:
                self._forget(session)
                self._superseded(tenure)
        if tenure.left and numbers == tenure.sequence and self.live.get(session) is tenure:
            self._forget(session)  # the store knows all that whoever comes next must know

    def _forget(self, session: str) -> None:
        del self.live[session]
        self._saved.pop(session, None)

    def _settle(self, without: frozenset[TopicPartition]) -> None:
        """Takes what is acknowledged; whoever has sent something for partitions that nobody leads waits from now on."""
        before = self.waiting
        settled = self._generations.settle(without)
        self._due |= settled.numbers
        for letter in settled.letters:
            self._unacknowledged.pop(letter.id, None)
        self.in_flight_bytes -= settled.freed
        if settled.waiting:
            self._waiting -= settled.waiting
            self._room.set()
        if self.waiting != before:
            self._tell_who_waits(before, without)
        if self.is_full and self._load <= self._max_in_flight_bytes // 2:
            self.is_full = False
            self._full(False)
        self._to_save.set()
        self._progress.set()

    def _tell_who_waits(self, before: frozenset[str], without: frozenset[TopicPartition]) -> None:
        self._metrics.waiting.set(len(self.waiting))
        if new := sorted(self.waiting - before):
            why = nobody_leads(without)
            logger.error("ingestion.sessions_wait", sessions=new[:_TOLD], count=len(self.waiting), why=why)
        if gone := sorted(before - self.waiting):
            logger.info("ingestion.sessions_go_on", sessions=gone[:_TOLD], still_waiting=len(self.waiting))
        self._waits(self.waiting)
