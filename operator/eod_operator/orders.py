"""What people say by annotations on a pipeline, for the hour in which nobody wants to edit a spec.

An annotation that cannot be read holds what is running, and a condition says how to mend it: at the close a typo must
not scale anything down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

FREEZE = "eod.markets/freeze"
"""`true`, or a time until which no replica count changes."""
HOLD_SCALE_DOWN = "eod.markets/hold-scale-down"
"""`true`, or a time until which nothing is lowered."""
PIN = "eod.markets/pin"
"""Exact replica counts, such as `flash-pnl=8,regulatory=2`."""

_ADVICE = "write true, or a time such as 2026-11-27T18:30:00Z until which it shall last, or remove the annotation"


@dataclass(frozen=True, slots=True)
class Orders:
    """What the annotations say now.

    Attributes:
        frozen: why no replica count changes; None when they may.
        hold_down: why nothing is lowered; None when it may be.
        pinned: exact replica counts, by stage.
        problems: a sentence for each annotation that cannot be read.
    """

    frozen: str | None = None
    hold_down: str | None = None
    pinned: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def orders(annotations: Mapping[str, str], stages: frozenset[str], now_s: float) -> Orders:
    """Read the annotations of a pipeline with these stages."""
    problems: list[str] = []
    frozen = _lasting(annotations, FREEZE, now_s, problems)
    hold_down = _lasting(annotations, HOLD_SCALE_DOWN, now_s, problems)
    pinned = _pins(annotations.get(PIN, ""), stages, problems)
    if problems and frozen is None and hold_down is None:
        hold_down = "an annotation of the pipeline cannot be read, so nothing is lowered"
    return Orders(frozen, hold_down, pinned, tuple(problems))


def _lasting(annotations: Mapping[str, str], name: str, now_s: float, problems: list[str]) -> str | None:
    """Why an order holds now, or None when it does not."""
    value = annotations.get(name)
    if value is None or value.strip().lower() == "false":
        return None
    if value.strip().lower() == "true":
        return f"by the annotation {name}"
    try:
        until = datetime.fromisoformat(value.strip())
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        problems.append(f"annotation {name} is {value!r}: {_ADVICE}")
        return None
    return f"by the annotation {name} until {value.strip()}" if now_s < until.timestamp() else None


def _pins(value: str, stages: frozenset[str], problems: list[str]) -> dict[str, int]:
    pinned = {}
    for part in filter(None, (one.strip() for one in value.split(","))):
        stage, _, count = (piece.strip() for piece in part.partition("="))
        if stage not in stages:
            problems.append(
                f"annotation {PIN} has {part!r}: the pipeline has no such stage; write one of "
                f"{', '.join(sorted(stages))}, such as {min(stages)}=4"
            )
        elif not count.isdecimal():
            problems.append(f"annotation {PIN} has {part!r}: write a replica count, such as {stage}=4")
        else:
            pinned[stage] = int(count)
    return pinned
