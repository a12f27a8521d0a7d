"""A real Kafka: one KRaft broker that is its own controller, tuned to start and rebalance in seconds."""

import asyncio
import re
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from testbed import cache
from testbed.errors import BuildFailed, CommandFailed, Missing
from testbed.process import run, tail
from testbed.server import NotYet, Server
from testbed.tls import Authority

_VERSION = "4.3.1"
_JAVA = 17  # Kafka 4 runs its broker on 17 or newer
_SOURCES = cache.SOURCES / "kafka"
_REMEDY = f"install a JDK of version {_JAVA} or newer and Maven, on Debian with `apt-get install openjdk-17-jdk-headless maven`."
_ARCHIVE_S = 15
_ARCHIVE = "kafka.jsa"
_REQUEST_TIMEOUT_MS = 5_000
_SETTLED_WITHIN_S = 60
_SETTLED_POLL_S = 0.1
_SERVER_NAMES = "DNS:localhost"  # and not 127.0.0.1, so that a test can meet a name that does not fit
_SECURED = """
listeners={plain},SECURED://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual},{controller}
advertised.listeners={plain},SECURED://localhost:{sasl},MUTUAL://localhost:{mutual}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={tls}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={tls}/ca.crt
listener.name.mutual.ssl.client.auth=required
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
"""
_LOGIN = "org.apache.kafka.common.security"
_SCRAM = f"{_LOGIN}.scram.ScramLoginModule required;"
_PLAIN = f"""\
listener.name.secured.scram-sha-256.sasl.jaas.config={_SCRAM}
listener.name.secured.scram-sha-512.sasl.jaas.config={_SCRAM}
listener.name.secured.plain.sasl.jaas.config={_LOGIN}.plain.PlainLoginModule required user_{{login}};
"""
_JVM = (
    *("-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"),
    *("-Xlog:disable", "-Xlog:all=error:stderr"),  # a class archive that does not fit is no reason to warn
)


