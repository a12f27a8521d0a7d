"""The stages as real processes on real servers, and what their stores hold, read without any code of the stages.

A `Pipeline` runs `eod stage run KIND` for each kind, with topics, groups, a Redis database, a SQLite file and an S3
prefix of its own. Its stages can be ended, killed and started again one by one; nothing outlives the test.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import redis
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from eod_contract.kinds import KINDS
from eod_contract.streams import LETTERS, PRICES, SESSIONS, TRADES
from eod_workers.protos.dead_letter_pb2 import CONTENT_FIX, DeadLetter
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE, PriceBatch
from eod_workers.protos.storage_pb2 import ArchiveSegment
from eod_workers.protos.trades_pb2 import FrameBatch, TradeBatch
from google.protobuf.message import DecodeError
from testbed import ports
from testbed.nursery import nursery
from testbed.probes import Probes
from testbed.process import Process, tail
from testbed.redis import Redis
from testbed.s3 import S3

from support.patience import eventually_nothing

EOD = Path(sys.executable).with_name("eod")
TARGET = "EOD"
PARTITIONS = 12
SESSION_DATE = 20241129
_SHORT = {TRADES: "trades", PRICES: "prices", SESSIONS: "sessions", LETTERS: "letters"}
_DATABASES = 16
"""Of a Redis server; 0 holds what is nobody's own."""
_E8 = 10**8
_LARGEST = 64 << 20
"""Bytes of a request before it is compressed; what a topic takes is measured afterwards."""


class Stage:
    """One worker process of one kind, which may be ended and started many times."""

    def __init__(
        self, kind: str, log: Path, env: Mapping[str, str], *, forked: bool = True, program: Path = EOD
    ) -> None:
        """`forked`: from a process that has loaded its modules; otherwise `program`, as people start it."""
        self.kind = kind
        self._forked = forked
        self._program = program
        self.log = log
        port = ports.free_port()
        self._env = {**env, "EOD_HTTP_PORT": str(port)}
        self._probes = Probes(port, self._env)
        self._process: Process | None = None

    def start(self) -> Self:
        """Start the process; `await_ready` waits for it."""
        assert not self.alive, f"{self.kind} runs already"
        words = ["stage", "run", self.kind]
        if self._forked:
            self._process = nursery().start("eod", words, log=self.log, env=self._env)
        else:
            self._process = Process.spawn(
                self.kind, [self._program, *words], log=self.log, env=self._env, tethered=True
            )
        return self

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def why_not_ready(self) -> str:
        """What /readyz says; "" once the stage works.

        Raises:
            AssertionError: the process has ended.
        """
        assert self.alive, f"{self.kind} has ended\n{tail(self.log)}"
        why = self._probes.why_not_ready()
        return f"{self.kind}: {why}" if why else ""

    def metrics(self) -> str:
        """What /metrics says."""
        return self._probes.metrics()

    def await_ready(self) -> None:
        """Return once the stage says that it is ready."""
        eventually_nothing(self.why_not_ready)

    def kill(self) -> None:
        """Kill -9."""
        assert self._process is not None
        self._process.kill()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, without waiting."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self, within_s: float = 30) -> int:
        """SIGTERM; return the exit code once the process has ended by itself."""
        self.signal()
        return self.exit_code(within_s)

    def exit_code(self, within_s: float = 30) -> int:
        """Wait until the process has ended by itself."""
        process = self._process
        assert process is not None
        eventually_nothing(lambda: f"{self.kind} still runs\n{tail(self.log)}" if process.alive else "", within_s)
        assert process.exit_code is not None
        return process.exit_code

    def restart(self) -> None:
        """Start the process again and wait until it is ready."""
        self.start().await_ready()


