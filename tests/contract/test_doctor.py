"""`eod doctor` on real servers: what it finds, that what it advises mends it, that it makes nothing itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from eod_workers.cli import commands as cli
from support.kafka_settings import set_on_topic
from tds.server import Server
from testbed.kafka import Kafka, SecuredKafka
from testbed.redis import Redis
from testbed.s3 import S3
from typer.testing import CliRunner

pytestmark = pytest.mark.timeout(120)
TOPICS = ("TRADES", "PRICES", "SESSIONS", "LETTERS")
Found = dict[tuple[str, str], str]


def call(*words: str) -> tuple[int, str]:
    ended = CliRunner().invoke(cli.app, list(words))
    return ended.exit_code, ended.output


def said_by(*words: str) -> tuple[int, str]:
    """Exit code, and what the doctor prints as JSON."""
    ended = CliRunner().invoke(cli.app, ["doctor", "--json", *words])
    return ended.exit_code, ended.stdout


def doctor(*words: str) -> tuple[int, Found, dict[tuple[str, str], dict[str, str]]]:
    """Exit code, (where, what) → state of what is not in order, and each finding."""
    code, said = said_by(*words)
    findings: list[dict[str, str]] = json.loads(said)["findings"]
    told = {(one["where"], one["what"]): one for one in findings}
    assert len(told) == len(findings), "nothing is said twice"
    return code, {key: one["state"] for key, one in told.items() if one["state"] != "ok"}, told


@pytest.fixture
def names(unique: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The topics' names, by stream; none of them exists."""
    found = {stream: f"{unique}-{stream.lower()}" for stream in TOPICS}
    for stream, name in found.items():
        monkeypatch.setenv(f"EOD_{stream}_TOPIC", name)
    return found


