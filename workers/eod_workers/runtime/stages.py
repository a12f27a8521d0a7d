"""Stages are registered by name: the entry-point group ``eod.stages`` maps a kind to its `StageKind`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from eod_workers.ports import Clock, Log, ObjectArchive, RegulatoryStore, StateStore
from eod_workers.runtime.health import Health


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a stage can be told. Topics and group default to those of its kind."""

    topics: tuple[str, ...] = ()
    group: str = ""
    trades_topic: str = "trades.raw"
    prices_topic: str = "prices.updates"
    letters_topic: str = "trades.dlq"
    sessions_topic: str = "sessions.raw"
    fix_host: str = "127.0.0.1"
    fix_port: int = 9876
    fix_comp_id: str = "EOD"
    fix_counterparties: frozenset[str] = frozenset()
    linger_s: float = 0.004
    publish_interval_s: float = 0.1
    snapshot_interval_s: float = 5.0
    flush_rows: int = 5_000
    flush_interval_s: float = 5.0
    segment_bytes: int = 4 << 20
    reference_file: str = ""


def _ignore(_received_at_ns: Sequence[int], _published_at_ns: int) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class StageContext:
    """The ports a stage may use. A port that this deployment has not configured raises on use, naming the setting."""

    options: StageOptions
    log: Log
    state: StateStore
    regulatory: RegulatoryStore
    archive: ObjectArchive
    clock: Clock
    health: Health = field(default_factory=Health)
    published: Callable[[Sequence[int], int], None] = _ignore
    """Told of each P&L publication: when the trades behind it were received, and when it was published."""


class Service(ABC):
    """Something that runs until it is told to stop, and then drains."""

    @abstractmethod
    async def run(self) -> None:
        """Works until `stop`; returns when everything taken in is finished."""

    @abstractmethod
    async def stop(self) -> None:
        """Asks `run` to drain and return."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """A registered kind of stage.

    Attributes:
        name: what it is called everywhere.
        topics: what it consumes; empty for a stage that does not consume the log.
        group: its consumer group; empty likewise.
        start: makes one worker.
        needs: the ports it uses beside the log: "state", "regulatory", "archive".
    """

    name: str
    topics: tuple[str, ...]
    group: str
    start: Callable[[StageContext], Service]
    needs: frozenset[str] = frozenset()


def load_stages() -> dict[str, StageKind]:
    """All registered kinds, by name."""
    return {point.name: point.load() for point in entry_points(group="eod.stages")}
