"""What `eod serve` shows while it runs."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from eod_contract.outputs import printable
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eod_workers.pnl.published import Key, Published
from eod_workers.trades.contracts import currency_of
from eod_workers.trades.numbers import format_e8

_E8, _E16 = 10**8, 10**16
_POSITIONS, _SESSIONS, _NOTES = 14, 8, 3


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A FIX session: whether it is logged on, and the number that is expected next."""

    name: str
    connected: bool
    expects: int
    stuck: bool = False


class Notes(io.StringIO):
    """The last lines that were written: what is logged while the screen is drawn on."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_NOTES)

    def write(self, text: str) -> int:
        """Takes lines."""
        self.lines.extend(line for line in text.splitlines() if line.strip())
        return len(text)


@dataclass(slots=True)
class Screen:
    """Everything that is shown, as plain values."""

    where: str = ""
    prices: str = ""
    executions: int = 0
    rate_per_s: float = 0.0
    lag: int = 0
    letters: int = 0
    last_letter: str = ""
    sessions: list[SessionLine] = field(default_factory=list)
    positions: dict[Key, Published] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    def line(self) -> str:
        """The same in one line, for where no screen is."""
        connected = sum(one.connected for one in self.sessions)
        return (
            f"{connected} of {len(self.sessions)} sessions logged on, {self.executions:,} executions "
            f"({self.rate_per_s:,.0f}/s), {len(self.positions):,} positions, lag {self.lag:,}, "
            f"{self.letters:,} dead letters"
        )


def render(screen: Screen) -> RenderableType:
    """The live view."""
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(ratio=1)
    head.add_column(justify="right")
    head.add_row(
        Text(screen.where, style="bold"),
        f"{screen.executions:,} executions · {screen.rate_per_s:,.0f}/s · lag {screen.lag:,}",
    )
    letters = Text(f"{screen.letters:,} dead letters", style="bold red" if screen.letters else "green")
    if screen.last_letter:
        letters.append(f" · last: {printable(screen.last_letter)}", style="dim")
    return Group(
        head,
        Text(screen.prices, style="dim"),
        Panel(_sessions(screen.sessions), title="FIX sessions", border_style="dim"),
        Panel(positions_table(screen.positions, most=_POSITIONS), title="flash P&L", border_style="dim"),
        letters,
        *(Text(printable(line), style="yellow", no_wrap=True, overflow="ellipsis") for line in screen.notes.lines),
        Text("Ctrl-C: log everybody out and reconcile", style="dim"),
    )


def _sessions(sessions: Iterable[SessionLine]) -> RenderableType:
    table = Table(expand=True, box=None, header_style="bold")
    for name in ("session", "", "expects number"):
        table.add_column(name, justify="right" if name.startswith("expects") else "left")
    lines = sorted(sessions, key=lambda one: (not one.connected, one.name))
    for line in lines[:_SESSIONS]:
        state = ("stuck", "bold red") if line.stuck else ("logged on", "green") if line.connected else ("away", "dim")
        table.add_row(escape(printable(line.name)), Text(*state), f"{line.expects:,}")
    if len(lines) > _SESSIONS:
        table.add_row(f"and {len(lines) - _SESSIONS:,} more", "", "")
    return table if lines else Text("nobody has logged on yet", style="dim")


def positions_table(positions: dict[Key, Published], *, most: int) -> RenderableType:
    """The positions with the largest profit or loss, and those without a mark."""
    if not positions:
        return Text("nobody has traded yet", style="dim")
    table = Table(expand=True, box=None, header_style="bold")
    for name in ("trader", "instrument"):
        table.add_column(name)
    for name in ("quantity", "average", "mark", "realized", "unrealized", "total"):
        table.add_column(name, justify="right")
    rows = sorted(positions.items(), key=lambda item: (-abs(item[1].total_e16 or item[1].realized_e16), item[0]))
    for (trader, symbol), one in rows[:most]:
        total = one.total_e16
        table.add_row(
            escape(printable(trader)),
            escape(printable(symbol)),
            format_e8(one.quantity_e8),
            _price(one.average_price_e8),
            _price(one.mark_e8),
            _money(one.realized_e16),
            _money(one.unrealized_e16),
            Text(_money(total, currency_of(symbol)), style="" if total is None else "green" if total >= 0 else "red"),
        )
    if len(rows) > most:
        table.add_row(f"and {len(rows) - most:,} more", *[""] * 7)
    return table


def _price(value_e8: int | None) -> str:
    """A price with at least two decimals, and no more than four."""
    if value_e8 is None:
        return ""
    text = f"{value_e8 / _E8:,.4f}"
    return text.removesuffix("00")


def _money(value_e16: int | None, currency: str = "") -> str:
    return "" if value_e16 is None else f"{value_e16 / _E16:+,.2f}{f' {currency}' if currency else ''}"
