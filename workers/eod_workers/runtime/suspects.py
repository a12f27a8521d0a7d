"""Records over which a worker's process may have ended, before anything came of them.

What a core raises costs one record. What ends the process (a fault in a kernel, memory that runs out) ends the next
worker, too, which begins in front of the same record. So each says what it takes in hand, in what the group commits:
first all that comes; if a worker ended over that, what one poll brings; if one ended over that, each record by itself.
The record that three workers in turn have ended over is set apart. Whoever makes progress leaves all this behind: what
is said of records in front of the place where reading goes on counts no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eod_workers.ports import Attempt, Record

ENDED = 3
"""Workers in turn that end over one record before it is set apart."""
_WARY_RECORDS = 10_000
"""What may have been read and not yet durable when a worker ended that had said nothing of how far it was."""


@dataclass(slots=True)
class Suspects:
    """What is suspected in a partition at which a worker has ended.

    Attributes:
        found: what the last worker has said, which came no further; None once that is lived through.
        lived_through: records since, in pieces, that have ended nobody.
    """

    found: Attempt | None
    lived_through: int = 0

    def steps(self, records: Sequence[Record]) -> Iterator[Step]:
        """In which pieces to take records (of this partition, in order) in hand.

        Whoever asks for the next one has lived through those before it.
        """
        found = self.found
        if found is None:
            yield Step(records, Attempt(records[0].offset, None, 1))
            return
        if found.end is None:
            yield Step(records, Attempt(records[0].offset, records[-1].offset + 1, found.times + 1), alone=True)
            self.lived_through += len(records)
            if self.lived_through >= _WARY_RECORDS:
                self.found = None
            return
        before = [record for record in records if record.offset < found.first]
        if before:
            yield Step(before)
        within = [record for record in records if found.first <= record.offset < found.end]
        known = found.end - found.first == 1
        for record in within:
            if known and found.times >= ENDED:
                yield Step([record], alone=True, set_apart=found.times)
            else:
                yield Step([record], Attempt(record.offset, record.offset + 1, found.times + 1), alone=True)
        behind = [record for record in records if record.offset >= found.end]
        if behind or (within and within[-1].offset + 1 == found.end):
            self.found = None
        if behind:
            yield Step(behind, Attempt(behind[0].offset, None, 1))


@dataclass(frozen=True, slots=True)
class Step:
    """Records to be taken in hand together.

    Attributes:
        records: in order.
        said: what is committed of them first; None for nothing.
        alone: what comes of them is out before others are taken in hand.
        set_apart: how many workers have ended over this one: it becomes a letter; 0 if it is to be applied.
    """

    records: Sequence[Record]
    said: Attempt | None = None
    alone: bool = False
    set_apart: int = 0
