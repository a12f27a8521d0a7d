"""How a consuming stage writes dead letters: collected while a batch is applied, on the log before it is committed."""

from __future__ import annotations

import asyncio

from eod_workers.appends import acknowledged
from eod_workers.letters import REASONS, send_letter
from eod_workers.ports import Appended, Producer, Unavailable
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.metrics import LoopMetrics
from eod_workers.runtime.stages import StageContext


class Letterbox:
    """Dead letters of one stage. The producer is made with the first letter, since most stages never write one."""

    def __init__(self, context: StageContext[LoopMetrics], stage: str) -> None:
        """Takes the log and the letters topic of the context."""
        self._context = context
        self._stage = stage
        self._producer: Producer | None = None
        self._partitions = 0
        self._letters: list[DeadLetter] = []

    def add(self, letter: DeadLetter) -> None:
        """Keeps a letter for the next flush. It cannot fail: a batch that was applied in part is not applied again."""
        self._context.metrics.dead_letters.labels(self._stage, REASONS[letter.reason]).inc()
        self._letters.append(letter)

    async def _append(self, letter: DeadLetter) -> asyncio.Future[Appended]:
        topic = self._context.topics.letters_topic
        if self._producer is None:
            self._partitions = await self._context.log.partition_count(topic)
            self._producer = await self._context.log.producer()
        return await send_letter(self._producer, topic, letter, self._partitions)

    async def flush(self) -> None:
        """Returns once every letter is acknowledged.

        Raises:
            Unavailable: the log cannot be reached; call again. A letter that is appended twice has the same id.
        """
        if not self._letters:
            return
        acks: list[asyncio.Future[Appended]] = []
        try:
            for letter in self._letters:
                acks.append(await self._append(letter))  # noqa: PERF401 - those sent before a failure must be awaited
            if self._producer is not None:
                await acknowledged(self._producer, acks)
        except Unavailable:
            await self.close()  # a producer that has given up a record takes no other
            await asyncio.gather(*acks, return_exceptions=True)
            raise
        self._letters.clear()

    async def close(self) -> None:
        """Closes the producer, if there is one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()
