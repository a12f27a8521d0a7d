"""`eod replay`: recorded FIX logs through the whole pipeline, as a command with an exit code."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eod_workers.replay.run import Result

_MOST = 30
"""Rows of a table that are printed; `--json` has all."""


def replay(
    files: Annotated[list[Path], typer.Argument(help="FIX logs, in their order; compressed (gzip) or not.")],
    speed: Annotated[
        float, typer.Option(min=0, help="0 is as fast as it goes, 1 as fast as it was (SendingTime), 2 twice as fast.")
    ] = 0.0,
    reference: Annotated[
        Path | None,
        typer.Option(help="YAML reference data: names that it does not know become exceptions."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Keep the stores there.")] = None,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Give frames that the log has changed the length and checksum they have.")
    ] = False,
    json_file: Annotated[str, typer.Option("--json", help="Write the result as JSON, '-' for standard output.")] = "",
) -> None:
    """Send the executions of recorded FIX logs through the whole pipeline in this process, and reconcile them.

    Each session that reports executions logs on anew and sends its application messages again. Prints positions, P&L,
    exceptions, dead letters and the reconciliation. Exits with 0 when all is equal, 1 when something differs, 2 when a
    log cannot be read or holds no executions.

    EOD_FIX_ZONE, EOD_FIX_CURRENCY, EOD_FIX_TRADER_TAG, EOD_FIX_TRADE_CAPTURES, EOD_FIX_MAX_MESSAGE_BYTES and
    EOD_REFERENCE_FILE say how messages are read and booked, as in ingestion.
    """
    from eod_contract.outputs import STDOUT, unwritable, write_json  # noqa: PLC0415 - 'eod --help' stays quick
    from rich.console import Console  # noqa: PLC0415

    from eod_workers.fix.initiator import LogonRefused  # noqa: PLC0415
    from eod_workers.ports import Unavailable  # noqa: PLC0415
    from eod_workers.process.settings import refuse_strange  # noqa: PLC0415
    from eod_workers.reconcile.report import NotComparable  # noqa: PLC0415
    from eod_workers.reconcile.view import Shown  # noqa: PLC0415
    from eod_workers.replay.run import Options, Replay  # noqa: PLC0415
    from eod_workers.runtime.logs import log_to_stderr  # noqa: PLC0415
    from eod_workers.runtime.variables import SettingsError  # noqa: PLC0415

    log_to_stderr(logging.ERROR)

    if json_file and json_file != STDOUT and (why := unwritable(Path(json_file))):
        _fail(f"--json {json_file}: {why}")
    options = Options(files, speed, reference, repair, data_dir)
    console = Console(stderr=json_file == STDOUT)

    async def run() -> Result:
        with Shown(Console(stderr=True)) as progress:
            return await Replay(options, progress).run()

    try:
        refuse_strange()
        result = asyncio.run(run())
    except (OSError, ValueError, SettingsError, LogonRefused, NotComparable, Unavailable, TimeoutError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted: nothing was kept")
    show(result, console)
    if json_file:
        write_json(json_file, as_json(result))
    if not result.sent:
        _fail(
            "no execution was sent: no sound frame is an ExecutionReport(8) or a TradeCaptureReport(AE); "
            "'eod fix decode' shows why"
        )
    raise typer.Exit(1 if result.missing else result.report.exit_code)


def _fail(why: str) -> NoReturn:
    typer.echo(f"eod: {why}", err=True)
    raise typer.Exit(2)


def as_json(result: Result) -> dict[str, Any]:
    """Plain values; quantities, prices and money as exact decimal text."""
    from eod_workers.reconcile.whole import letter_rows, position_rows  # noqa: PLC0415

    return {
        "sent": dict(result.sent),
        "left": dict(result.left),
        "broken_frames": [{"file": file, "line": line, "why": why} for file, line, why in result.broken],
        "positions": position_rows(result.positions, result.currency),
        "exceptions": [row._asdict() for row in result.exceptions],
        "dead_letters": letter_rows(result.letters),
        "missing": [dict(zip(("session", "trade_date", "exec_id"), one, strict=True)) for one in result.missing],
        "reconciliation": result.report.as_json(),
        "seconds": round(result.seconds, 1),
    }


def show(result: Result, console: Console) -> None:
    """Tables, and at the end the reconciliation."""
    from eod_contract.outputs import printable  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from eod_workers.reconcile.view import show as show_report  # noqa: PLC0415

    told = as_json(result)
    tables = (
        ("positions", told["positions"], ("trader", "symbol", "quantity", "average_price", "realized", "trades")),
        ("exceptions", told["exceptions"], ("session", "exec_id", "field", "value", "detail")),
        ("dead_letters", told["dead_letters"], ("letters", "reason", "detail")),
        ("broken_frames", told["broken_frames"], ("file", "line", "why")),
    )
    for name, rows, columns in tables:
        if not rows:
            continue
        table = Table(*columns, title=name.replace("_", " "))
        for row in rows[:_MOST]:
            table.add_row(*("" if row[column] is None else escape(printable(str(row[column]))) for column in columns))
        console.print(table)
        if len(rows) > _MOST:
            console.print(f"and {len(rows) - _MOST:,} more: --json FILE has all", highlight=False)
    for what, count in result.left.most_common():
        console.print(f"left alone: {count:,} {escape(printable(what))}", highlight=False)
    for session, _, exec_id in result.missing[:_MOST]:
        console.print(
            f"[red]✗[/red] {escape(printable(exec_id))} of {escape(printable(session))} did not arrive", highlight=False
        )
    sent = result.sent.total()
    console.print(f"{sent:,} messages of {len(result.sent):,} sessions in {result.seconds:,.1f} s", highlight=False)
    show_report(result.report, console)
