"""What the doctor thinks of a cluster, of the stores and of their settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from eod_contract.streams import PRICES, SESSIONS, STREAMS, TRADES
from eod_workers.adapters.kafka_look import KafkaSeen, TopicSeen
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.adapters.redis_look import RedisSeen
from eod_workers.adapters.s3_bucket import BucketState
from eod_workers.doctor.findings import GRAVE, Finding, State
from eod_workers.doctor.kafka import Wanted, of_kafka
from eod_workers.doctor.stores import of_bucket, of_redis, of_schema, of_sqlserver
from eod_workers.process.settings import RegulatoryAccess
from eod_workers.runtime.variables import TopicNames

NAMES = TopicNames.fitting({})
WANTED = Wanted(tuple(STREAMS.values()), NAMES, "k:9092", snapshot_interval_ms=5_000, spread=12)
SETTINGS = {
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "cleanup.policy": "delete",
    "retention.bytes": "-1",
    "retention.ms": "-1",
    "max.message.bytes": str(MAX_RECORD_BYTES),
}
TOPIC = TopicSeen(TRADES.name, 12, 3, settings=SETTINGS)
CLUSTER = KafkaSeen(
    3,
    {"auto.create.topics.enable": "false", "num.partitions": "1"},
    tuple(replace(TOPIC, name=NAMES.topic(stream)) for stream in STREAMS.values()),
)


def states(findings: Iterable[Finding]) -> dict[str, State]:
    """What is not in order; each of it has a remedy."""
    found = list(findings)
    assert all(one.remedy for one in found if one.state in GRAVE)
    return {one.what: one.state for one in found if one.state is not State.OK}


def cluster_with(stream: str, **changes: Any) -> KafkaSeen:
    settings = changes.pop("settings", {})
    topics = tuple(
        replace(topic, **changes, settings=settings if settings is None else {**SETTINGS, **settings})
        if topic.name == stream
        else topic
        for topic in CLUSTER.topics
    )
    return replace(CLUSTER, topics=topics)


def test_a_cluster_that_is_as_it_should_be() -> None:
    found = list(of_kafka(CLUSTER, WANTED))
    assert states(found) == {}
    assert [one.said for one in found if one.what == "topic trades.raw"] == ["12 partitions of 3 replicas"]


@pytest.mark.parametrize(
    ("changes", "what", "state"),
    [
        ({"partitions": 0}, "topic sessions.raw", State.MISSING),
        ({"forbidden": True}, "topic sessions.raw", State.MISSING),
        ({"leaderless": (3,)}, "topic sessions.raw, leaders", State.AWAY),
        ({"behind": (3, 4)}, "topic sessions.raw, replicas", State.DANGER),
        ({"settings": None}, "topic sessions.raw, settings", State.NOTE),
        ({"replicas": 1}, "topic sessions.raw, replicas", State.DANGER),
        ({"settings": {"min.insync.replicas": "1"}}, "topic sessions.raw, min.insync.replicas", State.DANGER),
        ({"settings": {"min.insync.replicas": "3"}}, "topic sessions.raw, min.insync.replicas", State.DANGER),
        (
            {"settings": {"unclean.leader.election.enable": "true"}},
            "topic sessions.raw, unclean.leader.election.enable",
            State.DANGER,
        ),
        ({"settings": {"cleanup.policy": "compact,delete"}}, "topic sessions.raw, cleanup.policy", State.DANGER),
        ({"settings": {"retention.bytes": "1000"}}, "topic sessions.raw, retention.bytes", State.DANGER),
        ({"settings": {"retention.ms": "1000"}}, "topic sessions.raw, retention.ms", State.NOTE),
        ({"settings": {"max.message.bytes": "1000"}}, "topic sessions.raw, max.message.bytes", State.NOTE),
    ],
)
def test_each_thing_of_a_topic(changes: dict[str, Any], what: str, state: State) -> None:
    assert states(of_kafka(cluster_with(SESSIONS.name, **changes), WANTED)) == {what: state}


@pytest.mark.parametrize("kept_ms", [-1, TRADES.kept_ms, TRADES.kept_ms + 1])
def test_a_topic_that_keeps_records_as_long_as_planned(kept_ms: int) -> None:
    assert states(of_kafka(cluster_with(TRADES.name, settings={"retention.ms": str(kept_ms)}), WANTED)) == {}


@pytest.mark.parametrize(("kept_ms", "state"), [(4_999, State.DANGER), (5_000, State.NOTE)])
def test_trades_that_are_deleted_before_the_next_snapshot(kept_ms: int, state: State) -> None:
    found = list(of_kafka(cluster_with(TRADES.name, settings={"retention.ms": str(kept_ms)}), WANTED))
    assert states(found) == {"topic trades.raw, retention.ms": state}
    (remedy,) = (one.remedy for one in found if one.remedy)
    assert remedy == (
        "kafka-configs --bootstrap-server k:9092 --alter --entity-type topics --entity-name trades.raw "
        f"--add-config retention.ms={TRADES.kept_ms}"
    )


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"auto.create.topics.enable": "true", "num.partitions": "1"}, {"auto.create.topics.enable": State.DANGER}),
        ({"auto.create.topics.enable": "false"}, {}),
        (None, {"auto.create.topics.enable": State.NOTE}),
    ],
)
def test_brokers_that_make_topics(settings: dict[str, str] | None, state: dict[str, State]) -> None:
    assert states(of_kafka(replace(CLUSTER, settings=settings), WANTED)) == state


@pytest.mark.parametrize(
    ("stream", "few", "command"),
    [(TRADES, 6, "--topic trades.raw --partitions 12"), (PRICES, 6, "--topic prices.updates --partitions 12")],
)
def test_trades_and_prices_of_different_numbers(stream: Any, few: int, command: str) -> None:
    found = list(of_kafka(cluster_with(stream.name, partitions=few), replace(WANTED, spread=None)))
    assert states(found) == {"partitions of trades and prices": State.MISSING}
    assert [one.remedy for one in found if one.remedy] == [f"kafka-topics --bootstrap-server k:9092 --alter {command}"]


@pytest.mark.parametrize(("spread", "state"), [(6, State.NOTE), (24, State.MISSING)])
def test_trades_that_are_spread_over_another_number(spread: int, state: State) -> None:
    assert states(of_kafka(CLUSTER, replace(WANTED, spread=spread))) == {"topic trades.raw, spread": state}


def test_only_the_streams_of_a_stage_are_looked_at() -> None:
    seen = replace(CLUSTER, topics=tuple(topic for topic in CLUSTER.topics if topic.name == SESSIONS.name))
    assert states(of_kafka(seen, replace(WANTED, streams=(SESSIONS,)))) == {}


REDIS = RedisSeen("7.0.15", 1_000, 100_000, "noeviction", log=True, snapshots="", replica=False, cluster=False)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, {}),
        ({"policy": "allkeys-lru"}, {"maxmemory-policy": State.DANGER}),
        ({"log": False}, {"appendonly": State.DANGER}),
        ({"log": False, "snapshots": "3600 1"}, {"appendonly": State.NOTE}),
        ({"log": False, "snapshots": None}, {"appendonly": State.NOTE}),
        ({"limit": 0}, {"maxmemory": State.NOTE}),
        ({"used": 90_000}, {"memory": State.DANGER}),
        ({"replica": True}, {"role": State.MISSING}),
        ({"cluster": True}, {"cluster_enabled": State.MISSING}),
    ],
)
def test_each_thing_of_redis(changes: dict[str, Any], state: dict[str, State]) -> None:
    assert states(of_redis(replace(REDIS, **changes))) == state


@pytest.mark.parametrize(
    ("found", "state"), [(2, State.OK), (1, State.MISSING), (None, State.MISSING), (3, State.MISSING)]
)
def test_the_schema(found: int | None, state: State) -> None:
    assert of_schema("here", found, {1: "tables", 2: "views"}).state is state


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"sqlserver_ca_file": "ca.pem"}, {}),
        ({}, {"EOD_SQLSERVER_CA_FILE": State.DANGER}),
        ({"sqlserver_encryption": "off"}, {"EOD_SQLSERVER_ENCRYPTION": State.DANGER}),
        (
            {"sqlserver_encryption": "request", "sqlserver_ca_file": "ca.pem"},
            {"EOD_SQLSERVER_ENCRYPTION": State.DANGER},
        ),
    ],
)
def test_how_sql_server_is_talked_to(settings: dict[str, str], state: dict[str, State]) -> None:
    assert states(of_sqlserver(RegulatoryAccess.fitting(settings))) == state


BUCKET = BucketState("b", made=False, versions=True, object_lock=True, retention_days=2)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (BUCKET, {}),
        (None, {"bucket": State.MISSING}),
        (replace(BUCKET, versions=False, object_lock=False), {"versions": State.DANGER, "object lock": State.NOTE}),
        (replace(BUCKET, object_lock=False, retention_days=None), {"object lock": State.NOTE}),
        (replace(BUCKET, retention_days=None), {"retention": State.NOTE}),
    ],
)
def test_each_thing_of_a_bucket(seen: BucketState | None, state: dict[str, State]) -> None:
    assert states(of_bucket("b", seen)) == state