@dataclass
class Pipeline:
    """All stages over one set of stores.

    Attributes:
        name: prefix of topics and groups, and the archive's bucket.
        bootstrap: Kafka's address.
        redis_url: a database that holds nothing else.
        s3: where the bucket is.
        folder: logs, the SQLite file and the reference data.
        reference: reference data of the regulatory stage.
        settings: further EOD_* variables.
        forked: see Stage.
    """

    name: str
    bootstrap: str
    redis_url: str
    s3: S3
    folder: Path
    reference: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    fix_port: int = field(default_factory=ports.free_port)
    forked: bool = True

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "reference.yaml"
        file.write_text(yaml.safe_dump(dict(self.reference)))
        self.sql = self.folder / "regulatory.db"
        self.topics = {kind: f"{self.name}.{kind}" for kind in ("trades", "prices", "letters", "sessions")}
        self.env = {
            "EOD_KAFKA_BOOTSTRAP": self.bootstrap,
            "EOD_REDIS_URL": self.redis_url,
            "EOD_REGULATORY_URL": f"sqlite://{self.sql}",
            "EOD_ARCHIVE_URL": f"s3://{self.name}/archive",
            "EOD_REFERENCE_FILE": str(file) if self.reference else "",
            **{f"EOD_{kind.upper()}_TOPIC": topic for kind, topic in self.topics.items()},
            "EOD_FIX_HOST": "127.0.0.1",
            "EOD_FIX_PORT": str(self.fix_port),
            "EOD_FIX_COMP_ID": TARGET,
            "EOD_FIX_ADMIT_ANYBODY": "true",
            "EOD_HTTP_HOST": "127.0.0.1",
            "EOD_SESSION_TIMEOUT_S": "2",
            "EOD_SNAPSHOT_INTERVAL_S": "1",
            "EOD_FLUSH_INTERVAL_S": "0.5",
            **self.s3.environment,
            **self.settings,
        }
        self.stages = {kind: self._stage(kind, f"{kind}.log") for kind in KINDS}
        self._helpers: list[Stage] = []
        self.archive = Archive(self)

    def group(self, kind: str) -> str:
        """The consumer group of a kind."""
        return f"{self.name}.{kind}"

    def _stage(self, kind: str, log: str, settings: Mapping[str, str] | None = None) -> Stage:
        group = {"EOD_GROUP": self.group(kind)} if self.consumes(kind) else {}
        return Stage(kind, self.folder / log, {**self.env, **group, **(settings or {})}, forked=self.forked)

    @contextmanager
    def helper(self, kind: str, settings: Mapping[str, str] | None = None) -> Iterator[Stage]:
        """A second worker of a kind, ready, with some settings of its own; killed afterwards."""
        helper = self._stage(kind, f"{kind}-helper.log", settings)
        self._helpers.append(helper)
        helper.restart()
        try:
            yield helper
        finally:
            helper.kill()

    @staticmethod
    def topics_of(kind: str) -> tuple[str, ...]:
        return tuple(_SHORT[stream] for stream in KINDS[kind].reads)

    def consumes(self, kind: str) -> bool:
        """Whether a kind reads the log."""
        return bool(self.topics_of(kind))

    def eod(self, *arguments: str, code: int = 0) -> str:
        """Run the `eod` command on this pipeline, expect its exit code, and return what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            said, complained = Path(folder, "said"), Path(folder, "complained")
            done = nursery().start("eod", arguments, log=said, errors=complained, env=self.env)
            eventually_nothing(lambda: done.alive and f"eod {' '.join(arguments)} still runs", 60)
            errors = complained.read_text()
            assert done.exit_code == code, f"eod {' '.join(arguments)} exited with {done.exit_code}: {errors}"
            return said.read_text() if code == 0 else errors

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Make topics and bucket, start every stage, wait until all are ready; end them all afterwards."""
        try:
            self.s3.create_bucket(self.name)
            self.eod("topics", "ensure", "--partitions", str(PARTITIONS))
            for stage in self.stages.values():
                stage.start()
            self.await_ready()
            yield self
        finally:
            self.close()

    def await_ready(self) -> None:
        """Return once every stage is ready."""
        for stage in self.stages.values():
            stage.await_ready()

    def close(self) -> None:
        """Kill what runs."""
        for stage in (*self.stages.values(), *self._helpers):
            if stage.alive:
                stage.kill()

    # --- what the stores hold -------------------------------------------------------------------------------

    @cached_property
    def state(self) -> redis.Redis:
        """A client of the state store."""
        return redis.Redis.from_url(self.redis_url)

    def positions(self, trader: str) -> dict[str, dict[str, Any]]:
        """Symbol → the position that is published."""
        stored: dict[bytes, bytes] = self.state.hgetall(f"positions:{trader}")  # type: ignore[assignment]
        return {symbol.decode(): json.loads(value) for symbol, value in stored.items()}

    def select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the regulatory store."""
        with closing(sqlite3.connect(f"file:{self.sql}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()

    def letters(self) -> list[dict[str, Any]]:
        """The dead letters; `eod dlq list --json` says the same and takes a second."""
        lists: list[dict[bytes, bytes]] = [self.state.hgetall(f"dlq:index:{number}") for number in range(PARTITIONS)]  # type: ignore[misc]
        return [
            {"id": key.decode(), "redriven": self.state.hexists("dlq:redriven", key.decode()), **json.loads(value)}
            for stored in lists
            for key, value in stored.items()
        ]

    def lag(self) -> dict[str, int]:
        """Stage and partition → records that its group has not committed; without those that have none."""
        return asyncio.run(self._lag())

    async def _lag(self) -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as reader:
            await admin.start()
            try:
                ends = await reader.end_offsets(
                    [TopicPartition(topic, number) for topic in self.topics.values() for number in range(PARTITIONS)]
                )
                behind = {}
                for kind in filter(self.consumes, KINDS):
                    committed = await admin.list_consumer_group_offsets(self.group(kind))
                    mine = {self.topics[name] for name in self.topics_of(kind)}
                    for source, end in ends.items():
                        done = committed[source].offset if source in committed else 0
                        if source.topic in mine and done < end:
                            behind[f"{kind} on {source.topic}[{source.partition}]"] = end - done
                return behind
            finally:
                await admin.close()

    def produce(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Append (key, value) records by Kafka's own partitioner."""
        asyncio.run(_produce(self.bootstrap, self.topics[topic], list(records)))

    def mark(self, closes: Mapping[str, int]) -> None:
        """Publish official closes: symbol → price in 1e-8."""
        self.produce(
            "prices",
            [
                (
                    symbol.encode(),
                    PriceBatch(
                        version=1,
                        strings=["", symbol],
                        symbol=[1],
                        source=[PRICE_SOURCE_OFFICIAL_CLOSE],
                        px_e8=[px],
                        event_time_ns=[1],
                        session_date=[SESSION_DATE],
                    ).SerializeToString(),
                )
                for symbol, px in closes.items()
            ],
        )


