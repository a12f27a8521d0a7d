"""What the pods of the stores would run, run on the real servers: files, scripts, arguments and variables as rendered."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import testbed.kafka
from integration.charts.rendered import Rendered
from support.chart_release import STORES
from support.patience import eventually, limit_s
from tds.server import Server as TdsServer
from testbed.helm import Helm
from testbed.kafka import Kafka
from testbed.process import Process
from testbed.redis import Redis
from testbed.s3 import S3
from testbed.tls import Authority

pytestmark = pytest.mark.slow

NAME = "desk-eod-stores"
ACCEPTED = "--set=sqlserver.acceptEula=true"
CALLED = "called"
"""File with the arguments of each of Kafka's programs."""


@pytest.fixture
def running() -> Iterator[list[Process]]:
    """Processes to be killed at the end."""
    started: list[Process] = []
    yield started
    for one in started:
        one.kill()


def certificates(folder: Path) -> dict[str, str]:
    """What a Secret with a certificate for this machine holds, the key as Java wants it, and who signed it."""
    authority = Authority(folder / "pki", "desk")
    certificate, key = authority.issue("store", "/CN=store", server_names="IP:127.0.0.1,DNS:localhost")
    authority.bundle("store", certificate, key)
    return {
        "tls.crt": certificate.read_text(),
        "tls.key": certificate.with_suffix(".pk8").read_text(),
        "ca.crt": authority.certificate.read_text(),
    }


# --- Kafka ----------------------------------------------------------------------------------------


def programs(made: Rendered) -> None:
    """Kafka's own programs, where its image has them; each notes its arguments."""
    jars = testbed.kafka._jars()
    mains = {"storage": "kafka.tools.StorageTool", "server-start": "kafka.Kafka"}
    mains["topics"] = "org.apache.kafka.tools.TopicCommand"
    folder = made.root / "opt/kafka/bin"
    folder.mkdir(parents=True)
    for name, main in mains.items():
        script = folder / f"kafka-{name}.sh"
        script.write_text(
            f'#!/bin/sh\necho "$@" >>{made.root}/{CALLED}\n'
            f"exec java -XX:TieredStopAtLevel=1 $KAFKA_HEAP_OPTS $KAFKA_LOG4J_OPTS -cp '{jars}/*' {main} \"$@\"\n"
        )
        script.chmod(0o755)


def mount(made: Rendered, files: dict[str, str]) -> None:
    """What the pod of a broker mounts."""
    programs(made)
    config = made.get("ConfigMap", f"{NAME}-kafka")["data"]
    made.write("/etc/eod/kafka", {name: made.here(text) for name, text in config.items()})
    made.write("/etc/eod/client", made.held(f"{NAME}-kafka"))
    made.write("/etc/eod/servers", made.held(f"{NAME}-servers"))
    made.write("/etc/eod/tls", files)
    made.write("/etc/eod/stores", {"kafka.crt": files.get("ca.crt", "")})
    for folder in ("run/eod", "var/lib/kafka/data", "tmp"):
        (made.root / folder).mkdir(parents=True)


def start(made: Rendered) -> Process:
    """A broker."""
    container = made.container("StatefulSet", f"{NAME}-kafka")
    assert container["command"] == ["sh", "/etc/eod/kafka/start.sh"]
    return made.spawn(container, [made.here(word) for word in container["command"]])


def asked(made: Rendered, *words: str) -> str:
    """What Kafka's own client, which the test pod runs, says; with other words in the place of `--list`."""
    test = made.container("Pod", f"{NAME}-kafka-test")
    command = [made.here(word) for word in test["command"] if word != "--list" or not words]
    env = {**os.environ, **made.env(test)}
    return subprocess.run(
        [*command, *words], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60)
    ).stdout


def client(made: Rendered, protocol: str) -> dict[str, str]:
    """Variables of a worker, as the operator would set them."""
    login = made.held(f"{NAME}-kafka")
    return {
        "EOD_KAFKA_BOOTSTRAP": f"127.0.0.1:{made.ports[9092]}",
        "EOD_KAFKA_SECURITY_PROTOCOL": protocol,
        "EOD_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "EOD_KAFKA_USERNAME": login["username"],
        "EOD_KAFKA_PASSWORD": login["password"],
        **({"EOD_KAFKA_TLS_DIR": f"{made.root}/etc/eod/client"} if protocol == "SASL_SSL" else {}),
    }


