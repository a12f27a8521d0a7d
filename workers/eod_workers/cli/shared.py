"""What commands have in common: how they run over the configured ports, how they end, options that several have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eod_workers.cli.worker import fail

if TYPE_CHECKING:
    from eod_workers.process.settings import Settings

WaitS = Annotated[float, typer.Option(min=0, help="Seconds to wait for a server that is not up yet.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def check_writable(option: str, file: Path) -> None:
    """Ends the command if the file that an option names cannot be written, before it has done anything."""
    from eod_contract.outputs import unwritable  # noqa: PLC0415

    if why := unwritable(file):
        fail(f"{option} {file}: {why}")


def show_rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table for people; a line a row with tabs between the columns where no terminal is."""
    from eod_contract.outputs import printable  # noqa: PLC0415

    if not sys.stdout.isatty():
        for row in (names, *rows):
            typer.echo("\t".join(printable(" ".join(text.split())) for text in row))
        return
    from rich.console import Console  # noqa: PLC0415 - only people look at tables
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    for place, name in enumerate(names):
        table.add_column(name, no_wrap=not place, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    Console().print(table)


def run(work: Callable[[Settings, AsyncExitStack], Coroutine[Any, Any, None]]) -> None:
    """Runs a command over the configured ports; expected failures become one line and exit code 2."""
    from eod_workers.ports import Unavailable, UnknownTopic  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError, load_settings  # noqa: PLC0415

    async def working() -> None:
        async with AsyncExitStack() as stack:
            await work(load_settings(), stack)

    try:
        asyncio.run(working())
    except (SettingsError, Unavailable, UnknownTopic, PermissionError, ValueError) as error:
        fail(str(error))
