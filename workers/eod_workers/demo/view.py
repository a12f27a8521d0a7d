"""What the demo shows while it runs, and the table it ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eod_workers.demo.reconcile import Reconciliation

_BARS = "▁▂▃▄▅▆▇█"
_ROWS = {
    "sent": "distinct executions sent over FIX",
    "garbled": "frames with a bad checksum, refused and asked for again",
    "refused": "messages that cannot be booked, rejected and kept",
    "duplicates": "messages that came twice and count once",
    "traded": "distinct trades that every book agrees on",
    "archived_bytes": "bytes in the archive, each received byte once",
    "stored_rows": "rows in the regulatory store",
    "exceptions": "trades with unknown references, up for review",
    "dead_lettered": "letters in the dead-letter index",
    "positions_checked": "positions recomputed independently and compared",
    "mismatches": "differences found",
}


@dataclass(slots=True)
class StageLine:
    """One stage's row of the live table."""

    name: str
    rate_per_s: float = 0.0
    lag: int = 0
    replicas: int = 1
    desired: int = 1
    reason: str = ""


@dataclass(slots=True)
class Screen:
    """Everything the live view needs, as plain values."""

    elapsed_s: float = 0.0
    seconds: float = 1.0
    phase: str = "calm"
    sent: int = 0
    rate_per_s: float = 0.0
    rates: list[float] = field(default_factory=list)
    stages: list[StageLine] = field(default_factory=list)
    traders: list[tuple[str, float]] = field(default_factory=list)
    latency_ms: tuple[float, float] | None = None


def render(screen: Screen) -> RenderableType:
    """The live view."""
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(width=26)
    head.add_column(ratio=1)
    head.add_column(width=30, justify="right")
    color = {"calm": "green", "ramp": "yellow", "burst": "bold red", "tail": "cyan"}.get(screen.phase, "white")
    head.add_row(
        Text(f"{screen.phase.upper():<6}", style=color) + Text(f"{screen.elapsed_s:5.1f} / {screen.seconds:.0f} s"),
        ProgressBar(total=screen.seconds, completed=screen.elapsed_s),
        f"{screen.sent:,} sent · {screen.rate_per_s:,.0f}/s",
    )
    stages = Table(expand=True, box=None, header_style="bold")
    for name, justify in (("stage", "left"), ("trades/s", "right"), ("lag (records)", "right"), ("replicas", "left")):
        stages.add_column(name, justify=justify)  # type: ignore[arg-type]
    stages.add_column("why", ratio=1, overflow="ellipsis", no_wrap=True)
    for line in screen.stages:
        stages.add_row(
            line.name,
            f"{line.rate_per_s:,.0f}",
            f"{line.lag:,}",
            "●" * line.replicas + ("" if line.replicas == line.desired else f" → {line.desired}"),
            Text(line.reason, style="dim"),
        )
    book = Table(expand=True, box=None, header_style="bold")
    book.add_column("trader")
    book.add_column("P&L", justify="right")
    for trader, total in screen.traders:
        book.add_row(trader, Text(f"{total:+,.2f}", style="green" if total >= 0 else "red"))
    p50, p99 = screen.latency_ms or (0.0, 0.0)
    latency = f"socket → published: p50 {p50:.0f} ms, p99 {p99:.0f} ms" if screen.latency_ms else ""
    return Group(
        head,
        Text(sparkline(screen.rates, 100), style=color),
        Panel(stages, title="stages", border_style="dim"),
        Panel(book, title="flash P&L, top traders", subtitle=latency, border_style="dim"),
    )


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as a line of bars, the newest at the right."""
    shown = values[-width:]
    top = max(shown, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] for value in shown)


def result_table(result: Reconciliation, latency_ms: Mapping[str, float], seconds: float) -> Table:
    """The table at the end."""
    table = Table(title=f"Reconciliation after {seconds:.0f} s", title_justify="left")
    table.add_column("what")
    table.add_column("found", justify="right")
    table.add_column("expected", justify="right")
    table.add_column("meaning", style="dim")
    for name, value in result.numbers().items():
        expected = 0 if name == "mismatches" else result.expected.get(name)
        wrong = expected is not None and expected != value
        shown = Text(f"{value:,}", style="bold red" if wrong else "bold green" if name == "mismatches" else "")
        table.add_row(name, shown, "" if expected is None else f"{expected:,}", _ROWS[name])
    for name, ms in latency_ms.items():
        table.add_row(f"P&L latency {name}", f"{ms:,.1f} ms", "", "socket read → position published")
    return table
