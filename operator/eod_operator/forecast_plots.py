"""Pictures of a forecast. matplotlib is asked for here alone: it is an extra, and the image does not have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eod_operator.scaling.sessions import EDGES_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = "pictures need matplotlib, which is not installed: pip install 'eod[plots]'"
_BANDS = (("0.1", "0.9", 0.2), ("0.25", "0.75", 0.35))
_VIEWS_MIN = ((EDGES_S[0] / 60, EDGES_S[-1] / 60), (-10.0, 20.0))
"""The whole session, and what lies around the close."""
_DOTS_PER_INCH = 120


class NoPlotsError(Exception):
    """matplotlib is not installed; the message says how to install it."""


def fan(told: dict[str, Any], file: Path) -> None:
    """Draw the quantiles of each kind of session, the whole of it and around the close, as a PNG.

    Args:
        told: from `forecast_telling.profiles`.
        file: to write.

    Raises:
        NoPlotsError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure, grid = _figure(len(told["kinds"]), len(_VIEWS_MIN))
    for row, kind in zip(grid, told["kinds"], strict=False):
        for axes, view in zip(row, _VIEWS_MIN, strict=True):
            _fan(axes, kind, view)
        row[0].set_title(f"{kind['event'] or 'ordinary'}: {kind['sessions']} sessions", loc="left")
        row[-1].legend(loc="upper right", frameon=False)
    _write(figure, file)


def _fan(axes: Axes, kind: dict[str, Any], view: tuple[float, float]) -> None:
    minutes = [edge / 60 for edge in EDGES_S[:-1]]
    for low, high, alpha in _BANDS:
        label = f"{float(low):.0%} to {float(high):.0%}"
        axes.fill_between(
            minutes, kind["fan"][low], kind["fan"][high], step="post", alpha=alpha, color="tab:blue", lw=0, label=label
        )
    axes.step(minutes, kind["fan"]["0.5"], where="post", color="tab:blue", label="median")
    axes.step(minutes, kind["ratesPerSecond"], where="post", color="tab:red", label=f"sized by: {kind['quantile']:.0%}")
    axes.set(xlim=view, xlabel="minutes from the close", ylabel="records a second")
    axes.set_ylim(bottom=0)  # the data set the top
    axes.axvline(0, color="gray", lw=0.5)


def tests(told: dict[str, Any], file: Path) -> None:
    """Draw the peaks that were foreseen beside those that came, as a PNG.

    Args:
        told: from `forecast_telling.tests`.
        file: to write.

    Raises:
        NoPlotsError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure, grid = _figure(len(told["kinds"]), 1)
    for (axes,), kind in zip(grid, told["kinds"], strict=False):
        judged = [one for one in kind["sessions"] if one["peakPerSecond"] is not None]
        axes.plot(range(len(judged)), [one["peakPerSecond"] for one in judged], "k.-", label="came")
        for believed, colour, label in ((True, "tab:green", "foreseen, trusted"), (False, "tab:red", "not trusted")):
            at = [number for number, one in enumerate(judged) if one["trusted"] is believed]
            heights = [judged[number]["foreseenPerSecond"] for number in at]
            axes.plot(at, heights, "o", color=colour, fillstyle="none", label=label)
        axes.set_title(kind["event"] or "ordinary", loc="left")
        highest = max((max(one["peakPerSecond"], one["foreseenPerSecond"]) for one in judged), default=0.0)
        axes.set(ylabel="peak, records a second", ylim=(0, 1.1 * highest or 1))
        axes.set_xticks(range(len(judged)), [one["close"][:10] for one in judged], rotation=90, fontsize="small")
        axes.legend(frameon=False)
    _write(figure, file)


def _figure(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise NoPlotsError(INSTALL) from error
    rows = max(1, rows)  # where no session is known, an empty picture rather than none
    figure = Figure(figsize=(6.5 * columns, 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def _write(figure: Figure, file: Path) -> None:
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
