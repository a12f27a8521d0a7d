"""From sessions to the log: numbers are persisted behind acknowledgements, in order, and memory is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.limits import FRAME_BYTES
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.tenure import OUTBOUND_HEADROOM, Tenure, begin, save, state_key
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.letters import decode_letter, fix_letter
from eod_workers.ports import Appended, TopicPartition, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION
from eod_workers.trades.codec import decode_frames, decode_trades
from eod_workers.trades.columns import MAX_FRAME_BYTES_A_RECORD, MAX_TRADES_A_RECORD
from eod_workers.trades.partitioner import partition_of
from support.manual_clock import ManualClock
from support.patience import soon
from support.sampled import sampled
from support.stage_world import Flaky
from support.trade_rows import SESSION, row

pytestmark = pytest.mark.timeout(30)
TOPICS = Topics("trades", 12, "sessions", 6, "letters", 3)


@dataclass
class _Sent:
    topic: str
    partition: int
    value: bytes
    key: bytes | None
    ack: asyncio.Future[Appended]


@dataclass
class _Producer:
    """A producer whose acknowledgements the test gives, in any order."""

    sent: list[_Sent] = field(default_factory=list)
    may_send: asyncio.Event = field(default_factory=asyncio.Event)
    refuse: Exception | None = None
    without: set[TopicPartition] = field(default_factory=set)

    async def send(
        self, topic: str, partition: int, value: bytes, *, key: bytes | None = None, headers: Sequence[Any] = ()
    ) -> asyncio.Future[Appended]:
        del headers
        await self.may_send.wait()
        if self.refuse is not None:
            raise self.refuse
        ack: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.sent.append(_Sent(topic, partition, value, key, ack))
        return ack

    def leaderless(self) -> frozenset[TopicPartition]:
        waiting = {TopicPartition(sent.topic, sent.partition) for sent in self.sent if not sent.ack.done()}
        return frozenset(self.without & waiting)

    async def flush(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def acknowledge(self, *which: int) -> None:
        """Acknowledge some of what was sent, by its place, or all."""
        for place in which or range(len(self.sent)):
            sent = self.sent[place]
            if not sent.ack.done():
                sent.ack.set_result(Appended(sent.topic, sent.partition, place))

    def fail(self, which: int) -> None:
        """Let an append fail."""
        self.sent[which].ack.set_exception(Unavailable("no in-sync replica"))


@dataclass
class Bench:
    """A writer under test."""

    producer: _Producer
    state: Flaky
    clock: ManualClock
    writer: LogWriter
    held_back: list[bool]
    superseded: list[Tenure]
    waits: list[frozenset[str]]
    task: asyncio.Task[None]

    async def cut(self) -> None:
        """Let what has piled up be appended."""
        before = len(self.producer.sent)
        await self.clock.advance(0.01)
        await soon(lambda: len(self.producer.sent) > before, "an append")

    async def persisted(self) -> tuple[int, int] | None:
        """Epoch and next inbound number of the session, as a restart would find them."""
        await self.clock.advance(0)
        stored = await self.state.port.get_versioned(state_key(SESSION))
        return None if stored is None else (json.loads(stored[1])["epoch"], json.loads(stored[1])["inbound"])

    def tenure(self, session: str = SESSION) -> Tenure:
        """The tenure of a session, which begins at 1 in epoch 1 with token 7."""
        return self.writer.live.setdefault(session, Tenure(session, 7, SequenceNumbers()))

    def deliver(self, number: int, **changes: object) -> None:
        """As a connection does: the session moves on, the trade goes to the writer."""
        self.tenure().sequence.inbound = number + 1
        self.writer.trade(row(number, **changes))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    producer, clock, held_back, superseded, waits = _Producer(), ManualClock(), [], [], []
    producer.may_send.set()
    state = Flaky(MemoryState(), "state store")
    writer = LogWriter(
        producer,  # type: ignore[arg-type]
        state,  # type: ignore[arg-type]
        clock,
        TOPICS,
        full=held_back.append,
        superseded=superseded.append,
        waits=waits.append,
        metrics=IngestionMetrics(),
        linger_s=0.003,
        max_in_flight_bytes=1_000,
        save_every_s=0,
    )
    made = Bench(producer, state, clock, writer, held_back, superseded, waits, asyncio.create_task(writer.run()))
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


# --- what is appended ---------------------------------------------------------------------------------------


async def test_nothing_is_appended_before_the_linger_is_over_and_then_everything_at_once(bench: Bench) -> None:
    for number in range(1, 4):
        bench.deliver(number)
    await bench.clock.advance(0.002)
    assert bench.producer.sent == []
    await bench.clock.advance(0.002)
    ((sent),) = bench.producer.sent
    assert (sent.topic, sent.partition) == ("trades", partition_of("IBM", 12))
    assert decode_trades(sent.value) == [row(1), row(2), row(3)]


async def test_trades_of_each_partition_are_a_record_and_keep_their_order(bench: Bench) -> None:
    symbols = ["IBM", "AAPL", "IBM", "TSLA", "AAPL"]
    for number, symbol in enumerate(symbols, 1):
        bench.deliver(number, symbol=symbol)
    await bench.cut()
    by_partition = {sent.partition: [t.msg_seq_num for t in decode_trades(sent.value)] for sent in bench.producer.sent}
    expected: dict[int, list[int]] = {}
    for number, symbol in enumerate(symbols, 1):
        expected.setdefault(partition_of(symbol, 12), []).append(number)
    assert by_partition == expected


async def test_a_record_holds_at_most_500_trades(bench: Bench) -> None:
    for number in range(1, 2 * MAX_TRADES_A_RECORD + 2):
        bench.deliver(number, frame=b"f")
    await bench.cut()
    await soon(lambda: len(bench.producer.sent) == 3, "three records")
    numbers = [[trade.msg_seq_num for trade in decode_trades(sent.value)] for sent in bench.producer.sent]
    assert [len(some) for some in numbers] == [500, 500, 1]
    assert [number for some in numbers for number in some] == list(range(1, 1_002))


async def test_a_record_holds_no_more_bytes_than_brokers_take(bench: Bench) -> None:
    size = 60_000
    for number in range(40):
        bench.writer.aside(SESSION, b"%05d" % number * (size // 5), number)
    for number in range(1, 21):
        bench.deliver(number, frame=b"x" * size)
    await bench.cut()
    await soon(lambda: len(bench.producer.sent) >= 8, "some records")
    assert all(len(sent.value) <= MAX_FRAME_BYTES_A_RECORD + 2_000 for sent in bench.producer.sent)
    frames = [f for sent in bench.producer.sent if sent.topic == "sessions" for f in decode_frames(sent.value)[1]]
    assert [int(frame[:5]) for frame in frames] == list(range(40))
    trades = [t for sent in bench.producer.sent if sent.topic == "trades" for t in decode_trades(sent.value)]
    assert [trade.msg_seq_num for trade in trades] == list(range(1, 21))


async def test_other_frames_go_to_the_sessions_topic_in_the_order_received(bench: Bench) -> None:
    bench.writer.aside(SESSION, b"one", 1)
    bench.writer.aside("OTHER->EOD", b"three", 3)
    bench.writer.aside(SESSION, b"two", 2)
    await bench.cut()
    found = {sent.key: (sent.partition, decode_frames(sent.value)) for sent in bench.producer.sent}
    assert found == {
        SESSION.encode(): (partition_of(SESSION, 6), (SESSION, [b"one", b"two"])),
        b"OTHER->EOD": (partition_of("OTHER->EOD", 6), ("OTHER->EOD", [b"three"])),
    }


async def test_letters_go_to_their_topic_under_their_id(bench: Bench) -> None:
    letter = fix_letter(b"bad", REASON_DESERIALIZATION, "x", session=SESSION, epoch=1, msg_seq_num=0, received_at_ns=1)
    bench.writer.letter(letter)
    await bench.cut()
    (sent,) = bench.producer.sent
    assert (sent.topic, sent.partition, sent.key) == ("letters", partition_of(letter.id, 3), letter.id.encode())
    assert decode_letter(sent.value) == letter


# --- what is persisted --------------------------------------------------------------------------------------


async def test_a_number_is_persisted_after_its_acknowledgement_and_not_before(bench: Bench) -> None:
    bench.deliver(1)
    await bench.cut()
    assert await bench.persisted() is None
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 2)


async def test_a_generation_is_persisted_when_all_of_its_records_are_acknowledged(bench: Bench) -> None:
    bench.deliver(1, symbol="IBM")
    bench.deliver(2, symbol="AAPL")
    bench.writer.aside(SESSION, b"heartbeat", 1)
    await bench.cut()
    await soon(lambda: len(bench.producer.sent) == 3, "three records")
    bench.producer.acknowledge(0, 2)
    assert await bench.persisted() is None
    bench.producer.acknowledge(1)
    assert await bench.persisted() == (1, 3)


async def test_a_generation_waits_for_those_before_it(bench: Bench) -> None:
    """The later one says that everything up to its number is safe."""
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    bench.producer.acknowledge(1)
    assert await bench.persisted() is None
    bench.producer.acknowledge(0)
    assert await bench.persisted() == (1, 3)


async def test_while_two_generations_wait_for_the_broker_the_next_one_grows(bench: Bench) -> None:
    """Until one is acknowledged; then all that has come is one record a partition."""
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    for number in (3, 4, 5):
        bench.deliver(number)
        await bench.clock.advance(1)
    assert len(bench.producer.sent) == 2
    bench.producer.acknowledge(1)
    await soon(lambda: len(bench.producer.sent) == 3, "room for the next")
    assert [trade.msg_seq_num for trade in decode_trades(bench.producer.sent[2].value)] == [3, 4, 5]
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 6)


async def test_a_large_generation_waits_for_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eod_workers.ingestion.writer._CUT_BYTES", 200)
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    bench.deliver(3, frame=b"x" * 100)
    await bench.clock.advance(1)
    assert len(bench.producer.sent) == 2
    bench.deliver(4, frame=b"x" * 100)
    await soon(lambda: len(bench.producer.sent) == 3, "a generation that is large enough")


async def test_a_writer_that_stops_appends_the_rest_without_waiting_for_room(bench: Bench) -> None:
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    bench.deliver(3)
    await bench.clock.advance(1)
    bench.writer.stop()
    await soon(lambda: len(bench.producer.sent) == 3, "the rest")
    bench.producer.acknowledge()
    await asyncio.wait_for(bench.task, 5)
    assert await bench.persisted() == (1, 4)


async def test_what_arrives_after_the_cut_is_not_persisted_with_it(bench: Bench) -> None:
    bench.deliver(1)
    await bench.cut()
    bench.deliver(2)
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 2)


async def test_numbers_of_all_sessions_are_those_of_the_cut(bench: Bench) -> None:
    other = bench.tenure("OTHER->EOD").sequence
    other.epoch, other.inbound, other.outbound = 4, 70, 9
    bench.deliver(1)
    await bench.cut()
    other.inbound = 80
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 2)
    successor = await begin(bench.state.port, "OTHER->EOD", 0)
    assert successor is not None
    assert successor.sequence == SequenceNumbers(4, 70, 9 + OUTBOUND_HEADROOM)


async def test_an_append_that_fails_persists_nothing_and_ends_the_writer(bench: Bench) -> None:
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    bench.producer.acknowledge(1)
    bench.producer.fail(0)
    with pytest.RaisesGroup(pytest.RaisesExc(Unavailable, match="no in-sync replica"), flatten_subgroups=True):
        await bench.task
    assert await bench.persisted() is None


async def test_a_send_that_is_refused_persists_nothing_and_ends_the_writer(bench: Bench) -> None:
    bench.producer.refuse = Unavailable("never reached")
    bench.deliver(1)
    with pytest.RaisesGroup(pytest.RaisesExc(Unavailable, match="never reached"), flatten_subgroups=True):
        await asyncio.gather(bench.task, bench.clock.advance(0.01))
    assert await bench.persisted() is None


async def test_generations_before_a_failed_one_are_persisted(bench: Bench) -> None:
    for number in (1, 2):
        bench.deliver(number)
        await bench.cut()
    bench.producer.acknowledge(0)
    assert await bench.persisted() == (1, 2)
    bench.producer.fail(1)
    with pytest.RaisesGroup(Unavailable, flatten_subgroups=True):
        await bench.task
    assert await bench.persisted() == (1, 2)


async def test_while_the_state_store_is_away_trades_go_on_and_the_numbers_follow_when_it_is_back(bench: Bench) -> None:
    """A crash meanwhile only means that more is sent again; the hot path must not stop for that."""
    bench.state.down = True
    for number in (1, 2, 3):
        bench.deliver(number)
        await bench.cut()
        bench.producer.acknowledge()
        await bench.clock.advance(1)
    assert bench.state.refused >= 3
    assert not bench.task.done()
    assert await bench.persisted() is None
    bench.state.down = False
    await bench.clock.advance(1)
    assert await bench.persisted() == (1, 4)


async def test_numbers_are_saved_now_and_then_and_always_the_latest(bench: Bench) -> None:
    """A save costs as much as an append, and all that it spares is what a crash makes a counterparty resend."""
    bench.writer._save_every_s = 0.5
    saved = []
    for number in range(1, 6):
        bench.deliver(number)
        await bench.cut()
        bench.producer.acknowledge()
        saved.append(await bench.persisted())
    assert saved == [(1, 2)] * 5
    await bench.clock.advance(0.5)
    assert await bench.persisted() == (1, 6)
    bench.deliver(6)
    await bench.cut()
    bench.producer.acknowledge()
    bench.writer.stop()
    await bench.clock.advance(0.5)
    await asyncio.wait_for(bench.task, 5)
    assert await bench.persisted() == (1, 7)


async def test_a_generation_from_before_a_reset_does_not_take_the_reset_back(bench: Bench) -> None:
    """The reset was persisted when it was confirmed to the counterparty, while older appends were under way."""
    bench.deliver(7)
    await bench.cut()
    live = bench.tenure().sequence
    live.epoch, live.inbound, live.outbound = 2, 2, 2
    await save(bench.state.port, bench.tenure(), live)
    bench.producer.acknowledge()
    assert await bench.persisted() == (2, 2)
    bench.deliver(2)
    await bench.cut()
    bench.producer.acknowledge()
    assert await bench.persisted() == (2, 3)


# --- partitions that nobody leads ---------------------------------------------------------------------------

OTHER = "OTHER->EOD"
IBM, AAPL = (TopicPartition("trades", partition_of(symbol, 12)) for symbol in ("IBM", "AAPL"))


def deliver_other(bench: Bench, number: int) -> None:
    """A trade of another session, for another partition."""
    bench.tenure(OTHER).sequence.inbound = number + 1
    bench.writer.trade(row(number, session=OTHER, symbol="AAPL"))


async def inbound_of(bench: Bench, session: str) -> int:
    """The next number of a session, as a restart would find it; 0 if there is none."""
    await bench.clock.advance(0)
    stored = await bench.state.port.get_versioned(state_key(session))
    return 0 if stored is None else int(json.loads(stored[1])["inbound"])


async def saved(bench: Bench, session: str, inbound: int) -> None:
    """Wait until that is saved."""
    async with asyncio.timeout(10):
        while await inbound_of(bench, session) != inbound:  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.01)


def acknowledge_all_but(bench: Bench, source: TopicPartition) -> None:
    """Acknowledge what was sent anywhere else."""
    for sent in bench.producer.sent:
        if (sent.topic, sent.partition) != source and not sent.ack.done():
            sent.ack.set_result(Appended(sent.topic, sent.partition, 0))


async def test_a_session_waits_for_the_leader_that_its_trade_needs_and_others_go_on(bench: Bench) -> None:
    """Generation upon generation; their numbers are saved, their memory is free, and nothing is told twice."""
    bench.producer.without = {IBM}
    mine = 0
    for number in range(1, 6):
        if number <= 3:  # more generations than may wait for the broker
            before = bench.writer.in_flight_bytes
            bench.deliver(number)
            mine += bench.writer.in_flight_bytes - before
        deliver_other(bench, number)
        await bench.cut()
        acknowledge_all_but(bench, IBM)
        await saved(bench, OTHER, number + 1)
    assert await inbound_of(bench, SESSION) == 0
    assert (bench.waits, bench.writer.waiting) == ([frozenset({SESSION})], {SESSION})
    assert bench.writer._metrics.waiting._value.get() == 1
    assert 0 < bench.writer.in_flight_bytes <= mine, "its share, by the size of records"
    bench.producer.without.clear()
    bench.producer.acknowledge()
    await saved(bench, SESSION, 4)
    assert bench.waits == [frozenset({SESSION}), frozenset()]
    assert (bench.writer.in_flight_bytes, bench.writer._metrics.waiting._value.get()) == (0, 0)


async def test_whose_other_frames_or_letters_are_for_it_waits_too(bench: Bench) -> None:
    sessions = TopicPartition("sessions", partition_of(SESSION, 6))
    letter = fix_letter(
        b"8=FIX", REASON_DESERIALIZATION, "garbled", session=OTHER, epoch=1, msg_seq_num=0, received_at_ns=5
    )
    bench.producer.without = {sessions, TopicPartition("letters", partition_of(letter.id, 3))}
    bench.tenure(), bench.tenure(OTHER)
    bench.writer.aside(SESSION, b"8=FIX.4.4 heartbeat", 1)
    bench.writer.letter(letter)
    await bench.cut()
    await soon(lambda: bench.writer.waiting == {SESSION, OTHER}, "both wait")


async def test_what_a_waiting_session_has_sent_counts_half_towards_the_limit(bench: Bench) -> None:
    """1,000 bytes in flight are the limit: reading stops for all before twice as much waits for a leader."""
    bench.producer.without = {IBM}
    bench.deliver(1, frame=b"x" * 900)
    await bench.cut()
    await soon(lambda: bench.writer.waiting == {SESSION}, "it waits")
    bench.tenure(OTHER)
    bench.writer.trade(row(1, session=OTHER, symbol="AAPL", frame=b"x" * 900))
    assert bench.held_back == []
    await bench.cut()
    bench.writer.trade(row(2, session=OTHER, symbol="AAPL", frame=b"x" * 200))
    assert bench.held_back == [True]
    await bench.clock.advance(0.01)
    acknowledge_all_but(bench, IBM)
    await soon(lambda: bench.held_back == [True, False], "others are read again")


async def test_all_that_one_session_has_sent_is_acknowledged_though_another_waits(bench: Bench) -> None:
    """As is wanted to know before its numbers begin again."""
    bench.producer.without = {IBM}
    bench.deliver(1)
    deliver_other(bench, 1)
    mine = asyncio.create_task(bench.writer.acknowledged_so_far(SESSION))
    others = asyncio.create_task(bench.writer.acknowledged_so_far(OTHER))
    await bench.cut()
    assert not (await asyncio.wait({others}, timeout=0.05))[0]
    acknowledge_all_but(bench, IBM)
    await asyncio.wait_for(others, 5)
    await bench.writer.acknowledged_so_far("NOBODY->EOD")
    assert not mine.done()
    bench.producer.acknowledge()
    await asyncio.wait_for(mine, 5)


# --- tenures ------------------------------------------------------------------------------------------------


async def test_whose_numbers_are_refused_is_told_once_and_saves_nothing_more(bench: Bench) -> None:
    """And what it has read is appended all the same: it may be the only copy."""
    tenure = bench.tenure()
    bench.deliver(1)
    await bench.cut()
    taken = await bench.state.port.take_over(state_key(SESSION), 8)
    successor = Tenure(SESSION, taken.version, SequenceNumbers(1, 1, 1))
    await save(bench.state.port, successor, successor.sequence)
    bench.deliver(2)
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 1)
    assert bench.superseded == [tenure]
    assert SESSION not in bench.writer.live
    await bench.cut()
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 1)
    assert bench.superseded == [tenure]
    appended = [trade.msg_seq_num for sent in bench.producer.sent for trade in decode_trades(sent.value)]
    assert appended == [1, 2]


async def test_a_refusal_of_one_session_does_not_keep_the_others_from_being_saved(bench: Bench) -> None:
    bench.tenure("A->EOD")
    bench.tenure("Z->EOD")
    await bench.state.port.take_over(state_key("A->EOD"), 8)
    bench.deliver(1)
    await bench.cut()
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 2)
    assert [tenure.session for tenure in bench.superseded] == ["A->EOD"]
    assert await bench.state.port.get_versioned(state_key("Z->EOD")) is not None


async def test_numbers_of_an_earlier_tenure_here_are_history(bench: Bench) -> None:
    """The session has been elsewhere meanwhile: what its earlier connection had in flight must not take it back."""
    bench.deliver(1)
    await bench.cut()
    there = await begin(bench.state.port, SESSION, 8)
    assert there is not None
    there.sequence.inbound = 50
    assert await save(bench.state.port, there, there.sequence)
    before = bench.writer.live.pop(SESSION)
    back = await begin(bench.state.port, SESSION, 0, before)
    assert back is not None
    bench.writer.live[SESSION] = back
    bench.producer.acknowledge()
    assert await bench.persisted() == (1, 50)
    assert bench.superseded == []


async def test_a_session_that_comes_back_here_goes_on_with_numbers_that_are_not_saved_yet(bench: Bench) -> None:
    """The same writer is about to append what they stand for; nobody has to send it again."""
    first = await begin(bench.state.port, SESSION, 5)
    assert first is not None
    first.sequence.inbound = 9
    second = await begin(bench.state.port, SESSION, 5, first)
    assert second is not None
    assert second.sequence is first.sequence
    assert second.token > first.token
    assert await bench.persisted() == (1, 1), "and they are still not saved"


async def test_after_a_crash_outbound_numbers_go_on_above_all_that_may_have_been_sent(bench: Bench) -> None:
    bench.deliver(1)
    bench.tenure().sequence.outbound = 41
    await bench.cut()
    bench.producer.acknowledge()
    await bench.persisted()
    for more in (1, 2):  # saved at the logon, so that a second crash goes on above what was sent after the first
        successor = await begin(bench.state.port, SESSION, 0)
        assert successor is not None
        assert successor.sequence == SequenceNumbers(epoch=1, inbound=2, outbound=41 + more * OUTBOUND_HEADROOM)


async def test_of_two_who_log_on_at_the_same_time_one_goes_on(bench: Bench) -> None:
    """The one whose token is higher: the other finds out before it has answered the Logon."""
    state = bench.state.port
    save_of_first = asyncio.Event()

    class Slow(Flaky):
        def __getattr__(self, name: str) -> Any:
            method = getattr(state, name)

            async def call(*args: Any) -> Any:
                if name == "put_if_newer":
                    await save_of_first.wait()
                return await method(*args)

            return call

    first = asyncio.create_task(begin(Slow(state, "store"), SESSION, 5))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    second = await begin(state, SESSION, 5)
    save_of_first.set()
    assert await first is None
    assert second is not None
    assert await save(state, second, second.sequence)


async def test_a_session_nobody_knows_begins_at_1_in_an_epoch_that_was_never_there() -> None:
    """A store that has forgotten everything must not give last week's epochs to other deliveries."""
    at_ns = 1_767_387_600_000_000_000
    tenure = await begin(MemoryState(), SESSION, at_ns)
    assert tenure is not None
    assert tenure.sequence == SequenceNumbers(epoch=1_767_387_600, inbound=1, outbound=1)
    assert tenure.token == at_ns


