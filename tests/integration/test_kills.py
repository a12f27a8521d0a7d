"""Whatever is killed in the middle of a close, the stores hold the same as if nothing had happened.

One pipeline serves all tests of this module but the last; each test sends a close of its own with traders of its own.
"""

import json
import signal
import sqlite3
import string
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import known_close
from support.counterparty import MARKS_E8, Close
from support.patience import eventually_nothing
from support.pipeline import KINDS, PARTITIONS, Pipeline, Stage, fresh_database
from testbed.kafka import Kafka
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3

REPORTS = 6_000
PER_S = 2_000
WRITERS = ("ingestion", "flash-pnl", "regulatory", "archive")
TAGS = string.ascii_uppercase


@pytest.fixture(scope="module")
def shared(
    kafka: Kafka, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """A pipeline that lives as long as this module."""
    folder = tmp_path_factory.mktemp("kills")
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(folder.name, kafka.bootstrap, url, s3_server, folder, known_close.reference(TAGS))
        with pipeline.running():
            pipeline.mark(MARKS_E8)
            yield pipeline


@pytest.fixture(scope="module")
def tags() -> Iterator[str]:
    """Tags of closes, each used once."""
    return iter(TAGS)


@pytest.fixture
def close(shared: Pipeline, quickfixj: QuickFixJ, tags: Iterator[str]) -> Iterator[Close]:
    """A close that has just begun, on a pipeline whose stages all run."""
    for stage in shared.stages.values():
        if not stage.alive:
            stage.start()
    shared.await_ready()
    tag = next(tags)
    with Close(shared, quickfixj, tag=tag, count=REPORTS, per_s=PER_S, seed=ord(tag)) as close:
        yield close


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_kill_minus_nine_of_a_stage_changes_nothing(shared: Pipeline, close: Close, kind: str) -> None:
    close.await_sent(0.4)
    shared.stages[kind].kill()
    close.await_sent(0.6)
    shared.stages[kind].restart()
    close.finish()
    close.check(disturbed=kind == "ingestion")


def test_kill_minus_nine_of_every_stage_in_turn_changes_nothing(shared: Pipeline, close: Close) -> None:
    """No pause between them: the next is killed while the one before is still starting."""
    for number, kind in enumerate(KINDS):
        close.await_sent(0.15 * (number + 1))
        shared.stages[kind].kill()
        shared.stages[kind].start()
    close.finish()
    shared.await_ready()
    close.check(disturbed=True)


@pytest.mark.slow
def test_sigterm_to_every_stage_in_turn_drains_and_loses_nothing(shared: Pipeline, close: Close) -> None:
    for number, kind in enumerate(KINDS):
        close.await_sent(0.15 * (number + 1))
        assert shared.stages[kind].terminate() == 0, kind
        shared.stages[kind].start()
    close.finish()
    close.check(disturbed=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flash-pnl", "regulatory", "archive"])
def test_a_worker_that_is_frozen_replaced_and_woken_changes_nothing(shared: Pipeline, close: Close, kind: str) -> None:
    """Two workers share the partitions; one stops answering, loses its own, and comes back with work half done."""
    frozen = shared.stages[kind]
    with shared.helper(kind) as helper:
        close.await_sent(0.3)
        _freeze(frozen, shared)
        try:
            eventually_nothing(lambda: _owned(helper) < PARTITIONS and "the helper has not all partitions", 20)
        finally:
            frozen.signal(signal.SIGCONT)
        close.finish()
        close.check()
        assert helper.terminate() == 0
    frozen.await_ready()
    assert "stage.partitions_lost" in frozen.log.read_text() or frozen.log.read_text().count("stage.assigned") > 2


def _owned(stage: Stage) -> int:
    """How many partitions of `trades.raw` a stage was last assigned."""
    said = [json.loads(line) for line in stage.log.read_text().splitlines() if '"stage.assigned"' in line]
    topics = {"flash-pnl": 2, "regulatory": 1, "archive": 3}[stage.kind]
    return said[-1]["partitions"] // topics if said else 0


def _freeze(stage: Stage, pipeline: Pipeline) -> None:
    """Stop a stage, but not amid a transaction of SQLite's: nobody could write before it comes back."""
    for _ in range(100):
        stage.signal(signal.SIGSTOP)
        eventually_nothing(lambda: not _is_stopped(stage.pid) and "it is not stopped", 10)
        if stage.kind != "regulatory" or _may_be_written(pipeline.sql):
            return
        stage.signal(signal.SIGCONT)
        eventually_nothing(lambda: not _may_be_written(pipeline.sql) and "its transaction does not end", 20)
    raise AssertionError("it was amid a transaction a hundred times")


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _may_be_written(database: Path) -> bool:
    """Whether nobody keeps the write lock; transactions take milliseconds."""
    with closing(sqlite3.connect(database, timeout=2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


@pytest.mark.slow
def test_kill_minus_nine_of_kafka_changes_nothing(
    own_kafka: Kafka,
    redis_server: Redis,
    s3_server: S3,
    quickfixj: QuickFixJ,
    unique: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """No stage is restarted: each of them waits for the broker and goes on."""
    folder = tmp_path_factory.mktemp("kafka-killed")
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(unique, own_kafka.bootstrap, url, s3_server, folder, known_close.reference("A"))
        with (
            pipeline.running(),
            Close(pipeline, quickfixj, tag="A", count=REPORTS, per_s=PER_S, seed=1) as close,
        ):
            pipeline.mark(MARKS_E8)
            close.await_sent(0.4)
            own_kafka.kill()
            close.await_sent(0.8)
            own_kafka.start()
            close.finish()
            close.check(disturbed=True)
            assert all(stage.alive for stage in pipeline.stages.values())
