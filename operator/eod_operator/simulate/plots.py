"""Pictures of studies: cost against lateness for all scenarios, and one seed's close for each.

matplotlib is an extra (`pip install 'eod[plots]'`): the container image does without it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eod_operator.simulate.compare import Study
from eod_operator.simulate.metrics import FLOOR_S2
from eod_operator.simulate.policies import EOD
from eod_operator.simulate.tune import front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 4
"""Panels in a row."""
_DEAR = 2.5
"""A policy that costs so many times as much as the cheapest is not drawn, but named."""
_BEFORE_S, _AFTER_S = 600.0, 1200.0
"""What is drawn around a close."""
_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442")
"""Told apart by the colour-blind (Okabe and Ito); ours is the one left out."""
_OURS = "#d55e00"


class PlotsMissingError(RuntimeError):
    """matplotlib is not installed."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """One for each policy, the same in all pictures."""
    others = [name for name in names if name != EOD]
    return {EOD: _OURS} | {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(others)}


def pareto(studies: Sequence[Study]) -> bytes:
    """A panel for each scenario: tuned baselines' fronts as lines, what the table shows as dots, ours a star.

    Raises:
        PlotsMissingError: matplotlib is not installed.
    """
    columns = min(_PANELS, len(studies))
    lines = math.ceil(len(studies) / columns)
    figure = _figure(3.6 * columns, 3.0 * lines)
    shades = colours(sorted({entry.name for study in studies for entry in study.entries}))
    handles = {}
    for index, study in enumerate(studies):
        axes = figure.add_subplot(lines, columns, index + 1)
        axes.set_title(study.scenario, fontsize=9)
        for name, points in study.tuned.items():
            best = front(points)
            xs, ys = [point.cost for point in best], [max(point.lateness, FLOOR_S2) for point in best]
            axes.plot(xs, ys, "-", color=shades[name], linewidth=1, alpha=0.8)
        for entry in study.entries:
            mark, size = ("*", 13) if entry.name == EOD else ("o", 5)
            point = entry.point
            (handle,) = axes.plot(
                point.cost, max(point.lateness, FLOOR_S2), mark, markersize=size, color=shades[entry.name], zorder=3
            )
            handles[entry.name] = handle
        _frame(axes, study)
        axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
        axes.tick_params(which="both", labelsize=7)
        if index % columns == 0:
            axes.set_ylabel("lateness, s²", fontsize=8)
        if index >= len(studies) - columns:
            axes.set_xlabel("replica-hours", fontsize=8)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=8)
    return _png(figure)


def _frame(axes: Axes, study: Study) -> None:
    """Show the costs that are worth comparing; what is far dearer is named at the edge."""
    costs = {entry.name: entry.point.cost for entry in study.entries}
    limit = _DEAR * min(costs.values())
    dear = sorted(name for name, cost in costs.items() if cost > limit)
    near = [cost for cost in costs.values() if cost <= limit]
    near += [point.cost for points in study.tuned.values() for point in front(points) if point.cost <= limit]
    room = 0.05 * (max(near) - min(near)) or 0.5
    axes.set_xlim(min(near) - room, max(near) + room)
    if dear:
        told = ", ".join(f"{name} {costs[name]:.0f}" for name in dear)
        axes.text(0.98, 0.97, f"{told} \u2192", transform=axes.transAxes, ha="right", va="top", fontsize=7)


def timeline(study: Study) -> bytes:
    """What arrived around the close on the first seed's day, lag-seconds and replicas by policy; all day without one.

    Raises:
        PlotsMissingError: matplotlib is not installed.
    """
    figure = _figure(9, 6)
    shades = colours(sorted(line.name for line in study.lines))
    minutes, within = _span(study)
    arrival, lag, replicas = (figure.add_subplot(3, 1, place) for place in (1, 2, 3))
    arrival.plot(minutes[:-1][within[:-1]], study.arrival_per_s[within[:-1]], color="black", linewidth=0.8)
    for line in sorted(study.lines, key=lambda one: one.name == EOD):  # ours last, on top
        width = 2.0 if line.name == EOD else 1.0
        lag.plot(minutes[within], line.lag_s[within], color=shades[line.name], linewidth=width, label=line.name)
        kept = within[:-1]
        replicas.step(minutes[:-1][kept], line.asked[kept], where="post", color=shades[line.name], linewidth=width)
    for axes, label in ((arrival, "records/s"), (lag, "lag-seconds"), (replicas, "replicas")):
        _dress(axes, label)
    replicas.set_xlabel("minutes from the close" if study.close_s is not None else "minutes of the day", fontsize=8)
    figure.legend(loc="outside upper center", ncols=len(study.lines), fontsize=8)
    return _png(figure)


def _span(study: Study) -> tuple[np.ndarray, np.ndarray]:
    zero = study.times_s[0] if study.close_s is None else study.close_s
    since = study.times_s - zero
    within = np.ones(len(since), dtype=bool)
    if study.close_s is not None:
        within = (since >= -_BEFORE_S) & (since <= _AFTER_S)
    return since / 60, within


def _dress(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.set_ylim(bottom=0)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra that most who simulate do not need
    except ModuleNotFoundError as error:
        raise PlotsMissingError(
            "pictures need matplotlib, which is not installed: pip install 'eod[plots]', or leave --plots out"
        ) from error
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
