"""`eod serve`: the whole pipeline in one process, behind a FIX port for an engine of your own."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eod_workers.serve.run import Result, Serve
    from eod_workers.trades.prices import Price

_MOST = 30
_WIDE = 200
_INTERRUPTED = 130
"""Exit code of what SIGINT ended, as shells have it."""


def serve(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Where FIX engines connect; 0 takes a free one.")] = 9876,
    host: Annotated[str, typer.Option(help="At which address; 0.0.0.0 is all of them.")] = "127.0.0.1",
    data: Annotated[
        Path | None, typer.Option("--data", help="Keep everything in this folder, and go on from there the next time.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="CSV of prices that are known: symbol,price[,source][,time].")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="YAML reference data: names, ISINs, multipliers and currencies.")
    ] = None,
    *,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="End by itself after so many seconds.")] = None,
    screen: Annotated[bool, typer.Option(help="Draw on the terminal; else a line when something has changed.")] = True,
    json_file: Annotated[str, typer.Option("--json", help="Write the result as JSON, '-' for standard output.")] = "",
) -> None:
    """Take executions from your own FIX engine through the whole pipeline in this process, and reconcile on Ctrl-C.

    No servers are needed. Any engine may log on as anybody, with TargetCompID EOD, unless EOD_FIX_SESSIONS_FILE or the
    other EOD_FIX_* settings say otherwise. 'eod price' tells it prices. Exits with 0 when every store holds what the
    log says, 1 when something differs, 2 when it could not run.
    """
    from eod_contract.outputs import STDOUT, unwritable, write_json  # noqa: PLC0415 - 'eod --help' stays quick
    from rich.console import Console  # noqa: PLC0415

    from eod_workers.ports import Unavailable  # noqa: PLC0415
    from eod_workers.process.settings import refuse_strange  # noqa: PLC0415
    from eod_workers.reconcile.report import NotComparable  # noqa: PLC0415
    from eod_workers.reconcile.view import Shown  # noqa: PLC0415
    from eod_workers.runtime.logs import log_to, log_to_stderr  # noqa: PLC0415
    from eod_workers.runtime.variables import SettingsError  # noqa: PLC0415
    from eod_workers.serve.run import Options, Serve  # noqa: PLC0415

    if json_file and json_file != STDOUT and (why := unwritable(Path(json_file))):
        _fail(f"--json {json_file}: {why}")
    console = Console(stderr=json_file == STDOUT)
    if not console.is_terminal:
        console.width = _WIDE  # nothing is to be cut off in a file
    told: dict[str, object] = {"fix_host": host, "fix_port": port}
    if reference is not None:
        told["reference_file"] = str(reference)
    try:
        refuse_strange()
        options = Options(told, data, _known(prices), seconds, screen)
        with Shown(Console(stderr=True)) as progress:
            serving = Serve(options, console, progress)
            if options.screen and console.is_terminal:  # lines would go through what is drawn
                log_to(serving.screen.notes, logging.WARNING, plain=True)
            else:
                log_to_stderr(logging.WARNING)
            result = asyncio.run(_served(serving))
    except (OSError, ValueError, SettingsError, NotComparable, Unavailable, TimeoutError) as error:
        _fail(str(error).replace("EOD_FIX_PORT", "--port").replace("EOD_FIX_HOST", "--host"))
    except (KeyboardInterrupt, asyncio.CancelledError):
        where = f"what was taken is in {data}" if data else "nothing was kept"
        typer.echo(f"eod: interrupted: nothing was reconciled, {where}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    show(result, console)
    if json_file:
        write_json(json_file, as_json(result))
    raise typer.Exit(result.report.exit_code)


async def _served(serve: Serve) -> Result:
    """Runs it. The first SIGINT or SIGTERM ends it in order, a second one at once."""
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(serve.run())
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            serve.end()
        else:
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await running
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _known(file: Path | None) -> tuple[Price, ...]:
    if file is None:
        return ()
    import time  # noqa: PLC0415 - the same

    from eod_workers.serve.prices import LAST_TRADE, NoPrice, read_csv  # noqa: PLC0415
    from eod_workers.trades.dates import TradeDates  # noqa: PLC0415

    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return tuple(read_csv(lines, source=LAST_TRADE, now_ns=time.time_ns(), dates=TradeDates()))
    except NoPrice as why:
        raise NoPrice(f"--prices {file}: {why}") from None
    except (IsADirectoryError, UnicodeDecodeError):
        raise NoPrice(f"--prices {file}: it is no text in UTF-8: a CSV is wanted") from None


def _fail(why: str) -> NoReturn:
    typer.echo(f"eod: {why}", err=True)
    raise typer.Exit(2)


def as_json(result: Result) -> dict[str, Any]:
    """Plain values; quantities, prices and money as exact decimal text."""
    from eod_workers.reconcile.whole import letter_rows, position_rows  # noqa: PLC0415

    return {
        "sessions": result.sessions,
        "gaps": {name: dict(zip(("first", "last", "held"), gap, strict=True)) for name, gap in result.gaps.items()},
        "positions": position_rows(result.positions, result.currency),
        "dead_letters": letter_rows(result.letters),
        "reconciliation": result.report.as_json(),
    }


def show(result: Result, console: Console) -> None:
    """Positions and dead letters, and at the end the reconciliation."""
    from eod_contract.outputs import printable  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from eod_workers.reconcile.view import show as show_report  # noqa: PLC0415
    from eod_workers.reconcile.whole import letter_rows  # noqa: PLC0415
    from eod_workers.serve.view import positions_table  # noqa: PLC0415

    console.print(positions_table(result.positions, most=_MOST))
    if rows := letter_rows(result.letters):
        table = Table("letters", "reason", "detail", title="dead letters", title_justify="left")
        for row in rows[:_MOST]:
            table.add_row(str(row["letters"]), row["reason"], escape(printable(row["detail"])))
        if len(rows) > _MOST:
            table.add_row(f"and {len(rows) - _MOST:,} more kinds: --json has all", "", "")
        console.print(table)
    for name, (first, last, held) in result.gaps.items():
        missing = f"{first:,} to {last:,}" if last > first else f"{first:,}"
        console.print(
            f"[yellow]![/yellow] {escape(printable(name))} has not sent MsgSeqNum {missing}: {held:,} messages behind "
            "that are not booked, and will be asked for again at its next Logon",
            highlight=False,
        )
    show_report(result.report, console)