async def test_while_the_store_has_forgotten_the_session_who_serves_it_remembers() -> None:
    before = Tenure(SESSION, 5, SequenceNumbers(3, 70, 80))
    tenure = await begin(MemoryState(), SESSION, 9, before)
    assert tenure is not None
    assert (tenure.sequence, tenure.token) == (SequenceNumbers(3, 70, 80), 9)


# --- back-pressure ------------------------------------------------------------------------------------------


async def test_reading_stops_at_the_limit_and_goes_on_at_half_of_it(bench: Bench) -> None:
    for number in range(1, 10):
        bench.deliver(number, frame=b"x" * 100)
    assert (bench.held_back, bench.writer.is_full) == ([], False)
    await bench.cut()
    bench.deliver(10, frame=b"x" * 100)
    assert (bench.held_back, bench.writer.is_full) == ([True], True)
    bench.deliver(11, frame=b"x" * 100)
    assert bench.held_back == [True], "it is said once"
    await bench.cut()
    bench.producer.acknowledge(0)
    await bench.clock.advance(0)
    assert bench.writer.in_flight_bytes == 200
    assert (bench.held_back, bench.writer.is_full) == ([True, False], False)


async def test_bytes_count_as_in_flight_until_they_are_acknowledged(bench: Bench) -> None:
    bench.deliver(1, frame=b"x" * 100)
    bench.writer.aside(SESSION, b"y" * 20, 1)
    await bench.cut()
    await soon(lambda: len(bench.producer.sent) == 2, "two records")
    assert bench.writer.in_flight_bytes == 120 + FRAME_BYTES
    bench.producer.acknowledge(0)
    await bench.clock.advance(0)
    assert bench.writer.in_flight_bytes == 120 + FRAME_BYTES
    bench.producer.acknowledge(1)
    await bench.clock.advance(0)
    assert bench.writer.in_flight_bytes == 0


