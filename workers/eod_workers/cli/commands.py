"""All commands of `eod`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from eod_contract.extras import missing_said
from eod_contract.streams import STREAMS
from rich.console import Console
from rich.table import Table

from eod_workers.cli import db, dlq, doctor, fix
from eod_workers.cli.shared import AsJson, WaitS, check_writable, run
from eod_workers.cli.worker import fail, run_worker, say, stages_with
from eod_workers.process.live import VARIABLE, restarting
from eod_workers.runtime.logs import log_to_stderr

if TYPE_CHECKING:
    from eod_workers.process.settings import Settings

_INTERRUPTED = 130
"""Exit code of what SIGINT ended, as shells have it."""

app = typer.Typer(
    name="eod",
    help="The market close, end to end: FIX executions in, flash P&L and regulatory rows out, scaled before the bell.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callbacks take the value
    if wanted:
        typer.echo(f"eod {version('eod')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps sub-commands sub-commands."""


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=2, help="Length of the compressed session.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, max=1e6, help="Trades per second in the calm.")] = 500.0,
    burst: Annotated[float, typer.Option(min=1, max=1e6, help="Trades per second at the close.")] = 10_000.0,
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
    *,
    odd: Annotated[
        float, typer.Option(min=0, max=1, help="Share of messages as real counterparties send them (docs/fix.md).")
    ] = 0.003,
) -> None:
    """Play a market close through the whole pipeline in this process, and reconcile it to the last trade.

    No servers are needed. Exits with 1 when anything differs from what was sent.
    """
    from eod_workers.demo.run import Demo, DemoOptions, show  # noqa: PLC0415

    log_to_stderr(logging.ERROR)
    if json_file is not None and str(json_file) != "-":
        check_writable("--json", json_file)
    if data_dir is not None:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--data-dir {data_dir}: {error.strerror}: name another")
    console = Console(stderr=str(json_file) == "-")
    options = DemoOptions(seconds, rate, burst, seed, corrupt, duplicates, busts, unknown, odd, data_dir)
    try:
        result = asyncio.run(Demo(options, console).run())
    except KeyboardInterrupt:
        say("interrupted: nothing was reconciled")
        raise typer.Exit(_INTERRUPTED) from None
    show(result, console)
    if json_file is not None:
        from eod_contract.outputs import write_json  # noqa: PLC0415

        write_json(str(json_file), result.as_json())
    raise typer.Exit(0 if result.ok else 1)


app.command("doctor")(doctor.doctor)

stage_app = typer.Typer(help="Run a stage of the pipeline.", no_args_is_help=True)
topics_app = typer.Typer(help="The topics of the pipeline.", no_args_is_help=True)
archive_app = typer.Typer(help="The archive of received bytes.", no_args_is_help=True)
market_app = typer.Typer(help="A market to play against a running pipeline.", no_args_is_help=True)
for name, sub in (
    ("stage", stage_app),
    ("topics", topics_app),
    ("dlq", dlq.app),
    ("fix", fix.app),
    ("archive", archive_app),
    ("db", db.app),
    ("market", market_app),
):
    app.add_typer(sub, name=name)

ObjectLock = Annotated[bool, typer.Option(help="Want object lock, so that objects can be kept against everybody.")]


