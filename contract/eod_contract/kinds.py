"""The kinds of stage, registered by name: what operator, demo and tests know of a stage is its row here.

Whoever adds a stage adds a row, a folder in the workers, and an entry point (group ``eod.stages``) that says where its
work begins. Where the name of a kind stands elsewhere, it has something that others do without: its sizes in the demo,
its store in a reconciliation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eod_contract.streams import LETTERS, PRICES, SESSIONS, TRADES, Stream

HTTP_PORT = 8080
"""Where every stage serves /livez, /readyz and /metrics."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """Defaults of one kind.

    Attributes:
        name: as in spec.stages[].kind and in `eod stage run NAME`.
        reads: the streams that it consumes; empty for one that consumes nothing and is sized by the calendar alone.
        writes: the streams that it appends to.
        needs: the stores that it uses: "state", "regulatory", "archive".
        ports: (name, number) of TCP ports besides `http`, exposed by its Service.
        grace_s: seconds that a replica has to drain when it is stopped: finish its batch, wait for the store, commit.
    """

    name: str
    reads: tuple[Stream, ...] = ()
    writes: tuple[Stream, ...] = ()
    needs: frozenset[str] = frozenset()
    ports: tuple[tuple[str, int], ...] = ()
    grace_s: int = 60

    @property
    def group(self) -> str:
        """Its consumer group, whose lag sizes it; "" for a kind that consumes nothing."""
        return self.name if self.reads else ""

    @property
    def consumes(self) -> tuple[str, ...]:
        """The topics that it consumes."""
        return tuple(stream.name for stream in self.reads)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that it cannot work without: what it consumes, or else what it appends to."""
        return self.consumes or tuple(stream.name for stream in self.writes)

    @property
    def args(self) -> tuple[str, ...]:
        """Arguments of the container, whose entrypoint is `eod`."""
        return ("stage", "run", self.name)


INGESTION = StageKind(
    "ingestion", writes=(TRADES, SESSIONS, LETTERS), needs=frozenset({"state"}), ports=(("fix", 9876),)
)
FLASH_PNL = StageKind("flash-pnl", reads=(TRADES, PRICES), writes=(LETTERS,), needs=frozenset({"state"}))
REGULATORY = StageKind("regulatory", reads=(TRADES,), writes=(LETTERS,), needs=frozenset({"regulatory"}))
ARCHIVE = StageKind("archive", reads=(TRADES, SESSIONS, LETTERS), needs=frozenset({"archive"}))
DEAD_LETTERS = StageKind("dead-letters", reads=(LETTERS,), needs=frozenset({"state"}))

KINDS: Mapping[str, StageKind] = MappingProxyType(
    {kind.name: kind for kind in (INGESTION, FLASH_PNL, REGULATORY, ARCHIVE, DEAD_LETTERS)}
)
"""All of them, by name, in the order of a trade's way."""