async def test_how_long_a_trade_takes_into_the_log_is_counted_at_the_acknowledgement(bench: Bench) -> None:
    """Of its whole generation, since its number is not safe before; one that the log has not taken is not counted."""

    def counted() -> tuple[float, float]:
        of = "eod_ingestion_latency_seconds"
        metric = bench.writer._metrics.acknowledged_latency
        return sampled(metric, f"{of}_count"), sampled(metric, f"{of}_sum")

    count, total_s = counted()
    read_at_ns = bench.clock.now_ns()
    for number, symbol in enumerate(("IBM", "AAPL", "IBM"), 1):
        bench.deliver(number, symbol=symbol, received_at_ns=read_at_ns)
    bench.writer.aside(SESSION, b"heartbeat", read_at_ns)
    await bench.cut()
    await soon(lambda: len(bench.producer.sent) == 3, "three records")
    bench.producer.acknowledge(0, 1)
    await bench.clock.advance(1)
    assert counted() == (count, total_s)
    bench.producer.acknowledge(2)
    await bench.clock.advance(0)
    assert counted() == (count + 3, pytest.approx(total_s + 3 * 1.01))
    bench.deliver(4, received_at_ns=bench.clock.now_ns())
    await bench.cut()
    bench.producer.fail(3)
    await asyncio.wait({bench.task})
    assert counted()[0] == count + 3


