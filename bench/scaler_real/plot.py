"""Two curves over each other for each candidate: what was measured and what the simulator said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from scaler_real.figures import Curves

mpl.use("Agg")
_INCHES_EACH = 2.6
_REAL, _SIMULATED = "#1f4e79", "#d9822b"


def draw(file: Path, pairs: Mapping[str, tuple[Curves, Curves]], close_s: Mapping[str, float]) -> None:
    """Write a PNG with lag and replicas of every candidate, over time relative to the close."""
    figure = Figure(figsize=(11, 1 + _INCHES_EACH * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), 2, sharex=True, squeeze=False)
    for row, (name, (real, simulated)) in zip(axes, pairs.items(), strict=True):
        lag, replicas = row
        for label, colour, curves in (("measured", _REAL, real), ("simulated", _SIMULATED, simulated)):
            at_s = curves.times_s - close_s[name]
            lag.plot(at_s, curves.lag, color=colour, label=label, linewidth=1.3)
            replicas.step(at_s, curves.asked, color=colour, label=f"{label}, asked for", where="post", linewidth=1.3)
            replicas.step(
                at_s, curves.members, color=colour, label=f"{label}, in the group", where="post", linestyle=":"
            )
        lag.set_title(f"{name}: lag in records", loc="left", fontsize=10)
        replicas.set_title(f"{name}: replicas", loc="left", fontsize=10)
        replicas.set_ylim(bottom=0)
        for one in row:
            one.axvline(0, color="grey", linewidth=0.6)
            one.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8, frameon=False)
    axes[0][1].legend(fontsize=7, frameon=False)
    for one in axes[-1]:
        one.set_xlabel("seconds from the close")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
