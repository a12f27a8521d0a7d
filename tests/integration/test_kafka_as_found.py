"""What happens to a Kafka in the field: each test does it to a real broker, below stages that run as people start them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from functools import partial
from itertools import islice

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import TopicSpec
from eod_workers.protos.trades_pb2 import TradeBatch
from eod_workers.trades.partitioner import partition_of
from support import known_close
from support.kafka_settings import set_on_topic
from support.patience import eventually_nothing
from support.pipeline import PARTITIONS, Pipeline, Stage, fresh_database
from support.raw_fix import RawFix
from testbed.kafka import Kafka
from testbed.kafka_peer import NODE_ID, KafkaPeer
from testbed.redis import Redis
from testbed.s3 import S3

pytestmark = pytest.mark.timeout(240)
REFERENCE = known_close.reference("A")
SYMBOLS = [f"S{number:02}" for number in range(100)]


@pytest.fixture
def pipeline(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """One of this test's own, whose topics it may ruin."""
    with fresh_database(redis_server) as url:
        folder = tmp_path_factory.mktemp("as-found")
        with Pipeline(unique, kafka.bootstrap, url, s3_server, folder, REFERENCE).running() as one:
            yield one


@pytest.fixture
def parted(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pipeline, KafkaPeer]]:
    """A pipeline of this test's own on two brokers, of which it may stop the second."""
    del kafka  # asked for so that this machine's lack of a Kafka is told in one place
    folder = tmp_path_factory.mktemp("parted")
    with (
        Kafka(folder / "first") as first,
        KafkaPeer(folder / "peer", first) as peer,
        fresh_database(redis_server) as url,
        Pipeline(unique, first.bootstrap, url, s3_server, folder / "pipeline", REFERENCE).running() as one,
    ):
        yield one, peer
    for broker in (peer, first):
        broker.discard()


async def _leaders(bootstrap: str, topic: str) -> dict[int, int]:
    """Partition → the broker that leads it, -1 if none does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        return {one["partition"]: one["leader"] for one in described["partitions"]}
    finally:
        await admin.close()


async def _delete_all(bootstrap: str, source: TopicPartition) -> int:
    """Delete all records of a partition, as retention does; the offset that the next one will have."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as reader:
            end: int = (await reader.end_offsets([source]))[source]
            await admin.delete_records({source: RecordsToDelete(before_offset=end)})
    finally:
        await admin.close()
    return end


async def _make_anew(bootstrap: str, topics: list[str]) -> None:
    """Delete topics, and make others of their names."""
    log = KafkaLog(bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        before = await log.topic_ids(topics)
        await admin.delete_topics(topics)
        while [one for one in await admin.describe_topics(topics) if one["partitions"]]:  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0.05)
        await log.ensure_topics([TopicSpec(topic, PARTITIONS) for topic in topics])
        after = await log.topic_ids(topics)
        assert not set(before.values()) & set(after.values())
    finally:
        await admin.close()
        await log.close()


def booked(pipeline: Pipeline, session: str, trader: str) -> tuple[set[str], str]:
    """The ExecIDs that the regulatory store has, and the quantity that flash P&L says."""
    stored = {row[0] for row in pipeline.select("SELECT exec_id FROM trades WHERE session = ?", session)}
    return stored, pipeline.positions(trader).get("S00", {}).get("quantity", "")


def await_booked(pipeline: Pipeline, session: str, trader: str, exec_ids: set[str], quantity: str) -> None:
    """Wait until both have that."""
    wanted = (exec_ids, quantity)
    eventually_nothing(lambda: (found := booked(pipeline, session, trader)) != wanted and f"{found}", 30)


