"""What happens to a Kafka in the field: each test does it to a real broker, below stages that run as people start them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import TopicSpec
from eod_workers.protos.trades_pb2 import TradeBatch
from eod_workers.trades.partitioner import partition_of
from support import known_close
from support.patience import eventually_nothing
from support.pipeline import PARTITIONS, Pipeline, Stage, fresh_database
from support.raw_fix import RawFix
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

pytestmark = pytest.mark.timeout(240)
REFERENCE = known_close.reference("A")


@pytest.fixture
def pipeline(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """One of this test's own, whose topics it may ruin."""
    with fresh_database(redis_server) as url:
        folder = tmp_path_factory.mktemp("as-found")
        with Pipeline(unique, kafka.bootstrap, url, s3_server, folder, REFERENCE).running() as one:
            yield one


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
