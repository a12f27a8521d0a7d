"""Kafka with TLS and a login: the operator scales by what it sees there, and says what keeps it out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from eod_operator.kafka import Endpoint, Security
from eod_operator.kafka.client import KafkaReader
from support.operator_world import OperatorWorld
from support.patience import eventually, steadily
from testbed.kafka import SecuredKafka
from testbed.tls import Authority

SECRET = "kafka-client"


@pytest.fixture
def kafka(secured_kafka: SecuredKafka) -> SecuredKafka:
    """The Kafka of `world`: its topics are made, filled and read by its open door."""
    return secured_kafka


@pytest.fixture
def keys(secured_kafka: SecuredKafka) -> dict[str, str]:
    """What the Secret should hold."""
    return {
        "username": secured_kafka.user,
        "password": secured_kafka.password,
        "ca.crt": secured_kafka.ca_file.read_text(),
    }


def secret(world: OperatorWorld, keys: dict[str, str], name: str = SECRET) -> None:
    """Make the Secret, or replace it."""
    world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys})


def secured(kafka: SecuredKafka, name: str = SECRET, **more: Any) -> dict[str, Any]:
    """`spec.kafka` of the door with the login."""
    security = {"protocol": "SASL_SSL", "secretRef": {"name": name}, **more}
    return {"bootstrapServers": kafka.secured_bootstrap, "security": security}


def told(world: OperatorWorld, name: str = "close") -> tuple[str, str]:
    """Status and reason of KafkaReachable."""
    found = world.condition("KafkaReachable", name)
    return found.get("status", ""), found.get("reason", "")


def test_lag_behind_a_login_scales(
    world: OperatorWorld, topic: str, secured_kafka: SecuredKafka, keys: dict[str, str]
) -> None:
    """And the pods get the credentials by reference, in a form that the API server takes; no password is in the log."""
    secret(world, keys)
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    world.start_operator()
    world.apply(world.pipeline(world.stage(topic), kafka=secured(secured_kafka)))
    eventually(lambda: world.condition("LagKnown").get("status") == "True")
    world.produce(topic, 35)
    eventually(lambda: world.replicas() == 4)
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    eventually(lambda: world.replicas() == 1)
    (container,) = world.get("deployment", "close-pnl")["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in container["env"]] == ["EOD_KAFKA_USERNAME", "EOD_KAFKA_PASSWORD"]
    assert {"name": "kafka", "mountPath": "/etc/eod/kafka", "readOnly": True} in container["volumeMounts"]
    generation = world.get("deployment", "close-pnl")["metadata"]["generation"]
    steadily(lambda: world.get("deployment", "close-pnl")["metadata"]["generation"] == generation, for_s=2)
    everything = world.kubectl("get", "deployments,configmaps,eodp,events", "-o", "json") + world.log.read_text()
    assert keys["password"] not in everything


def test_a_wrong_password_is_told_delays_nobody_and_is_mended_in_the_secret(
    world: OperatorWorld, topic: str, secured_kafka: SecuredKafka, keys: dict[str, str]
) -> None:
    secret(world, {**keys, "password": "hunter2"})
    secret(world, keys, name="right")
    group = f"{world.namespace}-pnl"
    world.commit(topic, group, at="end")
    world.start_operator()
    world.apply(world.pipeline(world.stage(topic), name="broken", kafka=secured(secured_kafka)))
    eventually(lambda: told(world, "broken") == ("False", "AuthenticationFailed"))
    message = world.condition("KafkaReachable", "broken")["message"]
    assert f"authentication failed at Kafka at {secured_kafka.secured_bootstrap}" in message
    assert "correct username and password in the Secret of spec.kafka.security.secretRef" in message
    assert world.condition("Ready", "broken")["reason"] == "AuthenticationFailed"
    assert world.condition("LagKnown", "broken")["status"] == "Unknown"

    world.apply(world.pipeline(world.stage(topic), kafka=secured(secured_kafka, "right")))
    eventually(lambda: world.condition("LagKnown").get("status") == "True", within_s=10)
    world.produce(topic, 35)
    eventually(lambda: world.replicas() == 4, within_s=10)
    assert world.replicas("broken-pnl") == 1
    eventually(lambda: len(world.events("AuthenticationFailed")) == 1)

    secret(world, keys)
    eventually(lambda: told(world, "broken") == ("True", "Reachable"), within_s=20)
    eventually(lambda: world.replicas("broken-pnl") == 4)
    assert "hunter2" not in world.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "missing"),
    [((), "Secret kafka-client"), (("username", "ca.crt"), "key password of Secret kafka-client")],
    ids=["no Secret", "no password"],
)
def test_missing_credentials_are_told_and_noticed_when_they_come(
    world: OperatorWorld,
    topic: str,
    secured_kafka: SecuredKafka,
    keys: dict[str, str],
    there: tuple[str, ...],
    missing: str,
) -> None:
    """Nothing is asked of Kafka meanwhile, and the stage is held at what it has."""
    if there:
        secret(world, {key: keys[key] for key in there})
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    world.produce(topic, 35)
    world.start_operator()
    world.apply(world.pipeline(world.stage(topic), kafka=secured(secured_kafka)))
    eventually(lambda: told(world) == ("False", "CredentialsMissing"))
    assert missing in world.condition("ReferencesFound")["message"]
    steadily(lambda: world.replicas() == 1, for_s=2)
    secret(world, keys)
    eventually(lambda: world.replicas() == 4, within_s=20)
    eventually(lambda: world.condition("ReferencesFound")["status"] == "True")


@pytest.mark.slow
@pytest.mark.parametrize("authority", ["none", "another", "words"])
def test_a_broker_whose_certificate_is_not_trusted_is_not_asked(
    world: OperatorWorld, topic: str, secured_kafka: SecuredKafka, keys: dict[str, str], tmp_path: Path, authority: str
) -> None:
    """Its authority is not in the Secret, or another's is, or something else; mending the Secret mends it."""
    other = Authority(tmp_path / "tls", "somebody else").certificate.read_text()
    spoilt = {"none": {}, "another": {"ca.crt": other}, "words": {"ca.crt": "words"}}[authority]
    secret(world, {**{key: text for key, text in keys.items() if key != "ca.crt"}, **spoilt})
    world.start_operator()
    world.apply(world.pipeline(world.stage(topic), kafka=secured(secured_kafka)))
    reason = "CredentialsInvalid" if authority == "words" else "CertificateUntrusted"
    eventually(lambda: told(world) == ("False", reason))
    assert "ca.crt" in world.condition("KafkaReachable")["message"]
    if authority == "another":
        secret(world, keys)
        eventually(lambda: told(world) == ("True", "Reachable"), within_s=20)