def test_records_that_retention_deletes_before_they_are_read_are_said_to_be_lost(
    pipeline: Pipeline, unique: str
) -> None:
    """Flash P&L and the regulatory stage go on at the first record there is, and say which are missing."""
    trader = f"A-{unique}"
    source = TopicPartition(pipeline.topics["trades"], partition_of("S00", PARTITIONS))
    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon().trade("before", t448=trader)
        await_booked(pipeline, fix.session, trader, {"before"}, "100")
        stages = [pipeline.stages[kind] for kind in ("flash-pnl", "regulatory")]
        assert [stage.terminate() for stage in stages] == [0, 0]
        fix.trade("gone", t448=trader)
        fix.synchronize()
        place = f"on {source.topic}[{source.partition}]"
        eventually_nothing(
            lambda: {f"{kind} {place}" for kind in ("flash-pnl", "regulatory")} - set(pipeline.lag()), 20
        )
        end = asyncio.run(_delete_all(pipeline.bootstrap, source))
        for stage in stages:
            stage.restart()
        fix.trade("after", t448=trader)
        await_booked(pipeline, fix.session, trader, {"before", "after"}, "200")
    told = f"offsets {end - 1} to {end - 1} of {source.topic}[{source.partition}] had been deleted before"

    def unmet() -> object:
        found = {x["stage"]: x["detail"] for x in pipeline.letters()}
        return {
            stage: found
            for stage in ("flash-pnl", "regulatory")
            if not found.get(stage, "").startswith(f"{told} {stage}")
        }

    eventually_nothing(unmet, 20)
    assert pipeline.select("SELECT session, exec_id, value FROM exceptions WHERE field = 'records'") == [
        ("", f"{source.topic}[{source.partition}]@{end - 1}-{end - 1}", "1")
    ]
    for stage in stages:
        assert f'eod_records_lost_total{{stage="{stage.kind}",topic="{source.topic}"}} 1.0' in stage.metrics()
    letter = pipeline.letters()[0]
    assert "there is nothing to be redriven" in pipeline.eod("dlq", "redrive", letter["id"], code=2)


def test_topics_that_are_made_anew_are_read_from_their_beginning_and_that_is_said(
    pipeline: Pipeline, unique: str
) -> None:
    """Below stages that run, and then below stages that do not: no trade counts twice, and none is passed over."""
    trader = f"A-{unique}"
    topics = [pipeline.topics[name] for name in ("trades", "sessions", "letters")]
    source = TopicPartition(topics[0], partition_of("S00", PARTITIONS))
    consuming = [stage for kind, stage in pipeline.stages.items() if pipeline.consumes(kind)]
    books = [pipeline.stages[kind] for kind in ("flash-pnl", "regulatory")]
    done: set[str] = set()

    def trade(fix: RawFix, *exec_ids: str) -> None:
        for exec_id in exec_ids:
            fix.trade(exec_id, t448=trader)
        done.update(exec_ids)
        await_booked(pipeline, fix.session, trader, done, str(100 * len(done)))

    def archived(topics: int) -> None:
        """Wait until the trades are in the archive, those of so many topics of the name."""

        def unmet() -> object:
            segments = [one for one in pipeline.archive.read().values() if one.topic == source.topic]
            trades = sum(len(TradeBatch.FromString(entry.value).exec_id) for one in segments for entry in one.entries)
            found = (len({one.topic_id for one in segments}), trades)
            return found != (topics, len(done)) and f"{found} of {topics} topics and {len(done)} trades"

        eventually_nothing(unmet, 30)

    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon()
        trade(fix, "a1", "a2", "a3")
        archived(1)
        asyncio.run(_make_anew(pipeline.bootstrap, topics))
        eventually_nothing(lambda: missing(books, source.topic, 1), 60)
        trade(fix, "b1", "b2")
        archived(2)
        for stage in consuming:
            assert stage.terminate() == 0
        asyncio.run(_make_anew(pipeline.bootstrap, topics))
        for stage in consuming:
            stage.restart()
        trade(fix, "c1", "c2", "c3", "c4")
        archived(3)
    assert missing([pipeline.stages["regulatory"]], source.topic, 1) == []
    for key, segment in pipeline.archive.read().items():
        assert segment.topic_id in key.split("/")
    assert pipeline.archive.gaps() == []
    told = {x["stage"] for x in pipeline.letters() if "was deleted and made anew" in x["detail"]}
    assert told == {"flash-pnl", "regulatory"}


