"""Stages are registered by name: the entry-point group ``eod.stages`` maps a kind to the `Stage` that does its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from eod_contract.kinds import StageKind
from eod_contract.streams import LETTERS, PRICES, SESSIONS, TRADES

from eod_workers.ports import Clock, Log, ObjectArchive, RegulatoryStore, StateStore
from eod_workers.runtime.health import Health


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What a stage can be told. Topics and group default to those of its kind."""

    topics: tuple[str, ...] = ()
    group: str = ""
    trades_topic: str = TRADES.name
    prices_topic: str = PRICES.name
    letters_topic: str = LETTERS.name
    sessions_topic: str = SESSIONS.name
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
class Stage:
    """What does the work of a kind of stage.

    Attributes:
        kind: what it is to everybody else.
        start: makes one worker.
    """

    kind: StageKind
    start: Callable[[StageContext], Service]


def load_stages() -> dict[str, Stage]:
    """All registered stages, by the names of their kinds.

    Raises:
        ValueError: an entry point is not named as the kind of its stage.
    """
    stages: dict[str, Stage] = {}
    for point in entry_points(group="eod.stages"):
        stage: Stage = point.load()
        if stage.kind.name != point.name:
            raise ValueError(f"the entry point {point.name} ({point.value}) is a stage of kind {stage.kind.name}")
        stages[point.name] = stage
    return stages
