"""The servers of a run: one Kafka, one Redis, the same for ours and for the peer."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import redis
from testbed.kafka import Kafka
from testbed.progress import say
from testbed.redis import Redis

from close import topics
from close.flow import PARTITIONS


class BenchKafka(Kafka):
    """The test bed's broker with the JVM that Kafka's own scripts start, which compiles for speed."""

    jvm: ClassVar[Sequence[str]] = (
        *("-server", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
        *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"),
    )


class Servers:
    """Kafka and Redis that run; topics get a number behind their names, so that no run meets another's."""

    def __init__(self, kafka: Kafka, redis_server: Redis, watch: topics.Watch) -> None:
        self.kafka = kafka
        self._watch = watch
        self.redis = redis_server
        self._numbers = itertools.count(1)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {"kafka": self.kafka.processes[0].pid, "redis": self.redis.processes[0].pid}

    def unique(self, name: str) -> str:
        """A name that nothing of this run has yet."""
        return f"{name}-{next(self._numbers)}"

    def topic(self, name: str) -> str:
        """A topic that stamps records when the broker appends them: the time at which a trade is safe."""
        made = self.unique(name)
        return self.kafka.create_topic(made, PARTITIONS, message_timestamp_type="LogAppendTime")

    def ends(self, topic: str) -> topics.Ends:
        """The offset behind each partition's last record."""
        return self._watch.ends(topic)

    def client(self) -> redis.Redis:
        """A client of Redis."""
        return redis.Redis.from_url(self.redis.url)


@contextmanager
def servers(folder: Path | None) -> Iterator[Servers]:
    """Servers whose data is in a folder of their own within `folder`, gone afterwards.

    Redis writes its log of changes once a second, as the chart of our stores has it; Kafka leaves it to the kernel when
    a record reaches the disk, which is its default.
    """
    home = Path(tempfile.mkdtemp(prefix="eod-bench-", dir=folder))
    say(f"starting Kafka and Redis in {home}")
    try:
        with (
            BenchKafka(home / "kafka") as kafka,
            Redis(home / "redis") as redis_server,
            topics.Watch(kafka.bootstrap, PARTITIONS) as watch,
        ):
            made = Servers(kafka, redis_server, watch)
            with made.client() as client:
                client.config_set("appendfsync", "everysec")
            yield made
    except BaseException:
        say(f"logs are kept in {home}")
        raise
    shutil.rmtree(home, ignore_errors=True)