def missing(stages: list[Stage], topic: str, partitions: int) -> list[str]:
    """Those of some stages that have not noticed so many partitions to be anew."""
    wanted = 'eod_partitions_anew_total{{stage="{kind}",topic="{topic}"}} {partitions}.0'
    return [s.kind for s in stages if wanted.format(kind=s.kind, topic=topic, partitions=partitions) not in s.metrics()]


async def _add_partitions(bootstrap: str, topics: list[str], count: int) -> None:
    """Give topics more partitions, and wait until their broker says so."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(count) for topic in topics})
        while any(len(one["partitions"]) < count for one in await admin.describe_topics(topics)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


def test_partitions_that_are_added_move_no_symbol_and_stay_empty(pipeline: Pipeline, unique: str) -> None:
    """Also to workers that begin after they were added: a sale finds its position, and a bust its trade."""
    trader, more = f"A-{unique}", 2 * PARTITIONS
    symbol = next(f"S{n:02}" for n in range(99) if partition_of(f"S{n:02}", more) >= PARTITIONS)
    topics = [pipeline.topics[name] for name in ("trades", "prices", "sessions", "letters")]

    def await_quantity(quantity: str) -> None:
        def unmet() -> object:
            found = pipeline.positions(trader).get(symbol, {}).get("quantity", "")
            return found != quantity and f"{found!r}"

        eventually_nothing(unmet, 60)

    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon().trade("bought", t448=trader, t55=symbol)
        await_quantity("100")
        asyncio.run(_add_partitions(pipeline.bootstrap, topics, more))
        for kind in ("ingestion", "flash-pnl", "regulatory"):
            stage = pipeline.stages[kind]
            stage.terminate()
            stage.restart()
        fix.connect().logon().trade("sold", t448=trader, t55=symbol, t54="2", t32="40")
        await_quantity("60")
        fix.trade("gone", t448=trader, t55=symbol, t150="H", t19="sold")
        await_quantity("100")
        pipeline.eod("price", symbol, "17.5")
        eventually_nothing(lambda: pipeline.positions(trader)[symbol]["mark"] != "17.5", 30)
    assert not pipeline.letters()
    for kind in ("ingestion", "flash-pnl"):
        (told,) = (line for line in pipeline.stages[kind].log.read_text().splitlines() if "partitions.unused" in line)
        assert (json.loads(told)["partitions"], json.loads(told)["used"]) == (more, PARTITIONS)


def test_trades_without_the_partitions_of_their_prices_are_nobodys_until_both_have_as_many(
    pipeline: Pipeline, unique: str
) -> None:
    """A book would be two workers' otherwise. It is said, with the command that mends it."""
    trader, more = f"A-{unique}", 2 * PARTITIONS
    stage = pipeline.stages["flash-pnl"]
    trades, prices = pipeline.topics["trades"], pipeline.topics["prices"]
    asyncio.run(_add_partitions(pipeline.bootstrap, [trades], more))
    assert stage.exit_code(60) == 2
    assert f"kafka-topics --alter --topic {prices} --partitions {more}" in stage.log.read_text()
    stage.start()
    told = f"joining the group: partitions of trades and prices go together, and {trades} {more} and {prices} 12"
    eventually_nothing(lambda: told not in (why := stage.why_not_ready()) and why, 30)
    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon().trade("bought", t448=trader)
        asyncio.run(_add_partitions(pipeline.bootstrap, [prices], more))
        await_booked(pipeline, fix.session, trader, {"bought"}, "100")


