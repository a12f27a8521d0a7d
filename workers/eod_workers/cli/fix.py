"""`eod fix`: tools for the first day with a counterparty."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eod_workers.cli.shared import AsJson, Data, run, show_rows, stores
from eod_workers.cli.worker import fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AsyncExitStack

    from eod_workers.fix.logs import Logged
    from eod_workers.ingestion.sessions import SessionState
    from eod_workers.ports import StateStore
    from eod_workers.process.settings import Settings

app = typer.Typer(
    help="FIX: where sessions stand, and how to mend them; read messages, and try a counterparty's engine.",
    no_args_is_help=True,
)
Session = Annotated[str, typer.Argument(help="Name of the session, SENDER->TARGET, as 'eod fix sessions' prints it.")]
Why = Annotated[str, typer.Option("--why", help="Kept with what was done, and by whom.")]


@app.command()
def decode(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Logs, compressed (gzip) or not; standard input if there is none.")
    ] = None,
    kinds: Annotated[str, typer.Option("--type", help="Only these MsgTypes, comma-separated, e.g. 8,3,j.")] = "",
    *,
    broken: Annotated[bool, typer.Option("--broken", help="Only those that are no sound frames.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the messages of FIX logs, each field with its name and what its value means.

    Fields may be separated by SOH, by | or by ^A, and lines may have a prefix, as logs of QuickFIX do.
    """
    from eod_workers.fix.logs import messages_of, open_log  # noqa: PLC0415

    wanted = frozenset(kinds.split(",")) if kinds else frozenset()
    found = 0

    def show(lines: Iterable[bytes], source: str) -> int:
        count = 0
        for logged in messages_of(lines):
            if broken and not logged.why:
                continue
            count += _show(logged, source, wanted, as_json=as_json)
        return count

    try:
        if files:
            for file in files:
                with open_log(file) as lines:
                    found += show(lines, str(file))
        else:
            found = show(sys.stdin.buffer, "standard input")
    except OSError as error:
        fail(str(error))
    except KeyboardInterrupt:
        return
    if not found:
        kind = f" of type {kinds}" if kinds else ""
        fail(f"no FIX message{kind} found: one begins with 8=FIX, fields end with SOH, | or ^A")


def _show(logged: Logged, source: str, wanted: frozenset[str], *, as_json: bool) -> bool:
    from rich.console import Console  # noqa: PLC0415

    from eod_workers.fix.shown import readable, shown, title  # noqa: PLC0415

    fields = shown(logged.raw)
    kind = next((field.value for field in fields if field.tag == "35"), "")
    if wanted and kind not in wanted:
        return False
    if as_json:
        listed = [
            {"tag": one.tag, "name": one.name, "value": one.value, "meaning": one.meaning, "depth": one.depth}
            for one in fields
        ]
        line = {
            "source": source, "line": logged.line, "prefix": logged.prefix, "title": title(logged.raw),
            "problem": logged.why, "fields": listed, "raw": readable(logged.raw),
        }  # fmt: skip
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        return True
    where = f"{source}:{logged.line}" + (f"  {logged.prefix}" if logged.prefix else "")
    say = Console(highlight=False, soft_wrap=True).print
    say(f"[bold]{_plain(title(logged.raw))}[/]  [dim]{_plain(where)}[/]")
    if logged.why:
        say(f"  [red]{_plain(logged.why)}[/]")
    for one in fields:
        name = f"{'  ' * one.depth}{one.name or '?'}"
        meaning = f"  [dim]{_plain(one.meaning)}[/]" if one.meaning else ""
        say(f"  {one.tag:>6}  {_plain(name):<26}  {_plain(one.value)}{meaning}")
    return True


def _plain(text: str) -> str:
    """A text that means nothing to the terminal or to markup."""
    from eod_contract.outputs import printable  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    return escape(printable(text))


@app.command()
def echo(
    sessions: Annotated[
        list[str],
        typer.Option("--session", help="A session, VERSION:OURS->THEIRS, e.g. FIX.4.4:ISLD->TW44; may be repeated."),
    ],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Where it listens; 0 takes a free port.")] = 9877,
    host: Annotated[str, typer.Option(help="On which address.")] = "127.0.0.1",
    *,
    reset_on_logon: Annotated[
        bool, typer.Option("--reset-on-logon", help="Begin the numbers of both sides at 1 with each Logon.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not print the messages.")] = False,
) -> None:
    """Accept FIX sessions and return NewOrderSingle, SecurityDefinition and Email to their sender, until Ctrl-C.

    For conformance runs and for onboarding: the session protocol by the book, and every refusal with the reason that
    the specification gives it.
    """
    from eod_workers.adapters.clock import SystemClock  # noqa: PLC0415
    from eod_workers.adapters.tcp import TcpNetwork  # noqa: PLC0415
    from eod_workers.fix.echo import BadSession, Echo, session_name  # noqa: PLC0415
    from eod_workers.fix.shown import readable  # noqa: PLC0415

    def watch(session: str, what: str, raw: bytes) -> None:
        if quiet and what in {"in", "out"}:
            return
        signs = {"in": "<", "out": ">", "garbled": "?", "logon": "*", "closed": "*"}
        text = "logged on" if what == "logon" else readable(raw)
        sys.stdout.write(f"{session or '-'} {signs[what]} {text}\n")
        sys.stdout.flush()

    def listening(there: int) -> None:
        sys.stdout.write(f"listening on {host}:{there} for {', '.join(sessions)}\n")
        sys.stdout.flush()

    try:
        names = [session_name(one) for one in sessions]
        acceptor = Echo(names, SystemClock().now_ns, reset_on_logon=reset_on_logon, watch=watch)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(acceptor.serve(TcpNetwork(), host, port, listening))
    except BadSession as error:
        fail(f"--session {error}")
    except OSError as error:
        fail(f"--port {port}: cannot listen on {host}: {error}")


