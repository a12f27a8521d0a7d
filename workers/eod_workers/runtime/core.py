"""What a consuming stage is to the batch loop: a synchronous core that takes records, and what it loads and keeps.

The loop keeps offsets, skips what is below them, decides when to flush, writes letters; a core only says what a record
means. All calls into a core are serialized, so it needs no locking of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from eod_contract.kinds import StageKind

from eod_workers.ports import Record, TopicPartition
from eod_workers.protos.dead_letter_pb2 import DeadLetter


@dataclass(frozen=True, slots=True)
class Offsets:
    """How far the owned partitions have been read.

    Attributes:
        next: partition → the offset behind the last record that was applied, or where reading was told to begin.
        fresh: those of them of which something was applied since they were last made durable.
    """

    next: Mapping[TopicPartition, int]
    fresh: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Starts:
    """Where reading begins.

    Attributes:
        next: partition → the offset, where that is not the committed one.
        outdated: partition → how far an earlier topic of the name had been read; this one is read from its beginning.
    """

    next: Mapping[TopicPartition, int] = field(default_factory=dict)
    outdated: Mapping[TopicPartition, int] = field(default_factory=dict)


class Refused(Exception):
    """The store takes some of what was applied under no circumstances; `letters` are about that."""

    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        super().__init__(f"{len(letters):,} rows are refused")
        self.letters = letters


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When what was applied is made durable: as soon as one of these is reached, also when nothing more comes.

    Attributes:
        seconds: that the oldest record has waited; 0 for after every batch.
        rows: that were applied, as the core counts them.
        size: of the records' values, in bytes.
    """

    seconds: float
    rows: int | None = None
    size: int | None = None


class Core(ABC):
    """The work of a stage that consumes."""

    kind: StageKind

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Loads what these partitions need.

        Args:
            partitions: which.
            topic_ids: of their topics; see `Log.topic_ids`.

        Raises:
            Unavailable: the store is away; it is called again.
        """
        del partitions, topic_ids
        return Starts()

    async def resume(self, source: TopicPartition, offset: int) -> tuple[int, int]:
        """Where to read on in a partition that was loaded, and behind what offset the store has nothing of it.

        Asked where somebody else than this stage has committed `offset`.

        Raises:
            Unavailable: the store is away; it is called again.
        """
        del source
        return offset, offset

    def lost(self, source: TopicPartition, first: int, end: int) -> None:
        """Told of records, first ≤ offset < end, that their topic has deleted before this stage had read them."""
        del source, first, end

    async def may_join(self) -> None:
        """Returns when the group may be joined.

        Raises:
            Unavailable: not yet; it is called again.
        """
        return

    @abstractmethod
    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Forgets these partitions; what was applied and is not durable will be read again by their next owner."""

    @abstractmethod
    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Takes a record in; returns how many rows it was.

        What of it cannot be used goes to `letters`. A stage whose kind writes letters may raise: `UndecodableBatch` for
        a record that is not to be read, anything else for what nobody expected. The loop makes a letter of the record.
        """

    def due(self, now: float) -> bool:
        """Whether there is something to make durable beside what was applied (`now` in monotonic seconds)."""
        del now
        return False

    @abstractmethod
    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Makes all that was applied durable; returns the offsets that may be committed.

        They may be beyond what was applied: records below them are skipped then. After `Unavailable` it is called again
        with the same offsets. `final`: the partitions go to somebody else now, postpone nothing. Nothing may be fresh
        then.

        Raises:
            Unavailable: the store is away.
            StaleEpoch: somebody else has taken a partition over.
            Refused: some of it cannot be stored, and is not to be again. It is called once more when the letters are on
                the log: only then may the offsets move.
        """
