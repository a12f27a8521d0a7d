"""What to think of a Kafka cluster.

Kafka's own documentation says what each setting does: https://kafka.apache.org/documentation/#topicconfigs and
#brokerconfigs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eod_contract.streams import PRICES, TRADES, Stream

from eod_workers.adapters.kafka_look import KafkaSeen, TopicSeen
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.doctor.findings import Finding, State
from eod_workers.runtime.variables import TopicNames

WHERE = "Kafka"
_FOR_EVER = -1
_NO_LIMIT = -1
_SAFE = 3
"""Replicas with which one broker may be down and each record still be on two."""
_MS_PER_S = 1_000
_MS_PER_H = 3_600_000
_LISTED = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is relied on.

    Attributes:
        streams: of the log.
        names: of their topics.
        bootstrap: the address, for the commands.
        snapshot_interval_ms: the least time between two snapshots of flash P&L.
        spread: over how many partitions trades are spread, as kept with the snapshots; None if nobody has said.
    """

    streams: Sequence[Stream]
    names: TopicNames
    bootstrap: str
    snapshot_interval_ms: float
    spread: int | None = None


def of_kafka(seen: KafkaSeen, wanted: Wanted) -> Iterator[Finding]:
    """What to think of a cluster."""
    yield Finding(WHERE, "brokers", State.OK, _counted(seen.brokers, "broker"))
    yield _making(seen)
    topics = {topic.name: topic for topic in seen.topics}
    for stream in wanted.streams:
        yield from _of_topic(topics[wanted.names.topic(stream)], stream, seen.brokers, wanted)
    yield from _together(topics, wanted)


def _making(seen: KafkaSeen) -> Finding:
    what = "auto.create.topics.enable"
    if seen.settings is None:
        return Finding(
            WHERE,
            what,
            State.NOTE,
            "we may not ask for the brokers' settings: they may make whatever topic somebody asks for",
            "allow this user DescribeConfigs on the cluster, or look at the brokers' configuration",
        )
    if seen.settings.get(what) != "true":
        return Finding(WHERE, what, State.OK, "a topic is made by whoever wants it, not by a look at it")
    partitions = seen.settings.get("num.partitions", "1")
    return Finding(
        WHERE,
        what,
        State.DANGER,
        f"true: whoever asks for a topic that is not there makes it, with {_counted(int(partitions), 'partition')}",
        f"set {what}=false in the configuration of each broker, and restart them one after the other",
    )


def _of_topic(topic: TopicSeen, stream: Stream, brokers: int, wanted: Wanted) -> Iterator[Finding]:
    what = f"topic {topic.name}"
    if topic.forbidden:
        yield Finding(
            WHERE,
            what,
            State.MISSING,
            "we may not look at it",
            f"allow this user Describe, Read and Write on it (kafka-acls --bootstrap-server {wanted.bootstrap} --add "
            f"--allow-principal User:NAME --operation All --topic {topic.name})",
        )
        return
    if not topic.partitions:
        yield Finding(WHERE, what, State.MISSING, "there is none", "eod topics ensure --partitions N")
        return
    if topic.leaderless:
        yield Finding(
            WHERE,
            f"{what}, leaders",
            State.AWAY,
            f"nobody leads {_numbered(topic.leaderless)}: what is in {_them(topic.leaderless)} waits",
            "start the brokers that hold them again",
        )
    said = f"{_counted(topic.partitions, 'partition')} of {_counted(topic.replicas, 'replica')}"
    yield Finding(WHERE, what, State.OK, said)
    yield from _of_replicas(topic, brokers, wanted)
    yield from _of_keeping(topic, stream, wanted)


def _of_replicas(topic: TopicSeen, brokers: int, wanted: Wanted) -> Iterator[Finding]:
    what = f"topic {topic.name}"
    if topic.behind:
        yield Finding(
            WHERE,
            f"{what}, replicas",
            State.DANGER,
            f"not all replicas of {_numbered(topic.behind)} are in sync",
            "see to it that every broker is up and keeps up: a record is safe on as many as are in sync",
        )
    if topic.settings is None:
        yield Finding(
            WHERE,
            f"{what}, settings",
            State.NOTE,
            "we may not ask for them",
            f"allow this user DescribeConfigs on it, or look with kafka-configs --bootstrap-server {wanted.bootstrap} "
            f"--describe --all --entity-type topics --entity-name {topic.name}",
        )
        return
    in_sync = int(topic.settings.get("min.insync.replicas", "1"))
    if topic.replicas == 1:
        more = (
            f"the cluster has {_counted(brokers, 'broker')}: have {_SAFE}, and then"
            if brokers < _SAFE
            else "move it to more brokers with"
        )
        yield Finding(
            WHERE,
            f"{what}, replicas",
            State.DANGER,
            f"one replica, min.insync.replicas={in_sync}: a disk that fails takes its trades along",
            f"{more} kafka-reassign-partitions --bootstrap-server {wanted.bootstrap}; topics made later have as "
            "many as the brokers' default.replication.factor says",
        )
    elif in_sync == 1:
        yield Finding(
            WHERE,
            f"{what}, min.insync.replicas",
            State.DANGER,
            f"1 of {topic.replicas}: a record counts as safe when one broker has it",
            _alter(topic, wanted, "min.insync.replicas", 2),
        )
    if topic.replicas > 1 and in_sync >= topic.replicas:
        yield Finding(
            WHERE,
            f"{what}, min.insync.replicas",
            State.DANGER,
            f"{in_sync} of {topic.replicas}: when one broker is down nothing can be written",
            _alter(topic, wanted, "min.insync.replicas", max(1, topic.replicas - 1)),
        )
    if topic.settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            WHERE,
            f"{what}, unclean.leader.election.enable",
            State.DANGER,
            "true: a broker that lacks records may lead, and they are lost",
            _alter(topic, wanted, "unclean.leader.election.enable", "false"),
        )


