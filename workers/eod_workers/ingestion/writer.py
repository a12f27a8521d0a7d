"""From sessions to the log: batches per partition, and sequence numbers that advance only behind acknowledgements.

Every `linger_s` seconds, whatever the sessions have delivered is cut into one *generation*: a record per partition with
trades, a record per session with other frames, a record per dead letter, and a copy of every session's next inbound
number at the cut. When all records of a generation and of those before it are acknowledged, those numbers are
persisted. A crash in between makes the counterparty resend, and the deliveries carry the same numbers again.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog

from eod_workers.deadletters.letters import REASONS
from eod_workers.fix.session import Sequence
from eod_workers.ports import Appended, Clock, Producer, StateStore, Unavailable
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime import telemetry
from eod_workers.trades.codec import encode_frames, encode_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of

log = structlog.get_logger()
MAX_TRADES_A_RECORD = 500
MAX_FRAME_BYTES_A_RECORD = 512 * 1024
"""Beyond this a record is closed and the next one begun: brokers refuse large records, and a backlog has any size."""
_PERSIST_AGAIN_S = 0.5
OUTBOUND_HEADROOM = 1_000
"""Outbound numbers reserved beyond the last persisted one: after a crash we go on above all that we may have sent, and
the counterparty closes the gap with a ResendRequest. A number that is too low would end the session."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where ingestion writes, with the partition count of each topic."""

    trades: str
    trades_partitions: int
    sessions: str
    sessions_partitions: int
    letters: str
    letters_partitions: int


@dataclass(slots=True)
class _Generation:
    acks: list[asyncio.Future[Appended]]
    sequences: dict[str, Sequence]
    letters: list[DeadLetter]
    size: int


@dataclass(slots=True)
class _Open:
    """What has piled up since the last cut."""

    trades: dict[int, list[Trade]] = field(default_factory=dict)
    aside: dict[str, tuple[list[bytes], list[int]]] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    size: int = 0


def state_key(session: str) -> str:
    """Where the sequence numbers of a FIX session are kept."""
    return f"fix:session:{session}"


async def load_sequence(state: StateStore, session: str, *, new_epoch: bool) -> Sequence:
    """The persisted numbers of a session, or those of a new one.

    `new_epoch` marks deliveries from here on as a new epoch, for use after appends that may or may not have happened:
    what comes again is then told apart by ExecID and not by number.
    """
    stored = await state.get(state_key(session))
    sequence = Sequence(**json.loads(stored)) if stored else Sequence()
    if new_epoch:
        sequence.epoch += 1
    return sequence


async def save_sequence(state: StateStore, session: str, sequence: Sequence) -> None:
    """Persists the numbers, the outbound one with its headroom."""
    value = {
        "epoch": sequence.epoch,
        "inbound": sequence.inbound,
        "outbound": sequence.outbound + OUTBOUND_HEADROOM,
    }
    await state.put(state_key(session), json.dumps(value).encode())


def _slices(sizes: list[int]) -> Iterator[slice]:
    """Runs of frames of these sizes that each fit a record; a frame has at most 64 KiB."""
    begin = total = 0
    for end, size in enumerate(sizes):
        if end - begin == MAX_TRADES_A_RECORD or (end > begin and total + size > MAX_FRAME_BYTES_A_RECORD):
            yield slice(begin, end)
            begin, total = end, 0
        total += size
    if begin < len(sizes):
        yield slice(begin, len(sizes))


