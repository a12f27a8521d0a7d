"""Stages are registered by name: the entry-point group ``eod.stages`` maps a kind to the `Stage` that does its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from secrets import token_hex
from typing import Any, Generic, TypeVar

from eod_contract.kinds import KINDS, StageKind

from eod_workers.ports import Clock, Log, Network, ObjectArchive, RegulatoryStore, StateStore
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import LoopMetrics, Metrics
from eod_workers.runtime.variables import StageSettings, TopicNames


def _ignore(_received_at_ns: Sequence[int], _published_at_ns: int) -> None:
    """Nobody listens."""


def _draw() -> str:
    return token_hex(8)


@dataclass(slots=True, kw_only=True)
class Ports:
    """The world outside. A port that this deployment has not configured raises on use, naming the setting."""

    log: Log
    state: StateStore
    regulatory: RegulatoryStore
    archive: ObjectArchive
    clock: Clock
    network: Network
    published: Callable[[Sequence[int], int], None] = _ignore
    """Told of each P&L publication: when the trades behind it were received, and when it was published."""
    draw_name: Callable[[], str] = _draw
    """Names that nobody else has drawn, here or in another process."""


@dataclass(slots=True, kw_only=True)
class Context(Ports):
    """The world outside, and what the streams are called in it: what commands work with."""

    topics: TopicNames


MetricsT_co = TypeVar("MetricsT_co", bound=Metrics, covariant=True)


@dataclass(slots=True, kw_only=True)
class StageContext(Context, Generic[MetricsT_co]):
    """What a worker of a stage works with."""

    metrics: MetricsT_co
    health: Health = field(default_factory=Health)


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
        start: makes one worker; ValueError if it cannot work as it was told.
        settings: the model of what it can be told.
        metrics: makes what it counts.
    """

    kind: StageKind
    start: Callable[[StageContext[Any], Any], Service]
    settings: type[StageSettings] = StageSettings
    metrics: Callable[[], Metrics] = LoopMetrics


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of a stage, which runs when its service does."""

    service: Service
    health: Health
    metrics: Metrics


def assemble(stage: Stage, settings: StageSettings, ports: Ports, metrics: Metrics | None = None) -> Worker:
    """Makes a worker: the one way in which stages, what they are told and the world outside come together.

    Args:
        stage: what is to be done.
        settings: of the stage's own model.
        ports: shared with others of the same process, if there are any.
        metrics: of the stage, if several workers share them.

    Raises:
        ValueError: it cannot work as it was told.
    """
    outside = {one.name: getattr(ports, one.name) for one in fields(Ports)}
    context = StageContext(**outside, topics=settings, metrics=metrics or stage.metrics())
    return Worker(stage.start(context, settings), context.health, context.metrics)


def load_stages() -> dict[str, Stage]:
    """All registered stages, by the names of their kinds and in their order.

    Raises:
        ValueError: an entry point is not named as the kind of its stage, or that kind is in no row of the table.
    """
    stages = {point.name: _loaded(point) for point in entry_points(group="eod.stages")}
    return {name: stages[name] for name in KINDS if name in stages}


def load_stage(name: str) -> Stage | None:
    """The registered stage of a kind, without a look at the others; None if there is none.

    Raises:
        ValueError: as `load_stages`.
    """
    return next((_loaded(point) for point in entry_points(group="eod.stages") if point.name == name), None)


def _loaded(point: EntryPoint) -> Stage:
    stage: Stage = point.load()
    if stage.kind.name != point.name:
        raise ValueError(f"the entry point {point.name} ({point.value}) is a stage of kind {stage.kind.name}")
    if KINDS.get(point.name) != stage.kind:
        raise ValueError(f"the kind of the stage {point.name} ({point.value}) is not in eod_contract.kinds.KINDS")
    return stage
