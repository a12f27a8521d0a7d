"""The dead-letters stage: `trades.dlq` in, a browsable index out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping

import structlog
from eod_contract.kinds import DEAD_LETTERS

from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import REASONS, decode_letter
from eod_workers.ports import Record, StateStore, StateWrites, TopicPartition
from eod_workers.protos.dead_letter_pb2 import REASON_UNKNOWN, DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets
from eod_workers.runtime.metrics import StoredMetrics
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.runtime.variables import StageSettings

logger = structlog.get_logger()
INDEX_KEY = "dlq:index"
"""Hash: letter id → JSON summary."""
LETTERS_KEY = "dlq:letters"
"""Hash: letter id → the `DeadLetter` itself."""
REDRIVEN_PREFIX = "dlq:redriven:"
"""Prefix of the keys that mark a letter as redriven."""


class DeadLetterCore(Core):
    """Letters that are not in the index yet: each is stored once under its id, however often it was written."""

    kind = DEAD_LETTERS

    def __init__(self, state: StateStore, metrics: StoredMetrics) -> None:
        """Stores them there."""
        self._state = state
        self._metrics = metrics
        self._letters: defaultdict[TopicPartition, dict[str, tuple[bytes, bytes]]] = defaultdict(dict)

    async def load(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Asks the store for something: that it is away, or refuses us, is noticed now and not by the first letter."""
        await self._state.get(INDEX_KEY + ":asked")
        return await super().load(partitions)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored."""
        for source in partitions:
            self._letters.pop(source, None)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Decodes and summarizes. What is no letter stays on the topic and in the archive: there is none about it."""
        del letters
        self._metrics.processed.labels(self.kind.name).inc()
        try:
            letter = decode_letter(record.value)
        except UndecodableBatch as error:
            logger.error("dead_letters.undecodable", offset=record.offset, error=str(error))  # noqa: TRY400
            return 0
        summary = {
            "reason": REASONS.get(letter.reason, REASONS[REASON_UNKNOWN]),  # a later release may know more
            "detail": letter.detail,
            "stage": letter.stage,
            "session": letter.session,
            "msg_seq_num": letter.msg_seq_num,
            "source": f"{letter.source_topic}[{letter.source_partition}]@{letter.source_offset}"
            if letter.source_topic
            else "",
            "bytes": len(letter.raw),
            "received_at_ns": letter.received_at_ns,
        }
        self._letters[record.source][letter.id] = json.dumps(summary).encode(), record.value
        return 1

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores all in one round trip."""
        del final
        found = {name: both for some in self._letters.values() for name, both in some.items()}
        if found:
            index = {name: summary for name, (summary, _) in found.items()}
            await self._state.write(StateWrites({INDEX_KEY: index, LETTERS_KEY: {n: v for n, (_, v) in found.items()}}))
        self._letters.clear()
        return offsets.fresh


def start(context: StageContext[StoredMetrics], settings: StageSettings) -> Service:
    """The stage over the letters topic. It stores after every batch: letters are few and people wait for them."""
    return BatchLoop(DeadLetterCore(context.state, context.metrics), context, settings, FlushPolicy(seconds=0.0))


STAGE = Stage(DEAD_LETTERS, start, metrics=StoredMetrics)
