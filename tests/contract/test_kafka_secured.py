"""Kafka behind TLS and a login: every door opens to the right key, and a wrong one is told with the variable at fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.directory import DirectoryArchive
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.kafka_security import KafkaSecurity
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.archive.settings import ArchiveSettings
from eod_workers.archive.stage import STAGE
from eod_workers.ports import TopicPartition, TopicSpec, Unavailable
from eod_workers.process.probes import serve_health
from eod_workers.process.settings import Process
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import StoredMetrics
from eod_workers.runtime.stages import StageContext
from eod_workers.runtime.variables import TopicNames
from prometheus_client import CollectorRegistry
from support.members import Listener, drain
from support.patience import limited, soon
from testbed.kafka import SecuredKafka
from testbed.tls import Authority

REQUEST_TIMEOUT_S = 5.0


@pytest.fixture
def right(secured_kafka: SecuredKafka) -> KafkaSecurity:
    """What opens the door with the login."""
    return KafkaSecurity(
        protocol="SASL_SSL",
        username=secured_kafka.user,
        password=secured_kafka.password,
        ca_file=str(secured_kafka.ca_file),
    )


def log(address: str, security: KafkaSecurity) -> KafkaLog:
    return KafkaLog(address, security=security, request_timeout_s=REQUEST_TIMEOUT_S)


async def works(log: KafkaLog, topic: str) -> None:
    """Produce, consume, commit and ask for the lag."""
    await log.ensure_topics([TopicSpec(topic, 1)])
    producer = await log.producer()
    for number in range(3):
        await (await producer.send(topic, 0, b"%d" % number))
    await producer.close()
    consumer = log.consumer([topic], topic)
    await consumer.start(Listener())
    assert [record.value for record in await drain(consumer, 3)] == [b"0", b"1", b"2"]
    await consumer.commit({TopicPartition(topic, 0): 2})
    await consumer.close()
    assert (await log.end_offsets(topic), await log.committed(topic, topic)) == ({0: 3}, {0: 2})
    assert [record.value async for record in log.read(TopicPartition(topic, 0), 1, 3)] == [b"1", b"2"]
    await log.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_every_mechanism_logs_in(
    secured_kafka: SecuredKafka, right: KafkaSecurity, unique: str, mechanism: str
) -> None:
    security = replace(right, mechanism=mechanism)  # type: ignore[arg-type]  # one of three of the literal's words
    await works(log(secured_kafka.secured_bootstrap, security), unique)


async def test_a_certificate_of_ones_own_opens_where_one_is_wanted(secured_kafka: SecuredKafka, unique: str) -> None:
    certificate, key = map(str, secured_kafka.certificate)
    security = KafkaSecurity("SSL", ca_file=str(secured_kafka.ca_file), cert_file=certificate, key_file=key)
    await works(log(secured_kafka.mutual_bootstrap, security), unique)


async def told(log: KafkaLog) -> str:
    """What every call says to somebody who is not let in: the same, and soon."""
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "topics": lambda: log.partition_count("t"),
        "producer": log.producer,
        "consumer": lambda: log.consumer(["t"], "g").start(Listener()),
        "end offsets": lambda: log.end_offsets("t"),
        "reading": lambda: anext(aiter(log.read(TopicPartition("t", 0), 0, 1))),
    }
    said = {}
    for name, call in calls.items():
        async with limited(REQUEST_TIMEOUT_S):
            with pytest.raises(Unavailable) as refusal:
                await call()
        said[name] = str(refusal.value).partition(": ")[2]
    await log.close()
    (sentence,) = set(said.values())
    return sentence


async def test_a_wrong_password_is_told(secured_kafka: SecuredKafka, right: KafkaSecurity) -> None:
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        wrong = replace(right, password="hunter2", mechanism=mechanism)  # type: ignore[arg-type]  # as above
        sentence = await told(log(secured_kafka.secured_bootstrap, wrong))
        assert sentence.startswith(f"authentication failed at {secured_kafka.secured_bootstrap} (")
        assert "mend EOD_KAFKA_USERNAME and EOD_KAFKA_PASSWORD" in sentence
        assert "hunter2" not in sentence


async def test_a_certificate_that_is_not_trusted_is_told(
    secured_kafka: SecuredKafka, right: KafkaSecurity, tmp_path: Path
) -> None:
    """Neither by the system's authorities nor by one of somebody else's."""
    stranger = Authority(tmp_path, "somebody else")
    for ca_file in ("", str(stranger.certificate)):
        sentence = await told(log(secured_kafka.secured_bootstrap, replace(right, ca_file=ca_file)))
        assert sentence.startswith("TLS verification failed: the certificate of localhost:")
        assert "set EOD_KAFKA_CA_FILE" in sentence


async def test_a_certificate_of_another_name_is_told(secured_kafka: SecuredKafka, right: KafkaSecurity) -> None:
    """127.0.0.1 is the same broker, and not in its certificate."""
    address = secured_kafka.secured_bootstrap.replace("localhost", "127.0.0.1")
    sentence = await told(log(address, right))
    assert "name the brokers in EOD_KAFKA_BOOTSTRAP as their certificates do" in sentence


async def test_plain_text_to_tls_is_told(secured_kafka: SecuredKafka) -> None:
    sentence = await told(log(secured_kafka.secured_bootstrap, KafkaSecurity()))
    assert sentence == (
        f"{secured_kafka.secured_bootstrap} speaks TLS, and EOD_KAFKA_SECURITY_PROTOCOL=PLAINTEXT: set it to SASL_SSL "
        "or SSL"
    )


async def test_tls_without_the_login_that_is_wanted_is_told(secured_kafka: SecuredKafka, right: KafkaSecurity) -> None:
    security = KafkaSecurity("SSL", ca_file=right.ca_file)
    sentence = await told(log(secured_kafka.secured_bootstrap, security))
    assert "it may want a login, and EOD_KAFKA_SECURITY_PROTOCOL=SSL has none" in sentence


async def test_tls_to_plain_text_is_told(secured_kafka: SecuredKafka, right: KafkaSecurity) -> None:
    sentence = await told(log(secured_kafka.bootstrap, right))
    assert "hangs up during the TLS handshake: it may not speak TLS" in sentence


async def test_a_login_that_nobody_asks_for_is_told(secured_kafka: SecuredKafka, right: KafkaSecurity) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", username=right.username, password=right.password)
    sentence = await told(log(secured_kafka.bootstrap, security))
    assert sentence.startswith("authentication failed: 127.0.0.1:")
    assert "logs nobody in; EOD_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT must be one without SASL_" in sentence


async def test_a_mechanism_that_is_not_offered_is_told(
    secured_kafka: SecuredKafka, right: KafkaSecurity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And AWS's is not offered by a broker that is not AWS's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    security = KafkaSecurity("SASL_SSL", "AWS_MSK_IAM", ca_file=right.ca_file, aws_region="eu-west-1")
    sentence = await told(log(secured_kafka.secured_bootstrap, security))
    assert sentence.startswith("authentication failed: localhost:")
    assert "does not offer AWS_MSK_IAM; set EOD_KAFKA_SASL_MECHANISM" in sentence


async def test_a_certificate_that_is_wanted_and_missing_is_told(
    secured_kafka: SecuredKafka, right: KafkaSecurity, tmp_path: Path
) -> None:
    """None at all, and one of an authority that the broker does not know."""
    certificate, key = map(str, Authority(tmp_path, "somebody else").issue("tls", "/CN=eod"))
    for security in (
        KafkaSecurity("SSL", ca_file=right.ca_file),
        KafkaSecurity("SSL", ca_file=right.ca_file, cert_file=certificate, key_file=key),
    ):
        sentence = await told(log(secured_kafka.mutual_bootstrap, security))
        assert "set EOD_KAFKA_CERT_FILE and EOD_KAFKA_KEY_FILE to one that its authority has signed" in sentence


async def test_a_stage_with_a_wrong_password_says_so_in_readyz_and_starts_when_it_is_let_in(
    secured_kafka: SecuredKafka, right: KafkaSecurity, unique: str, tmp_path: Path
) -> None:
    """It neither hangs nor ends: the user is made while it waits."""
    waiting = log(secured_kafka.secured_bootstrap, replace(right, username=unique, password="late"))
    allowed = log(secured_kafka.secured_bootstrap, right)
    await allowed.ensure_topics([TopicSpec(unique, 1)])
    await allowed.close()
    context = StageContext(
        topics=TopicNames(),
        log=waiting,
        state=MemoryState(),
        regulatory=None,  # type: ignore[arg-type]  # the archive does not use it
        archive=DirectoryArchive(tmp_path),
        clock=SystemClock(),
        network=TcpNetwork(),
        metrics=StoredMetrics(),
        health=(health := Health()),
    )
    service = STAGE.start(context, ArchiveSettings(topics=(unique,), group=unique))
    probes = await serve_health(health, CollectorRegistry(), TcpNetwork(), Process(http_port=0))
    running = asyncio.create_task(service.run())
    try:
        await soon(lambda: "authentication failed" in health.why_not, "the stage has tried")
        url = f"http://127.0.0.1:{probes.port}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 503
            text = await answer.text()
        assert text.startswith("joining the group: ")
        assert "mend EOD_KAFKA_USERNAME and EOD_KAFKA_PASSWORD" in text
        assert not running.done()
        await asyncio.to_thread(secured_kafka.add_user, unique, "late")
        await soon(lambda: not health.why_not, "the stage is ready")
    finally:
        await service.stop()
        await running
        probes.close()
        await waiting.close()


class Forgetful(SecuredKafka):
    """It closes each connection two seconds after the login (connections.max.reauth.ms)."""

    login_for_ms: ClassVar[int] = 2_000


@pytest.mark.slow
async def test_logins_that_end_lose_reorder_and_double_nothing(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    """Nobody logs in again on a connection (KIP-368): aiokafka makes another, and the stage on it notices nothing."""
    del secured_kafka  # asked for so that this machine's lack of a Kafka is told in one place
    with Forgetful(tmp_path) as server:
        security = KafkaSecurity(
            "SASL_SSL", username=server.user, password=server.password, ca_file=str(server.ca_file)
        )
        records = log(server.secured_bootstrap, security)
        await records.ensure_topics([TopicSpec("t", 1)])
        producer, consumer = await records.producer(), records.consumer(["t"], "g")
        await consumer.start(Listener())
        sent: list[bytes] = []
        read: list[bytes] = []
        until_s = time.monotonic() + 3.5 * Forgetful.login_for_ms / 1_000
        while time.monotonic() < until_s:
            sent.append(b"%d" % len(sent))
            await (await producer.send("t", 0, sent[-1]))
            read += [record.value for record in await consumer.poll(100, 0.01)]
            await consumer.commit({TopicPartition("t", 0): len(read)} if read else {})
        read += [record.value for record in await drain(consumer, len(sent) - len(read))]
        assert read == sent
        await producer.close()
        await consumer.close()
        await records.close()
    server.discard()