class Kafka(Server):
    """One Kafka broker."""

    key: ClassVar[str] = "kafka"
    title: ClassVar[str] = "Kafka"
    default_ports: ClassVar[Mapping[str, int]] = {"broker": 19092, "controller": 19093}
    fetch_s: ClassVar[float] = 30
    jvm: ClassVar[Sequence[str]] = _JVM

    @classmethod
    def jars(cls) -> Path:
        """The folder of Kafka's jars and those that it needs."""
        return _jars()

    @classmethod
    def fetch(cls) -> Path:
        """The jars, and a class archive and a formatted folder made with them."""
        jars = _jars()
        java = _java_version()
        tuned = f"{_VERSION}-java{java}-{cache.fingerprint(*_SOURCES.iterdir())}"
        return cache.cached("kafka-archive", tuned, lambda shop: _archive_classes(shop, jars), expected_s=_ARCHIVE_S)

    @property
    def bootstrap(self) -> str:
        """Its address, as `bootstrap_servers` wants it."""
        return f"127.0.0.1:{self.ports['broker']}"

    @property
    def version(self) -> str:
        """What the broker said of itself in its log."""
        found = re.search(r"Kafka version: (\S+)", (self.logs / "kafka.log").read_text(errors="replace"))
        return found[1] if found else "unknown"

    @property
    def environment(self) -> Mapping[str, str]:
        """EOD_KAFKA_BOOTSTRAP."""
        return {"EOD_KAFKA_BOOTSTRAP": self.bootstrap}

    def create_topic(self, name: str, partitions: int = 1, **config: str | int) -> str:
        """Make a topic and return its name once every partition has a leader.

        Settings are Kafka's with underscores for dots: `create_topic("t", 4, retention_ms=1000)`.

        Raises:
            CommandFailed: the broker refused it.
        """
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        _blocking(_create_topic(self.bootstrap, NewTopic(name, partitions, 1, topic_configs=settings)))
        self._await(partial(self._probe, {name: partitions}), KafkaError)
        return name

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records.

        Raises:
            CommandFailed: the broker refused it.
        """
        _blocking(_delete_topic(self.bootstrap, name))

    def _prepare(self, programs: Path) -> None:
        configure(self.home, self.data, self.ports["broker"], self.ports["controller"])
        if not (self.data / "meta.properties").exists():
            shutil.copytree(programs / "formatted", self.data, dirs_exist_ok=True)
            meta = self.data / "meta.properties"
            meta.write_text(re.sub(r"(?m)^cluster\.id=.*$", f"cluster.id={_cluster_id()}", meta.read_text()))

    def _launch(self, programs: Path) -> None:
        logging = f"-Dlog4j2.configurationFile={_SOURCES / 'log4j2.properties'}"
        options = [*self.jvm, self._class_archive(programs), logging]
        self._spawn(
            "kafka",
            ["java", *options, "kafka.Kafka", self.home / "server.properties"],
            env={"CLASSPATH": classpath(_jars())},
        )
        self._await(self._probe, KafkaError, OSError)

    def _class_archive(self, programs: Path) -> str:
        return f"-XX:SharedArchiveFile={programs / _ARCHIVE}"

    def _probe(self, wanted: Mapping[str, int] = MappingProxyType({})) -> None:
        with socket.create_connection(("127.0.0.1", self.ports["broker"])):
            pass  # aiokafka logs an error for each refused connection: ask the socket first
        _blocking(_require_leaders(self.bootstrap, wanted))


def _jars() -> Path:
    version = f"{_VERSION}-{cache.fingerprint(_SOURCES / 'pom.xml')}"
    if not cache.entry("kafka", version).is_dir():
        _java_version()
        if shutil.which("mvn") is None:
            raise Missing(f"no Maven to fetch it with: {_REMEDY}")
    return cache.cached("kafka", version, _fetch_jars, expected_s=Kafka.fetch_s)


def _fetch_jars(shop: cache.Workshop) -> None:
    shop.run(
        [
            *("mvn", "-q", "-B", "-f", _SOURCES / "pom.xml", "dependency:copy-dependencies"),
            *(f"-DoutputDirectory={shop.folder}", "-DincludeScope=runtime"),
        ]
    )


def _java_version() -> str:
    if shutil.which("java") is None:
        raise Missing(f"no Java to run it: {_REMEDY}")
    try:
        line = run(["java", "--version"]).split("\n", 1)[0]  # openjdk 17.0.15 2025-04-15
        version = line.split()[1]
        major = int(version.split(".")[0])
    except (subprocess.CalledProcessError, IndexError, ValueError) as error:
        raise Missing(f"`java --version` says nothing useful: {_REMEDY}") from error
    if major < _JAVA:
        raise Missing(f"the Java on PATH is {version}: {_REMEDY}")
    return version


def classpath(jars: Path) -> str:
    """The jars in a fixed order: a class archive is only used with the very class path it was made with."""
    return ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))


class SecuredKafka(Kafka):
    """The same broker with two more doors: SASL over TLS, and TLS for clients with a certificate.

    The open door stays for the test bed's own questions and for the hands of a test.

    Attributes:
        user: may log in, by SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN.
        password: generated.
        login_for_ms: after which a broker closes a connection that has not logged in anew; 0 for never.
    """

    title: ClassVar[str] = "Kafka with TLS and SASL"
    login_for_ms: ClassVar[int] = 0
    default_ports: ClassVar[Mapping[str, int]] = {**Kafka.default_ports, "sasl": 19094, "mutual": 19095}

    def __init__(self, home: Path, *, tethered: bool = True, prefer_default_ports: bool = False) -> None:
        super().__init__(home, tethered=tethered, prefer_default_ports=prefer_default_ports)
        self.user = "eod"
        self.password = secrets.token_hex(16)
        self._tls = self.home / "tls"

    @property
    def secured_bootstrap(self) -> str:
        """The address that wants TLS and a password."""
        return f"localhost:{self.ports['sasl']}"

    @property
    def mutual_bootstrap(self) -> str:
        """The address that wants TLS and a certificate of the client's."""
        return f"localhost:{self.ports['mutual']}"

    @property
    def ca_file(self) -> Path:
        """PEM file of who signed the broker's certificate and the client's."""
        return self._tls / "ca.crt"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """PEM files of a client's certificate and its key."""
        return self._tls / "client.crt", self._tls / "client.key"

    @property
    def environment(self) -> Mapping[str, str]:
        """EOD_KAFKA_*, with the password."""
        return {
            "EOD_KAFKA_BOOTSTRAP": self.secured_bootstrap,
            "EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "EOD_KAFKA_USERNAME": self.user,
            "EOD_KAFKA_PASSWORD": self.password,
            "EOD_KAFKA_CA_FILE": str(self.ca_file),
        }

    def add_user(self, name: str, password: str) -> None:
        """Let somebody log in by SCRAM-SHA-512, from now on."""
        change = ["--alter", "--add-config", f"SCRAM-SHA-512=[password={password}]"]
        who = ["--entity-type", "users", "--entity-name", name]
        run(
            ["java", *_JVM, "kafka.admin.ConfigCommand", "--bootstrap-server", self.bootstrap, *change, *who],
            env={"CLASSPATH": classpath(_jars())},
        )

    def _prepare(self, programs: Path) -> None:
        del programs
        if not self.ca_file.exists():
            authority = Authority(self._tls, "eod test bed's Kafka")
            authority.bundle("broker", *authority.issue("broker", "/CN=kafka", server_names=_SERVER_NAMES))
            authority.issue("client", "/CN=eod")
        configuration = configure(self.home, self.data, self.ports["broker"], self.ports["controller"])
        _secure(configuration, self._tls, sasl=self.ports["sasl"], mutual=self.ports["mutual"])
        login = f'{self.user}="{self.password}"'
        with configuration.open("a") as file:
            file.write(_PLAIN.format(login=login))
            file.write(f"listener.name.secured.connections.max.reauth.ms={self.login_for_ms}\n")
        if not (self.data / "meta.properties").exists():
            self._format(configuration)

    def _format(self, configuration: Path) -> None:
        """Make the data folder, with the user in it: a broker that has never run keeps no passwords otherwise."""
        users = [
            f"--add-scram={mechanism}=[name={self.user},password={self.password}]"
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        run(
            ["java", *_JVM, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", configuration, *users],
            env={"CLASSPATH": classpath(_jars())},
        )


class _Rehearsal(Kafka):
    """A broker whose JVM, when it ends, archives the classes that it loaded."""

    def _class_archive(self, programs: Path) -> str:
        return f"-XX:ArchiveClassesAtExit={programs / _ARCHIVE}"


def _archive_classes(shop: cache.Workshop, jars: Path) -> None:
    """Format a data folder, then run a broker once so that the JVM archives the classes it loaded (AppCDS).

    The archive halves the time to the first acknowledged record; the folder spares every start a JVM for the format.
    """
    configuration = configure(shop.log.parent, shop.folder / "formatted", broker_port=1, controller_port=2)
    shop.run(
        ["java", *_JVM, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", configuration],
        env={"CLASSPATH": classpath(jars)},
    )
    rehearsal = _Rehearsal(shop.log.parent / "rehearsal")
    try:
        rehearsal._start_from(shop.folder).create_topic("rehearsal")
    finally:
        rehearsal.stop()
    if not (shop.folder / _ARCHIVE).exists():
        raise BuildFailed(f"the JVM wrote no class archive\n{tail(rehearsal.logs / 'kafka.log')}")


def configure(home: Path, data: Path, broker_port: int, controller_port: int) -> Path:
    """Write the configuration of a broker that is its own controller, and return its file."""
    file = home / "server.properties"
    text = Template((_SOURCES / "server.properties").read_text())
    file.write_text(text.substitute(broker_port=broker_port, controller_port=controller_port, data=data))
    return file


def _secure(configuration: Path, tls: Path, *, sasl: int, mutual: int) -> None:
    """Add the two doors to a broker's configuration, in place of its lines about listeners."""
    lines = configuration.read_text().splitlines()
    (listeners,) = [line.partition("=")[2] for line in lines if line.startswith("listeners=")]
    plain, controller = listeners.split(",")
    settings = _SECURED.format(plain=plain, controller=controller, sasl=sasl, mutual=mutual, tls=tls)
    replaced = ("listeners=", "advertised.listeners=", "listener.security.protocol.map=")
    kept = [line for line in lines if not line.startswith(replaced)]
    configuration.chmod(0o600)  # a password will be in it
    configuration.write_text("\n".join(kept) + settings)


def _cluster_id() -> str:
    """An id that begins with a letter: Kafka's tools would take one that begins with a dash for an option."""
    return "E" + urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()[1:]


def _blocking(work: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end, even if an event loop is running in this thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


@asynccontextmanager
async def _administration(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _settled(
    what: str,
    bootstrap: str,
    ask: Callable[[AIOKafkaAdminClient], Awaitable[Sequence[int]]],
    done: type[KafkaError],
) -> None:
    """Ask until the cluster can answer; each time by a new client, as a client keeps what a cluster in disarray told it.

    A broker that stood still for longer than its session is fenced when it wakes: for a while the cluster names no
    broker and no controller, which reaches a client as one of several errors of Kafka's or as an AttributeError.

    Args:
        what: for the messages
        bootstrap: the cluster's address
        ask: sends the request and returns the codes of its answer
        done: what the cluster says when an earlier request, whose answer was lost, has been carried out
    """
    last: Exception = NotYet("nothing asked yet")
    sent = False
    until = time.monotonic() + _SETTLED_WITHIN_S
    while time.monotonic() < until:
        try:
            async with _administration(bootstrap) as admin:
                await _require_controller(admin)
                before, sent = sent, True
                errors = [for_code(code) for code in await ask(admin) if code]
        except (KafkaError, AttributeError, TimeoutError, NotYet) as error:
            last = error
        else:
            errors = [error for error in errors if not (before and error is done)]
            if not errors:
                return
            last = errors[0]()
            if not errors[0].retriable or errors[0] is done:
                break
        await asyncio.sleep(_SETTLED_POLL_S)
    raise CommandFailed(f"{what}: {last!r}") from last


async def _require_controller(admin: AIOKafkaAdminClient) -> None:
    cluster = await admin.describe_cluster()
    if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
        raise NotYet("the cluster names no controller")


async def _create_topic(bootstrap: str, topic: NewTopic) -> None:
    async def ask(admin: AIOKafkaAdminClient) -> list[int]:
        return [code for _, code, *_ in (await admin.create_topics([topic])).topic_errors]

    await _settled(f"creating the topic {topic.name}", bootstrap, ask, TopicAlreadyExistsError)


async def _delete_topic(bootstrap: str, topic: str) -> None:
    async def ask(admin: AIOKafkaAdminClient) -> list[int]:
        return [code for _, code, *_ in (await admin.delete_topics([topic])).topic_error_codes]

    await _settled(f"deleting the topic {topic}", bootstrap, ask, UnknownTopicOrPartitionError)


async def _require_leaders(bootstrap: str, wanted: Mapping[str, int]) -> None:
    """Raise NotYet or KafkaError unless the broker knows itself, leads every partition, and keeps groups' offsets.

    `wanted`: topic → partitions that it must have; a broker learns of a topic after its controller has made it.
    """
    async with _administration(bootstrap) as admin:
        if not (await admin.describe_cluster())["brokers"]:
            raise NotYet("the broker is not registered")
        topics = await admin.describe_topics()
        known = {topic["topic"]: len(topic["partitions"]) for topic in topics}
        for name, partitions in wanted.items():
            if known.get(name) != partitions:
                raise NotYet(f"{name} has {known.get(name, 0)} of {partitions} partitions")
        for topic in topics:
            for partition in topic["partitions"]:
                if partition["error_code"] or partition["leader"] < 0:
                    raise NotYet(f"{topic['topic']}-{partition['partition']} has no leader")
        await admin.find_coordinator("testbed")  # the first question makes the topic of the offsets
