"""The `eod` command."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

app = typer.Typer(
    name="eod",
    help="The market close, end to end: FIX executions in, flash P&L and regulatory rows out, scaled before the bell.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def root() -> None:
    """Keeps sub-commands sub-commands."""


def _log_to_stderr(level: int) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=2, help="Length of the compressed session.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, help="Trades per second in the calm.")] = 500.0,
    burst: Annotated[float, typer.Option(min=1, help="Trades per second at the close.")] = 10_000.0,
    seed: Annotated[int, typer.Option(help="The same seed sends the same executions.")] = 1,
    corrupt: Annotated[float, typer.Option(min=0, max=1, help="Share of frames with a bad checksum.")] = 0.001,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of reports sent twice.")] = 0.01,
    busts: Annotated[float, typer.Option(min=0, max=1, help="Share of reports that bust an earlier trade.")] = 0.002,
    unknown: Annotated[float, typer.Option(min=0, max=1, help="Share of trades of a trader nobody knows.")] = 0.001,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON, '-' for standard output.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the SQLite store and the archive below this folder (else thrown away).")
    ] = None,
) -> None:
    """Play a market close through the whole pipeline in this process, and reconcile it to the last trade.

    No servers are needed. Exits with 1 when anything differs from what was sent.
    """
    from eod_workers.demo.run import Demo, DemoOptions, show  # noqa: PLC0415 - keeps 'eod --help' quick

    _log_to_stderr(logging.ERROR)
    console = Console(stderr=str(json_file) == "-")
    options = DemoOptions(seconds, rate, burst, seed, corrupt, duplicates, busts, unknown, data_dir)
    result = asyncio.run(Demo(options, console).run())
    show(result, console)
    if json_file is not None:
        if str(json_file) == "-":
            sys.stdout.write(result.as_json() + "\n")
        else:
            json_file.write_text(result.as_json() + "\n", encoding="utf-8")
    raise typer.Exit(0 if result.ok else 1)


def main() -> None:
    """Adds the commands that other packages register, and runs."""
    for point in entry_points(group="eod.commands"):
        app.add_typer(point.load(), name=point.name)
    app()
