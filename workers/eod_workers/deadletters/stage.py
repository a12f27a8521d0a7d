"""The dead-letters stage: `trades.dlq` in, a browsable index out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import structlog
from eod_contract.kinds import DEAD_LETTERS

from eod_workers.deadletters.letters import REASONS, decode_letter
from eod_workers.ports import Record, StateWrites, TopicPartition
from eod_workers.protos.dead_letter_pb2 import REASON_UNKNOWN
from eod_workers.runtime import telemetry
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.runtime.variables import StageSettings
from eod_workers.trades.codec import UndecodableBatch

log = structlog.get_logger()
INDEX_KEY = "dlq:index"
"""Hash: letter id → JSON summary."""
LETTERS_KEY = "dlq:letters"
"""Hash: letter id → the `DeadLetter` itself."""
REDRIVEN_PREFIX = "dlq:redriven:"
"""Prefix of the keys that mark a letter as redriven."""


class DeadLetterHandler:
    """Stores each letter once under its id, however often it was written."""

    name = DEAD_LETTERS.name

    def __init__(self, context: StageContext) -> None:
        """Takes the state store of the context."""
        self._context = context
        self._writes = StateWrites()
        self._next: dict[TopicPartition, int] = {}

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Goes on at the committed offsets."""
        del partitions
        return {}

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what is not stored: the next owner reads it again."""
        for source in partitions:
            self._next.pop(source, None)
        self._writes = StateWrites()

    async def apply(self, records: Sequence[Record]) -> None:
        """Decodes and summarizes."""
        index = self._writes.fields.setdefault(INDEX_KEY, {})
        letters = self._writes.fields.setdefault(LETTERS_KEY, {})
        for record in records:
            self._next[record.source] = record.offset + 1
            try:
                letter = decode_letter(record.value)
            except UndecodableBatch as error:
                # It stays on the topic and in the archive; there is no letter to show.
                log.error("dead_letters.undecodable", offset=record.offset, error=str(error))  # noqa: TRY400
                continue
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
            index[letter.id] = json.dumps(summary).encode()
            letters[letter.id] = record.value
        telemetry.PROCESSED.labels(self.name).inc(len(records))

    def due(self, now: float) -> bool:
        """Every batch: letters are few and people wait for them."""
        del now
        return bool(self._next)

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores the batch in one round trip."""
        del final
        if any(self._writes.fields.values()):
            await self._context.state.write(self._writes)
        self._writes = StateWrites()
        committed = dict(self._next)
        self._next.clear()
        return committed


def start(context: StageContext, settings: StageSettings) -> Service:
    """The stage over the letters topic."""
    consumer = context.log.consumer(settings.consumed(DEAD_LETTERS), settings.group_of(DEAD_LETTERS))
    return BatchLoop(DeadLetterHandler(context), consumer, context.clock, context.health)


STAGE = Stage(DEAD_LETTERS, start)
