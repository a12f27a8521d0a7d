"""What commands have in common: how they run over the configured ports, how they end, options that several have."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eod_workers.cli.worker import fail

if TYPE_CHECKING:
    from eod_workers.ports import Log, StateStore
    from eod_workers.process.settings import Settings

WaitS = Annotated[float, typer.Option(min=0, help="Seconds to wait for a server that is not up yet.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of an 'eod serve --data' that has ended, instead of EOD_KAFKA_* and EOD_REDIS_*."),
]


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


async def stores(settings: Settings, stack: AsyncExitStack, data: Path | None) -> tuple[StateStore, Log]:
    """The state store and the log that commands look into: those of a folder if one is named, else of the settings.

    Raises:
        SettingsError: the settings name none.
        ValueError: the folder is none of `eod serve`, or one that still runs.
    """
    if data is None:
        from eod_workers.process.bootstrap import make_context  # noqa: PLC0415

        context = await make_context(settings, stack, frozenset({"state"}))
        return context.state, context.log
    from eod_workers.adapters.embedded import KEPT, embedded  # noqa: PLC0415

    if not (data / KEPT).is_file():
        raise ValueError(f"--data {data}: there is no {KEPT} in it: name the folder of an 'eod serve --data'")
    ports = await stack.enter_async_context(embedded(data, durable=True))
    return ports.state, ports.log


def run(work: Callable[[Settings, AsyncExitStack], Coroutine[Any, Any, None]]) -> None:
    """Runs a command over the configured ports; expected failures become one line and exit code 2."""
    from eod_workers.ports import Unavailable, UnknownTopic  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError, load_settings  # noqa: PLC0415

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it could not do is in the sentence at the end

    async def working() -> None:
        async with AsyncExitStack() as stack:
            await work(load_settings(), stack)

    try:
        asyncio.run(working())
    except (SettingsError, Unavailable, UnknownTopic, PermissionError, ValueError) as error:
        fail(str(error))