def test_a_topic_that_takes_little_gets_small_batches_and_a_frame_without_room_is_a_letter(
    pipeline: Pipeline, unique: str
) -> None:
    """With the remedy, after which it is booked. Nobody is disconnected meanwhile, and nobody waits."""
    trader, topic = f"A-{unique}", pipeline.topics["trades"]
    asyncio.run(set_on_topic(pipeline.bootstrap, topic, max_message_bytes="20000"))
    ingestion = pipeline.stages["ingestion"]
    assert ingestion.terminate() == 0
    ingestion.restart()
    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon()
        small = {f"small {number}" for number in range(40)}
        for exec_id in sorted(small):
            fix.trade(exec_id, t448=trader, t58=secrets.token_hex(1_500))
        fix.trade("large", t448=trader, t58=secrets.token_hex(12_000))
        fix.trade("last", t448=trader)
        await_booked(pipeline, fix.session, trader, {*small, "last"}, "4100")
        eventually_nothing(lambda: len(pipeline.letters()) != 1 and pipeline.letters(), 20)
        (letter,) = pipeline.letters()
        assert f"more than topic {topic} takes" in letter["detail"]
        assert "raise its max.message.bytes" in pipeline.eod("dlq", "redrive", letter["id"], code=2)
        asyncio.run(set_on_topic(pipeline.bootstrap, topic, max_message_bytes="1048588"))
        pipeline.eod("dlq", "redrive", letter["id"])
        await_booked(pipeline, fix.session, trader, {*small, "large", "last"}, "4200")


def test_a_broker_that_is_away_holds_up_what_it_alone_has_and_nothing_else(
    parted: tuple[Pipeline, KafkaPeer], unique: str
) -> None:
    """Sessions that trade what it leads wait, and are told by TCP; others are read, booked, and log on meanwhile."""
    pipeline, peer = parted
    trades = pipeline.topics["trades"]
    leaders = asyncio.run(_leaders(pipeline.bootstrap, trades))
    led, away = (next(s for s in SYMBOLS if leaders[partition_of(s, PARTITIONS)] == broker) for broker in (1, NODE_ID))
    of_sessions = asyncio.run(_leaders(pipeline.bootstrap, pipeline.topics["sessions"]))
    names = (f"{unique}-{number}" for number in range(999))
    goes_on, waits = led_sessions(names, of_sessions, 2)
    trader = f"A-{unique}"
    booked: dict[str, set[str]] = {goes_on: set(), waits: set()}

    def trade(fix: RawFix, symbol: str, *exec_ids: str) -> None:
        for exec_id in exec_ids:
            fix.trade(exec_id, t448=trader, t55=symbol)

    def unmet(*, of: str, quantities: dict[str, str]) -> object:
        rows = {row[0] for row in pipeline.select("SELECT exec_id FROM trades WHERE session = ?", f"{of}->EOD")}
        held = pipeline.positions(trader)
        found = {symbol: held.get(symbol, {}).get("quantity", "") for symbol in quantities}
        return (rows, found) != (booked[of], quantities) and (rows, found)

    with RawFix(pipeline.fix_port, goes_on) as other, RawFix(pipeline.fix_port, waits) as fix:
        trade(fix.logon(), away, "before")
        trade(other.logon(), led, "before")
        booked = {goes_on: {"before"}, waits: {"before"}}
        for name in booked:
            eventually_nothing(partial(unmet, of=name, quantities={led: "100", away: "100"}), 30)
        peer.stop()
        for number in range(3):
            trade(fix, away, f"waits {number}")
        ingestion, pnl = pipeline.stages["ingestion"], pipeline.stages["flash-pnl"]
        eventually_nothing(lambda: "eod_fix_sessions_waiting 1.0" not in ingestion.metrics() and "nobody waits", 60)
        trade(fix, led, "behind them")
        for number in range(5):
            trade(other, led, f"goes on {number}")
            booked[goes_on].add(f"goes on {number}")
            eventually_nothing(partial(unmet, of=goes_on, quantities={led: f"{200 + 100 * number}"}), 30)
        other.synchronize()
        other.connect().logon().synchronize()
        assert not unmet(of=waits, quantities={away: "100"})
        assert [stage.why_not_ready() for stage in (ingestion, pnl)] == ["", ""]
        count = sum(leader == NODE_ID for leader in leaders.values())
        assert f'eod_partitions_leaderless{{stage="flash-pnl",topic="{trades}"}} {count}.0' in pnl.metrics()
        place = f"{trades}[{partition_of(away, PARTITIONS)}]"
        told = [json.loads(line) for line in ingestion.log.read_text().splitlines() if "sessions_wait" in line]
        assert told[0]["sessions"] == [f"{waits}->EOD"]
        assert f"nobody leads {place}" in told[0]["why"]
        assert any("partitions_leaderless" in line and place in line for line in pnl.log.read_text().splitlines())
        peer.start()
        booked[waits] |= {"waits 0", "waits 1", "waits 2", "behind them"}
        for name in booked:
            eventually_nothing(partial(unmet, of=name, quantities={led: "700", away: "400"}), 60)
    assert not pipeline.letters()
    groups = [f"--group={kind}={pipeline.group(kind)}" for kind in ("archive", "regulatory", "flash-pnl")]
    assert "equal: every store holds what the log says" in pipeline.eod("reconcile", "--wait=60", *groups)


