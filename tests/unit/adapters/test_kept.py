"""Log and state with a file behind them: what was acknowledged outlives the process, and nothing is shown before."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eod_workers.adapters import kept_log, kept_state
from eod_workers.adapters.keeper import InUse, Keeper
from eod_workers.adapters.kept_log import KeptLog
from eod_workers.adapters.kept_state import KeptState
from eod_workers.ports import Record, StateWrites, TopicPartition, TopicSpec, Unavailable
from support.patience import soon

pytestmark = pytest.mark.timeout(60)
SCHEMA = (*kept_log.SCHEMA, *kept_state.SCHEMA)
SOURCE = TopicPartition("t", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[KeptLog, KeptState, Keeper]]:
    """What one process has of the file."""
    keeper = Keeper(path, SCHEMA)
    log, state = KeptLog(keeper), KeptState(keeper)
    yield log, state, keeper
    await log.close()
    await state.close()
    await keeper.close()


async def everything(log: KeptLog, topic: str = "t") -> list[Record]:
    """The records of a topic."""
    ends = await log.end_offsets(topic)
    return [record for number, end in ends.items() async for record in log.read(TopicPartition(topic, number), 0, end)]


class Nothing:
    """A listener that has nothing to do."""

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        del partitions

    async def assigned(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        del partitions
        return {}


async def test_records_topics_and_offsets_are_there_again(path: Path) -> None:
    async with opened(path) as (log, _, _):
        await log.ensure_topics([TopicSpec("t", 3), TopicSpec("other", 1)])
        producer = await log.producer()
        sent = [
            await producer.send(
                "t", number % 3, b"%d" % number, key=b"k" if number % 2 else None, headers=[("h", b"\xff")]
            )
            for number in range(7)
        ]
        await asyncio.gather(*sent)
        consumer = log.consumer(["t"], "g")
        await consumer.start(Nothing())
        while (await log.committed("g", "t")).get(1) != 1:
            for record in await consumer.poll(1, 0.1):
                if record.partition == 1:
                    await consumer.commit({record.source: record.offset + 1})
                    break
        await consumer.close()
        before = await everything(log)
    async with opened(path) as (log, _, _):
        assert await everything(log) == before
        assert [record.value for record in before] == [b"0", b"3", b"6", b"1", b"4", b"2", b"5"]
        assert before[3].key == b"k"
        assert before[0].headers == (("h", b"\xff"),)
        assert await log.committed("g", "t") == {1: 1}
        assert [await log.partition_count(topic) for topic in ("t", "other")] == [3, 1]
        with pytest.raises(ValueError, match="has 3 partitions"):
            await log.ensure_topics([TopicSpec("t", 4)])
        producer = await log.producer()
        assert (await (await producer.send("t", 0, b"next"))).offset == 3


async def test_state_of_every_kind_is_there_again(path: Path) -> None:
    async with opened(path) as (_, state, _):
        await state.put("value", b"1")
        await state.put_if_newer("versioned", 7, b"v7")
        assert not await state.put_if_newer("versioned", 6, b"v6")
        taken = await state.take_over("taken", 100)
        await state.put_if_absent("once", b"")
        for fields in ({"a": b"1", "b": b"2"}, {"b": b"3", "c": b""}):
            await state.write(StateWrites(fields={"hash": fields}))
        await state.write(StateWrites(fields={"gone": {"a": b"1"}}))
        await state.delete("gone")
        await state.put("kind", b"1")
        await state.delete("kind")
        await state.write(StateWrites(fields={"kind": {"now": b"a hash"}}))
    async with opened(path) as (_, state, _):
        assert await state.keys("") == ["hash", "kind", "once", "taken", "value", "versioned"]
        assert (await state.get("value"), await state.get("once")) == (b"1", b"")
        assert await state.get_versioned("versioned") == (7, b"v7")
        assert await state.get_versioned("taken") == (taken.version, b"")
        assert await state.hash_get_all("hash") == {"a": b"1", "b": b"3", "c": b""}
        assert await state.hash_get_all("kind") == {"now": b"a hash"}
        assert not await state.put_if_absent("once", b"again")


async def test_nobody_sees_a_record_before_it_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that acts on a record which a crash takes back would act on another one at the same offset later."""
    may_go, begun = threading.Event(), threading.Event()
    real = Keeper._commit

    def slow(self: Keeper, *args: object) -> None:
        begun.set()
        may_go.wait(20)
        real(self, *args)  # type: ignore[arg-type]

    async with opened(path) as (log, _, _):
        await log.ensure_topics([TopicSpec("t", 1)])
        producer = await log.producer()
        monkeypatch.setattr(Keeper, "_commit", slow)
        appended = [await producer.send("t", 0, b"%d" % number) for number in range(3)]
        await soon(begun.is_set, "the transaction has begun")
        assert (await log.end_offsets("t"), [one.done() for one in appended]) == ({0: 0}, [False] * 3)
        may_go.set()
        assert [(await one).offset for one in appended] == [0, 1, 2]
        assert [record.value for record in await everything(log)] == [b"0", b"1", b"2"]


