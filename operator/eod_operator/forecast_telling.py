"""What a forecast knows and how it would have done: as values for programs, and as tables for people."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from eod_operator.conditions import rfc3339
from eod_operator.forecast_files import kinds
from eod_operator.scaling.forecast import Scored, backtest, trusted
from eod_operator.scaling.memory import Memory, summary
from eod_operator.scaling.partitions import align
from eod_operator.scaling.profile import bands, learn, picked
from eod_operator.scaling.sessions import EDGES_S

Told = dict[str, Any]

PIPED_WIDTH = 160
FAN = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles that are shown beside the one that is sized by."""
_MOMENTS_S = (-23_400, -10_800, -3_600, -1_800, -600, -300, -60, 0, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)
"""Rows of the table: each from one moment to the next."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How rates become replicas.

    Attributes:
        quantile: that stages are sized by.
        service_per_s: records a second that one replica consumes; None takes what was learned.
        partitions: of the consumed topic, to align by; None leaves that out.
    """

    quantile: float
    service_per_s: float | None = None
    partitions: int | None = None

    def replicas(self, rate_per_s: float, learned_per_s: float | None) -> int | None:
        """Replicas that a rate needs; None when nobody knows what one of them consumes."""
        service_per_s = self.service_per_s or learned_per_s
        if not service_per_s:
            return None
        needed = math.ceil(rate_per_s / service_per_s)
        return needed if self.partitions is None else align(needed, self.partitions)


def profiles(name: str, memory: Memory, sizing: Sizing) -> Told:
    """What a memory foresees, by kind of session."""
    return {
        "name": name,
        "summary": summary(memory),
        "servicePerSecond": sizing.service_per_s or memory.service_per_s,
        "startSeconds": list(memory.starts_s),
        "pauseSeconds": list(memory.pauses_s),
        "recording": None if memory.today is None else rfc3339(memory.today.close_s),
        "edges": EDGES_S,
        "kinds": [_kind(memory, event, sizing) for event in kinds(memory.sessions)],
    }


def _kind(memory: Memory, event: str, sizing: Sizing) -> Told:
    chosen = picked(memory.sessions, event=event)
    profile = learn(chosen, quantile=sizing.quantile, event=event)
    scores = [one.score for one in backtest(memory.sessions, quantile=sizing.quantile, event=event) if one.score]
    verdict = trusted(scores, sessions=profile.sessions)
    peak = profile.peak(EDGES_S[0], EDGES_S[-1])
    return {
        "event": event,
        "sessions": profile.sessions,
        "quantile": profile.quantile,
        "peakPerSecond": peak,
        "peakAtSeconds": profile.peak_at_s,
        "spread": profile.spread if math.isfinite(profile.spread) else None,
        "replicas": sizing.replicas(peak, memory.service_per_s),
        "trusted": verdict.trusted,
        "reason": verdict.reason,
        "ratesPerSecond": profile.rates_per_s,
        "fan": {f"{quantile:g}": row for quantile, row in zip(FAN, bands(chosen, FAN), strict=True)},
    }


def tests(name: str, memory: Memory, sizing: Sizing) -> Told:
    """Each session of a memory, forecast from those before it."""
    service_per_s = sizing.service_per_s or memory.service_per_s
    return {
        "name": name,
        "servicePerSecond": service_per_s,
        "kinds": [
            {
                "event": event,
                "sessions": [
                    _test(one, sizing, service_per_s)
                    for one in backtest(memory.sessions, quantile=sizing.quantile, event=event)
                ],
            }
            for event in kinds(memory.sessions)
        ],
    }


def _test(one: Scored, sizing: Sizing, service_per_s: float | None) -> Told:
    score = one.score
    return {
        "close": rfc3339(one.session.close_s),
        "learnedFrom": one.profile.sessions,
        "foreseenPerSecond": score.foreseen_per_s if score else None,
        "peakPerSecond": score.peak_per_s if score else None,
        "peakError": score.peak_error if score else None,
        "areaError": score.area_error if score else None,
        "foreseenReplicas": sizing.replicas(score.foreseen_per_s, service_per_s) if score else None,
        "neededReplicas": sizing.replicas(score.peak_per_s, service_per_s) if score else None,
        "trusted": one.verdict.trusted,
        "reason": one.verdict.reason,
    }


