"""A real Kafka: one KRaft broker that is its own controller, tuned to start and rebalance in seconds."""

import asyncio
import re
import shutil
import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from testbed import cache
from testbed.errors import BuildFailed, CommandFailed, Missing
from testbed.process import run, tail
from testbed.server import NotYet, Server

_VERSION = "4.3.1"
_JAVA = 17  # Kafka 4 runs its broker on 17 or newer
_SOURCES = cache.SOURCES / "kafka"
_REMEDY = f"install a JDK of version {_JAVA} or newer and Maven, on Debian with `apt-get install openjdk-17-jdk-headless maven`."
_ARCHIVE_S = 15
_ARCHIVE = "kafka.jsa"
_REQUEST_TIMEOUT_MS = 5_000
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
        self._await(self._probe, KafkaError)
        return name

    def _prepare(self, programs: Path) -> None:
        _configure(self.home, self.data, self.ports["broker"], self.ports["controller"])
        if not (self.data / "meta.properties").exists():
            shutil.copytree(programs / "formatted", self.data, dirs_exist_ok=True)
            meta = self.data / "meta.properties"
            meta.write_text(re.sub(r"(?m)^cluster\.id=.*$", f"cluster.id={_cluster_id()}", meta.read_text()))

    def _launch(self, programs: Path) -> None:
        logging = f"-Dlog4j2.configurationFile={_SOURCES / 'log4j2.properties'}"
        options = [*_JVM, self._class_archive(programs), logging]
        self._spawn(
            "kafka",
            ["java", *options, "kafka.Kafka", self.home / "server.properties"],
            env={"CLASSPATH": _classpath(_jars())},
        )
        self._await(self._probe, KafkaError, OSError)

    def _class_archive(self, programs: Path) -> str:
        return f"-XX:SharedArchiveFile={programs / _ARCHIVE}"

    def _probe(self) -> None:
        with socket.create_connection(("127.0.0.1", self.ports["broker"])):
            pass  # aiokafka logs an error for each refused connection: ask the socket first
        _blocking(_require_leaders(self.bootstrap))


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


def _classpath(jars: Path) -> str:
    """The jars in a fixed order: a class archive is only used with the very class path it was made with."""
    return ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))


class _Rehearsal(Kafka):
    """A broker whose JVM, when it ends, archives the classes that it loaded."""

    def _class_archive(self, programs: Path) -> str:
        return f"-XX:ArchiveClassesAtExit={programs / _ARCHIVE}"


def _archive_classes(shop: cache.Workshop, jars: Path) -> None:
    """Format a data folder, then run a broker once so that the JVM archives the classes it loaded (AppCDS).

    The archive halves the time to the first acknowledged record; the folder spares every start a JVM for the format.
    """
    configuration = _configure(shop.log.parent, shop.folder / "formatted", broker_port=1, controller_port=2)
    shop.run(
        ["java", *_JVM, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", configuration],
        env={"CLASSPATH": _classpath(jars)},
    )
    rehearsal = _Rehearsal(shop.log.parent / "rehearsal")
    try:
        rehearsal._start_from(shop.folder).create_topic("rehearsal")
    finally:
        rehearsal.stop()
    if not (shop.folder / _ARCHIVE).exists():
        raise BuildFailed(f"the JVM wrote no class archive\n{tail(rehearsal.logs / 'kafka.log')}")


def _configure(home: Path, data: Path, broker_port: int, controller_port: int) -> Path:
    file = home / "server.properties"
    text = Template((_SOURCES / "server.properties").read_text())
    file.write_text(text.substitute(broker_port=broker_port, controller_port=controller_port, data=data))
    return file


def _cluster_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _blocking(work: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end, even if an event loop is running in this thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


async def _create_topic(bootstrap: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        response = await admin.create_topics([topic])
    finally:
        await admin.close()
    for name, code, *message in response.topic_errors:
        if code:
            raise CommandFailed(f"creating the topic {name}: {for_code(code).__name__} {message}")


async def _require_leaders(bootstrap: str) -> None:
    """Raise NotYet unless the broker knows itself and leads every partition of every topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        if not (await admin.describe_cluster())["brokers"]:
            raise NotYet("the broker is not registered")
        for topic in await admin.describe_topics():
            for partition in topic["partitions"]:
                if partition["error_code"] or partition["leader"] < 0:
                    raise NotYet(f"{topic['topic']}-{partition['partition']} has no leader")
    finally:
        await admin.close()
