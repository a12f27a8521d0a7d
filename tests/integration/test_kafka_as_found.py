"""What happens to a Kafka in the field: each test does it to a real broker, below stages that run as people start them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from eod_workers.trades.partitioner import partition_of
from support import known_close
from support.patience import eventually_nothing
from support.pipeline import PARTITIONS, Pipeline, fresh_database
from support.raw_fix import RawFix
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

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