class LogWriter:
    """Collects what sessions deliver and appends it. `run` is the task that does the work.

    `full` is called with True when more than `max_in_flight_bytes` wait for the log, and with False once half of that
    is left: connections stop reading meanwhile, and TCP tells the counterparty.
    """

    def __init__(
        self,
        producer: Producer,
        state: StateStore,
        clock: Clock,
        topics: Topics,
        *,
        full: Callable[[bool], None],
        linger_s: float = 0.003,
        max_in_flight_bytes: int = 16 << 20,
    ) -> None:
        """The producer stays its owner's."""
        self.in_flight_bytes = 0
        self.live: dict[str, Sequence] = {}
        self._producer = producer
        self._state = state
        self._clock = clock
        self._topics = topics
        self._full = full
        self._linger_s = linger_s
        self._max_in_flight_bytes = max_in_flight_bytes
        self.is_full = False
        self._open = _Open()
        self._work = asyncio.Event()
        self._acked = asyncio.Event()
        self._generations: deque[_Generation] = deque()
        self._unacknowledged: dict[str, DeadLetter] = {}
        self._stopping = False
        self._all_appended = False

    def trade(self, trade: Trade) -> None:
        """Adds a trade."""
        partition = partition_of(trade.symbol, self._topics.trades_partitions)
        self._open.trades.setdefault(partition, []).append(trade)
        self._grow(len(trade.frame))

    def aside(self, session: str, raw: bytes, received_at_ns: int) -> None:
        """Adds a frame that moved no position."""
        frames, times = self._open.aside.setdefault(session, ([], []))
        frames.append(raw)
        times.append(received_at_ns)
        self._grow(len(raw))

    def letter(self, letter: DeadLetter) -> None:
        """Adds a dead letter."""
        self._open.letters.append(letter)
        self._unacknowledged[letter.id] = letter
        telemetry.DEAD_LETTERS.labels("ingestion", REASONS[letter.reason]).inc()
        self._grow(len(letter.raw))

    def unacknowledged_letters(self) -> list[DeadLetter]:
        """Dead letters that the log may not have, for the next writer: nobody sends garbled bytes a second time."""
        return list(self._unacknowledged.values())

    def _grow(self, size: int) -> None:
        self._open.size += size
        self.in_flight_bytes += size
        if not self.is_full and self.in_flight_bytes >= self._max_in_flight_bytes:
            self.is_full = True
            self._full(True)
        if not self._work.is_set():
            self._work.set()

    def stop(self) -> None:
        """Lets `run` end once everything added so far is acknowledged and persisted."""
        self._stopping = True
        self._work.set()
        self._acked.set()

    async def run(self) -> None:
        """Cuts, appends, persists, until `stop`.

        Raises:
            Unavailable: an append failed. What was not acknowledged is not persisted and will be asked for again.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._persist())
            while not (self._stopping and not self._open.size):
                await self._work.wait()
                if not self._stopping:
                    await self._clock.sleep(self._linger_s)
                self._work.clear()
                if self._open.size:
                    await self._append()
            self._all_appended = True
            self._acked.set()

    async def _append(self) -> None:
        cut, self._open = self._open, _Open()
        sequences = {name: Sequence(live.epoch, live.inbound, live.outbound) for name, live in self.live.items()}
        acks = []
        topics = self._topics
        with telemetry.span("ingestion.append") as headers:
            for partition, trades in cut.trades.items():
                for part in _slices([len(trade.frame) for trade in trades]):
                    value = encode_trades(trades[part])
                    acks.append(await self._producer.send(topics.trades, partition, value, headers=headers))
                telemetry.INGESTED.inc(len(trades))
            for session, (frames, times) in cut.aside.items():
                partition = partition_of(session, topics.sessions_partitions)
                key = session.encode()
                for part in _slices([len(frame) for frame in frames]):
                    value = encode_frames(session, frames[part], times[part])
                    acks.append(await self._producer.send(topics.sessions, partition, value, key=key, headers=headers))
            for letter in cut.letters:
                partition = partition_of(letter.id, topics.letters_partitions)
                acks.append(
                    await self._producer.send(
                        topics.letters,
                        partition,
                        letter.SerializeToString(),
                        key=letter.id.encode(),
                        headers=headers,
                    )
                )
        self._generations.append(_Generation(acks, sequences, cut.letters, cut.size))
        self._acked.set()

    async def _persist(self) -> None:
        """Persists what is acknowledged. The store being away only postpones that: a crash then means more resends."""
        saved: dict[str, Sequence] = {}
        due: dict[str, Sequence] = {}
        while self._generations or due or not self._all_appended:
            if not self._generations and not due:
                self._acked.clear()
                await self._acked.wait()
                continue
            due |= await self._acknowledged()
            try:
                for session, sequence in due.items():
                    # A reset was persisted when it was made: what came before it is history.
                    if saved.get(session) != sequence and sequence.epoch == self.live[session].epoch:
                        await save_sequence(self._state, session, sequence)
                        saved[session] = sequence
                due.clear()
            except Unavailable as error:
                log.warning("ingestion.persisting_postponed", error=str(error))
                if self._all_appended and not self._generations:
                    return
                await self._clock.sleep(_PERSIST_AGAIN_S)

    async def _acknowledged(self) -> dict[str, Sequence]:
        """Waits for the oldest generation; whatever else is complete behind it shares the write."""
        latest: dict[str, Sequence] | None = None
        while self._generations and (latest is None or all(ack.done() for ack in self._generations[0].acks)):
            generation = self._generations[0]
            await asyncio.gather(*generation.acks)
            self._generations.popleft()
            latest = generation.sequences
            for letter in generation.letters:
                self._unacknowledged.pop(letter.id, None)
            self._shrink(generation.size)
        return latest or {}

    def _shrink(self, size: int) -> None:
        self.in_flight_bytes -= size
        if self.is_full and self.in_flight_bytes <= self._max_in_flight_bytes // 2:
            self.is_full = False
            self._full(False)
