"""The test bed keeps its own promises: real servers, usable, durable across kill -9, many at a time, never left behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import RequestTimedOutError
from aiokafka.structs import TopicPartition
from botocore.exceptions import ClientError
from eod_contract.kinds import KINDS
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.patience import eventually, limit_s
from support.pipeline import EOD
from testbed import cache, cli, go, ports
from testbed.errors import BuildFailed, CommandFailed, Missing, StartFailed
from testbed.kafka import Kafka
from testbed.keeper import Keeper, ask
from testbed.kubernetes import Kubernetes
from testbed.process import Process
from testbed.progress import Progress
from testbed.redis import Redis
from testbed.s3 import S3

TESTS = Path(__file__).parents[1]
POLL_S = 0.05
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "worker"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "worker"}},
        "template": {
            "metadata": {"labels": {"app": "worker"}},
            "spec": {"containers": [{"name": "worker", "image": "worker:1"}]},
        },
    },
}


async def produce(kafka: Kafka, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, value)


async def consume(kafka: Kafka, topic: str) -> bytes:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        record = await asyncio.wait_for(consumer.getone(), timeout=limit_s(20))
        assert record.value is not None
        return bytes(record.value)


async def test_kafka_a_produced_record_is_consumed(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, 1)
    await produce(kafka, topic_name, b"one trade")
    assert await consume(kafka, topic_name) == b"one trade"


async def test_kafka_is_the_version_that_was_asked_for(kafka: Kafka) -> None:
    assert kafka.version == "4.3.1"


async def test_kafka_a_topic_has_the_partitions_and_settings_it_was_made_with(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, 12, retention_ms=60_000)
    with pytest.raises(CommandFailed, match="TopicAlreadyExists"):
        kafka.create_topic(topic_name, 12)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    (topic,) = await admin.describe_topics([topic_name])
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic_name)])
    await admin.close()
    assert {partition["partition"] for partition in topic["partitions"]} == set(range(12))
    settings = {name: value for name, value, *_ in answer.resources[0][4]}
    assert settings["retention.ms"] == "60000"


async def test_kafka_topics_wait_for_a_controller(
    kafka: Kafka, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that was frozen for longer than its session is without one until it has registered again."""
    describe, without = AIOKafkaAdminClient.describe_cluster, [2]

    async def describe_cluster(self: AIOKafkaAdminClient) -> dict[str, Any]:
        answer: dict[str, Any] = await describe(self)
        if without[0]:
            without[0] -= 1
            answer["brokers"] = []
        return answer

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_cluster", describe_cluster)
    kafka.create_topic(topic_name)
    assert without == [0]
    without[0] = 1
    kafka.delete_topic(topic_name)
    assert without == [0]