def led_sessions(names: Iterator[str], leaders: dict[int, int], count: int) -> list[str]:
    """The first names of sessions whose other frames the first broker takes."""
    led = (name for name in names if leaders[partition_of(f"{name}->EOD", PARTITIONS)] == 1)
    return list(islice(led, count))


async def _commit(bootstrap: str, group: str, topics: list[str], *, to_end: bool) -> None:
    """Set a group's offsets to the end or to the beginning, as people do with a tool while nobody is in the group."""
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False) as tool:
        tool.assign(partitions)
        ends = await tool.end_offsets(partitions)
        await tool.commit({source: ends[source] if to_end else 0 for source in partitions})


def test_offsets_that_are_set_by_hand_lose_and_double_no_trade(pipeline: Pipeline, unique: str) -> None:
    """P&L and rows have their own. The archive goes by the group's, says what it skips, and has it when it is set back."""
    trader, topic = f"A-{unique}", pipeline.topics["trades"]
    consuming = [stage for kind, stage in pipeline.stages.items() if pipeline.consumes(kind)]
    done: set[str] = set()

    def archived() -> set[str]:
        segments = [one for one in pipeline.archive.read().values() if one.topic == topic]
        found = [x for one in segments for entry in one.entries for x in TradeBatch.FromString(entry.value).exec_id]
        assert len(set(found)) == len(found), "nothing is archived twice"
        return set(found)

    def set_offsets(*, to_end: bool) -> None:
        for stage in consuming:
            topics = [pipeline.topics[name] for name in pipeline.topics_of(stage.kind)]
            asyncio.run(_commit(pipeline.bootstrap, pipeline.group(stage.kind), topics, to_end=to_end))

    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon()
        for exec_id, to_end in (("first", None), ("skipped", True), ("last", False)):
            if to_end is not None:
                assert [stage.terminate() for stage in consuming] == [0] * len(consuming)
            fix.trade(exec_id, t448=trader)
            fix.synchronize()
            done.add(exec_id)
            if to_end is not None:
                eventually_nothing(lambda: not pipeline.lag() and "the trade is not on the log", 20)
                set_offsets(to_end=to_end)
                for stage in consuming:
                    stage.restart()
            await_booked(pipeline, fix.session, trader, done, str(100 * len(done)))
            there = done - {"skipped"} if to_end else done
            eventually_nothing(lambda there=there: archived() != there and archived(), 30)  # type: ignore[misc]
            if to_end:
                told = f'eod_records_skipped_total{{stage="archive",topic="{topic}"}} 1.0'
                assert told in pipeline.stages["archive"].metrics()
    assert pipeline.archive.gaps() == []
