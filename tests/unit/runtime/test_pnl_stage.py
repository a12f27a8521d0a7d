"""Flash P&L as a stage: snapshots, replay, rebalances, and a state store that comes and goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.memory_topic import Partition
from eod_workers.letters import decode_letter
from eod_workers.pnl.published import Key, Published, positions_key, read_position, stored, updates
from eod_workers.pnl.stage import STAGE, snapshot_key
from eod_workers.ports import Record, TopicPartition, Unavailable, UnevenTopics, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_PROCESSING
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_MID, PRICE_SOURCE_OFFICIAL_CLOSE
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.runtime.core import Offsets, Starts
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import ACTION_BUST, UNASSIGNED
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices
from support.flow import flow, quantities
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import PARTITIONS, Flaky, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)
Shown = dict[Key, Published]


async def shown(world: StageWorld) -> Shown:
    """(trader, symbol) → the position in the state store."""
    return {key: read_position(value) for key, value in (await stored(world.state.port)).items()}


def in_short(positions: Shown) -> dict[tuple[str, str], tuple[int, int]]:
    """(trader, symbol) → quantity in 1e-8 and number of trades: what a trade lost or counted twice would change."""
    return {key: (position.quantity_e8, position.trades) for key, position in positions.items()}


def expected(trades: list[Any]) -> dict[tuple[str, str], tuple[int, int]]:
    """The same by plain arithmetic."""
    return {key: (quantity, number) for key, (quantity, _, number) in quantities(trades).items()}


async def show_in_the_end(world: StageWorld, trades: list[Any]) -> None:
    """Wait until what is shown is what was traded."""
    async with limited(20):
        while in_short(await shown(world)) != expected(trades):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.02)


class Screen:
    """A trader's screen: the last update of each position, as subscribers hear it."""

    def __init__(self, world: StageWorld) -> None:
        self.last: Shown = {}
        self.messages = 0
        self._world = world

    async def listen(self) -> None:
        """Until cancelled."""
        async for update in updates(self._world.state.port):
            self.messages += 1
            for symbol, position in update.positions.items():
                self.last[update.trader, symbol] = position


@pytest.fixture
async def screen(world: StageWorld) -> Any:
    made = Screen(world)
    task = asyncio.create_task(made.listen())
    await asyncio.sleep(0)
    yield made
    task.cancel()


# --- positions ----------------------------------------------------------------------------------------------


async def test_every_trade_counts_once_and_what_is_shown_is_what_was_last_published(
    world: StageWorld, screen: Screen
) -> None:
    trades = flow(600)
    worker = world.start(STAGE)
    await world.trade(trades, batch=7)
    await world.drained(STAGE)
    await worker.stop()
    positions = await shown(world)
    assert in_short(positions) == expected(trades)
    await soon(lambda: screen.last == positions, "subscribers have heard the book as it is")


async def test_a_fault_of_the_publisher_ends_the_stage_and_names_itself(world: StageWorld) -> None:
    """A worker that computes and shows nothing is worse than one that is restarted."""

    async def broken(_writes: object) -> None:
        raise TypeError("a bug in what is written")

    world.state.write = broken
    worker = world.start(STAGE)
    await world.trade(flow(5))
    with pytest.raises(TypeError, match="a bug in what is written"):
        await asyncio.wait_for(worker.task, 30)