# --- stopping -----------------------------------------------------------------------------------------------


async def test_stopping_waits_until_everything_is_acknowledged_and_persisted(bench: Bench) -> None:
    bench.deliver(1)
    await bench.cut()
    bench.deliver(2)
    bench.writer.stop()
    await bench.clock.advance(0.01)
    await soon(lambda: len(bench.producer.sent) == 2, "the last append")
    assert not bench.task.done()
    bench.producer.acknowledge()
    await bench.task
    assert await bench.persisted() == (1, 3)
    assert bench.writer.in_flight_bytes == 0


async def test_stopping_in_the_midst_of_an_append_waits_for_it_too(bench: Bench) -> None:
    """What has been cut and not yet sent is in neither pile."""
    bench.producer.may_send.clear()
    bench.deliver(1)
    await bench.clock.advance(0.01)
    bench.writer.stop()
    await bench.clock.advance(0.01)
    bench.producer.may_send.set()
    await soon(lambda: len(bench.producer.sent) == 1, "the append")
    await bench.clock.advance(0.01)
    assert not bench.task.done()
    bench.producer.acknowledge()
    await bench.task
    assert await bench.persisted() == (1, 2)


async def test_it_is_settled_when_everything_is_acknowledged_and_saved(bench: Bench) -> None:
    await bench.writer.settled()
    bench.deliver(1)
    await bench.cut()
    bench.deliver(2)
    settling = asyncio.create_task(bench.writer.settled())
    await bench.clock.advance(0.01)
    bench.producer.acknowledge(0)
    await bench.clock.advance(0.01)
    assert not settling.done()
    bench.state.down = True
    bench.producer.acknowledge()
    await bench.clock.advance(0.01)
    await soon(settling.done, "a store that is away is not waited for")
    bench.state.down = False
    bench.deliver(3)
    await bench.clock.advance(1)
    settling = asyncio.create_task(bench.writer.settled())
    bench.producer.acknowledge()
    await bench.clock.advance(1)
    await settling
    assert await bench.persisted() == (1, 4)


async def test_stopping_with_nothing_to_do_ends_at_once(bench: Bench) -> None:
    await bench.clock.advance(0)
    bench.writer.stop()
    await bench.task


async def test_stopping_while_the_state_store_is_away_does_not_wait_for_it(bench: Bench) -> None:
    bench.state.down = True
    bench.deliver(1)
    await bench.cut()
    bench.producer.acknowledge()
    await bench.clock.advance(0)
    bench.writer.stop()
    for _ in range(5):
        await bench.clock.advance(1)
    await soon(bench.task.done, "the end")
    assert bench.task.exception() is None