@pytest.fixture
def setting(
    names: dict[str, str],
    kafka: Kafka,
    own_redis: Redis,
    s3_server: S3,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, str], None]:
    """Servers on which nothing has been made yet; sets a variable."""
    del names
    variables = {
        "EOD_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "EOD_REDIS_URL": own_redis.url,
        "EOD_REGULATORY_URL": f"sqlite://{tmp_path}/rows.sqlite",
        "EOD_ARCHIVE_URL": f"s3://{unique}/segments",
        **s3_server.environment,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return monkeypatch.setenv


@pytest.mark.usefixtures("setting")
def test_what_is_missing_is_there_after_what_the_doctor_says(
    names: dict[str, str], unique: str, tmp_path: Path
) -> None:
    code, found, told = doctor()
    missing = {where for where, state in found.items() if state == "missing"}
    topics = {("Kafka", f"topic {name}") for name in names.values()}
    assert (code, missing) == (1, {*topics, ("regulatory store", "schema"), ("archive", "bucket")})
    assert not (tmp_path / "rows.sqlite").exists(), "a look makes nothing"
    remedies = {told[where]["remedy"] for where in missing}
    assert remedies == {
        "eod topics ensure --partitions N",
        "eod db migrate (eod db create for a new database)",
        "eod archive init",
    }
    for words in (("topics", "ensure", "--partitions", "3"), ("db", "migrate"), ("archive", "init")):
        assert call(*words)[0] == 0
    code, found, told = doctor("--ignore-danger")
    assert (code, [where for where, state in found.items() if state == "missing"]) == (0, [])
    for name in names.values():
        assert told["Kafka", f"topic {name}"]["said"] == "3 partitions of 1 replica"
        assert found["Kafka", f"topic {name}, replicas"] == "danger", "there is one broker"
    assert doctor()[0] == 1
    assert told["archive", "bucket"]["said"] == f"{unique} is there"


async def test_what_is_dangerous_on_real_servers(
    setting: Callable[[str, str], None], names: dict[str, str], kafka: Kafka, own_redis: Redis, s3_server: S3
) -> None:
    for words in (("topics", "ensure", "--partitions", "2"), ("db", "migrate"), ("archive", "init")):
        assert (await asyncio.to_thread(call, *words))[0] == 0
    before = (await asyncio.to_thread(doctor))[1]
    trades = names["TRADES"]
    await set_on_topic(
        kafka.bootstrap,
        trades,
        retention_ms="1000",
        retention_bytes="1000000",
        cleanup_policy="compact,delete",
        unclean_leader_election_enable="true",
        max_message_bytes="20000",
    )
    client = redis.Redis.from_url(own_redis.url)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    client.config_set("save", "")
    client.close()
    bucket = s3_server.client()
    bucket.create_bucket(Bucket=f"{trades}-plain")
    bucket.close()
    setting("EOD_ARCHIVE_URL", f"s3://{trades}-plain/segments")
    code, found, told = await asyncio.to_thread(doctor)
    topic = f"topic {trades}"
    now = {
        ("Kafka", f"{topic}, retention.ms"): "danger",
        ("Kafka", f"{topic}, retention.bytes"): "danger",
        ("Kafka", f"{topic}, cleanup.policy"): "danger",
        ("Kafka", f"{topic}, unclean.leader.election.enable"): "danger",
        ("Kafka", f"{topic}, max.message.bytes"): "note",
        ("Redis", "maxmemory-policy"): "danger",
        ("Redis", "appendonly"): "danger",
        ("archive", "versions"): "danger",
        ("archive", "object lock"): "note",
    }
    gone = {("Redis", "maxmemory"), ("archive", "retention")}
    assert (code, found) == (1, {where: state for where, state in before.items() if where not in gone} | now)
    assert told["Kafka", f"{topic}, retention.ms"]["remedy"].startswith(
        f"kafka-configs --bootstrap-server {kafka.bootstrap} --alter --entity-type topics --entity-name {trades} "
    )


def test_servers_that_are_away_and_settings_that_are_not_there(
    setting: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting("EOD_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    setting("EOD_REDIS_URL", "redis://:s3cr3t@127.0.0.1:9/0")
    setting("EOD_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("EOD_REGULATORY_URL")
    code, said = said_by()
    assert "s3cr3t" not in said
    found = {(one["where"], one["what"]): one for one in json.loads(said)["findings"]}
    assert (code, {where: one["state"] for where, one in found.items()}) == (
        1,
        {
            ("Kafka", "server"): "away",
            ("Redis", "server"): "away",
            ("regulatory store", "settings"): "missing",
            ("archive", "server"): "away",
        },
    )
    assert found["Kafka", "server"]["remedy"] == "start it, or mend EOD_KAFKA_BOOTSTRAP"
    code, said = call("doctor", "--wait-seconds", "1.5")
    assert (code, said.count("waiting up to 1.5 s: Kafka: ")) == (1, 1)
    assert "\n1 missing, 3 away\n" in said
    *_, last = said.splitlines()
    assert last.startswith("eod: away: Kafka, server: connecting to 127.0.0.1:9: "), "what a pod's status quotes"


def test_a_stage_hears_of_what_it_relies_on_alone(
    setting: Callable[[str, str], None], names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EOD_ARCHIVE_URL")
    monkeypatch.delenv("EOD_REGULATORY_URL")
    assert call("topics", "ensure", "--partitions", "2")[0] == 0
    code, _, told = doctor("dead-letters", "--ignore-danger")
    assert code == 0
    assert {where for where, _ in told} == {"Kafka", "Redis"}
    assert {what for _, what in told if what.startswith("topic")} == {
        f"topic {names['LETTERS']}",
        f"topic {names['LETTERS']}, replicas",
    }
    setting("EOD_PUBLISH_INTERVAL_MS", "-1")
    assert "EOD_PUBLISH_INTERVAL_MS" in call("doctor", "flash-pnl")[1]
    assert call("doctor", "flash-pnl")[0] == 2
    assert call("doctor", "nothing")[0] == 2


def test_sql_server(names: dict[str, str], kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del names
    monkeypatch.setenv("EOD_KAFKA_BOOTSTRAP", kafka.bootstrap)
    assert call("topics", "ensure", "--partitions", "2")[0] == 0
    with Server(tmp_path, user="sa", password="Adm1n's ]word") as server:
        variables = {"HOST": "127.0.0.1", "PORT": str(server.port), "DATABASE": "eod", "ENCRYPTION": "off"}
        variables |= {"USER": "eod_writer", "PASSWORD": "Wr1ter's ]word"}
        variables |= {"ADMIN_USER": "sa", "ADMIN_PASSWORD": "Adm1n's ]word"}
        for name, value in variables.items():
            monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)
        code, found, told = doctor("regulatory", "--ignore-danger")
        assert (code, found["regulatory store", "access"]) == (1, "missing"), "nobody has made the login"
        assert "EOD_SQLSERVER_USER" in told["regulatory store", "access"]["said"]
        assert call("db", "create", "--apply")[0] == 0
        code, found, told = doctor("regulatory", "--ignore-danger")
    assert (code, {what: state for (where, what), state in found.items() if where != "Kafka"}) == (
        0,
        {"EOD_SQLSERVER_ENCRYPTION": "danger"},
    )
    assert told["regulatory store", "login"]["said"] == "eod_writer may read"
    assert "ADMIN" not in str(told)


def test_a_broker_that_refuses_the_password(
    secured_kafka: SecuredKafka, names: dict[str, str], own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    del names
    variables: dict[str, Any] = {
        "EOD_KAFKA_BOOTSTRAP": secured_kafka.secured_bootstrap,
        "EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "EOD_KAFKA_USERNAME": secured_kafka.user,
        "EOD_KAFKA_PASSWORD": "wr0ng",
        "EOD_KAFKA_CA_FILE": str(secured_kafka.ca_file),
        "EOD_REDIS_URL": own_redis.url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, said = said_by("dead-letters")
    (kafka,) = (one for one in json.loads(said)["findings"] if one["where"] == "Kafka")
    assert (code, kafka["state"], "wr0ng" in said) == (1, "away", False), "its user may be on its way"
    assert "mend EOD_KAFKA_USERNAME and EOD_KAFKA_PASSWORD" in kafka["said"]
    assert kafka["remedy"] == "do what the sentence says"
