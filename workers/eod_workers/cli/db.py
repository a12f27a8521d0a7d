"""`eod db`: the schema of the regulatory store: what it is, bringing it to this release, making its database."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eod_workers.cli.shared import AsJson, WaitS, run, show_rows
from eod_workers.cli.worker import fail, say

if TYPE_CHECKING:
    from eod_workers.ports import RegulatoryStore
    from eod_workers.process.settings import Settings

app = typer.Typer(help="The schema of the regulatory store.", no_args_is_help=True)
_PENDING = 1
"""Exit code of a status that is not this release's."""


async def _store(settings: Settings, stack: AsyncExitStack) -> RegulatoryStore:
    from eod_workers.process.bootstrap import make_regulatory  # noqa: PLC0415 - 'eod --help' stays quick
    from eod_workers.process.settings import SettingsError  # noqa: PLC0415

    store = make_regulatory(settings)
    if store is None:
        raise SettingsError("neither EOD_SQLSERVER_HOST nor EOD_REGULATORY_URL is set: there is no regulatory store")
    stack.push_async_callback(store.close)
    return store


@app.command("status")
def status(as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Show which migrations the regulatory store has, and which are pending; 1 if it is not at this release's."""

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        store = await _store(settings, stack)
        where = store.where
        found, versions = await store.schema_version(), store.migrations
        wanted, pending = max(versions), [version for version in versions if version > (found or 0)]
        if as_json:
            told: dict[str, Any] = {"store": where, "version": found, "wanted": wanted, "pending": pending}
            typer.echo(json.dumps(told))
        else:
            rows = [
                (str(version), versions[version], "pending" if version in pending else "there") for version in versions
            ]
            show_rows(("version", "brings", "state"), rows)
            at = "no schema" if found is None else f"schema version {found}"
            later = ", of a later release" if (found or 0) > wanted else ""
            typer.echo(f"{where} has {at}{later}; this release has {wanted}{': run eod db migrate' if pending else ''}")
        raise typer.Exit(0 if found == wanted else _PENDING)

    run(work)


@app.command("migrate")
def migrate(
    wait_seconds: WaitS = 0.0,
    *,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the T-SQL for SQL Server; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the regulatory store to this release's schema; what is there already is left as it is.

    In SQL Server the login of EOD_SQLSERVER_USER must be one that may make tables. Any number may do it at once: one of
    them migrates, the others wait and find it done. There is no way back.
    """
    if print_only:
        from eod_workers.adapters.sqlserver.schema import VERSION, as_script  # noqa: PLC0415

        typer.echo(json.dumps({"version": VERSION, "script": as_script()}) if as_json else as_script(), nl=as_json)
        return

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        from eod_workers.process.provision import patiently  # noqa: PLC0415

        store = await _store(settings, stack)
        where = store.where
        before, applied = await patiently(store.migrate, wait_seconds, say)
        now = max(store.migrations)
        if as_json:
            typer.echo(json.dumps({"store": where, "before": before, "version": now, "applied": applied}))
            return
        for version in applied:
            typer.echo(f"applied {version}: {store.migrations[version]}")
        was = "had no schema" if before is None else f"was at schema version {before}"
        typer.echo(f"{where} {was}, and is at {now}")

    run(work)


@app.command("reference")
def reference(
    file: Annotated[
        Path | None, typer.Argument(help="YAML reference data.", envvar="EOD_REFERENCE_FILE", show_default=False)
    ] = None,
    wait_seconds: WaitS = 0.0,
    *,
    check: Annotated[bool, typer.Option("--check", help="Look at the file; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the tables of traders, strategies, securities and market participants what a file says, for the reports.

    Every ISIN, CUSIP, SEDOL and market is looked at first. All tables change in one transaction: what the file does not
    name is gone from them afterwards. Rows of trades stay as they are. In SQL Server the login needs DELETE and INSERT.
    """
    from eod_workers.trades.reference import reference_rows  # noqa: PLC0415

    if file is None:
        fail("no file is named, and EOD_REFERENCE_FILE is not set: there is no reference data")
    try:
        rows = reference_rows(file)  # here, where Ctrl-C ends it
    except ValueError as error:
        fail(str(error))
    held = {table: len(some) for table, some in rows.items()}
    if check:
        told: dict[str, Any] = {"file": str(file), "rows": held}
        counts = ", ".join(f"{count} {table}" for table, count in held.items())
        typer.echo(json.dumps(told) if as_json else f"{file} is in order: {counts}")
        return

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        from eod_workers.process.provision import patiently  # noqa: PLC0415

        store = await _store(settings, stack)
        found = await patiently(store.schema_version, wait_seconds, say)
        if found != max(store.migrations):
            at = "no schema" if found is None else f"schema version {found}"
            raise ValueError(f"{store.where} has {at}, this release has {max(store.migrations)}: see eod db status")
        done = await patiently(lambda: store.put_reference(rows), wait_seconds, say)
        if as_json:
            tables = {table: {"rows": held[table], **made._asdict()} for table, made in done.items()}
            typer.echo(json.dumps({"store": store.where, "file": str(file), "tables": tables}))
            return
        show_rows(
            ("table", "rows", "added", "changed", "gone"),
            [(table, *map(str, (held[table], *made))) for table, made in done.items()],
        )
        typer.echo(f"{store.where} holds what {file} says")

    run(work)


@app.command("create")
def create(
    wait_seconds: WaitS = 0.0,
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--print", help="Apply it to the server of EOD_SQLSERVER_*, or print it.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Log in as a worker does and read; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the T-SQL of a database in SQL Server, its tables and the workers' login, or apply it as an administrator.

    That is EOD_SQLSERVER_ADMIN_USER with EOD_SQLSERVER_ADMIN_PASSWORD; EOD_SQLSERVER_USER and EOD_SQLSERVER_PASSWORD
    are those that the workers get. It may be applied any number of times: what is there already is left as it is.
    """
    from eod_workers.adapters.sqlserver.database import as_script  # noqa: PLC0415
    from eod_workers.process.provision import check_database, make_database  # noqa: PLC0415

    async def work(settings: Settings, _: AsyncExitStack) -> None:
        done: list[str] = []
        if apply:
            done = await make_database(settings, wait_s=wait_seconds, say=say)
        elif check:
            await check_database(settings, wait_s=wait_seconds, say=say)
        else:
            script = as_script(settings.sqlserver_database or "eod", settings.sqlserver_user or "eod_writer")
            typer.echo(json.dumps({"script": script}) if as_json else script, nl=as_json)
            return
        where = f"{settings.sqlserver_host}/{settings.sqlserver_database}"
        if as_json:
            typer.echo(json.dumps({"database": where, "user": settings.sqlserver_user, "done": done}))
            return
        for line in (*done, f"{settings.sqlserver_user} works on {where}"):
            typer.echo(line)

    run(work)