@pytest.mark.parametrize("secured", [False, True], ids=["scram", "scram-and-tls"])
def test_a_broker_admits_the_pipelines_user_and_nobody_else(
    helm: Helm,
    kafka: Kafka,
    tmp_path: Path,
    running: list[Process],
    secured: bool,  # noqa: FBT001 - a case of the table
) -> None:
    """Passwords are on no command line and in no log; a restart finds what there was."""
    del kafka  # asked for so that this machine's lack of a Kafka is told in one place
    files = certificates(tmp_path)
    tls = ("--set=kafka.tls.existingSecret=certificate", f"--set-file=kafka.tls.ca={tmp_path}/pki/ca.crt")
    made = Rendered.of(helm, STORES, tmp_path, ACCEPTED, "--set=kafka.heapMebibytes=256", *(tls if secured else ()))
    mount(made, files)
    running.append(start(made))
    worker, ensure = (
        client(made, "SASL_SSL" if secured else "SASL_PLAINTEXT"),
        {"args": ["topics", "ensure", "--partitions=2"]},
    )
    eventually(lambda: "trades.raw: 2 partitions" in made.eod(ensure, **worker)[1], within_s=60)
    assert made.eod(ensure, **{**worker, "EOD_KAFKA_PASSWORD": "wrong"})[0] != 0

    running[-1].stop(patience_s=30)
    running.append(start(made))
    eventually(lambda: "trades.raw" in asked(made).split(), within_s=60)
    told = (tmp_path / "log").read_text() + (tmp_path / CALLED).read_text()
    passwords = made.held(f"{NAME}-kafka")["password"], made.held(f"{NAME}-servers")["kafka-broker-password"]
    assert [one for one in (*passwords, "storedKey") if one in told] == []
    assert list((tmp_path / "run/eod").iterdir()) == []


def test_three_brokers_find_each_other_and_one_of_them_may_be_lost(
    helm: Helm, kafka: Kafka, tmp_path: Path, running: list[Process]
) -> None:
    """Each on a loopback address of its own; every topic has three copies, and two are enough to acknowledge."""
    del kafka  # as above
    one = Rendered.of(helm, STORES, tmp_path / "0", ACCEPTED, "--set=kafka.replicas=3", "--set=kafka.heapMebibytes=256")
    brokers = [replace(one, root=tmp_path / str(ordinal), ordinal=ordinal) for ordinal in range(3)]
    for made in brokers:
        mount(made, {})
        running.append(start(made))
    ensure = {"args": ["topics", "ensure", "--partitions=3"]}
    eventually(lambda: "trades.raw: 3 partitions" in one.eod(ensure, **client(one, "SASL_PLAINTEXT"))[1], within_s=120)
    described = asked(one, "--describe", "--topic=trades.raw")
    assert "ReplicationFactor: 3" in described
    assert "min.insync.replicas=2" in described
    running[2].kill()
    eventually(lambda: asked(one, "--describe", "--under-replicated-partitions").count("Topic: trades.raw") == 3)
    assert "Leader: 2" not in asked(one, "--describe", "--topic=trades.raw")
    assert "Topic: " not in asked(one, "--describe", "--under-min-isr-partitions")