@pytest.mark.slow
def test_a_protocol_that_the_port_does_not_speak_is_told(
    world: OperatorWorld, topic: str, secured_kafka: SecuredKafka, keys: dict[str, str]
) -> None:
    secret(world, keys)
    world.start_operator()
    plain = {"bootstrapServers": secured_kafka.secured_bootstrap}
    world.apply(world.pipeline(world.stage(topic), kafka=plain))
    eventually(lambda: told(world) == ("False", "ProtocolMismatch"))
    assert "speaks TLS, and spec.kafka.security.protocol is PLAINTEXT" in world.condition("KafkaReachable")["message"]
    tls = secured(secured_kafka) | {"bootstrapServers": secured_kafka.bootstrap}
    world.apply(world.pipeline(world.stage(topic), kafka=tls))
    eventually(lambda: "it may not speak TLS" in world.condition("KafkaReachable")["message"])
    world.apply(world.pipeline(world.stage(topic), kafka=secured(secured_kafka, mechanism="PLAIN")))
    eventually(lambda: told(world) == ("True", "Reachable"))


@pytest.mark.slow
def test_a_certificate_of_ones_own_lets_the_operator_in_and_makes_topics(
    world: OperatorWorld, secured_kafka: SecuredKafka, keys: dict[str, str]
) -> None:
    """Mutual TLS, for looks, for retention and for topics to be made."""
    certificate, key = secured_kafka.certificate
    secret(world, {"ca.crt": keys["ca.crt"], "tls.crt": certificate.read_text(), "tls.key": key.read_text()})
    kafka = {
        "bootstrapServers": secured_kafka.mutual_bootstrap,
        "security": {"protocol": "SSL", "secretRef": {"name": SECRET}},
    }
    name = f"{world.namespace}.made"
    topics = [{"name": name, "partitions": 3, "retentionHours": 2, "create": True}]
    world.start_operator()
    stage = world.stage(name, replicas={"min": 1, "max": 3})
    world.apply(world.pipeline(stage, kafka=kafka, topics=topics))
    eventually(lambda: world.condition("TopicsReady").get("status") == "True")
    eventually(lambda: any(f"topic {name} created" in one for one in world.events("TopicCreated")))


@pytest.mark.slow
def test_files_are_mounted_and_the_api_server_takes_them(
    world: OperatorWorld, topic: str, secured_kafka: SecuredKafka
) -> None:
    world.kubectl("create", "configmap", "traders", "--from-literal=traders.yaml=a")
    world.start_operator()
    files = [
        {"mountPath": "/etc/eod/reference", "configMapRef": {"name": "traders"}},
        {"mountPath": "/etc/eod/redis", "secretRef": {"name": "redis-ca"}},
    ]
    plain = {"bootstrapServers": secured_kafka.bootstrap}
    world.apply(world.pipeline(world.stage(topic), kafka=plain, config={"files": files}))
    eventually(lambda: "Secret redis-ca" in world.condition("ReferencesFound").get("message", ""))
    (container,) = world.get("deployment", "close-pnl")["spec"]["template"]["spec"]["containers"]
    assert [(one["mountPath"], one.get("readOnly")) for one in container["volumeMounts"]] == [
        ("/tmp", None),
        ("/etc/eod/reference", True),
        ("/etc/eod/redis", True),
    ]
    before = json.dumps(world.get("deployment", "close-pnl")["spec"]["template"])
    secret(world, {"ca.crt": "PEM"}, name="redis-ca")
    eventually(lambda: world.condition("ReferencesFound").get("status") == "True")
    eventually(lambda: json.dumps(world.get("deployment", "close-pnl")["spec"]["template"]) != before)


class Forgetful(SecuredKafka):
    """It closes each connection two seconds after the login (connections.max.reauth.ms)."""

    login_for_ms: ClassVar[int] = 2_000


@pytest.mark.slow
async def test_logins_that_end_are_no_trouble(secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    """The connections of a look are kept; one that was closed since is made anew, and nothing is told of it."""
    del secured_kafka  # asked for so that this machine's lack of a Kafka is told in one place
    with Forgetful(tmp_path) as server:
        server.create_topic("trades", 4)
        security = Security(
            "SASL_SSL", "SCRAM-SHA-512", server.user, server.password, authority=server.ca_file.read_text()
        )
        reader = KafkaReader(Endpoint(server.secured_bootstrap, security))
        for _ in range(14):
            offsets = await reader.read({"trades"}, {"pnl": frozenset({"trades"})})
            assert offsets.partitions == {"trades": 4}
            await asyncio.sleep(0.5)
        await reader.close()
    server.discard()
