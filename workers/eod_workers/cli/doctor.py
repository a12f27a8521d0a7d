"""`eod doctor`: whether what a pipeline relies on may be relied on."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from eod_workers.cli.shared import AsJson, WaitS, run, show_rows
from eod_workers.cli.worker import fail, say, stages_with
from eod_workers.runtime.logs import log_to_stderr

if TYPE_CHECKING:
    from eod_workers.process.settings import Settings

_GRAVE = 1
"""Exit code where something is missing, dangerous or away."""


def doctor(
    kind: Annotated[str, typer.Argument(help="Only what a stage of this kind relies on.", show_default=False)] = "",
    wait_seconds: WaitS = 0.0,
    *,
    ignore_danger: Annotated[
        bool, typer.Option("--ignore-danger", help="Exit with 0 where everything works, however dangerous.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at Kafka, Redis, the regulatory store, the archive and the settings, as the EOD_* variables name them.

    Says what is there, what is missing and what is dangerous, each with what mends it; makes and changes nothing. Exits
    with 1 when anything is missing, dangerous or away.
    """
    from eod_workers.process.settings import Settings as Known  # noqa: PLC0415
    from eod_workers.process.settings import SettingsError, refuse_strange  # noqa: PLC0415 - 'eod --help' stays quick
    from eod_workers.runtime.variables import check  # noqa: PLC0415

    log_to_stderr(logging.ERROR)  # what adapters warn of is found here, too
    stage = stages_with(kind)[kind] if kind else None
    if stage is not None:
        try:
            check(Known, stage.settings)
            refuse_strange(stage.settings)
        except SettingsError as error:
            fail(str(error))

    async def work(settings: Settings, _: AsyncExitStack) -> None:
        from eod_workers.doctor.examine import patiently  # noqa: PLC0415
        from eod_workers.doctor.findings import GRAVE, State  # noqa: PLC0415

        found = await patiently(settings, stage.kind if stage else None, wait_seconds, say)
        wrong = GRAVE - {State.DANGER} if ignore_danger else GRAVE
        well = not any(finding.state in wrong for finding in found)
        counts = Counter(finding.state for finding in found)
        if as_json:
            typer.echo(json.dumps({"ok": well, "findings": [asdict(finding) for finding in found]}))
        else:
            rows = [(one.where, one.what, one.state, one.said, one.remedy or "-") for one in found]
            show_rows(("where", "what", "state", "what is there", "what mends it"), rows)
            typer.echo(", ".join(f"{counts[state]} {_TOLD[state]}" for state in State if counts[state]))
            if not well:
                grave = [one for one in found if one.state in wrong]
                say("; ".join(f"{one.state}: {one.where}, {one.what}: {one.said} ({one.remedy})" for one in grave))
        raise typer.Exit(0 if well else _GRAVE)

    run(work)


_TOLD = {"ok": "in order", "note": "to know", "danger": "dangerous", "missing": "missing", "away": "away"}