async def test_a_disk_that_is_full_loses_nothing_that_was_acknowledged_and_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as (log, state, _):
        await log.ensure_topics([TopicSpec("t", 1)])
        producer = await log.producer()
        await (await producer.send("t", 0, b"first"))
        real = Keeper._commit

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Keeper, "_commit", full)
        lost = [await producer.send("t", 0, b"lost") for _ in range(2)]
        for one in lost:
            with pytest.raises(Unavailable, match="disk is full"):
                await one
        with pytest.raises(Unavailable, match="an earlier record was not kept"):
            await producer.send("t", 0, b"behind it")
        with pytest.raises(Unavailable, match="disk is full"):
            await state.put_if_absent("claim", b"1")
        await producer.close()
        monkeypatch.setattr(Keeper, "_commit", real)
        producer = await log.producer()
        assert (await (await producer.send("t", 0, b"second"))).offset == 1
        assert await state.put_if_absent("claim", b"2")
    async with opened(path) as (log, state, _):
        assert [record.value for record in await everything(log)] == [b"first", b"second"]
        assert await state.get("claim") == b"2"


WRITER = """
import asyncio, sys
from pathlib import Path
from eod_workers.adapters import kept_log, kept_state
from eod_workers.adapters.keeper import Keeper
from eod_workers.adapters.kept_log import KeptLog
from eod_workers.ports import TopicSpec

async def main():
    log = KeptLog(Keeper(Path(sys.argv[1]), (*kept_log.SCHEMA, *kept_state.SCHEMA)))
    await log.ensure_topics([TopicSpec("t", 1)])
    producer = await log.producer()
    begin = (await log.end_offsets("t"))[0]
    def tell(future):
        print(future.result().offset, flush=True)
    for number in range(begin, begin + 1_000_000):
        (await producer.send("t", 0, b"%d" % number)).add_done_callback(tell)
        await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_has_kept_all_that_it_acknowledged(path: Path) -> None:
    last = -1
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        assert told == list(range(last + 1, told[-1] + 1))
        async with opened(path) as (log, _, _):
            kept = [int(record.value) for record in await everything(log)]
        assert kept == list(range(len(kept)))
        assert len(kept) > told[-1] > last
        last = len(kept) - 1


async def test_a_second_process_is_refused_while_the_first_one_has_the_file(path: Path) -> None:
    async with opened(path) as (log, _, _):
        await log.ensure_topics([TopicSpec("t", 1)])
        with pytest.raises(InUse, match=r"log.sqlite is in use by another process"):
            Keeper(path, SCHEMA)
    async with opened(path):
        pass


def test_a_file_that_is_no_database_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(ValueError, match=r"log.sqlite cannot be read"):
        Keeper(path, SCHEMA)
    with pytest.raises(ValueError, match="cannot be opened"):
        Keeper(tmp_path / "nowhere" / "log.sqlite", SCHEMA)


async def test_a_full_topic_makes_senders_wait_until_it_is_read(path: Path) -> None:
    keeper = Keeper(path, SCHEMA)
    log = KeptLog(keeper, max_unread_bytes=10)
    await log.ensure_topics([TopicSpec("t", 1)])
    consumer = log.consumer(["t"], "g")
    await consumer.start(Nothing())
    producer = await log.producer()
    await (await producer.send("t", 0, b"x" * 10))
    waiting = asyncio.create_task(producer.send("t", 0, b"y"))
    (record,) = await consumer.poll(10, 1)
    assert not waiting.done()
    await consumer.commit({record.source: 1})
    assert (await (await waiting)).offset == 1
    stuck = asyncio.create_task(producer.send("t", 0, b"z" * 10))
    await (await stuck)
    refused = asyncio.create_task(producer.send("t", 0, b"w"))
    await asyncio.sleep(0)
    await consumer.close()
    await log.close()
    with pytest.raises(RuntimeError, match="the log was closed"):
        await refused
    await keeper.close()