@stage_app.command("list")
def stage_list(as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Show the registered kinds of stage, what they consume and what they need."""
    from eod_workers.runtime.stages import load_stages  # noqa: PLC0415

    kinds = [stage.kind for stage in load_stages().values()]
    if as_json:
        rows = [
            {"name": kind.name, "topics": kind.consumes, "group": kind.group, "needs": sorted(kind.needs)}
            for kind in kinds
        ]
        typer.echo(json.dumps(rows))
        return
    table = Table("stage", "topics", "group", "needs")
    for kind in kinds:
        table.add_row(kind.name, ", ".join(kind.consumes) or "-", kind.group or "-", ", ".join(sorted(kind.needs)))
    Console().print(table)


@stage_app.command("run")
def stage_run(kind: Annotated[str, typer.Argument(help="A kind that 'eod stage list' shows.")]) -> None:
    """Run one worker of a stage until SIGTERM, then drain and commit.

    Everything else comes from the environment: EOD_KAFKA_BOOTSTRAP, EOD_REDIS_URL, EOD_REGULATORY_URL,
    EOD_ARCHIVE_URL and the other EOD_* variables.
    """
    run_worker(kind)


@app.command("settings")
def show_settings(
    kind: Annotated[str, typer.Argument(help="Only what a stage of this kind reads.")] = "",
    as_json: AsJson = False,  # noqa: FBT002 - a flag
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/settings.md.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """List the EOD_* variables: type, default, what each does, and who reads it."""
    from eod_workers.process.catalogue import EVERY_STAGE, EVERYBODY, page, settings  # noqa: PLC0415

    wanted = {kind, EVERY_STAGE, EVERYBODY}
    found = [one for one in settings(stages_with(kind)) if not kind or wanted & set(one.readers)]
    rows = [(one.name, one.type, one.default, one.what, ", ".join(one.readers)) for one in found]
    if markdown:
        typer.echo(page(found), nl=False)
    else:
        _listed(found, ("variable", "type", "default", "what it does", "who reads it"), rows, as_json=as_json)


@app.command("metrics")
def show_metrics(
    kind: Annotated[str, typer.Argument(help="Only what a stage of this kind exports.")] = "",
    as_json: AsJson = False,  # noqa: FBT002 - a flag
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/metrics.md.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """List the metrics that stages export at /metrics: type, labels, what each counts, and which stage has it."""
    from eod_workers.process.catalogue import metrics, metrics_page  # noqa: PLC0415

    found = [one for one in metrics(stages_with(kind)) if not kind or kind in one.stages]
    rows = [(one.name, one.type, ", ".join(one.labels), one.what, ", ".join(one.stages)) for one in found]
    if markdown:
        typer.echo(metrics_page(found), nl=False)
    else:
        _listed(found, ("metric", "type", "labels", "what it counts", "stages"), rows, as_json=as_json)


def _listed(found: Sequence[Any], head: Sequence[str], rows: Iterable[Sequence[str]], *, as_json: bool) -> None:
    """Prints what was found, as JSON or as a table."""
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@topics_app.command("ensure")
def topics_ensure(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic that does not exist yet.")] = 12,
    remake_empty: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option(
            "--remake-empty", help="Delete those that have another number and have never held a record, and make them."
        ),
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Create the pipeline's topics that do not exist yet; existing ones are left as they are."""
    from eod_workers.ports import TopicSpec  # noqa: PLC0415
    from eod_workers.process.bootstrap import make_log  # noqa: PLC0415

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        log = make_log(settings)
        stack.push_async_callback(log.close)
        specs = [TopicSpec(settings.topic(stream), partitions, stream.kept_ms) for stream in STREAMS.values()]
        remade = await log.remake_empty(specs) if remake_empty else []
        await log.ensure_topics(specs)
        found = {spec.name: await log.partition_count(spec.name) for spec in specs}
        if as_json:
            typer.echo(json.dumps(found))
            return
        for name, count in found.items():
            typer.echo(f"{name}: {count} partitions{', made anew' if name in remade else ''}")

    run(work)


@archive_app.command("verify")
def archive_verify(as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Read the whole archive: hashes match, segments follow each other without a gap."""
    from eod_workers.archive.verify import verify  # noqa: PLC0415
    from eod_workers.process.bootstrap import make_archive, require_archive  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError  # noqa: PLC0415

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        require_archive(settings)
        archive = make_archive(settings)
        if archive is None:
            raise SettingsError("EOD_ARCHIVE_URL is not set")
        stack.push_async_callback(archive.close)
        report = await verify(archive, settings)
        typer.echo(json.dumps(asdict(report)) if as_json else report.text())
        if report.problems:
            raise typer.Exit(1)

    run(work)


@archive_app.command("init")
def archive_init(
    object_lock: ObjectLock = True,  # noqa: FBT002 - a flag
    retention_days: Annotated[
        int | None, typer.Option(min=1, help="Days that nobody can delete an object for; never shortened.")
    ] = None,
    wait_seconds: WaitS = 0.0,
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Make the bucket of EOD_ARCHIVE_URL, with versions and object lock; if it is there, say what it is like."""
    from eod_workers.process.provision import make_bucket  # noqa: PLC0415

    if retention_days is not None and not object_lock:
        fail("--retention-days wants object lock: leave --no-object-lock out")

    async def work(settings: Settings, _: AsyncExitStack) -> None:
        found = await make_bucket(
            settings, object_lock=object_lock, retention_days=retention_days, wait_s=wait_seconds, say=say
        )
        typer.echo(json.dumps(asdict(found)) if as_json else str(found))

    run(work)


@market_app.command("play")
def market_play(
    host: Annotated[str, typer.Option(help="FIX acceptor.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Its port.")] = 9876,
    seconds: Annotated[float, typer.Option(min=2)] = 60.0,
    rate: Annotated[float, typer.Option(min=1, max=1e6, help="Trades per second in the calm.")] = 500.0,
    burst: Annotated[float, typer.Option(min=1, max=1e6, help="Trades per second at the close.")] = 10_000.0,
    seed: int = 1,
    corrupt: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    duplicates: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    target: Annotated[str, typer.Option(help="The acceptor's CompID.")] = "EOD",
    reference: Annotated[Path | None, typer.Option(help="Write the universe's reference data here first.")] = None,
    *,
    odd: Annotated[float, typer.Option(min=0, max=1, help="Share of what real counterparties send and do.")] = 0.0,
    tally: Annotated[
        Path | None, typer.Option(help="Write what was sent here, for 'eod reconcile --sent'; JSON lines.")
    ] = None,
    brokers: Annotated[
        str, typer.Option(help="Our CompIDs are this and a number; sessions go on by their names.")
    ] = "BROKER",
    reconnect: Annotated[
        float, typer.Option(min=0, help="Seconds to try to reconnect a lost connection; 0: give up.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Play a seeded market session over FIX against a running acceptor, with prices if EOD_KAFKA_BOOTSTRAP is set."""
    from eod_workers.fix.initiator import LogonRefused  # noqa: PLC0415
    from eod_workers.market.command import play  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError  # noqa: PLC0415

    log_to_stderr(logging.WARNING)
    for option, file in (("--reference", reference), ("--tally", tally)):
        if file is not None:
            check_writable(option, file)
    try:
        sent = asyncio.run(
            play(
                host=host,
                port=port,
                seconds=seconds,
                rate=rate,
                burst=burst,
                seed=seed,
                corrupt=corrupt,
                duplicates=duplicates,
                odd=odd,
                target=target,
                reference=reference,
                tally=tally,
                brokers=brokers,
                reconnect=reconnect,
                say=say,
            )
        )
    except SettingsError as error:
        fail(str(error))
    except (OSError, ConnectionError, TimeoutError, LogonRefused) as error:
        named = getattr(error, "filename", None)
        fail(f"{named}: {error.strerror}" if named and isinstance(error, OSError) else f"{host}:{port}: {error}")
    except KeyboardInterrupt:
        say("interrupted: what was sent stays sent" + (f", and is in {tally}" if tally is not None else ""))
        raise typer.Exit(_INTERRUPTED) from None
    typer.echo(json.dumps({"sent": sent}) if as_json else f"{sent:,} executions sent and received")


def main() -> None:
    """Adds the commands that other packages register, groups and single ones, and runs.

    When one command is named, the others are not loaded: the operator's packages take a second that no worker has.
    """
    registered = entry_points(group="eod.commands")
    own = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    own |= {one.name for one in app.registered_groups if one.name}
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    for point in registered:
        if named != point.name and named in own | registered.names:
            continue
        loaded = point.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=point.name)
        else:
            app.command(point.name, context_settings=getattr(loaded, "context_settings", None))(loaded)
    with missing_said(f"eod {named}"), restarting(os.environ.get(VARIABLE)):
        app()
