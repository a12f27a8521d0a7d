"""Medians, quantiles, ratios and the rows of the table: pure, so that tests hold them to their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def quantiles(values: NDArray[Any]) -> dict[str, float]:
    """p50 … max; each is the smallest value measured that at least this share of all do not exceed.

    Raises:
        ValueError: there are no values, or one of them is no number.
    """
    if not len(values):
        raise ValueError("no latency was measured: nothing was sent, or nothing came back")
    ordered = np.sort(np.asarray(values, np.float64))
    if math.isnan(ordered[-1]):
        raise ValueError("a latency is no number: a trade was sent and never seen")
    return {name: float(ordered[max(0, math.ceil(share * len(ordered)) - 1)]) for name, share in SHARES.items()}


@dataclass(slots=True)
class Row:
    """One line of the table: what was measured, on both sides.

    Attributes:
        bench: fix, clients, ingest, pnl, close, rebuild, remark or scaling.
        what: the measurement.
        unit: of the numbers.
        ours: every run's number.
        peer: the same of the peer; empty when there is none.
        bar: what our median must reach: at least so much, or at most if less is better.
        ratio_bar: how many times better than the peer ours must be.
        more_is_better: which of the two.
        comparable: whether the two numbers are of the same load, so that their ratio means something.
        note: what has to be known to read the row.
        cpu: CPU seconds a million trades, by process, medians of the runs.
    """

    bench: str
    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    bar: float | None = None
    ratio_bar: float | None = None
    more_is_better: bool = True
    comparable: bool = True
    note: str = ""
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def our_median(self) -> float:
        """Of all runs."""
        return median(self.ours)

    @property
    def peer_median(self) -> float | None:
        """Of all runs of the peer, if there is one."""
        return median(self.peer) if self.peer else None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; below 1 it is worse."""
        theirs = self.peer_median
        if theirs is None or not self.comparable or not self.our_median or not theirs:
            return None
        return self.our_median / theirs if self.more_is_better else theirs / self.our_median

    @property
    def met(self) -> bool | None:
        """Whether both bars are reached; None without any."""
        if self.bar is None and self.ratio_bar is None:
            return None
        enough = self.bar is None or (
            self.our_median >= self.bar if self.more_is_better else self.our_median <= self.bar
        )
        return enough and (self.ratio_bar is None or (self.ratio or 0.0) >= self.ratio_bar)

    @property
    def bars(self) -> str:
        """Both bars, for people."""
        said = []
        if self.bar is not None:
            said.append(f"{'≥' if self.more_is_better else '≤'} {shown(self.bar)}")
        if self.ratio_bar is not None:
            said.append(f"ratio ≥ {shown(self.ratio_bar)}")
        return ", ".join(said)

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing."""
        return {True: "met", False: "MISSED", None: ""}[self.met]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bench": self.bench,
            "what": self.what,
            "unit": self.unit,
            "ours": self.our_median,
            "peer": self.peer_median,
            "ratio": self.ratio,
            "bar": self.bar,
            "ratio_bar": self.ratio_bar,
            "met": self.met,
            "more_is_better": self.more_is_better,
            "runs": {"ours": list(self.ours), "peer": list(self.peer)},
            "cpu_s_per_million": self.cpu,
            "note": self.note,
        }


def per_million(spent: Sequence[dict[str, float]], trades: int) -> dict[str, float]:
    """Median CPU seconds a million trades, by process, of several runs."""
    names = {name: None for one in spent for name in one}
    return {name: median(one.get(name, 0.0) for one in spent) * 1e6 / trades for name in names}


def cpu_row(
    bench: str, what: str, spent: Mapping[str, Sequence[dict[str, float]]], trades: int, ratio_bar: float
) -> Row:
    """What a million trades cost the process called `worker`, on both sides: CPU seconds of every run."""
    each = {side: [one["worker"] * 1e6 / trades for one in runs] for side, runs in spent.items()}
    unit = "CPU s/million"
    return Row(bench, what, unit, each["ours"], each["peer"], ratio_bar=ratio_bar, more_is_better=False)


def shown(value: float | None) -> str:
    """A number for people: three digits that count, thousands with commas."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def listed(cpu: dict[str, float]) -> str:
    """CPU seconds by process, for people."""
    return ", ".join(f"{name} {shown(seconds)}" for name, seconds in cpu.items())


def missed(rows: Iterable[Row]) -> bool:
    """Whether a bar was not reached."""
    return any(row.met is False for row in rows)