# --- Redis ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("secured", [False, True], ids=["password", "password-and-tls"])
def test_redis_asks_for_the_password_keeps_what_it_was_told_and_evicts_nothing(
    helm: Helm,
    redis_server: Redis,
    tmp_path: Path,
    running: list[Process],
    secured: bool,  # noqa: FBT001 - a case of the table
) -> None:
    del redis_server  # as above
    files = certificates(tmp_path)
    tls = ("--set=redis.tls.existingSecret=certificate", f"--set-file=redis.tls.ca={tmp_path}/pki/ca.crt")
    made = Rendered.of(helm, STORES, tmp_path, ACCEPTED, *(tls if secured else ()))
    config = made.get("ConfigMap", f"{NAME}-redis")["data"]
    made.write("/etc/eod/redis", {name: made.here(text) for name, text in config.items()})
    made.write("/etc/eod/servers", made.held(f"{NAME}-servers"))
    made.write("/etc/eod/tls", files)
    for folder in ("run/eod", "data"):
        (tmp_path / folder).mkdir(parents=True)
    container = made.container("StatefulSet", f"{NAME}-redis")
    command = [made.here(word) for word in container["command"]]
    ready = [made.here(word) for word in container["readinessProbe"]["exec"]["command"]]
    assert subprocess.run(ready, capture_output=True, check=False).returncode != 0

    running.append(made.spawn(container, command))
    eventually(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
    url = made.here(made.held(NAME)["EOD_REDIS_URL"])
    assert url.startswith("rediss://" if secured else "redis://")
    authority = {"ssl_ca_certs": f"{tmp_path}/pki/ca.crt"} if secured else {}
    with redis.from_url(url, **authority) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        client.set("kept", "yes")
        time.sleep(1.5)  # a second is what a crash may take
    with (
        redis.from_url(url.replace(made.held(f"{NAME}-servers")["redis-password"], "wrong"), **authority) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.get("kept")

    running[-1].kill()
    running.append(made.spawn(container, command))
    eventually(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
    with redis.from_url(url, **authority) as client:
        assert client.get("kept") == b"yes"
    test = made.container("Pod", f"{NAME}-redis-test")
    assert made.eod(test, **({"EOD_REDIS_CA_FILE": authority["ssl_ca_certs"]} if secured else {}))[0] == 0


# --- S3 and SQL Server: the server, its Job, its test --------------------------------------------------


def test_the_s3_server_gets_its_bucket_by_the_job_and_the_archive_can_be_verified(
    helm: Helm, s3_server: S3, tmp_path: Path, running: list[Process]
) -> None:
    del s3_server  # as above
    made = Rendered.of(helm, STORES, tmp_path, ACCEPTED, "--set=s3.retentionDays=3", "--set=jobs.waitSeconds=20")
    (folders,) = made.get("StatefulSet", f"{NAME}-s3")["spec"]["template"]["spec"]["initContainers"]
    subprocess.run([made.here(word) for word in folders["command"]], check=True)
    container = made.container("StatefulSet", f"{NAME}-s3")
    env = {
        **container,
        "env": [
            {**one, "value": f"127.0.0.1:{made.ports[7070]}"} if one["name"] == "VGW_PORT" else one
            for one in container["env"]
        ],
    }
    running.append(made.spawn(env, [S3.fetch() / "versitygw", *(made.here(word) for word in container["args"])]))
    job = made.container("Job", f"{NAME}-s3-bucket")
    for found in ("made", "was there"):
        code, told = made.eod(job)
        assert (code, f"bucket eod-archive {found}: versions, object lock, each object kept for 3 days" in told) == (
            0,
            True,
        ), told
    assert made.eod(made.container("Pod", f"{NAME}-s3-test"))[0] == 0


def test_the_database_and_the_workers_login_are_made_by_the_job(helm: Helm, tmp_path: Path) -> None:
    """On the test server, in SQL Server's place: with the password that its pod would be given."""
    made = Rendered.of(helm, STORES, tmp_path, ACCEPTED, "--set=sqlserver.encryption=off")
    admin = made.env(made.container("StatefulSet", f"{NAME}-sqlserver"))["MSSQL_SA_PASSWORD"]
    (tmp_path / "tds").mkdir()
    test = made.container("Pod", f"{NAME}-sqlserver-test")
    with TdsServer(tmp_path / "tds", user="sa", password=admin, port=made.ports[1433]):
        assert made.eod(test)[0] == 2
        for found in ("made", "was there"):
            code, told = made.eod(made.container("Job", f"{NAME}-sqlserver-database"))
            assert (code, f"database eod {found}\nlogin eod_writer {found}" in told) == (0, True), told
        assert made.eod(test)[0] == 0
