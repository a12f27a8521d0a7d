"""The kinds of stage, registered by name: this table is all that the operator knows of them.

Whoever adds a stage to the workers adds a row here and regenerates the CRD; nothing else asks for a kind's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HTTP_PORT = 8080
"""Where every stage serves /livez, /readyz and /metrics."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """Defaults of one kind.

    Attributes:
        name: as in spec.stages[].kind and in `eod stage run NAME`.
        topics: what it reads; what it writes, when it has no group (their existence is checked either way).
        group: consumer group, whose lag sizes the stage; None for one that consumes nothing and is sized by the
            calendar alone.
        ports: (name, number) of TCP ports besides `http`, exposed by its Service.
        grace_s: seconds that a replica has to drain when it is stopped: finish its batch, wait for the store, commit.
    """

    name: str
    topics: tuple[str, ...]
    group: str | None
    ports: tuple[tuple[str, int], ...] = ()
    grace_s: int = 60

    @property
    def args(self) -> tuple[str, ...]:
        """Arguments of the container, whose entrypoint is `eod`."""
        return ("stage", "run", self.name)


def _registry(*kinds: StageKind) -> Mapping[str, StageKind]:
    return MappingProxyType({kind.name: kind for kind in kinds})


KINDS: Mapping[str, StageKind] = _registry(
    StageKind("ingestion", topics=("trades.raw", "sessions.raw", "trades.dlq"), group=None, ports=(("fix", 9876),)),
    StageKind("flash-pnl", topics=("trades.raw", "prices.updates"), group="flash-pnl"),
    StageKind("regulatory", topics=("trades.raw",), group="regulatory"),
    StageKind("archive", topics=("trades.raw", "sessions.raw", "trades.dlq"), group="archive"),
    StageKind("dead-letters", topics=("trades.dlq",), group="dead-letters"),
)
