"""What was cut and is not acknowledged whole: whose numbers may be saved, also while a partition has no leader.

A session waits for its own records. While nobody leads some partition, those that have sent something for it keep their
numbers, and all others' move on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.tenure import Tenure
from eod_workers.ports import Appended, TopicPartition
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.trades.codec import read_trades

Numbers = dict[str, tuple[Tenure, SequenceNumbers]]
"""Session → whose numbers they are, and the numbers at a cut."""


@dataclass(slots=True)
class SentRecord:
    """A record on its way.

    Attributes:
        acknowledged: by the log.
        source: where to.
        of: whose it is: sessions, or the `TradeBatch` that names them.
        size: its share of the generation's memory, in bytes.
    """

    acknowledged: asyncio.Future[Appended]
    source: TopicPartition
    of: frozenset[str] | bytes
    size: int = 0

    def sessions(self) -> frozenset[str]:
        """Whose it is; of trades that is only looked up when it matters. Who has not logged on is no session."""
        if isinstance(self.of, bytes):
            rows = read_trades(self.of)
            self.of = frozenset(rows.named(rows.columns.session))
        return self.of - {""}


@dataclass(slots=True)
class Generation:
    """One cut.

    Attributes:
        number: the first is 1.
        records: those that are not acknowledged, as far as was looked.
        acknowledged: all of them.
        numbers: of the sessions, to be saved once it and all before it are acknowledged.
        letters: that are among the records.
        size: memory for what is not acknowledged, in bytes.
        waits: what is missing is for partitions that nobody leads, or was at a look.
    """

    number: int
    records: list[SentRecord]
    acknowledged: asyncio.Future[list[Appended]]
    numbers: Numbers
    letters: list[DeadLetter]
    size: int
    waits: bool = False

    def pending(self) -> list[SentRecord]:
        """The records that are not acknowledged.

        Raises:
            Unavailable: one never will be.
        """
        for one in self.records:
            if one.acknowledged.done():
                one.acknowledged.result()
        self.records = [one for one in self.records if not one.acknowledged.done()]
        return self.records


@dataclass(slots=True)
class Settled:
    """What has been acknowledged since the last look.

    Attributes:
        numbers: to be saved.
        letters: that the log has.
        freed: memory in bytes.
        waiting: generations that from now on wait for partitions that nobody leads.
    """

    numbers: Numbers = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    freed: int = 0
    waiting: int = 0


class Generations:
    """Those that are not acknowledged whole, in order.

    Attributes:
        settled_to: number of the last one of which everything is acknowledged, but what waits for a leader.
        waiting: sessions with something that does.
        waiting_bytes: memory for it.
    """

    def __init__(self) -> None:
        self.settled_to = 0
        self.waiting: frozenset[str] = frozenset()
        self.waiting_bytes = 0
        self._open: deque[Generation] = deque()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._open)

    @property
    def oldest(self) -> Generation:
        """The first that is not acknowledged whole."""
        return self._open[0]

    def add(self, generation: Generation) -> None:
        """Adds the latest."""
        self._open.append(generation)

    def settle(self, without: Collection[TopicPartition]) -> Settled:
        """Takes what is acknowledged.

        Args:
            without: partitions that nobody leads.

        Raises:
            Unavailable: a record never will be acknowledged.
        """
        settled = Settled()
        waiting: set[str] = set()
        left: deque[Generation] = deque()
        while self._open:
            generation = self._open[0]
            pending = generation.pending()
            if any(one.source not in without for one in pending):
                break
            self._open.popleft()
            self.settled_to = max(self.settled_to, generation.number)
            for one in pending:
                waiting |= one.sessions()
            kept = {name: numbers for name, numbers in generation.numbers.items() if name in waiting}
            settled.numbers |= {name: n for name, n in generation.numbers.items() if name not in waiting}
            if pending:
                settled.waiting += not generation.waits
                generation.waits, generation.numbers = True, kept
                left.append(generation)
            elif kept:
                left[-1].numbers |= kept  # which are reached as soon as what they wait for is acknowledged
            if not pending:
                settled.letters += generation.letters
            rest = sum(one.size for one in pending)
            settled.freed += generation.size - rest
            generation.size = rest
        self._open = left + self._open
        waited = [one for one in self._open if one.waits]  # some of them for what is led again, and on its way
        self.waiting = frozenset(name for one in waited for record in one.pending() for name in record.sessions())
        self.waiting_bytes = sum(one.size for one in waited)
        return settled
