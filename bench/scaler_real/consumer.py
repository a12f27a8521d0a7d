"""The process of one pod: a consumer of a real group that takes no more than so many records a second.

It imports, waits for its time, joins, consumes, and leaves in good order on SIGTERM. It tells what happens to it by
lines of JSON on standard output. Like the product's own stages it assigns by range, commits what it gives up, and drops
what it had read of partitions that a rebalance took from it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import time

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from eod_workers.adapters.kafka_join import await_beat, has_members

_SLICE_S = 0.1
"""Records are taken by so much of a second's worth."""
_POLL_MS = 200
_FETCH_WAIT_MS = 100
_PARTITION_BYTES = 8_192
"""Small, so that partitions take turns within about a second instead of one after the other to its end."""
_SESSION_MS = 10_000
_HEARTBEAT_MS = _SESSION_MS // 3


def tell(event: str, **more: object) -> None:
    """A line for the kubelet."""
    print(json.dumps({"event": event, "at_s": time.time(), **more}), flush=True)


class Replica(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One member of the group."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._done: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._epoch = 0
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap,
            group_id=options.group,
            client_id=options.name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_PARTITION_BYTES,
        )

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Commit what is done, and forget the rest."""
        self._epoch += 1
        if revoked:
            await self._commit()
            tell("revoked", partitions=len(revoked))
        self._done.clear()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin where the group is; a partition that was never committed is, so that all can see its lag."""
        self._epoch += 1
        for partition in assigned:
            if await self._consumer.committed(partition) is None:
                self._done[partition] = 0
        # aiokafka has no public way to the generation, which is what tells one rebalance from the next.
        generation = self._consumer._coordinator.generation  # noqa: SLF001
        tell("assigned", partitions=sorted(one.partition for one in assigned), generation=generation)

    async def run(self, stop: asyncio.Event) -> None:
        """Join, consume until told to stop, commit, leave."""
        self._consumer.subscribe([self._options.topic], listener=self)
        tell("joining")
        await self._consumer.start()
        commits = asyncio.create_task(self._commit_by_and_by())
        try:
            await self._consume(stop)
        finally:
            commits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await commits
            await self._commit()
            await self._consumer.stop()
            tell("left")

    async def _consume(self, stop: asyncio.Event) -> None:
        most = max(1, round(self._options.per_s * _SLICE_S))
        free_s = time.monotonic()
        while not stop.is_set():
            batch = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=most)
            count = sum(len(records) for records in batch.values())
            if not count:
                continue
            epoch = self._epoch
            free_s = max(free_s, time.monotonic() - _SLICE_S) + count / self._options.per_s
            await asyncio.sleep(max(0.0, free_s - time.monotonic()))
            if epoch == self._epoch:
                self._done.update({partition: records[-1].offset + 1 for partition, records in batch.items()})

    async def _commit_by_and_by(self) -> None:
        while True:
            await asyncio.sleep(self._options.commit_s)
            await self._commit()

    async def _commit(self) -> None:
        fresh = {partition: at for partition, at in self._done.items() if self._committed.get(partition) != at}
        if not fresh:
            return
        try:
            await self._consumer.commit(fresh)
        except KafkaError as error:  # of a rebalance that has begun: who owns them next reads them again
            tell("commit refused", error=type(error).__name__)
        else:
            self._committed.update(fresh)


async def may_join(options: argparse.Namespace) -> None:
    """Return when it is time to join; the product's own rule for the beat."""
    await asyncio.sleep(max(0.0, options.join_at - time.time()))
    if options.beat_s > 0:
        admin = AIOKafkaAdminClient(bootstrap_servers=options.bootstrap)
        await admin.start()
        try:
            others = await has_members(admin, options.group)
        finally:
            await admin.close()
        if others:
            await await_beat(options.beat_s, time.time())


async def serve(options: argparse.Namespace) -> None:
    """Wait for the time to join, then work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    told, waiting = asyncio.create_task(stop.wait()), asyncio.create_task(may_join(options))
    await asyncio.wait((told, waiting), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if stop.is_set():
        waiting.cancel()
        return
    await waiting  # or its error
    await Replica(options).run(stop)


def main() -> int:
    """Run one pod."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "group", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--per-s", type=float, required=True, help="records a second")
    parser.add_argument("--commit-s", type=float, required=True, help="seconds between two commits")
    parser.add_argument("--beat-s", type=float, default=0.0, help="join others at a multiple of it; 0 is at once")
    parser.add_argument("--join-at", type=float, required=True, help="epoch seconds")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of rebalances, which are what is measured here
    asyncio.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