async def test_kafka_a_request_whose_answer_was_lost_is_not_refused_for_having_been_carried_out(
    kafka: Kafka, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, delete, lost = AIOKafkaAdminClient.create_topics, AIOKafkaAdminClient.delete_topics, [1]

    async def create_topics(self: AIOKafkaAdminClient, topics: list[NewTopic]) -> object:
        answer = await create(self, topics)
        if lost:
            lost.pop()
            raise RequestTimedOutError
        return answer

    async def delete_topics(self: AIOKafkaAdminClient, topics: list[str]) -> object:
        answer = await delete(self, topics)
        if lost:
            lost.pop()
            raise AttributeError("'NoneType' object has no attribute 'nodeId'")
        return answer

    monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", create_topics)
    monkeypatch.setattr(AIOKafkaAdminClient, "delete_topics", delete_topics)
    kafka.create_topic(topic_name)
    lost.append(1)
    kafka.delete_topic(topic_name)
    assert lost == []
    with pytest.raises(CommandFailed, match="UnknownTopicOrPartition"):
        kafka.delete_topic(topic_name)


async def test_kafka_an_acknowledged_record_survives_kill_9(own_kafka: Kafka) -> None:
    before = own_kafka.bootstrap
    own_kafka.create_topic("durable", 1)
    await produce(own_kafka, "durable", b"acknowledged")
    own_kafka.kill()
    own_kafka.restart()
    assert own_kafka.bootstrap == before
    assert await consume(own_kafka, "durable") == b"acknowledged"


async def test_kafka_two_brokers_run_side_by_side(kafka: Kafka, own_kafka: Kafka, topic_name: str) -> None:
    for broker, value in ((kafka, b"shared"), (own_kafka, b"own")):
        broker.create_topic(topic_name, 1)
        await produce(broker, topic_name, value)
    assert [await consume(broker, topic_name) for broker in (kafka, own_kafka)] == [b"shared", b"own"]


async def test_kafka_moves_the_group_of_a_killed_consumer_on_within_seconds(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, 1)
    await produce(kafka, topic_name, b"to be taken over")
    script = textwrap.dedent(f"""
        import asyncio
        from aiokafka import AIOKafkaConsumer
        async def main():
            async with AIOKafkaConsumer({topic_name!r}, bootstrap_servers={kafka.bootstrap!r}, group_id={topic_name!r},
                    session_timeout_ms=1000, heartbeat_interval_ms=300, auto_offset_reset="earliest") as consumer:
                await consumer.getone()
                print("got it", flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
    """)
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert victim.stdout is not None
    assert await asyncio.wait_for(victim.stdout.readline(), timeout=limit_s(20)) == b"got it\n"
    victim.kill()
    await victim.wait()
    async with AIOKafkaConsumer(
        topic_name, bootstrap_servers=kafka.bootstrap, group_id=topic_name, auto_offset_reset="earliest"
    ) as heir:
        record = await asyncio.wait_for(heir.getone(), timeout=limit_s(20))
    assert record.value == b"to be taken over"


def test_redis_a_value_set_is_got(redis_server: Redis, unique: str) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(unique, "100.25")
        assert client.get(unique) == b"100.25"


def test_redis_wants_its_password(redis_server: Redis) -> None:
    with (
        redis.Redis(port=redis_server.ports["redis"], retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_redis_an_acknowledged_write_survives_kill_9(own_redis: Redis) -> None:
    before = own_redis.url
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("position", "700")
    own_redis.kill()
    own_redis.restart()
    assert own_redis.url == before
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.get("position") == b"700"


def test_redis_two_servers_run_side_by_side(redis_server: Redis, own_redis: Redis, unique: str) -> None:
    with redis.Redis.from_url(own_redis.url) as client, redis.Redis.from_url(redis_server.url) as elsewhere:
        client.set(unique, "only here")
        assert elsewhere.get(unique) is None


def test_s3_the_second_conditional_put_is_refused_with_412(s3_server: S3, s3_bucket: str) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="trades/0", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refusal:
        client.put_object(Bucket=s3_bucket, Key="trades/0", Body=b"second", IfNoneMatch="*")
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_object(Bucket=s3_bucket, Key="trades/0")["Body"].read() == b"first"
    client.close()


def test_s3_a_fresh_bucket_keeps_versions_and_honours_object_lock(s3_server: S3, s3_bucket: str) -> None:
    client = s3_server.client()
    assert client.get_bucket_versioning(Bucket=s3_bucket)["Status"] == "Enabled"
    lock = client.get_object_lock_configuration(Bucket=s3_bucket)["ObjectLockConfiguration"]
    assert lock.get("ObjectLockEnabled") == "Enabled"
    client.close()


def test_s3_wrong_credentials_are_refused(s3_server: S3) -> None:
    stranger = boto3.session.Session(aws_access_key_id=s3_server.access_key, aws_secret_access_key="wrong").client(
        "s3", endpoint_url=s3_server.endpoint, region_name=s3_server.region
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()
    stranger.close()


def test_s3_a_stored_object_survives_kill_9(own_s3: S3) -> None:
    client = own_s3.client()
    bucket = own_s3.create_bucket("durable")
    client.put_object(Bucket=bucket, Key="manifest", Body=b"kept")
    own_s3.kill()
    own_s3.restart()
    assert client.get_object(Bucket=bucket, Key="manifest")["Body"].read() == b"kept"
    client.close()


def test_s3_two_servers_run_side_by_side(own_s3: S3, s3_server: S3, s3_bucket: str) -> None:
    for server, expected in ((own_s3, False), (s3_server, True)):
        client = server.client()
        assert (s3_bucket in {bucket.get("Name") for bucket in client.list_buckets()["Buckets"]}) == expected
        client.close()


def test_kubernetes_a_deployment_makes_its_replica_set_and_pods(kubernetes: Kubernetes, unique: str) -> None:
    kubernetes.kubectl("create", "namespace", unique)
    kubernetes.kubectl("apply", "--namespace", unique, "-f", "-", input=json.dumps(DEPLOYMENT))
    eventually(lambda: len(names(kubernetes, unique, "pods")) == 2)
    assert len(names(kubernetes, unique, "replicasets")) == 1
    kubernetes.kubectl("scale", "--namespace", unique, "deployment/worker", "--replicas=5")
    eventually(lambda: len(names(kubernetes, unique, "pods")) == 5)


@pytest.mark.slow
def test_kubernetes_keeps_what_was_applied_across_kill_9_and_two_run_side_by_side(
    kubernetes: Kubernetes, own_kubernetes: Kubernetes
) -> None:
    own_kubernetes.kubectl("create", "namespace", "durable")
    own_kubernetes.kill()
    own_kubernetes.restart()
    assert "namespace/durable" in names(own_kubernetes, "durable", "namespaces")
    own_kubernetes.kubectl("apply", "--namespace", "durable", "-f", "-", input=json.dumps(DEPLOYMENT))
    eventually(lambda: len(names(own_kubernetes, "durable", "pods")) == 2)
    assert "namespace/durable" not in names(kubernetes, "default", "namespaces")


def test_kubernetes_a_refusal_says_what_kubectl_said(kubernetes: Kubernetes) -> None:
    with pytest.raises(CommandFailed, match="NotFound"):
        kubernetes.kubectl("get", "namespace", "nowhere")


def names(kubernetes: Kubernetes, namespace: str, kind: str) -> list[str]:
    return kubernetes.kubectl("get", kind, "--namespace", namespace, "--output", "name").split()


@pytest.mark.usefixtures("redis_server")
def test_a_server_dies_with_the_process_that_started_it_even_by_kill_9(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from testbed.redis import Redis\n"
        f"server = Redis(pathlib.Path({str(tmp_path)!r})).start()\n"
        "print(server.processes[0].pid, server.processes[0].birth, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(TESTS)}
    ) as parent:
        assert parent.stdout is not None
        pid, birth = map(int, parent.stdout.readline().split())
        child = Process("redis", pid, birth)
        assert child.alive
        parent.kill()
    eventually(lambda: not child.alive, within_s=5)


@pytest.mark.usefixtures("redis_server")
def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    async def start_in_a_thread() -> Redis:
        return await asyncio.to_thread(Redis(tmp_path).start)

    server = asyncio.run(start_in_a_thread())
    time.sleep(0.2)
    assert server.alive
    server.stop()


@pytest.mark.usefixtures("redis_server")
def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    class Broken(Redis):
        def _prepare(self, programs: Path) -> None:
            super()._prepare(programs)
            (self.home / "redis.conf").write_text("no-such-setting yes\n")

    server = Broken(tmp_path)
    with pytest.raises(StartFailed, match="no-such-setting"):
        server.start()
    assert server.processes == []


def test_a_taken_port_is_given_up_for_another_at_the_first_start(
    redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = redis_server.ports["redis"], ports.free_port()
    choices = iter([{"redis": taken}, {"redis": free}])
    monkeypatch.setattr(ports, "pick", lambda preferred: next(choices) if preferred else {})
    with Redis(tmp_path) as other:
        assert other.ports == {"redis": free}


@pytest.mark.usefixtures("redis_server")
def test_whoever_asks_a_keeper_gets_the_same_server_until_it_closes(tmp_path: Path) -> None:
    told: list[str] = []
    keeper = Keeper(tmp_path, lambda server: told.append(server.title))
    script = (
        "import sys\n"
        "from testbed.keeper import ask\n"
        "from testbed.redis import Redis\n"
        f"print(ask({keeper.door!r}, Redis).url)\n"
    )
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        for _ in range(2)
    ]
    first, second = (process.communicate()[0].strip() for process in asking)
    server, other = ask(keeper.door, Redis), ask(keeper.door, Redis, "other")
    assert first == second == server.url != other.url
    assert told == ["Redis", "Redis"]
    assert server.alive
    assert other.alive
    with redis.Redis.from_url(first) as client:
        assert client.ping()
    keeper.close()
    assert not server.alive
    assert not other.alive
    with pytest.raises(ConnectionRefusedError):
        ask(keeper.door, Redis)


def test_a_keeper_tells_everybody_why_there_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Nowhere, "tries", 0)
    keeper = Keeper(tmp_path)
    try:
        for _ in range(2):
            with pytest.raises(Missing, match="install it"):
                ask(keeper.door, _Nowhere)
        name, key = keeper.door
        with pytest.raises(AuthenticationError):
            ask((name, key[::-1]), _Nowhere)
        with pytest.raises(Missing):
            ask(keeper.door, _Nowhere)
    finally:
        keeper.close()


class _Nowhere(Redis):
    """No machine has it."""

    tries = 0

    @classmethod
    def fetch(cls) -> Path:
        cls.tries += 1
        assert cls.tries == 1, "it was tried again"
        raise Missing("no Redis: install it")


def test_a_reused_process_id_is_not_mistaken_for_the_old_process() -> None:
    assert not Process("stranger", os.getpid(), birth=1).alive


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_TESTBED_CACHE", str(tmp_path))


@pytest.mark.usefixtures("own_cache")
def test_a_tool_is_built_once() -> None:
    builds: list[str] = []

    def build(shop: cache.Workshop) -> None:
        builds.append("built")
        shop.run(["sh", "-c", f"echo hello >{shop.folder}/greeting"])

    homes = [cache.cached("tool", "1", build, expected_s=1) for _ in range(2)]
    assert [(home / "greeting").read_text() for home in homes] == ["hello\n"] * 2
    assert builds == ["built"]


@pytest.mark.usefixtures("own_cache")
def test_a_failed_build_shows_its_log_and_leaves_no_entry(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="no such module"):
        cache.cached("tool", "1", lambda shop: shop.run(["sh", "-c", "echo no such module; exit 3"]), expected_s=1)
    assert [path.name for path in tmp_path.iterdir()] == [".tool.lock"]


@pytest.mark.usefixtures("own_cache")
def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".building-tool@dead" / "entry").mkdir(parents=True)
    (tmp_path / ".building-tool-two@alive").mkdir()
    cache.cached("tool", "1", lambda shop: shop.run(["sh", "-c", ":"]), expected_s=1)
    assert {path.name for path in tmp_path.iterdir()} == {".tool.lock", ".building-tool-two@alive", "tool-1"}


@pytest.mark.usefixtures("own_cache")
def test_a_lent_folder_is_deleted_and_one_that_a_killed_process_left_goes_when_the_next_is_lent(tmp_path: Path) -> None:
    script = "import os, signal; from testbed import cache\nwith cache.scratch('spare'): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(TESTS)}, check=False)
    (left,) = tmp_path.glob(".spare@*")
    with cache.scratch("spare") as folder:
        assert not left.exists()
        with cache.scratch("spare") as another:
            assert {*tmp_path.glob(".spare@*")} == {folder, another}
        assert {*tmp_path.glob(".spare@*")} == {folder}
    assert not [*tmp_path.glob(".spare@*")]


@pytest.mark.usefixtures("own_cache")
def test_builds_share_what_was_compiled_for_as_long_as_they_are_told_to(tmp_path: Path) -> None:
    caches: list[str] = []

    class Noting(cache.Workshop):
        def run(self, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
            assert argv[:2] == ["go", "build"]
            assert env is not None
            caches.append(env["GOCACHE"])

    def build(name: str) -> None:
        progress = Progress(name, 1)
        go.build(Noting(tmp_path / name / "entry", progress, tmp_path / name / "log"), "versitygw", ".", "program", {})

    build("alone")
    with go.compiled_once():
        build("first")
        build("second")
        assert Path(caches[1]).is_dir()
    build("later")
    assert caches[0] == str(tmp_path / "alone" / "gocache")
    assert caches[1] == caches[2]
    assert caches[3] == str(tmp_path / "later" / "gocache")
    assert not Path(caches[1]).exists()


def commanded(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the test bed, with a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words, "--folder", str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("redis_server")
def test_up_status_and_down_manage_servers_that_outlive_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "bed"
    testbed = partial(commanded, folder)

    up = testbed("up", "--only", "redis")
    try:
        assert up.returncode == 0, up.stderr
        environment = folder / "env"
        assert environment.stat().st_mode & 0o777 == 0o600
        url = environment.read_text().removeprefix("export EOD_REDIS_URL=").strip()
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        (record,) = json.loads(testbed("status", "--json").stdout)
        assert (record["key"], record["alive"]) == ("redis", True)
        os.kill(record["processes"][0]["pid"], signal.SIGKILL)
        assert "DEAD" in testbed("status").stdout
        assert testbed("up", "--only", "redis").returncode == 0
    finally:
        down = testbed("down")
    assert down.returncode == 0, down.stderr
    assert not folder.exists()
    assert testbed("status").returncode == 1


@pytest.mark.slow
@pytest.mark.usefixtures("kafka", "redis_server", "s3_server")  # they are to be had here
def test_stages_up_leaves_a_pipeline_that_has_traded_and_says_where_to_look(tmp_path: Path) -> None:
    folder = tmp_path / "bed"
    testbed = partial(commanded, folder)

    def sourced(command: str) -> subprocess.CompletedProcess[str]:
        """As a person would type it, having read the environment into the shell."""
        script = f". {folder / 'stages' / 'env'} && {command}"
        path = f"{EOD.parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )

    up = testbed("stages-up")
    try:
        assert up.returncode == 0, up.stderr
        assert [line.split()[:2] for line in up.stdout.splitlines() if "/metrics" in line] == [
            [kind, "up"] for kind in KINDS
        ]
        (reconcile,) = re.findall(r"^ +(\S*eod reconcile .*?) +#", up.stdout, flags=re.MULTILINE)
        done = sourced(f"{reconcile} --json -")
        assert done.returncode == 0, done.stderr
        numbers = json.loads(done.stdout)["numbers"]
        assert numbers["rows"]["rows"] == numbers["sent"]["executions"] > 1_000
        assert numbers["exceptions"] == {"exceptions": 0}
        assert len(sourced("eod dlq list").stdout.splitlines()) == numbers["letters"]["letters"] + 1
        again = testbed("stages-up")
        assert again.returncode == 0, again.stderr
        assert again.stderr.count("is already running") == len(KINDS)
        (server,) = [one for one in json.loads(testbed("status", "--json").stdout) if one["key"] == "redis"]
        os.kill(server["processes"][0]["pid"], signal.SIGKILL)
        anew = testbed("stages-up")
        assert anew.returncode == 0, anew.stderr
        assert "servers and stages begin anew" in anew.stderr
        play = sourced("eod market play --port $EOD_FIX_PORT --seconds 2 --seed 9 --brokers OTHER --json")
        assert json.loads(play.stdout)["sent"] > 0, play.stderr
        whole = reconcile.partition(" --sent ")[0]
        assert sourced(whole).returncode == 0, "the stages know the new server"
    finally:
        down = testbed("down")
    assert down.returncode == 0, down.stderr
    assert all(f"{kind} ended" in down.stderr for kind in KINDS)
    assert not folder.exists()


def test_an_interrupted_command_says_what_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Stages, "down", interrupted)
    assert cli.main(["stages-down", "--folder", str(tmp_path)]) == 130
    assert "interrupted: " in capsys.readouterr().err


def test_an_unknown_server_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["up", "--only", "oracle"])
    assert "unknown: oracle" in capsys.readouterr().err
