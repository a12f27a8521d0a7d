"""What only the cluster can know: a Kafka that is down, a topic that is missing, an exchange that does not exist."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from support.operator_world import OperatorWorld
from support.patience import eventually, steadily


@pytest.fixture
def dead_address() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_dead_kafka_is_told_and_replicas_are_held(operated: OperatorWorld, topic: str, dead_address: str) -> None:
    """The condition names the address and the remedy; the count stays, past staleness too; recovery is by itself."""
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.produce(topic, 60)
    scaling = {"scaleDownStabilizationSeconds": 0, "staleAfterSeconds": 1}
    operated.apply(operated.pipeline(operated.stage(topic), scaling=scaling))
    eventually(lambda: operated.replicas() == 6)

    dead = {"bootstrapServers": dead_address}
    operated.apply(operated.pipeline(operated.stage(topic), scaling=scaling, kafka=dead))
    eventually(lambda: operated.condition("KafkaReachable").get("status") == "False")
    told = operated.condition("KafkaReachable")
    assert told["reason"] == "KafkaUnreachable"
    assert f"Kafka at {dead_address} (spec.kafka.bootstrapServers)" in told["message"]
    assert "check the address" in told["message"]
    assert operated.condition("Ready")["message"] == told["message"]
    assert operated.condition("TopicsReady")["status"] == "Unknown"
    assert operated.status()["phase"] == "Degraded"
    eventually(lambda: "(stale)" in operated.status()["stages"][0]["reason"])
    steadily(lambda: operated.replicas() == 6)
    eventually(lambda: len(operated.events("KafkaUnreachable")) == 1)

    operated.apply(operated.pipeline(operated.stage(topic), scaling=scaling))
    eventually(lambda: operated.condition("KafkaReachable").get("status") == "True")
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    eventually(lambda: operated.replicas() == 1)


@pytest.mark.slow
def test_a_pipeline_without_kafka_starts_at_min_and_delays_nobody(
    operated: OperatorWorld, topic: str, dead_address: str, request: pytest.FixtureRequest
) -> None:
    """A silent address (it takes the connection and never answers) is the worst one; the neighbour still scales."""
    silent = socket.create_server(("127.0.0.1", 0))
    request.addfinalizer(silent.close)
    address = {"bootstrapServers": f"127.0.0.1:{silent.getsockname()[1]}"}
    operated.apply(operated.pipeline(operated.stage(topic), name="broken", kafka=address))
    operated.apply(operated.pipeline(operated.stage(topic), name="dead", kafka={"bootstrapServers": dead_address}))
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.condition("LagKnown").get("status") == "True", within_s=10)
    operated.produce(topic, 35)
    eventually(lambda: operated.replicas() == 4, within_s=10)
    eventually(lambda: operated.replicas("dead-pnl") == 1)
    eventually(lambda: operated.replicas("broken-pnl") == 1)
    eventually(lambda: operated.condition("KafkaReachable", "broken").get("status") == "False")


@pytest.mark.slow
def test_a_missing_topic_is_told_and_not_created(operated: OperatorWorld) -> None:
    """The operator looks at topics in a way that never creates one; making it by hand is noticed."""
    name = f"{operated.namespace}.trades"
    operated.apply(operated.pipeline(operated.stage(name)))
    eventually(lambda: operated.condition("TopicsReady").get("reason") == "TopicMissing")
    told = operated.condition("TopicsReady")["message"]
    assert f"topic {name} of stage pnl" in told
    assert operated.kafka.bootstrap in told
    assert "correct the stage's topics" in told
    assert operated.replicas() == 1
    assert name not in asyncio.run(_topics(operated.kafka.bootstrap))
    operated.topic("trades")
    eventually(lambda: operated.condition("TopicsReady").get("status") == "True")


def test_a_group_that_has_committed_nothing_is_sized_by_all_that_waits(operated: OperatorWorld, topic: str) -> None:
    """Without a replica nobody would ever commit: it would be none for ever."""
    operated.produce(topic, 35)
    operated.apply(operated.pipeline(operated.stage(topic, replicas={"min": 0, "max": 12})))
    eventually(lambda: operated.replicas() == 4)
    eventually(lambda: operated.condition("LagKnown")["status"] == "True")  # said once the scaling is done
    assert operated.status()["stages"][0]["lag"] == 35
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    eventually(lambda: operated.replicas() == 0)


def test_what_retention_deleted_before_it_was_read_is_told_with_its_offsets(
    operated: OperatorWorld, topic: str
) -> None:
    """And it stays told when the group has gone on behind it; the pipeline is not degraded by it."""
    operated.produce(topic, 24)
    operated.commit(topic, f"{operated.namespace}-pnl", at="first")
    operated.produce(topic, 24)
    asyncio.run(_delete(operated.kafka.bootstrap, topic, partition=3, before=3))
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.condition("RecordsKept").get("reason") == "RetentionOvertook")
    told = operated.condition("RecordsKept")["message"]
    assert f"stage pnl has lost 3 records: {topic}[3]@0-2 (seen " in told
    eventually(lambda: len(operated.events("RetentionOvertook")) == 1)
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    eventually(lambda: operated.status()["stages"][0].get("lag") == 0)
    assert operated.condition("RecordsKept")["message"] == told
    assert operated.condition("Degraded")["status"] == "False"


def test_a_stage_that_the_api_server_refuses_does_not_stop_the_others(operated: OperatorWorld, topic: str) -> None:
    """A request above its limit passes the CRD and fails at the Deployment."""
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    bad = operated.stage(topic, name="bad", resources=resources)
    operated.apply(operated.pipeline(bad, operated.stage(topic)))
    eventually(lambda: operated.condition("ObjectsApplied").get("reason") == "ApplyFailed")
    told = operated.condition("ObjectsApplied")["message"]
    assert "must be less than or equal to cpu limit" in told
    assert "Correct what that is made from: spec.stages[] (bad), spec.scheduling or spec.config" in told
    eventually(lambda: operated.replicas() == 1)


async def _delete(bootstrap: str, topic: str, *, partition: int, before: int) -> None:
    """Delete records, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()


async def _topics(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return list(await admin.list_topics())
    finally:
        await admin.close()
