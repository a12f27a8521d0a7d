"""The archive stage: every record once, whatever the cuts; what is there is never replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_workers.archive.segments import BrokenArchive, decode_segment, encode_segment, segment_key
from eod_workers.archive.stage import STAGE, ArchiveCore
from eod_workers.archive.verify import verify
from eod_workers.ports import Record, TopicPartition, Unavailable, place
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.core import Offsets
from eod_workers.runtime.metrics import StoredMetrics
from eod_workers.runtime.variables import TopicNames
from eod_workers.trades.codec import encode_frames, encode_trades
from eod_workers.trades.partitioner import partition_of
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.amounts import examples
from support.flow import flow
from support.manual_clock import ManualClock
from support.patience import soon
from support.stage_world import PARTITIONS, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)
HOME = partition_of("IBM", PARTITIONS)


async def archived(world: StageWorld) -> list[Record]:
    """All records in the archive, segment by segment. Segments that overlap or leave a gap fail the test."""
    found: list[Record] = []
    behind: dict[TopicPartition, int] = {}
    async for item in world.archive.objects():
        records = decode_segment(await world.archive.port.get(item.key))
        topic = records[0].topic
        assert item.key == segment_key(topic, records[0].partition, records[0].offset, f"{topic}-0")
        for record in records:
            assert record.offset == behind.get(record.source, 0), f"{item.key} overlaps or leaves a gap"
            behind[record.source] = record.offset + 1
        found += records
    return found


async def logged(world: StageWorld) -> list[Record]:
    """All records of the topics that hold received bytes, without headers."""
    records = [record for topic in STAGE.kind.consumes for record in await world.records(topic)]
    return [record._replace(headers=()) for record in records]


async def same(world: StageWorld) -> None:
    """The archive is the log, byte for byte; and the tool that verifies it says so."""
    assert sorted(await archived(world)) == sorted(await logged(world))
    report = await verify(world.archive.port, TopicNames())
    assert report.problems == []
    assert report.records == len(await logged(world))


async def feed(world: StageWorld, trades: list[Any], batch: int = 3) -> None:
    """Trades, and something on the other two topics."""
    await world.trade(trades, batch=batch)
    await world.append("sessions.raw", 2, encode_frames("A->EOD", [b"heartbeat"], [1]))
    await world.append("trades.dlq", 4, b"whatever this is")


async def test_the_archive_is_the_log_byte_for_byte(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await feed(world, flow(500))
    await world.drained(STAGE)
    await worker.stop()
    await same(world)


async def test_received_bytes_add_up_to_the_frames_received(world: StageWorld) -> None:
    worker = world.start(STAGE)
    trades = flow(50)
    await world.trade([*trades, trades[3]._replace(redrive_of="letter")])
    await world.append("sessions.raw", 2, encode_frames("A->EOD", [b"heartbeat"], [1]))
    await world.drained(STAGE)
    await worker.stop()
    report = await verify(world.archive.port, TopicNames())
    assert report.received_bytes == sum(len(trade.frame) for trade in trades) + len(b"heartbeat")


async def test_records_of_a_log_that_has_fallen_silent_are_archived_when_their_time_has_come(tmp_path: Any) -> None:
    clock = ManualClock()
    world = await StageWorld(tmp_path, clock=clock).open()
    try:
        worker = world.start(STAGE, flush_interval_s=5.0)
        await world.trade([row(1)])
        await soon(lambda: worker.loop.progress.records == 1, "it was read")
        await clock.advance(4.9)
        await asyncio.sleep(0.25)
        assert await archived(world) == []
        await clock.advance(0.2)
        await world.drained(STAGE)
        await same(world)
    finally:
        await world.close()


async def test_enough_bytes_are_archived_before_their_time(tmp_path: Any) -> None:
    world = await StageWorld(tmp_path, clock=ManualClock()).open()
    try:
        world.start(STAGE, flush_interval_s=5.0, segment_bytes=1_000)
        await world.append("trades.raw", HOME, b"x" * 600, b"y" * 600)
        await world.drained(STAGE)
        await same(world)
    finally:
        await world.close()


async def test_a_record_without_a_single_byte_is_archived_like_any_other(world: StageWorld) -> None:
    """Or the stage would never be level with the log again."""
    worker = world.start(STAGE)
    await world.append("trades.raw", HOME, b"")
    await world.drained(STAGE)
    await worker.stop()
    await same(world)


async def test_while_the_archive_is_away_consumption_pauses_and_nothing_is_dropped(world: StageWorld) -> None:
    worker = world.start(STAGE)
    await soon(lambda: worker.health.why_not == "", "assigned")
    world.archive.down = True
    await feed(world, flow(100))
    await soon(lambda: world.archive.refused >= 2, "it has been tried")
    assert "archive is down" in worker.health.why_not
    await feed(world, flow(100, start=101))
    assert [await world.log.committed("archive", topic) for topic in STAGE.kind.consumes] == [{}, {}, {}]
    world.archive.down = False
    await world.drained(STAGE)
    await worker.stop()
    await same(world)


async def test_an_object_whose_answer_was_lost_is_found_again(world: StageWorld) -> None:
    lost = []

    def lose(name: str) -> None:
        if name == "put_once" and len(lost) < 3:
            lost.append(name)
            raise Unavailable("no answer")

    world.archive.after = lose
    worker = world.start(STAGE)
    await feed(world, flow(60))
    await world.drained(STAGE)
    await worker.stop()
    assert len(lost) == 3
    await same(world)


async def test_an_archive_that_is_not_there_is_told_before_the_first_record(world: StageWorld) -> None:
    """At the close it would be too late. Whoever makes it may be on the way."""
    there = False

    async def check() -> None:
        if not there:
            raise PermissionError("there is no bucket")

    world.archive.port.check = check
    worker = world.start(STAGE)
    await soon(lambda: worker.health.why_not == "loading partitions: there is no bucket", "it is told")
    there = True
    await soon(lambda: not worker.health.why_not, "it is found")
    await worker.stop()


async def test_three_workers_that_come_and_go_while_records_flow_lose_and_repeat_nothing(world: StageWorld) -> None:
    trades = flow(800)
    for part, step in enumerate(["start", "start", "start", "stop", "start", "kill", "start", "stop"]):
        await feed(world, trades[part * 100 : part * 100 + 100])
        running = [worker for worker in world.workers if not worker.task.done()]
        if step == "start":
            world.start(STAGE, flush_interval_s=0.01)
        elif step == "stop":
            await running[0].stop()
        else:
            running[0].kill()
        await asyncio.sleep(0.03)
    await world.drained(STAGE)
    for worker in [worker for worker in world.workers if not worker.task.done()]:
        await worker.stop()
    await same(world)


# --- crashes and other cuts ---------------------------------------------------------------------------------


def _no_letters(letter: DeadLetter) -> None:
    raise AssertionError(letter)


@settings(max_examples=examples(60))
@given(
    count=st.integers(1, 20),
    lives=st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=5),
)
def test_workers_that_crash_and_cut_differently_never_overlap_nor_leave_a_gap(
    tmp_path_factory: pytest.TempPathFactory, count: int, lives: list[list[int]]
) -> None:
    """Each life begins at the start of the log, as if nothing had been committed, and flushes where chance wants."""

    async def live() -> None:
        world = await StageWorld(tmp_path_factory.mktemp("archive")).open()
        source = TopicPartition("trades.raw", HOME)
        await world.append("trades.raw", HOME, *(b"record %d" % number for number in range(count)))
        records = await world.records("trades.raw")
        for cuts in [*lives, [count]]:
            core = ArchiveCore(world.archive, StoredMetrics())  # type: ignore[arg-type]
            await core.load(frozenset({source}), {"trades.raw": "trades.raw-0"})
            at = 0
            for size in cuts:
                some = records[at : at + size]
                for record in some:
                    assert core.apply(record, _no_letters) == 1
                at += len(some)
                read = {source: at} if some else {}
                committed = await core.make_durable(Offsets({source: at}, read), final=False)
                assert committed.get(source, at) >= at
                at = committed.get(source, at)  # the loop skips what is below
        await same(world)
        await world.close()

    asyncio.run(live())


async def test_an_object_that_contradicts_the_log_stops_the_stage_and_is_left_as_it_is(world: StageWorld) -> None:
    """Somebody has changed one of the two: that is for people to look at, and must not be passed over."""
    forged = encode_segment([Record("trades.raw", HOME, 0, None, b"forged", 1)])
    key = segment_key("trades.raw", HOME, 0, "trades.raw-0")
    await world.archive.port.put_once(key, forged)
    await world.trade([row(1)])
    worker = world.start(STAGE)
    with pytest.raises(BrokenArchive, match=rf"trades.raw\[{HOME}\] offset 0"):
        await asyncio.wait_for(worker.task, 20)
    assert await world.archive.port.get(key) == forged
    assert await world.log.committed("archive", "trades.raw") == {}


async def test_a_topic_that_was_made_anew_has_segments_of_its_own(world: StageWorld) -> None:
    """Its offsets begin at 0 again; what is there of the old one stays as it is."""
    for number in range(3):
        worker = world.start(STAGE)
        await world.trade([row(number * 10 + n) for n in range(3 - number)])
        await world.drained(STAGE)
        await worker.stop()
        world.make_anew("trades.raw")
    found = [item.key async for item in world.archive.objects()]
    assert {key.split("/")[1] for key in found} == {"trades.raw-0", "trades.raw-1", "trades.raw-2"}
    report = await verify(world.archive.port, TopicNames())
    assert (report.problems, report.records) == ([], 6)


async def test_segments_of_a_release_that_knew_no_ids_are_gone_on_from(world: StageWorld) -> None:
    """It had not committed them all; and those of an earlier topic are passed over."""
    for number in range(9):
        await world.append("trades.raw", HOME, b"record %d" % number)
    records = await world.records("trades.raw")
    for some in (records[:2], records[2:5]):
        await put(world, segment_key("trades.raw", HOME, some[0].offset), *some)
    await put(world, segment_key("trades.raw", HOME, 5), Record("trades.raw", HOME, 5, None, b"of another", 1))
    worker = world.start(STAGE)
    await world.drained(STAGE)
    await worker.stop()
    found = [item.key async for item in world.archive.objects()]
    with_id = [key for key in found if "/trades.raw-0/" in key]
    assert with_id == [segment_key("trades.raw", HOME, 5, "trades.raw-0")]
    assert decode_segment(await world.archive.port.get(with_id[0])) == records[5:]


@pytest.mark.parametrize("back_to", [0, 1, 3, 4, 6])
async def test_an_offset_that_somebody_has_set_skips_records_which_is_said_and_set_back_it_has_them(
    world: StageWorld, back_to: int
) -> None:
    """Also in the midst of a segment: none overlaps another, and what there is stays."""
    source = TopicPartition("trades.raw", HOME)

    async def archive(first: int, end: int) -> list[Any]:
        with capture_logs() as logs:
            worker = world.start(STAGE)
            await world.append("trades.raw", HOME, *(b"record %d" % number for number in range(first, end)))
            await world.drained(STAGE)
            await worker.stop()
        return [(one["first"], one["goes_on_at"]) for one in logs if one["event"] == "stage.records_skipped"]

    assert await archive(0, 4) == []
    await world.append("trades.raw", HOME, b"record 4", b"record 5")
    world.log.commit_by_hand("archive", "trades.raw", {HOME: 6})
    assert await archive(6, 8) == [(place(source, 4), place(source, 6))]
    world.log.commit_by_hand("archive", "trades.raw", {HOME: back_to})
    assert await archive(8, 9) == []
    if back_to <= 4:
        await same(world)
    else:
        (problem,) = await verified(world)
        assert "the segment before it ends at 4" in problem


# --- verification -------------------------------------------------------------------------------------------


async def verified(world: StageWorld) -> list[str]:
    """What is wrong with the archive."""
    return (await verify(world.archive.port, TopicNames())).problems


async def put(world: StageWorld, key: str, *records: Record) -> None:
    await world.archive.port.put_once(key, encode_segment(records))


async def test_a_changed_object_is_reported(world: StageWorld, tmp_path: Any) -> None:
    await put(world, segment_key("trades.raw", 0, 0), Record("trades.raw", 0, 0, None, b"a", 1))
    path = tmp_path / "archive" / segment_key("trades.raw", 0, 0)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    (problem,) = await verified(world)
    assert "does not match its recorded hash" in problem


async def test_a_missing_segment_is_reported_at_the_one_behind_it(world: StageWorld) -> None:
    await put(world, segment_key("trades.raw", 0, 0), Record("trades.raw", 0, 0, None, b"a", 1))
    await put(world, segment_key("trades.raw", 0, 5), Record("trades.raw", 0, 5, None, b"b", 1))
    (problem,) = await verified(world)
    assert problem == f"{segment_key('trades.raw', 0, 5)}: the segment before it ends at 1"


async def test_a_segment_under_the_key_of_another_is_reported(world: StageWorld) -> None:
    await put(world, segment_key("trades.raw", 0, 7), Record("trades.raw", 1, 7, None, b"a", 1))
    (problem,) = await verified(world)
    assert "holds trades.raw[1] from 7" in problem


async def test_something_that_is_no_segment_is_reported_and_the_rest_is_read(world: StageWorld) -> None:
    await world.archive.port.put_once("notes.txt", b"\xff\xff")
    await put(world, segment_key("trades.raw", 0, 0), Record("trades.raw", 0, 0, None, encode_trades([row(1)]), 1))
    report = await verify(world.archive.port, TopicNames())
    assert [problem.split(":")[0] for problem in report.problems] == ["notes.txt"]
    assert (report.segments, report.records, report.received_bytes) == (1, 1, len(row(1).frame))
    assert "notes.txt" in report.text()
