"""`eod reconcile`: what every store holds against the log, as a command with an exit code."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from eod_contract.kinds import KINDS

from eod_workers.reconcile.report import CHECKS

if TYPE_CHECKING:
    from rich.console import Console

    from eod_workers.ports import TopicPartition
    from eod_workers.process.settings import Settings
    from eod_workers.reconcile.report import Report
    from eod_workers.reconcile.run import Request

_FROM = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<offset>\d+)\Z")
_STDOUT = "-"
_NAMES = ", ".join(CHECKS)


class _Wrong(Exception):
    """An argument that cannot be understood; the message says what is wanted."""


def reconcile(
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds that trades on their way may take: into the log, and on into every store."),
    ] = 0.0,
    since: Annotated[
        str, typer.Option(help="Compare from the first record that is not older, e.g. 2024-11-29T18:00:00Z.")
    ] = "",
    start: Annotated[
        list[str] | None,
        typer.Option("--from", help="TOPIC[PARTITION]@OFFSET to begin a partition at; repeat."),
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Compare only this partition; repeat.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Make only this comparison, of {_NAMES}; repeat.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this comparison out; repeat.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Reference data: compare enrichment and exceptions, too.", envvar="EOD_REFERENCE_FILE"),
    ] = None,
    sent: Annotated[Path | None, typer.Option(help="What 'eod market play --tally' wrote: compare that, too.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="STAGE=NAME: consumer group of a stage if it is not its usual one; repeat.")
    ] = None,
    *,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare although a stage is behind; what it has not read is missing.")
    ] = False,
    json_file: Annotated[str, typer.Option("--json", help="Write the result as JSON, '-' for standard output.")] = "",
    max_breaks: Annotated[int, typer.Option(min=1, help="Breaks to name; the rest is counted.")] = 100,
) -> None:
    """Compare what every store holds with the log: archive, regulatory rows, published positions, dead letters.

    The stores are those of the EOD_* variables. Nothing is written and no consumer group is joined. Exits with 0 when
    all is equal, 1 when something differs, 2 when the comparison could not be made.
    """
    from rich.console import Console  # noqa: PLC0415 - 'eod --help' stays quick

    from eod_workers.market.tally import BadTally  # noqa: PLC0415
    from eod_workers.ports import Unavailable, UnknownTopic  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError, load_settings  # noqa: PLC0415
    from eod_workers.reconcile.report import UNDONE, NotComparable  # noqa: PLC0415
    from eod_workers.reconcile.view import show  # noqa: PLC0415

    try:
        settings = load_settings()
        request = _request(
            checks=_checks(only or (), skip or (), reference=reference, sent=sent),
            since=since,
            starts=start or (),
            partitions=partition or (),
            groups=group or (),
            wait_s=wait,
            anyway=anyway,
            reference=reference,
            sent=sent,
        )
        _check_stores(settings, request.checks)
        _check_output(json_file)
        report = asyncio.run(_run(settings, request, max_breaks, Console(stderr=True)))
    except (
        _Wrong, NotComparable, BadTally, SettingsError, Unavailable, UnknownTopic, PermissionError, ValueError,
        RuntimeError,
    ) as error:  # fmt: skip
        typer.echo(f"eod: {error}", err=True)
        raise typer.Exit(UNDONE) from None
    show(report, Console(stderr=json_file == _STDOUT))
    if json_file:
        from eod_contract.outputs import write_json  # noqa: PLC0415

        write_json(json_file, report.as_json())
    raise typer.Exit(report.exit_code)


async def _run(settings: Settings, request: Request, max_breaks: int, console: Console) -> Report:
    from eod_workers.process.bootstrap import make_context  # noqa: PLC0415
    from eod_workers.reconcile.run import reconcile as compare  # noqa: PLC0415
    from eod_workers.reconcile.view import Shown  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        context = await make_context(settings, stack, frozenset(), uses=frozenset({"state", "regulatory", "archive"}))
        with Shown(console) as progress:
            return await compare(context, request, max_breaks, progress)


def _checks(only: Iterable[str], skip: Iterable[str], *, reference: Path | None, sent: Path | None) -> frozenset[str]:
    """The comparisons to make: those named, else all that there are data for."""
    for name in (*only, *skip):
        if name not in CHECKS:
            raise _Wrong(f"there is no comparison {name!r}: there are {', '.join(CHECKS)}")
    lacking = {"exceptions": (reference, "--reference FILE"), "sent": (sent, "--sent FILE")}
    for name, (given, option) in lacking.items():
        if name in only and given is None:
            raise _Wrong(f"--only {name} needs {option}")
    chosen = set(only) or {name for name in CHECKS if name not in lacking or lacking[name][0] is not None}
    if not chosen - set(skip):
        raise _Wrong("no comparison is left: take a --skip away")
    return frozenset(chosen - set(skip))


def _request(
    *,
    checks: frozenset[str],
    since: str,
    starts: Iterable[str],
    partitions: Iterable[int],
    groups: Iterable[str],
    wait_s: float,
    anyway: bool,
    reference: Path | None,
    sent: Path | None,
) -> Request:
    from eod_workers.market.tally import read_tally  # noqa: PLC0415
    from eod_workers.reconcile.run import Request  # noqa: PLC0415
    from eod_workers.reconcile.span import Wanted  # noqa: PLC0415
    from eod_workers.trades.reference import load_reference  # noqa: PLC0415

    chosen = frozenset(partitions)
    if chosen and "sent" in checks:
        raise _Wrong("--sent compares all that was sent: leave --partition out, or --skip sent")
    since_ms = _milliseconds(since) if since else None
    return Request(
        checks=checks,
        groups=_groups(groups),
        wanted=Wanted(chosen, since_ms, dict(map(_start, starts))),
        wait_s=wait_s,
        anyway=anyway,
        reference=load_reference(reference) if reference is not None else None,
        sent=read_tally(sent) if sent is not None and "sent" in checks else None,
    )


def _milliseconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _Wrong(f"--since {text}: a time like 2024-11-29T18:00:00Z is wanted") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, int(at.timestamp() * 1_000))


def _start(text: str) -> tuple[TopicPartition, int]:
    from eod_workers.ports import TopicPartition  # noqa: PLC0415

    match = _FROM.match(text)
    if match is None:
        raise _Wrong(f"--from {text}: TOPIC[PARTITION]@OFFSET is wanted, for example trades.raw[3]@1200")
    return TopicPartition(match["topic"], int(match["partition"])), int(match["offset"])


def _groups(given: Iterable[str]) -> Mapping[str, str]:
    """Stage → its consumer group."""
    groups = {kind.name: kind.group for kind in KINDS.values() if kind.group}
    for text in given:
        stage, _, name = text.partition("=")
        if stage not in groups or not name:
            raise _Wrong(f"--group {text}: STAGE=NAME is wanted, with a stage of {', '.join(sorted(groups))}")
        groups[stage] = name
    return groups


def _check_output(json_file: str) -> None:
    from eod_contract.outputs import unwritable  # noqa: PLC0415

    if json_file and json_file != _STDOUT and (why := unwritable(Path(json_file))):
        raise _Wrong(f"--json {json_file}: {why}")


def _check_stores(settings: Settings, checks: frozenset[str]) -> None:
    """Every store that a comparison needs is named; SQLite's file exists, since opening it would make it."""
    from eod_workers.process.bootstrap import require_archive  # noqa: PLC0415
    from eod_workers.reconcile.run import stores_of  # noqa: PLC0415

    named = {
        "archive": ("EOD_ARCHIVE_URL", settings.archive_url),
        "state": ("EOD_REDIS_URL", settings.redis_url.get_secret_value()),
        "regulatory": (
            "EOD_REGULATORY_URL (or EOD_SQLSERVER_HOST)",
            settings.regulatory_url.get_secret_value() or settings.sqlserver_host,
        ),
    }
    for port, check in stores_of(sorted(checks)).items():
        variable, value = named[port]
        if not value:
            raise _Wrong(f"{variable} is not set: set it, or leave the comparison out with --skip {check}")
    parts = urlsplit(settings.regulatory_url.get_secret_value())
    reads_rows = bool(checks & {"rows", "exceptions", "positions"})  # positions, when the log does not reach back
    if reads_rows and parts.scheme == "sqlite" and not (Path(parts.path).is_file() and Path(parts.path).stat().st_size):
        raise _Wrong(f"EOD_REGULATORY_URL: {parts.path} is no file with rows: the regulatory stage makes it")
    if "archive" in checks:
        require_archive(settings)
