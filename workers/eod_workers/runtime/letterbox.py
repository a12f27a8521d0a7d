"""How a consuming stage writes dead letters: appended at once, acknowledged before its offsets are committed."""

from __future__ import annotations

import asyncio

from eod_workers.deadletters.letters import REASONS
from eod_workers.ports import Appended, Producer
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime import telemetry
from eod_workers.runtime.stages import StageContext
from eod_workers.trades.partitioner import partition_of


class Letterbox:
    """Dead letters of one stage. The producer is made with the first letter, since most stages never write one."""

    def __init__(self, context: StageContext, stage: str) -> None:
        """Takes the log and the letters topic of the context."""
        self._context = context
        self._stage = stage
        self._producer: Producer | None = None
        self._partitions = 0
        self._unacknowledged: list[tuple[DeadLetter, asyncio.Future[Appended]]] = []

    async def send(self, letter: DeadLetter) -> None:
        """Appends a letter.

        Raises:
            Unavailable: the log cannot be reached; nothing was appended.
        """
        telemetry.DEAD_LETTERS.labels(self._stage, REASONS[letter.reason]).inc()
        self._unacknowledged.append((letter, await self._append(letter)))

    async def _append(self, letter: DeadLetter) -> asyncio.Future[Appended]:
        topic = self._context.options.letters_topic
        if self._producer is None:
            self._partitions = await self._context.log.partition_count(topic)
            self._producer = await self._context.log.producer()
        partition = partition_of(letter.id, self._partitions)
        return await self._producer.send(topic, partition, letter.SerializeToString(), key=letter.id.encode())

    async def flush(self) -> None:
        """Returns once every letter is acknowledged; those that failed are appended again first.

        Raises:
            Unavailable: the log cannot be reached; call again.
        """
        while self._unacknowledged:
            letter, ack = self._unacknowledged[0]
            if ack.done() and ack.exception() is not None:
                ack = await self._append(letter)
                self._unacknowledged[0] = (letter, ack)
            await ack
            self._unacknowledged.pop(0)

    async def close(self) -> None:
        """Closes the producer, if there is one."""
        if self._producer is not None:
            await self._producer.close()
            self._producer = None
