"""How far a reconciliation is, and what it has found, for people."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from eod_contract.outputs import printable
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from eod_workers.reconcile.report import BROKEN, EQUAL, Report

_MEANING = {
    "archive": "records of the log in the archive, and every object's hash",
    "rows": "trades of the log in the regulatory store",
    "exceptions": "unknown names, up for review",
    "positions": "published positions against the books",
    "letters": "dead letters that can be looked up",
    "sent": "what was sent against the log",
}


class Shown(AbstractContextManager["Shown"]):
    """Progress on a console: a bar on a terminal, a line a phase elsewhere; see `run.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task: Any = None
        self._said = ""
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=console, transient=True)

    def __enter__(self) -> Self:
        """Shows the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def phase(self, text: str, total: int | None = None) -> None:
        """Something new has begun."""
        if self._bar is None:
            if text != self._said:
                many = f" ({total:,})" if total is not None else ""
                self._console.print(f"{text}{many}", markup=False, highlight=False, soft_wrap=True)
            self._said = text
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(text, total=total)

    def advance(self, steps: int = 1) -> None:
        """So many steps further."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, steps)


def show(report: Report, console: Console) -> None:
    """The table, then a line a break, then the verdict."""
    table = Table("comparison", "numbers", "breaks", "what")
    for check, numbers in report.numbers.items():
        said = ", ".join(f"{name} {value:,}" for name, value in numbers.items() if isinstance(value, int))
        breaks = report.counts[check]
        shown = f"[bold red]{breaks:,}[/bold red]" if breaks else "[green]0[/green]"
        table.add_row(check, said, shown, _MEANING[check])
    console.print(table)
    for found in report.breaks:
        _line(console, f"[red]✗[/red] {escape(printable(str(found)))}")
    hidden = report.counts.total() - len(report.breaks)
    if hidden:
        _line(console, f"and {hidden:,} more: --max-breaks names more of them")
    for note in report.notes:
        _line(console, f"note: {escape(printable(note))}")
    for undone in report.undone:
        _line(console, f"[yellow]not compared:[/yellow] {escape(printable(undone))}")
    if report.exit_code == EQUAL:
        _line(console, "[bold green]equal[/bold green]: every store holds what the log says")
    elif report.exit_code == BROKEN:
        _line(console, f"[bold red]broken[/bold red]: {report.counts.total():,} breaks")
    else:
        _line(console, "[bold yellow]undone[/bold yellow]: no break, and not everything was compared")


def _line(console: Console, text: str) -> None:
    """One line, however long: it must be found with grep."""
    console.print(text, highlight=False, soft_wrap=True)
