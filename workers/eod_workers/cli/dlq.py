"""`eod dlq`: list the dead letters, look at one, redrive one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from eod_workers.cli.shared import AsJson, Data, run, show_rows, stores
from eod_workers.cli.worker import fail, say, stages_with

if TYPE_CHECKING:
    from eod_workers.dead_letters.lookup import ListedLetter
    from eod_workers.letters import Outcome
    from eod_workers.ports import Appended, StateStore
    from eod_workers.process.settings import Settings

app = typer.Typer(help="Dead letters: list them, look at one, redrive one.", no_args_is_help=True)
_COLUMNS = ("reason", "stage", "session", "detail")
_LOOK_S = 0.1
LetterId = Annotated[str, typer.Argument(help="Id of the letter, or as much of its beginning as no other has.")]


@app.command("list")
def list_(
    reason: Annotated[str, typer.Option(help="Only those with this reason, e.g. Validation.")] = "",
    stage: Annotated[str, typer.Option(help="Only those that this stage wrote.")] = "",
    session: Annotated[str, typer.Option(help="Only those of sessions whose name begins so, e.g. BROKER1.")] = "",
    prefix: Annotated[str, typer.Option("--id", help="Only those whose id begins so.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Only the newest so many; 0 is all.")] = 200,
    *,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that were not redriven, or refused again.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, oldest first.

    Without a terminal it prints a line a letter, with whole ids and tabs between the columns, for other programs.
    """
    from eod_workers.dead_letters import lookup  # noqa: PLC0415
    from eod_workers.letters import REASONS  # noqa: PLC0415

    reasons = {name.lower(): name for name in REASONS.values()}
    if reason and reason.lower() not in reasons:
        fail(f"--reason {reason}: there are {', '.join(REASONS.values())}")
    if stage:
        stages_with(stage)

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        state, _ = await stores(settings, stack, data)
        found = [
            one
            for one in await lookup.list_letters(state)
            if one.id.startswith(prefix)
            and str(one.summary["session"]).startswith(session)
            and (not reason or one.summary["reason"] == reasons[reason.lower()])
            and (not stage or one.summary["stage"] == stage)
            and (one.waiting or not waiting)
        ]
        shown = found[-limit:] if limit else found
        if len(shown) < len(found):
            say(f"the newest {len(shown):,} of {len(found):,}: --limit 0 shows all")
        if gone := await lookup.how_many_unlisted(state):
            say(
                f"{gone:,} older letters are listed no more, for want of room (EOD_LISTED_LETTERS): they are on "
                f"{settings.letters_topic} for as long as it keeps them, and in the archive"
            )
        _show(shown, as_json=as_json)

    run(work)


def _show(letters: Sequence[ListedLetter], *, as_json: bool) -> None:
    if as_json:
        told = [{"id": one.id, "redriven": not one.waiting, "outcome": one.redriven, **one.summary} for one in letters]
        typer.echo(json.dumps(told))
        return
    rows = [(one.id, *(str(one.summary[name]) for name in _COLUMNS), one.redriven) for one in letters]
    show_rows(("id", *_COLUMNS, "redriven"), rows)


@app.command()
def show(letter: LetterId, data: Data = None, as_json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """Print why a letter was written and its bytes, SOH shown as '|'."""
    from eod_contract.outputs import printable  # noqa: PLC0415

    from eod_workers.dead_letters.lookup import NoSuchLetter, find_letter  # noqa: PLC0415
    from eod_workers.letters import REASONS  # noqa: PLC0415
    from eod_workers.ports import TopicPartition, place  # noqa: PLC0415

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        state, log = await stores(settings, stack, data)
        try:
            found = await find_letter(state, log, settings.letters_topic, letter)
        except NoSuchLetter as why:
            fail(str(why))
        text = found.raw.replace(b"\x01", b"|").decode("latin-1")
        if as_json:
            told = {"id": found.id, "reason": REASONS.get(found.reason, ""), "detail": found.detail, "bytes": text}
            typer.echo(json.dumps(told | ({"left_out": found.left_out} if found.left_out else {})))
            return
        typer.echo(printable(found.detail))
        typer.echo(printable(text))
        if found.left_out:
            whole = place(TopicPartition(found.source_topic, found.source_partition), found.source_offset)
            typer.echo(f"and {found.left_out:,} bytes more, which the letter has no room for: see {whole}")

    run(work)


async def _outcome(state: StateStore, letter_id: str, at: Appended, wait_s: float) -> Outcome | None:
    """What became of a redrive, as soon as it is known."""
    from eod_workers.dead_letters.redrive import outcome_of  # noqa: PLC0415

    until = time.monotonic() + wait_s
    while True:
        found = await outcome_of(state, letter_id, at)
        if found is not None or time.monotonic() >= until:
            return found
        await asyncio.sleep(_LOOK_S)


@app.command()
def redrive(
    letter: LetterId,
    amend: Annotated[
        list[str] | None, typer.Option("--set", help="TAG=VALUE: set a FIX field first; may be repeated.")
    ] = None,
    trader: Annotated[str, typer.Option(help="Whose trade it is, whoever it says.")] = "",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for flash P&L to come to it; 0 does not wait.")
    ] = 10.0,
    data: Data = None,
    as_json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Put a dead letter back on the log, and say what became of it.

    Its trade counts once however often that is done.
    """
    from eod_contract.kinds import REGULATORY  # noqa: PLC0415

    from eod_workers.dead_letters import redrive as redriving  # noqa: PLC0415
    from eod_workers.dead_letters.lookup import NoSuchLetter, find_letter  # noqa: PLC0415
    from eod_workers.ingestion.settings import IngestionSettings  # noqa: PLC0415
    from eod_workers.letters import KNOWN, REFUSED, missed_by  # noqa: PLC0415
    from eod_workers.runtime.variables import read  # noqa: PLC0415

    pairs = dict(item.partition("=")[::2] for item in amend or ())
    if not all(tag.isdigit() and value for tag, value in pairs.items()):
        fail("--set wants TAG=VALUE with a numeric tag, for example --set 31=12.50")

    async def work(settings: Settings, stack: AsyncExitStack) -> None:
        state, log = await stores(settings, stack, data)
        topic = settings.trades_topic
        try:
            found = await find_letter(state, log, settings.letters_topic, letter)
            contracts = read(IngestionSettings).contracts()
            at = await redriving.redrive(
                state,
                log,
                found,
                trades_topic=topic,
                now_ms=time.time_ns() // 1_000_000,
                amend=pairs,
                trader=trader,
                contracts=contracts,
            )
        except (NoSuchLetter, redriving.NotRedrivable, ValueError) as why:
            fail(str(why))
        told = missed_by(found) != REGULATORY.name and at.topic == topic and data is None
        outcome = await _outcome(state, found.id, at, wait if told else 0.0)
        if as_json:
            became = {"outcome": outcome.what, "detail": outcome.detail} if outcome else {"outcome": None, "detail": ""}
            typer.echo(json.dumps({"id": found.id, **at._asdict(), **became}))
            return
        where = f"{at.topic}[{at.partition}] at offset {at.offset}"
        if outcome is None:
            typer.echo(
                f"sent to {where}" + ("; flash P&L has not come to it: see 'eod dlq list'" if told and wait else "")
            )
        elif outcome.what == REFUSED:
            fail(f"sent to {where}, and refused: {outcome.detail}")
        elif outcome.what == KNOWN:
            typer.echo(f"already booked: its trade had come meanwhile, and nothing changed ({where})")
        else:
            typer.echo(f"booked: {where}")

    run(work)