async def test_many_positions_go_out_in_several_writes(
    world: StageWorld, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price of what everybody holds must not hold up the log until everybody has been told."""
    monkeypatch.setattr("eod_workers.pnl.stage.POSITIONS_A_WRITE", 2)
    trades = [row(number, trader=f"t{number}") for number in range(1, 21)]
    worker = world.start(STAGE)
    await world.trade(trades)
    await show_in_the_end(world, trades)
    price = Price("IBM", PRICE_SOURCE_MID, 50 * 10**8, 2, 20260102)
    await world.append("prices.updates", partition_of("IBM", PARTITIONS), encode_prices([price]))
    await world.drained(STAGE)
    await worker.stop()
    positions = await shown(world)
    assert {position.mark_e8 for position in positions.values()} == {50 * 10**8}
    await soon(lambda: screen.last == positions, "subscribers have heard the book as it is")


async def test_latency_is_counted_for_every_trade_applied_and_told(world: StageWorld) -> None:
    told: list[int] = []
    worker = world.start(STAGE)
    worker.service.core._context.published = lambda received_at_ns, _: told.extend(received_at_ns)
    await world.trade(flow(50))
    await world.drained(STAGE)
    await worker.stop()
    assert sampled(worker.metrics.applied_latency, "eod_pnl_applied_seconds_count") == 50
    assert sampled(worker.metrics.published_latency, "eod_pnl_latency_seconds_count") == 50
    assert len(told) == 50


async def test_resends_and_retries_under_new_numbers_count_once(world: StageWorld) -> None:
    trades = flow(100)
    again = [trade._replace(msg_seq_num=trade.msg_seq_num + 1_000) for trade in trades[:50]]
    worker = world.start(STAGE)
    await world.trade([*trades, *trades[20:80], *again])
    await world.drained(STAGE)
    await worker.stop()
    assert in_short(await shown(world)) == expected(trades)


async def test_a_report_of_nobody_is_shown_as_unassigned(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await world.trade([row(1, trader="")])
    await world.drained(STAGE)
    await worker.stop()
    assert list(await shown(world)) == [(UNASSIGNED, "IBM")]
    assert positions_key("") == f"positions:{UNASSIGNED}"


async def test_prices_of_a_symbol_reach_the_worker_that_has_its_trades(world: StageWorld, screen: Screen) -> None:
    """Three workers: each owns trades and prices of the same partitions."""
    trades = flow(200)
    for _ in range(3):
        world.start(STAGE)
    await world.trade(trades)
    for symbol in {trade.symbol for trade in trades}:
        quotes = [
            Price(symbol, PRICE_SOURCE_OFFICIAL_CLOSE, 50 * 10**8, 2, 20260102),
            Price(symbol, PRICE_SOURCE_MID, 99 * 10**8, 3, 20260102),
        ]
        await world.append("prices.updates", partition_of(symbol, PARTITIONS), encode_prices(quotes))
    await world.drained(STAGE)
    for worker in list(world.workers):
        await worker.stop()
    positions = await shown(world)
    assert {(p.mark_e8, p.mark_source) for p in positions.values()} == {(50 * 10**8, PRICE_SOURCE_OFFICIAL_CLOSE)}
    for key, (quantity, cash, _) in quantities(trades).items():
        assert positions[key].total_e16 == cash + quantity * 50 * 10**8
    await soon(lambda: screen.last == positions, "subscribers have heard the book as it is")


# --- publishing ---------------------------------------------------------------------------------------------


async def test_updates_are_coalesced_and_the_last_one_still_comes(world: StageWorld, screen: Screen) -> None:
    """A throttle without a trailing publish would leave the last change unsaid until the next trade."""
    worker = world.start(STAGE, publish_interval_ms=300.0)
    for number in range(1, 301):
        await world.trade([row(number)])
        if number % 50 == 0:
            await asyncio.sleep(0.02)
    await soon(lambda: in_short(screen.last).get(("T001", "IBM"), (0, 0))[1] == 300, "the last change is heard")
    assert screen.messages < 30
    assert screen.last == await shown(world)
    await worker.stop()


async def test_while_the_state_store_is_away_the_book_keeps_computing_and_the_latest_is_published_on_return(
    world: StageWorld, screen: Screen
) -> None:
    first, second = flow(100), flow(200, start=101)
    worker = world.start(STAGE)
    await world.trade(first)
    await world.drained(STAGE)
    await show_in_the_end(world, first)
    world.state.down = True
    await world.trade(second)
    await world.drained(STAGE)
    await soon(lambda: world.state.refused >= 2, "it has been tried")
    assert in_short(await shown(world)) == expected(first), "nothing can be shown while the store is away"
    world.state.down = False
    await show_in_the_end(world, [*first, *second])
    positions = await shown(world)
    await soon(lambda: screen.last == positions, "subscribers have heard the book as it is")
    await worker.stop()


async def test_a_publication_whose_answer_was_lost_is_made_again(world: StageWorld, screen: Screen) -> None:
    lost = []

    def lose(name: str) -> None:
        if name == "write" and len(lost) < 3:
            lost.append(name)
            raise Unavailable("no answer")

    world.state.after = lose
    worker = world.start(STAGE)
    await world.trade(flow(50))
    await world.drained(STAGE)
    await show_in_the_end(world, flow(50))
    await soon(lambda: len(lost) == 3, "it is made again until it is answered")
    await worker.stop()
    assert screen.last == await shown(world)


async def test_a_successor_publishes_everything_since_the_last_publication_may_be_missing(world: StageWorld) -> None:
    trades = flow(150)
    world.state.down_for.add("write")
    first = world.start(STAGE)
    await world.trade(trades)
    await world.drained(STAGE)
    await first.stop()
    assert await shown(world) == {}
    world.state.down_for.clear()
    second = world.start(STAGE)
    await show_in_the_end(world, trades)
    await second.stop()


async def test_a_worker_starts_when_the_state_store_comes_and_not_before(world: StageWorld) -> None:
    """Without the snapshots it would count from scratch."""
    first = world.start(STAGE)
    await world.trade(flow(50))
    await world.drained(STAGE)
    await first.stop()
    world.state.down = True
    second = world.start(STAGE)
    await world.trade(flow(50, start=51))
    await soon(lambda: "state store is down" in second.health.why_not, "not ready")
    assert await world.lag(STAGE) > 0
    world.state.down = False
    await world.drained(STAGE)
    await show_in_the_end(world, [*flow(50), *flow(50, start=51)])
    assert second.health.why_not == ""
    await second.stop()


class NotingClock(SystemClock):
    """Notes how long it was asked to sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


async def test_a_worker_with_nothing_to_tell_looks_at_nothing_and_is_woken_by_a_trade(world: StageWorld) -> None:
    worker = world.start(STAGE, publish_interval_ms=0.0)
    core, clock = worker.service.core, NotingClock()
    core._context = replace(core._context, clock=clock)
    await world.trade(flow(20))
    await show_in_the_end(world, flow(20))
    clock.slept.clear()
    await asyncio.sleep(0.2)
    assert clock.slept == []
    await world.trade(flow(40)[20:])
    await show_in_the_end(world, flow(40))
    await worker.stop()


# --- snapshots, replay, rebalances --------------------------------------------------------------------------


async def test_work_goes_on_while_a_snapshot_is_on_its_way_and_no_second_one_overtakes_it(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was applied meanwhile is in the next one: the partition still counts as changed."""
    monkeypatch.setattr("eod_workers.pnl.stage.COMMIT_INTERVAL_S", 0.0)
    stored, on_the_way, most = asyncio.Event(), 0, 0

    async def slowly(*arguments: Any) -> bool:
        nonlocal on_the_way, most
        on_the_way += 1
        most = max(most, on_the_way)
        await stored.wait()
        on_the_way -= 1
        return bool(await world.state.port.put_if_newer(*arguments))

    world.state.put_if_newer = slowly
    worker = world.start(STAGE, snapshot_interval_s=1e-9)
    try:
        await world.trade(flow(50))
        await soon(lambda: on_the_way == 1, "a snapshot is on its way")
        await world.trade(flow(100)[50:])
        await show_in_the_end(world, flow(100))
        assert (on_the_way, most) == (1, 1)
    finally:
        stored.set()  # or nothing that waits for the store would ever end
    await worker.stop()
    assert most == 1
    del world.state.put_if_newer
    for key in await world.state.port.keys("positions:"):
        await world.state.port.delete(key)
    successor = world.start(STAGE)
    await show_in_the_end(world, flow(100))
    assert successor.loop.progress.records == 0
    await successor.stop()


@pytest.mark.parametrize("snapshots", ["never", "often"])
async def test_a_killed_worker_is_succeeded_without_a_trade_lost_or_counted_twice(
    world: StageWorld, snapshots: str
) -> None:
    """Whatever was snapshotted, the rest is replayed; three kills in a row, each in the midst of the flow."""
    interval_s = 1e9 if snapshots == "never" else 1e-9
    trades = flow(900)
    for part in range(3):
        worker = world.start(STAGE, snapshot_interval_s=interval_s)
        await world.trade(trades[part * 300 : part * 300 + 300], batch=5)
        at_least = 20 * (part + 1)
        await soon(lambda worker=worker, n=at_least: worker.loop.progress.records >= n, "some are applied")  # type: ignore[misc]
        worker.kill()
    last = world.start(STAGE, snapshot_interval_s=interval_s)
    await show_in_the_end(world, trades)
    await world.drained(STAGE)
    await last.stop()
    assert in_short(await shown(world)) == expected(trades)


async def test_three_workers_that_come_and_go_while_trades_flow_lose_and_repeat_nothing(
    world: StageWorld, screen: Screen
) -> None:
    trades = flow(1_200)
    steps = ["start", "start", "start", "stop", "start", "kill", "start", "stop"]
    for part, step in enumerate(steps):
        await world.trade(trades[part * 150 : part * 150 + 150], batch=3)
        running = [worker for worker in world.workers if not worker.task.done()]
        if step == "start":
            world.start(STAGE)
        elif step == "stop":
            await running[0].stop()
        else:
            running[0].kill()
        await asyncio.sleep(0.03)
    await world.drained(STAGE)
    await show_in_the_end(world, trades)
    for worker in [worker for worker in world.workers if not worker.task.done()]:
        await worker.stop()
    assert in_short(await shown(world)) == expected(trades)
    await soon(lambda: in_short(screen.last) == expected(trades), "subscribers have heard the book as it is")


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning_and_trades_count_once(world: StageWorld) -> None:
    """Also when it holds less than the old one did: snapshots of it are newer than all of the old one."""
    trades = flow(60)
    worker = world.start(STAGE)
    await world.trade(trades[:40])
    await world.drained(STAGE)
    old = {key: await world.state.port.get_versioned(key) for key in await world.state.port.keys("snapshot:")}
    await worker.stop()
    for part in (trades[35:50], trades[45:]):
        world.make_anew("trades.raw")
        await world.trade(part)
        for _ in range(2):
            worker = world.start(STAGE)
            await world.drained(STAGE)
            await worker.stop()
    assert in_short(await shown(world)) == expected(trades)
    for key, stored_then in old.items():
        stored_now = await world.state.port.get_versioned(key)
        assert stored_now[0] > stored_then[0]
        assert not await world.state.port.put_if_newer(key, stored_then[0] + 10_000, b"of one who has slept")
        remakes = {one.topic: one.remakes for one in PnlSnapshot.FromString(stored_now[1]).next_offset}
        assert remakes == {"trades.raw": 2, "prices.updates": 0}


async def test_half_a_book_is_nobodys_until_the_group_gives_out_both_halves(world: StageWorld) -> None:
    """As when a rebalance comes while a topic is being made anew: the worker lives on, and what it reads says nothing."""
    partition = partition_of("IBM", PARTITIONS)
    await world.trade([row(1)])
    await world.append(
        "prices.updates", partition, *[encode_prices([Price("IBM", PRICE_SOURCE_MID, 50 * 10**8, 1, 20260102)])] * 2
    )
    worker = world.start(STAGE)
    await world.drained(STAGE)
    core = worker.service.core
    both = frozenset(every("trades.raw", PARTITIONS) + every("prices.updates", PARTITIONS))
    prices = frozenset(every("prices.updates", PARTITIONS))
    books = await stored(world.state.port)

    core.revoke(both)
    starts = await core.load(prices, {})
    assert starts == Starts({source: 2 if source.partition == partition else 0 for source in prices}, {})
    price = encode_prices([Price("IBM", PRICE_SOURCE_MID, 70 * 10**8, 2, 20260102)])
    assert core.apply(Record("prices.updates", partition, 2, None, price, 0, ()), pytest.fail) == 0
    await core.make_durable(Offsets(dict.fromkeys(prices, 3), dict.fromkeys(prices, 3)), final=True)
    assert await stored(world.state.port) == books

    core.revoke(prices)
    trades = world.log._topics.pop("trades.raw")
    with pytest.raises(UnknownTopic, match=r"trades\.raw"):  # which the loop waits for
        await core.load(prices, {})
    world.log._topics["trades.raw"] = trades
    assert (await core.load(both, {})).next == {
        source: {"trades.raw": 1, "prices.updates": 2}[source.topic] if source.partition == partition else 0
        for source in both
    }
    await worker.stop()
    assert await stored(world.state.port) == books


async def test_symbols_stay_where_they_are_when_their_topic_has_more_partitions(world: StageWorld) -> None:
    """What is published of a partition is what trades of its symbols there say, also to workers that begin then."""
    trades = flow(40)
    worker = world.start(STAGE)
    await world.trade(trades)
    await world.drained(STAGE)
    await worker.stop()
    for key in await world.state.port.keys("positions:"):
        await world.state.port.delete(key)
    for topic in ("trades.raw", "prices.updates"):
        world.log._topics[topic].partitions += [Partition() for _ in range(PARTITIONS)]
    worker = world.start(STAGE)
    await world.drained(STAGE)
    await worker.stop()
    assert in_short(await shown(world)) == expected(trades)


async def test_topics_without_as_many_partitions_are_waited_for_and_part_a_worker_that_reads_them(
    world: StageWorld,
) -> None:
    worker = world.start(STAGE)
    await soon(lambda: not worker.health.why_not, "it has begun")
    partitions = world.log._topics["prices.updates"].partitions
    partitions.append(Partition())
    with pytest.raises(UnevenTopics, match=r"--alter --topic trades.raw --partitions 13"):
        await worker.service.core.load(frozenset(every("trades.raw", 12) + every("prices.updates", 13)), {})
    await worker.stop()
    waiting = world.start(STAGE)
    await soon(lambda: "trades.raw 12 and prices.updates 13 is what there is" in waiting.health.why_not, "it is said")
    partitions.pop()
    await soon(lambda: not waiting.health.why_not, "it goes on")
    await waiting.stop()


def every(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


async def test_a_successor_reads_on_behind_the_snapshot_and_not_from_the_beginning(world: StageWorld) -> None:
    """The log of a day is long; and what it no longer holds is in the snapshot alone."""
    first = world.start(STAGE)
    await world.trade(flow(300))
    await world.drained(STAGE)
    await first.stop()
    second = world.start(STAGE)
    await world.trade(flow(40, start=301))
    await world.drained(STAGE)
    await second.stop()
    assert second.loop.progress.records == 40
    assert in_short(await shown(world)) == expected([*flow(300), *flow(40, start=301)])


async def test_snapshots_that_could_not_be_written_are_written_when_the_worker_leaves(world: StageWorld) -> None:
    world.state.down_for.add("put_if_newer")
    worker = world.start(STAGE, snapshot_interval_s=1e-9)
    await world.trade(flow(100))
    await world.drained(STAGE)
    assert await world.state.port.keys("snapshot:") == []
    world.state.down_for.clear()
    await worker.stop()
    written = await world.state.port.keys("snapshot:")
    assert written == sorted({snapshot_key("flash-pnl", partition_of(t.symbol, PARTITIONS)) for t in flow(100)})


# --- what cannot be booked ----------------------------------------------------------------------------------


async def test_what_does_not_decode_becomes_a_letter_and_what_follows_is_booked(world: StageWorld) -> None:
    partition = partition_of("IBM", PARTITIONS)
    worker = world.start(STAGE)
    await world.append("trades.raw", partition, b"\xff\xff garbage")
    await world.append("prices.updates", partition, b"\xff garbage", encode_prices([Price("IBM", 9, 1, 1, 20260102)]))
    await world.trade([row(1)])
    await world.drained(STAGE)
    await worker.stop()
    letters = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    sources = {(letter.source_topic, letter.source_partition, letter.source_offset) for letter in letters}
    assert sources == {("trades.raw", partition, 0), ("prices.updates", partition, 0), ("prices.updates", partition, 1)}
    assert {letter.reason for letter in letters} == {REASON_DESERIALIZATION}
    assert in_short(await shown(world)) == {("T001", "IBM"): (100 * 10**8, 1)}


async def test_a_bust_of_an_unknown_trade_becomes_a_letter_that_names_it(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await world.trade([row(1), row(2, action=ACTION_BUST, exec_ref_id="NOBODY")])
    await world.drained(STAGE)
    await worker.stop()
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert (letter.reason, letter.stage, letter.msg_seq_num) == (REASON_PROCESSING, "flash-pnl", 2)
    assert "NOBODY" in letter.detail
    assert letter.raw == row(2).frame


async def test_the_letter_of_a_side_that_shares_its_frame_has_it(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await world.trade([row(1), row(2, action=ACTION_BUST, exec_ref_id="NOBODY", frame=b"")], batch=2)
    await world.drained(STAGE)
    await worker.stop()
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert letter.raw == row(1).frame


async def test_a_letter_is_not_lost_when_the_log_does_not_take_it_at_first(world: StageWorld) -> None:
    """The book has moved on by then and would call the trade a duplicate."""
    real = world.log
    world.log = Flaky(real, "log")  # type: ignore[assignment]
    worker = world.start(STAGE)
    await soon(lambda: worker.health.why_not == "", "assigned")
    world.log.down_for.add("producer")  # type: ignore[attr-defined]
    producer = await real.producer()

    value = encode_trades([row(1), row(2, action=ACTION_BUST, exec_ref_id="NOBODY"), row(3)])
    await producer.send("trades.raw", partition_of("IBM", PARTITIONS), value)
    await soon(lambda: world.log.refused > 1, "the letter has been refused")  # type: ignore[attr-defined]
    assert await world.lag(STAGE) == 1, "the offset must not pass a letter that is nowhere"
    world.log.down_for.clear()  # type: ignore[attr-defined]
    await world.drained(STAGE)
    await worker.stop()
    ids = {decode_letter(record.value).msg_seq_num for record in await world.records("trades.dlq")}
    assert ids == {2}
    assert in_short(await shown(world)) == {("T001", "IBM"): (200 * 10**8, 2)}