@app.command()
def sessions(
    *,
    audit: Annotated[
        bool, typer.Option("--audit", help="What was reset and skipped by hand, by whom and why.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the FIX sessions: their next numbers, and what they wait for in vain."""
    from dataclasses import asdict  # noqa: PLC0415

    from eod_workers.ingestion import sessions as known  # noqa: PLC0415

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        state, _ = await stores(settings, stack, data)
        if audit:
            entries = await known.audit(state)
            if as_json:
                typer.echo(json.dumps(entries))
            else:
                names = ("at", "what", "session", "from", "to", "who", "why")
                show_rows(names, [_audited(entry) for entry in entries])
            return
        found = await known.list_sessions(state)
        if as_json:
            typer.echo(json.dumps([asdict(one) | {"stuck": one.stuck and one.stuck._asdict()} for one in found]))
        else:
            show_rows(
                ("session", "epoch", "next in", "next out at most", "begins again", "waits in vain"),
                [_standing(one) for one in found],
            )

    run(work)


def _standing(one: SessionState) -> tuple[str, ...]:
    stuck = ""
    if one.stuck is not None:
        stuck = (
            f"for {one.stuck.msg_seq_num} since {_time(one.stuck.since_ns)}; {one.stuck.held:,} messages wait behind it"
        )
    again = _time(one.until_ns) if one.until_ns else ""
    return (one.session, str(one.epoch), str(one.inbound), str(one.outbound), again, stuck)


def _audited(entry: dict[str, object]) -> tuple[str, ...]:
    def numbers(value: object) -> str:
        return " ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else ""

    at = entry["at_ns"]
    return (
        _time(at if isinstance(at, int) else 0),
        str(entry["what"]),
        str(entry["session"]),
        numbers(entry["from"]),
        numbers(entry["to"]),
        str(entry["who"]),
        str(entry["why"]),
    )


def _time(at_ns: int) -> str:
    from eod_workers.fix.fields import format_timestamp  # noqa: PLC0415

    return format_timestamp(at_ns).decode()


@app.command()
def reset(session: Session, why: Why, data: Data = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Begin the numbers of a session at 1 again, both ways.

    For a counterparty that begins its day at 1 without ResetSeqNumFlag(141)=Y. A session that is live is hung up on.
    """
    from eod_workers.ingestion import sessions as known  # noqa: PLC0415

    async def change(state: StateStore, now_ns: int, who: str) -> SessionState:
        return await known.reset(state, session, now_ns=now_ns, who=who, why=why)

    _by_hand(change, data, as_json=as_json)


@app.command()
def skip(
    session: Session,
    number: Annotated[int, typer.Argument(min=1, help="MsgSeqNum(34) of the message that the session waits for.")],
    why: Why,
    data: Data = None,
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Give up the message that a session waits for and that does not come whole.

    What has come of it is among the dead letters. The session is hung up on, and goes on behind the message.
    """
    from eod_workers.ingestion import sessions as known  # noqa: PLC0415

    async def change(state: StateStore, now_ns: int, who: str) -> SessionState:
        return await known.skip(state, session, number, now_ns=now_ns, who=who, why=why)

    _by_hand(change, data, as_json=as_json)


def _by_hand(
    change: Callable[[StateStore, int, str], Awaitable[SessionState]], data: Path | None, *, as_json: bool
) -> None:
    """Does something to a session and says where it stands then."""
    import getpass  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from eod_workers.adapters.clock import SystemClock  # noqa: PLC0415
    from eod_workers.ingestion.sessions import NotDone  # noqa: PLC0415

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        state, _ = await stores(settings, stack, data)
        try:
            one = await change(state, SystemClock().now_ns(), f"{getpass.getuser()}@{socket.gethostname()}")
        except NotDone as why_not:
            fail(str(why_not))
        if as_json:
            told = {"session": one.session, "epoch": one.epoch, "inbound": one.inbound, "outbound": one.outbound}
            typer.echo(json.dumps(told))
        else:
            typer.echo(f"{one.session} expects {one.inbound} next, and our next is at most {one.outbound}")

    run(work)