async def _produce(bootstrap: str, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type="zstd", max_request_size=_LARGEST
    ) as producer:
        for key, value in records:
            await producer.send_and_wait(topic, value, key=key)


class Archive:
    """The objects of a pipeline's archive; each is read once, since none may ever change."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._segments: dict[str, ArchiveSegment] = {}

    def read(self) -> dict[str, ArchiveSegment]:
        """Key → segment."""
        with closing(self._pipeline.s3.client()) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._pipeline.name):
                for item in page.get("Contents", []):
                    key = item["Key"]
                    if key not in self._segments:
                        body = client.get_object(Bucket=self._pipeline.name, Key=key)["Body"].read()
                        self._segments[key] = ArchiveSegment.FromString(body)
        return self._segments

    def frames(self) -> Iterator[bytes]:
        """Every frame that was received, in no particular order."""
        return (frame for frame, _ in self.placed())

    def placed(self) -> Iterator[tuple[bytes, str]]:
        """The same, each with the record that it is in."""
        topics = self._pipeline.topics
        for segment in self.read().values():
            for entry in segment.entries:
                where = f"{segment.topic}[{segment.partition}]@{entry.offset}"
                if segment.topic == topics["letters"]:
                    letter = DeadLetter.FromString(entry.value)
                    if letter.content == CONTENT_FIX and not letter.source_topic:
                        yield letter.raw, f"{where}, {letter.detail}"
                    continue
                kind = TradeBatch if segment.topic == topics["trades"] else FrameBatch
                try:
                    batch = kind.FromString(entry.value)
                except DecodeError:  # a test put it there, to see what becomes of it
                    continue
                if isinstance(batch, TradeBatch) and batch.redrive_of:
                    continue
                begin = 0
                for length in batch.frame_length:
                    yield batch.frames[begin : begin + length], where
                    begin += length

    def gaps(self) -> list[str]:
        """Where segments do not follow each other, or are not called after what they hold."""
        found = []
        behind: dict[tuple[str, str, int], int] = {}
        for key, segment in sorted(self.read().items()):
            offsets = [entry.offset for entry in segment.entries]
            expected = behind.get((segment.topic, segment.topic_id, segment.partition), 0)
            folder = f"{segment.topic}/{segment.topic_id}" if segment.topic_id else segment.topic
            name = f"{folder}/{segment.partition:04}/{expected:020}.segment"
            if not key.endswith(name) or offsets != list(range(expected, segment.next_offset)):
                found.append(f"{key} holds offsets {offsets[:1]}-{offsets[-1:]}; it should begin at {expected}")
            behind[segment.topic, segment.topic_id, segment.partition] = segment.next_offset
        return found


@contextmanager
def fresh_database(server: Redis) -> Iterator[str]:
    """An empty database of a shared Redis server, that nobody else has meanwhile.

    Raises:
        RuntimeError: all are taken.
    """
    with redis.Redis.from_url(server.url) as claims:
        for number in range(1, _DATABASES):
            claim = f"database-{number}"
            if claims.set(claim, "taken", nx=True):
                break
        else:
            raise RuntimeError(f"all databases of {server.title} are taken: a test has kept one")
        url = server.url.removesuffix("/0") + f"/{number}"
        try:
            with redis.Redis.from_url(url) as client:
                client.flushdb()
                yield url
                client.flushdb()
        finally:
            claims.delete(claim)
