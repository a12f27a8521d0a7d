"""The regulatory stage: every trade one row, whatever stops, dies or is away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from eod_workers.letters import decode_letter
from eod_workers.ports import NO_ATTEMPTS, Attempt, CommitRefused, Record, TopicPartition, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_DOWNSTREAM
from eod_workers.regulatory.metrics import RegulatoryMetrics
from eod_workers.regulatory.stage import STAGE, RegulatoryCore
from eod_workers.runtime.core import Offsets, Refused
from eod_workers.runtime.stages import assemble
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.reference import ReferenceData
from support.flow import flow
from support.manual_clock import ManualClock
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import PARTITIONS, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)


def told(trades: list[Any]) -> set[tuple[Any, ...]]:
    """What rows must say of trades."""
    return {
        (t.session, t.exec_id, t.msg_seq_num, t.action, t.symbol, t.side, t.last_qty_e8, t.last_px_e8, t.trader)
        for t in trades
    }


async def committed(world: StageWorld) -> dict[int, int]:
    """Partition → what the group has read, as it says, where that is anything."""
    return {
        number: offset for number, offset in (await world.log.committed("regulatory", "trades.raw")).items() if offset
    }


async def stored(world: StageWorld) -> set[tuple[Any, ...]]:
    """What the rows say; two rows that say the same fail the test."""
    rows = await world.rows()
    assert len({(r.session, r.exec_id) for r in rows}) == len(rows)
    return told(rows)


async def test_every_trade_is_one_row_and_the_offsets_are_in_the_same_store(world: StageWorld) -> None:
    trades = flow(500)
    worker = world.start(STAGE)
    await world.trade(trades, batch=7)
    await world.drained(STAGE)
    await worker.stop()
    assert await stored(world) == told(trades)
    ends = await world.log.end_offsets("trades.raw")
    sources = [TopicPartition("trades.raw", number) for number in ends]
    held = await world.regulatory.port.take_over("regulatory", sources)
    assert {s.partition: offset or 0 for s, (_, offset, _) in held.items()} == ends
    assert await world.log.committed("regulatory", "trades.raw") == {n: end for n, end in ends.items() if end}


async def test_a_trade_that_comes_again_is_not_stored_again(world: StageWorld) -> None:
    trades = flow(80)
    retried = [trade._replace(msg_seq_num=trade.msg_seq_num + 500, last_px_e8=1) for trade in trades[:20]]
    worker = world.start(STAGE)
    await world.trade([*trades, *trades[10:40], *retried])
    await world.drained(STAGE)
    await worker.stop()
    assert await stored(world) == told(trades)


async def test_unknown_names_become_exceptions_beside_the_row(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await world.trade([row(1, trader="GHOST")])
    await world.drained(STAGE)
    await worker.stop()
    exceptions = [e async for e in world.regulatory.exceptions()]
    assert {(e.exec_id, e.field, e.value) for e in exceptions} == {
        ("X1", "trader", "GHOST"), ("X1", "strategy", "VWAP"), ("X1", "security", "IBM"),
    }  # fmt: skip
    assert [r.trader for r in await world.rows()] == ["GHOST"]


async def test_rows_of_a_log_that_has_fallen_silent_are_stored_when_their_time_has_come(tmp_path: Any) -> None:
    """Not when the next message comes."""
    clock = ManualClock()
    world = await StageWorld(tmp_path, clock=clock).open()
    try:
        worker = world.start(STAGE, flush_interval_s=5.0, flush_rows=1_000)
        await world.trade([row(1)])
        await soon(lambda: worker.loop.progress.records == 1, "it was read")
        await clock.advance(4.9)
        await asyncio.sleep(0.25)
        assert await world.rows() == []
        assert not await committed(world)
        await clock.advance(0.2)
        await world.drained(STAGE)
        assert await stored(world) == told([row(1)])
    finally:
        await world.close()


async def test_enough_rows_are_stored_before_their_time(tmp_path: Any) -> None:
    world = await StageWorld(tmp_path, clock=ManualClock()).open()
    try:
        world.start(STAGE, flush_interval_s=5.0, flush_rows=10)
        await world.trade([row(number) for number in range(10)])
        await world.drained(STAGE)
        assert len(await stored(world)) == 10
    finally:
        await world.close()


async def test_a_batch_that_could_not_be_stored_is_tried_again_and_its_offsets_wait_for_it(world: StageWorld) -> None:
    trades = flow(100)
    worker = world.start(STAGE)
    await soon(lambda: worker.health.why_not == "", "assigned")
    world.regulatory.down = True
    await world.trade(trades)
    await soon(lambda: world.regulatory.refused >= 2, "it has been tried")
    await world.trade(flow(100, start=101))
    await soon(lambda: world.regulatory.refused >= 3, "it has been tried")
    assert not await committed(world)
    assert "regulatory store is down" in worker.health.why_not
    read = worker.loop.progress.records
    assert read <= 100, "consumption pauses: the lag grows, and memory does not"
    world.regulatory.down = False
    await world.drained(STAGE)
    assert await stored(world) == told([*trades, *flow(100, start=101)])
    assert worker.health.why_not == ""
    await worker.stop()


async def test_a_transaction_whose_answer_was_lost_does_not_store_its_rows_twice(world: StageWorld) -> None:
    lost = []

    def lose(name: str) -> None:
        if name == "store" and len(lost) < 2:
            lost.append(name)
            raise Unavailable("no answer")

    world.regulatory.after = lose
    worker = world.start(STAGE)
    await world.trade(flow(60))
    await world.drained(STAGE)
    await worker.stop()
    assert len(lost) == 2
    assert await stored(world) == told(flow(60))


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning_and_each_trade_is_one_row(
    world: StageWorld,
) -> None:
    trades = flow(60)
    for part in (trades[:40], trades[35:50], trades[45:]):
        worker = world.start(STAGE)
        await world.trade(part)
        await world.drained(STAGE)
        await worker.stop()
        world.make_anew("trades.raw")
    assert await stored(world) == told(trades)


async def test_partitions_that_go_take_their_rows_and_no_others(world: StageWorld) -> None:
    """The store was away when they went: their next owner reads them again, and the rest is still ours to store."""
    core = RegulatoryCore(world.regulatory, "regulatory", ReferenceData(), RegulatoryMetrics())  # type: ignore[arg-type]
    going, staying = TopicPartition("trades.raw", 0), TopicPartition("trades.raw", 1)
    await core.load(frozenset({going, staying}), {})
    for source, number in ((going, 1), (staying, 2)):
        record = Record(*source, 0, None, encode_trades([row(number)]), 1)
        assert core.apply(record, lambda letter: pytest.fail(letter.detail)) == 1
    core.revoke(frozenset({going}))
    assert await core.make_durable(Offsets({staying: 1}, {staying: 1}), final=False) == {staying: 1}
    assert await stored(world) == told([row(2)])
    assert len([one async for one in world.regulatory.exceptions()]) == 3


async def test_rows_are_set_apart_also_when_other_partitions_have_gone(world: StageWorld) -> None:
    refused = {"X2"}
    picky: Any = Picky(world.regulatory.port, refused)
    core = RegulatoryCore(picky, "regulatory", ReferenceData(), RegulatoryMetrics())
    going, staying = TopicPartition("trades.raw", 0), TopicPartition("trades.raw", 1)
    await core.load(frozenset({going, staying}), {})
    for source, numbers in ((going, [1]), (staying, [2, 3])):
        record = Record(*source, 0, None, encode_trades([row(number) for number in numbers]), 1)
        core.apply(record, lambda letter: pytest.fail(letter.detail))
    core.revoke(frozenset({going}))
    with pytest.raises(Refused, match="1 rows are refused") as said:
        await core.make_durable(Offsets({staying: 1}, {staying: 1}), final=False)
    assert [letter.raw for letter in said.value.letters] == [row(2).frame]
    assert await core.make_durable(Offsets({staying: 1}, {staying: 1}), final=False) == {staying: 1}
    assert await stored(world) == told([row(3)])


async def test_what_its_topic_deleted_before_it_was_read_is_an_exception_of_no_trade(world: StageWorld) -> None:
    """Once, however often it is told; also where no record comes that would bring it."""
    core = RegulatoryCore(world.regulatory.port, "regulatory", ReferenceData(), RegulatoryMetrics())
    source = TopicPartition("trades.raw", 1)
    await core.load(frozenset({source}), {})
    assert not core.due(0)
    core.lost(source, 3, 5)
    assert core.due(0)
    assert await core.make_durable(Offsets({source: 5}, {}), final=False) == {}
    assert not core.due(0)
    core.lost(source, 3, 5)
    core.lost(source, 7, 9)
    core.apply(Record(*source, 9, None, encode_trades([row(1)]), 1), lambda letter: pytest.fail(letter.detail))
    assert await core.make_durable(Offsets({source: 10}, {source: 10}), final=False) == {source: 10}
    noted = [one async for one in world.regulatory.exceptions() if one.field == "records"]
    assert [one[:5] for one in noted] == [
        ("", 0, "trades.raw[1]@3-4", "records", "2"),
        ("", 0, "trades.raw[1]@7-8", "records", "2"),
    ]
    assert noted[0].detail.startswith("2 records were deleted from the log (retention.ms, retention.bytes) before they")


async def test_what_was_deleted_is_noted_also_where_a_row_cannot_be_stored(world: StageWorld) -> None:
    picky: Any = Picky(world.regulatory.port, {"X1"})
    core = RegulatoryCore(picky, "regulatory", ReferenceData(), RegulatoryMetrics())
    source = TopicPartition("trades.raw", 1)
    await core.load(frozenset({source}), {})
    core.lost(source, 3, 5)
    core.apply(Record(*source, 5, None, encode_trades([row(1), row(2)]), 1), lambda letter: pytest.fail(letter.detail))
    with pytest.raises(Refused):
        await core.make_durable(Offsets({source: 6}, {source: 6}), final=False)
    assert await core.make_durable(Offsets({source: 6}, {source: 6}), final=False) == {source: 6}
    assert await stored(world) == told([row(2)])
    assert [one.exec_id async for one in world.regulatory.exceptions() if one.field == "records"] == [
        "trades.raw[1]@3-4"
    ]


async def test_a_worker_starts_when_the_store_comes_and_not_before(world: StageWorld) -> None:
    world.regulatory.down = True
    worker = world.start(STAGE)
    await world.trade(flow(30))
    await soon(lambda: "regulatory store is down" in worker.health.why_not, "not ready")
    world.regulatory.down = False
    await world.drained(STAGE)
    await worker.stop()
    assert await stored(world) == told(flow(30))


async def test_three_workers_that_come_and_go_while_trades_flow_lose_and_repeat_nothing(world: StageWorld) -> None:
    trades = flow(1_200)
    for part, step in enumerate(["start", "start", "start", "stop", "start", "kill", "start", "stop"]):
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
    for worker in [worker for worker in world.workers if not worker.task.done()]:
        await worker.stop()
    assert await stored(world) == told(trades)


async def test_rebalances_in_good_order_do_not_even_try_to_store_a_row_twice(world: StageWorld) -> None:
    trades = flow(600)
    for part, step in enumerate(["start", "start", "start", "stop", "stop", "start"]):
        await world.trade(trades[part * 100 : part * 100 + 100], batch=3)
        if step == "start":
            world.start(STAGE)
        else:
            await next(worker for worker in world.workers if not worker.task.done()).stop()
        await asyncio.sleep(0.03)
    await world.drained(STAGE)
    for worker in [worker for worker in world.workers if not worker.task.done()]:
        await worker.stop()
    assert await stored(world) == told(trades)
    assert sum(answer.duplicates for answer in world.regulatory.answers["store"]) == 0


async def test_a_worker_that_was_killed_is_succeeded_from_what_the_store_says_and_not_from_the_group(
    world: StageWorld,
) -> None:
    """Killed between the transaction and the commit: the group would read the batch again."""
    stalled = asyncio.Event()
    first = world.start(STAGE)
    await soon(lambda: first.health.why_not == "", "assigned")

    say = first.loop._consumer.commit

    async def never(
        offsets: dict[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        if attempts:
            await say(offsets, attempts)
            return
        stalled.set()
        await asyncio.Event().wait()

    first.loop._consumer.commit = never  # type: ignore[method-assign]
    await world.trade(flow(50))
    await stalled.wait()
    first.kill()
    assert not await committed(world)
    before = len(world.regulatory.answers["store"])
    second = world.start(STAGE)
    await world.trade(flow(50, start=51))
    async with limited(20):
        while len(await world.rows()) < 100:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.02)
    await second.stop()
    assert await stored(world) == told([*flow(50), *flow(50, start=51)])
    assert sum(answer.duplicates for answer in world.regulatory.answers["store"][before:]) == 0


async def test_a_worker_whose_partitions_were_taken_over_in_the_store_stores_nothing_more(world: StageWorld) -> None:
    """A paused process that comes back: the store knows of its successor, the group may not yet."""
    worker = world.start(STAGE, flush_interval_s=0.3)
    await soon(lambda: worker.health.why_not == "", "assigned")
    await world.trade([row(1)])
    await soon(lambda: worker.loop.progress.records == 1, "it was read")
    partition = TopicPartition("trades.raw", partition_of("IBM", PARTITIONS))
    await world.regulatory.port.take_over("regulatory", [partition])
    await soon(lambda: worker.loop._lost_since is not None, "it has noticed")
    assert await world.rows() == []
    assert not await committed(world)
    worker.loop._lost_since = -1e9
    with pytest.raises(CommitRefused):
        await worker.task


async def test_what_does_not_decode_becomes_a_letter_and_what_follows_is_stored(world: StageWorld) -> None:
    partition = partition_of("IBM", PARTITIONS)
    worker = world.start(STAGE)
    await world.append("trades.raw", partition, b"\xff\xff garbage", b"")
    await world.trade([row(1)])
    await world.drained(STAGE)
    await worker.stop()
    letters = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert {(letter.source_partition, letter.source_offset) for letter in letters} == {(partition, 0), (partition, 1)}
    assert {letter.raw for letter in letters} == {b"\xff\xff garbage", b""}
    assert await stored(world) == told([row(1)])


async def test_reference_data_that_cannot_be_read_stops_the_stage_before_it_starts(
    world: StageWorld, tmp_path: Any
) -> None:
    with pytest.raises(ValueError, match="EOD_REFERENCE_FILE"):
        assemble(STAGE, world.settings(STAGE, reference_file=str(tmp_path / "nothing.yaml")), world.ports)


# --- rows that no store takes -----------------------------------------------------------------------------


class Picky:
    """A store that refuses some trades, as another does that has no room for a text."""

    def __init__(self, port: Any, refused: set[str]) -> None:
        self.refused = refused
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def store(self, group: str, rows: Any, exceptions: Any, offsets: Any) -> Any:
        if odd := [row.exec_id for row in rows if row.exec_id in self.refused]:
            raise ValueError(f"the store refuses the row: {odd[0]} is odd")
        return await self._port.store(group, rows, exceptions, offsets)


async def letters_of(world: StageWorld) -> list[Any]:
    return [decode_letter(record.value) for record in await world.records("trades.dlq")]


async def is_all_there(world: StageWorld, trades: list[Any], refused: set[str]) -> None:
    """The others are rows, these are letters, nothing is both, and the offsets are behind all of them."""
    assert await stored(world) == told([trade for trade in trades if trade.exec_id not in refused])
    letters = {letter.raw: letter for letter in await letters_of(world)}
    assert set(letters) == {trade.frame for trade in trades if trade.exec_id in refused}
    for letter in letters.values():
        assert (letter.reason, letter.stage) == (REASON_DOWNSTREAM, "regulatory")
        assert "is odd" in letter.detail
    noted = {one.exec_id async for one in world.regulatory.port.exceptions()}
    assert noted == {row.exec_id for row in await world.rows()}, "the reference data knows nobody"
    ends = {TopicPartition("trades.raw", n): end for n, end in (await world.log.end_offsets("trades.raw")).items()}
    held = await world.regulatory.port.take_over("regulatory", list(ends))
    assert {source: offset or 0 for source, (_, offset, _) in held.items()} == ends


@pytest.mark.parametrize("share", [0.004, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("batch", [1, 50])
async def test_a_row_that_cannot_be_stored_is_a_letter_and_costs_no_other(
    world: StageWorld, share: float, batch: int
) -> None:
    trades = flow(250)
    refused = {trade.exec_id for trade in Random(f"{share}-{batch}").sample(trades, round(share * len(trades)))}
    world.regulatory.port = Picky(world.regulatory.port, refused)
    worker = world.start(STAGE, flush_rows=100)
    await world.trade(trades, batch=batch)
    await world.drained(STAGE)
    await worker.stop()
    await is_all_there(world, trades, refused)
    rows = sampled(worker.metrics.processed, "eod_trades_processed_total", stage="regulatory")
    letters = sampled(worker.metrics.dead_letters, "eod_dead_letters_total", stage="regulatory", reason="Downstream")
    assert (rows, letters) == (len(trades) - len(refused), len(refused))


async def test_a_letter_is_of_the_trade_that_was_refused_also_where_two_have_one_name(world: StageWorld) -> None:
    """A counterparty that gives an ExecID twice, and both times for what cannot be stored."""
    first, second = row(1), row(2, exec_id="X1", last_qty_e8=7 * 10**8)
    assert first.identity == second.identity
    world.regulatory.port = Picky(world.regulatory.port, {"X1"})
    worker = world.start(STAGE)
    await world.trade([first, second, row(3)], batch=3)
    await world.drained(STAGE)
    await worker.stop()
    assert {letter.raw for letter in await letters_of(world)} == {first.frame, second.frame}
    assert await stored(world) == told([row(3)])


async def test_the_offsets_wait_for_the_letters(world: StageWorld) -> None:
    """Else a worker that dies between them would leave neither row nor letter."""
    trades = flow(60)
    refused = {trades[7].exec_id, trades[41].exec_id}
    seen: list[tuple[int, int]] = []

    class Watched(Picky):
        async def store(self, group: str, rows: Any, exceptions: Any, offsets: Any) -> Any:
            seen.append((sum(offset for _, offset in offsets.values()), len(await letters_of(world))))
            return await super().store(group, rows, exceptions, offsets)

    world.regulatory.port = Watched(world.regulatory.port, refused)
    await world.trade(trades, batch=5)
    worker = world.start(STAGE, flush_interval_s=30.0, flush_rows=len(trades))
    await world.drained(STAGE)
    await worker.stop()
    total = sum((await world.log.end_offsets("trades.raw")).values())
    tries = [letters for offsets, letters in seen if offsets == total]
    assert tries == [0, 2], "with the rows that were refused, and when both letters were on the log"
    assert len(seen) > 10
    await is_all_there(world, trades, refused)


@pytest.mark.parametrize("at", range(1, 16, 2))
async def test_a_store_that_goes_away_while_rows_are_set_apart_loses_nothing(world: StageWorld, at: int) -> None:
    trades = flow(60)
    refused = {trades[3].exec_id, trades[44].exec_id}
    world.regulatory.port = Picky(world.regulatory.port, refused)
    calls = 0

    def lose(name: str) -> None:
        nonlocal calls
        calls += name == "store"
        if calls in {at, at + 1}:
            raise Unavailable("no answer")

    world.regulatory.after = lose
    worker = world.start(STAGE)
    await world.trade(trades, batch=5)
    await world.drained(STAGE)
    await worker.stop()
    await is_all_there(world, trades, refused)


async def test_workers_that_die_while_rows_are_set_apart_are_succeeded(world: StageWorld) -> None:
    trades = flow(120)
    refused = {trades[3].exec_id, trades[44].exec_id, trades[90].exec_id}
    world.regulatory.port = Picky(world.regulatory.port, refused)
    await world.trade(trades, batch=5)
    for calls in (1, 4, 7):
        left, reached = [calls], asyncio.Event()

        def count(name: str, left: list[int] = left, reached: asyncio.Event = reached) -> None:
            left[0] -= name == "store"
            if left[0] <= 0 and name == "store":
                reached.set()
                raise Unavailable("never")

        world.regulatory.after = count
        worker = world.start(STAGE)
        async with limited(20):
            await reached.wait()
        worker.kill()
    world.regulatory.after = lambda _name: None
    last = world.start(STAGE)
    await world.drained(STAGE)
    await last.stop()
    await is_all_there(world, trades, refused)


async def test_a_refusal_that_is_not_about_the_rows_ends_the_stage_and_makes_no_letters(world: StageWorld) -> None:
    class Never(Picky):
        async def store(self, *_: Any) -> Any:
            raise ValueError("consumer group 'x': 190 characters fit")

    world.regulatory.port = Never(world.regulatory.port, set())
    worker = world.start(STAGE)
    await world.trade(flow(20))
    with pytest.raises(ValueError, match="190 characters fit"):
        await worker.task
    assert await letters_of(world) == []
