"""The dead-letters stage: `trades.dlq` in, a browsable list out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping

import structlog
from eod_contract.kinds import DEAD_LETTERS
from eod_contract.streams import LETTERS

from eod_workers.dead_letters.index import (
    REDRIVEN_KEY,
    TOPIC_KEY,
    UNLISTED_KEY,
    PartitionList,
    Unlisted,
    index_key,
    line_of,
)
from eod_workers.dead_letters.settings import DeadLettersSettings
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import OUTCOMES_KEY, decode_letter
from eod_workers.ports import Log, Record, StateStore, StateWrites, TopicPartition, are_two, place
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.metrics import StoredMetrics
from eod_workers.runtime.stages import Service, Stage, StageContext

logger = structlog.get_logger()
_OF_EARLIER_RELEASES = ("dlq:index", "dlq:letters")
"""Keys that hold whole letters, without a limit."""


class DeadLetterCore(Core):
    """Letters that are not in the list yet: each is listed once under its id, however often it was written."""

    kind = DEAD_LETTERS

    def __init__(self, state: StateStore, log: Log, metrics: StoredMetrics, listed: int) -> None:
        """Lists them there, so many of all partitions."""
        self._state = state
        self._log = log
        self._metrics = metrics
        self._listed = listed
        self._most: dict[str, int] = {}
        self._lists: dict[TopicPartition, PartitionList] = {}
        self._fresh: defaultdict[TopicPartition, dict[str, bytes]] = defaultdict(dict)
        self._out: defaultdict[TopicPartition, set[str]] = defaultdict(set)

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Loads the lists. One that is not there is made anew, of all that is on the topic.

        So is one of a topic that was deleted: its letters are nowhere. That the store is away, or refuses us, is
        noticed now and not by the first letter.
        """
        for key in _OF_EARLIER_RELEASES:
            await self._state.delete(key)
        starts: dict[TopicPartition, int] = {}
        outdated: dict[TopicPartition, int] = {}
        listed_now: dict[str, bytes] = {}
        listed_of = await self._state.hash_get_all(TOPIC_KEY)
        for source in sorted(partitions):
            if source.topic not in self._most:
                count = await self._log.partition_count(source.topic)
                self._most[source.topic] = max(1, self._listed // count)
            lines = await self._state.hash_get_all(index_key(source.partition))
            number = str(source.partition)
            topic_id = topic_ids[source.topic]
            if lines and are_two(listed_of.get(number, b"").decode(), topic_id):
                outdated[source] = PartitionList(lines).end
                await self._state.delete(index_key(source.partition))
                lines = {}
            if topic_id and listed_of.get(number) != topic_id.encode():
                listed_now[number] = topic_id.encode()
            unlisted = await self._state.hash_get(UNLISTED_KEY, number)
            self._lists[source] = PartitionList(lines, Unlisted.read(unlisted if lines else None))
            if not lines:
                starts[source] = 0
                if unlisted is not None:  # they are counted anew
                    await self._state.write(StateWrites(gone={UNLISTED_KEY: [number]}))
        if listed_now:
            await self._state.write(StateWrites({TOPIC_KEY: listed_now}))
        return Starts(starts, outdated)

    async def resume(self, source: TopicPartition, offset: int) -> tuple[int, int]:
        """There: what is listed already is listed once. The latest letter that is, or was, says how far it came."""
        listed = self._lists[source]
        return offset, max(listed.end, listed.unlisted.until + 1)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored."""
        for source in partitions:
            self._lists.pop(source, None)
            self._fresh.pop(source, None)
            self._out.pop(source, None)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Decodes and summarizes.

        What is no letter, or one that nobody expected, stays on the topic and in the archive: there is none about it.
        """
        del letters
        self._metrics.processed.labels(self.kind.name).inc()
        at = place(record.source, record.offset)
        try:
            letter = decode_letter(record.value)
            line = line_of(letter, record)
        except UndecodableBatch as error:
            logger.error("dead_letters.undecodable", at=at, error=str(error))  # noqa: TRY400
            return 0
        except Exception:
            logger.exception("dead_letters.unexpected", at=at)
            return 0
        self._lists[record.source].add(letter.id, line)
        self._fresh[record.source][letter.id] = json.dumps(line).encode()
        return 1

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores all in one round trip, and takes out of the lists what has no room any more."""
        del final
        writes = StateWrites()
        for source, lines in self._fresh.items():
            known, key = self._lists[source], index_key(source.partition)
            out = self._out[source]
            out.update(known.take_out(self._most[source.topic], LETTERS.kept_ms))
            writes.fields[key] = {name: line for name, line in lines.items() if name not in out}
            if out:
                writes.gone[key] = sorted(out)
                for about in (REDRIVEN_KEY, OUTCOMES_KEY):
                    writes.gone.setdefault(about, []).extend(sorted(out))
                writes.fields.setdefault(UNLISTED_KEY, {})[str(source.partition)] = known.unlisted.stored()
        if writes.fields:
            await self._state.write(writes)
        self._fresh.clear()
        self._out.clear()
        return offsets.fresh


def start(context: StageContext[StoredMetrics], settings: DeadLettersSettings) -> Service:
    """The stage over the letters topic. It stores after every batch: letters are few and people wait for them."""
    core = DeadLetterCore(context.state, context.log, context.metrics, settings.listed_letters)
    return BatchLoop(core, context, settings, FlushPolicy(seconds=0.0))


STAGE = Stage(DEAD_LETTERS, start, DeadLettersSettings, metrics=StoredMetrics)