def show(told: Told, file: IO[str]) -> None:
    """Write profiles or tests for people."""
    console = Console(
        file=file, width=None if file.isatty() else PIPED_WIDTH, markup=False, highlight=False, emoji=False
    )
    parts = _profiles if "summary" in told else _tests
    for part in parts(told):
        console.print(part, soft_wrap=isinstance(part, Text))


def _profiles(told: Told) -> Iterator[RenderableType]:
    yield Text.assemble((told["name"], "bold"), f"  {told['summary']}")
    if told["recording"]:
        yield Text(f"the session of the close at {told['recording']} is being recorded")
    if not told["kinds"]:
        yield Text("no session has been recorded yet: the burst size of the spec stands", style="yellow")
    for kind in told["kinds"]:
        yield Text()
        yield _heading(kind)
        yield Text(
            f"peak {kind['peakPerSecond']:,.0f} records/s {_moment(kind['peakAtSeconds'])}{_needs(kind)}{_spread(kind)}"
        )
        yield Text(
            ("trusted: " if kind["trusted"] else "not trusted: ") + kind["reason"], style=_style(kind["trusted"])
        )
        yield _fan(kind)


def _heading(kind: Told) -> Text:
    count = kind.get("sessions")
    name = kind["event"] or "ordinary sessions"
    return Text(name if not isinstance(count, int) else f"{name} ({count})", style="bold")


def _needs(kind: Told) -> str:
    return "" if kind["replicas"] is None else f", for {kind['replicas']} replicas"


def _spread(kind: Told) -> str:
    return "" if kind["spread"] is None else f", {kind['spread']:.0%} above the median there"


def _fan(kind: Told) -> Table:
    """Highest rates of each stretch of the session, by quantile."""
    heads = ("FROM", "TO", *(f"{float(one):.0%}" for one in kind["fan"]), f"SIZED BY {kind['quantile']:.0%}")
    table = _table(heads)
    rows = [*kind["fan"].values(), kind["ratesPerSecond"]]
    for from_s, to_s in itertools.pairwise(_MOMENTS_S):
        within = [at for at, edge in enumerate(EDGES_S[:-1]) if from_s <= edge < to_s]
        table.add_row(_clock(from_s), _clock(to_s), *(f"{max(row[at] for at in within):,.1f}" for row in rows))
    return table


def _tests(told: Told) -> Iterator[RenderableType]:
    yield Text(told["name"], style="bold")
    if not told["kinds"]:
        yield Text("no session has been recorded yet: there is nothing to test", style="yellow")
    for kind in told["kinds"]:
        yield Text()
        yield _heading(kind)
        heads = ("CLOSE", "FROM", "FORESEEN/S", "CAME/S", "PEAK ERROR", "AREA ERROR", "REPLICAS", "NEEDED", "TRUSTED")
        table = _table((*heads, "BECAUSE"))
        for one in kind["sessions"]:
            table.add_row(
                one["close"],
                str(one["learnedFrom"]),
                _number(one["foreseenPerSecond"]),
                _number(one["peakPerSecond"]),
                _percent(one["peakError"]),
                _percent(one["areaError"]),
                _number(one["foreseenReplicas"]),
                _number(one["neededReplicas"]),
                Text("yes" if one["trusted"] else "no", style=_style(one["trusted"])),
                one["reason"],
            )
        yield table


def _table(heads: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        words = head in ("CLOSE", "BECAUSE", "TRUSTED")
        table.add_column(head, no_wrap=head != "BECAUSE", justify="left" if words else "right", overflow="fold")
    return table


def _style(believed: bool) -> str:  # noqa: FBT001 - a colour of a truth value
    return "green" if believed else "yellow"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}"


def _moment(relative_s: float) -> str:
    if not relative_s:
        return "at the close"
    return f"{_clock(abs(relative_s))[1:]} {'after' if relative_s > 0 else 'before'} the close"


def _clock(relative_s: float) -> str:
    """Hours, minutes and seconds relative to the close."""
    sign, whole = "-" if relative_s < 0 else "+", abs(round(relative_s))
    hours, minutes, seconds = whole // 3_600, whole // 60 % 60, whole % 60
    return f"{sign}{hours}:{minutes:02}:{seconds:02}"