def _of_keeping(topic: TopicSeen, stream: Stream, wanted: Wanted) -> Iterator[Finding]:
    """What becomes of records that are in it."""
    what, settings = f"topic {topic.name}", topic.settings
    if settings is None:
        return
    if "compact" in settings.get("cleanup.policy", ""):
        yield Finding(
            WHERE,
            f"{what}, cleanup.policy",
            State.DANGER,
            f"{settings['cleanup.policy']}: of the records of a {stream.key} all but the last are deleted",
            _alter(topic, wanted, "cleanup.policy", "delete"),
        )
    if int(settings.get("retention.bytes", _NO_LIMIT)) != _NO_LIMIT:
        yield Finding(
            WHERE,
            f"{what}, retention.bytes",
            State.DANGER,
            f"{settings['retention.bytes']}: a burst deletes what came before it, read or not",
            _alter(topic, wanted, "retention.bytes", _NO_LIMIT),
        )
    kept_ms = int(settings.get("retention.ms", _FOR_EVER))
    if kept_ms != _FOR_EVER and kept_ms < stream.kept_ms:
        grave = stream is TRADES and kept_ms < wanted.snapshot_interval_ms
        why = (
            f"less than the {_time(wanted.snapshot_interval_ms)} between two snapshots: what is deleted before the "
            "next one is in no position after a restart"
            if grave
            else f"planned are {_time(stream.kept_ms)}: a stage that is down for longer than it is kept misses records"
        )
        yield Finding(
            WHERE,
            f"{what}, retention.ms",
            State.DANGER if grave else State.NOTE,
            f"{_time(kept_ms)}; {why}",
            _alter(topic, wanted, "retention.ms", stream.kept_ms),
        )
    takes = int(settings.get("max.message.bytes", MAX_RECORD_BYTES))
    if takes < MAX_RECORD_BYTES:
        yield Finding(
            WHERE,
            f"{what}, max.message.bytes",
            State.NOTE,
            f"{takes}: records are split until they fit, and a message that does not becomes a dead letter",
            _alter(topic, wanted, "max.message.bytes", MAX_RECORD_BYTES),
        )


def _together(topics: Mapping[str, TopicSeen], wanted: Wanted) -> Iterator[Finding]:
    """What several topics, or a topic and the snapshots, must have in common."""
    trades, prices = (topics.get(wanted.names.topic(stream)) for stream in (TRADES, PRICES))
    if trades is not None and prices is not None and trades.partitions and prices.partitions:
        few, many = sorted((trades, prices), key=lambda topic: topic.partitions)
        if few.partitions != many.partitions:
            yield Finding(
                WHERE,
                "partitions of trades and prices",
                State.MISSING,
                f"{few.name} has {few.partitions}, {many.name} {many.partitions}: they belong together; P&L waits",
                f"kafka-topics --bootstrap-server {wanted.bootstrap} --alter --topic {few.name} --partitions "
                f"{many.partitions}",
            )
    if wanted.spread is None or trades is None or not trades.partitions:
        return
    what = f"topic {trades.name}, spread"
    if trades.partitions < wanted.spread:
        yield Finding(
            WHERE,
            what,
            State.MISSING,
            f"trades and snapshots are spread over {wanted.spread} partitions, and it has {trades.partitions}: P&L and "
            "ingestion wait",
            f"kafka-topics --bootstrap-server {wanted.bootstrap} --alter --topic {trades.name} --partitions "
            f"{wanted.spread}",
        )
    elif trades.partitions > wanted.spread:
        yield Finding(
            WHERE,
            what,
            State.NOTE,
            f"trades are spread over the first {wanted.spread} of {trades.partitions} partitions, as when they began",
            "nothing need be done; docs/guarantees.md says how a pipeline without positions begins anew with more",
        )


def _alter(topic: TopicSeen, wanted: Wanted, setting: str, value: object) -> str:
    return (
        f"kafka-configs --bootstrap-server {wanted.bootstrap} --alter --entity-type topics --entity-name {topic.name} "
        f"--add-config {setting}={value}"
    )


def _time(ms: float) -> str:
    return f"{ms / _MS_PER_H:g} h" if ms >= _MS_PER_H else f"{ms / _MS_PER_S:g} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _them(numbers: Collection[int]) -> str:
    return "it" if len(numbers) == 1 else "them"


def _numbered(partitions: Sequence[int]) -> str:
    told = ", ".join(map(str, partitions[:_LISTED]))
    more = f" and {len(partitions) - _LISTED} more" if len(partitions) > _LISTED else ""
    return f"partition{'' if len(partitions) == 1 else 's'} {told}{more}"
