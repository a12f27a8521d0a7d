"""The whole command line in one process, as `eod` has it: the commands of the workers, and those of other packages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

import typer
from eod_workers.cli import commands


def whole_command() -> typer.Typer:
    """All commands there are: those of the workers' own in the group `eod`, the others beside it."""
    whole = typer.Typer()
    whole.add_typer(commands.app)
    for point in entry_points(group="eod.commands"):
        loaded = point.load()
        if isinstance(loaded, typer.Typer):
            whole.add_typer(loaded, name=point.name)
        else:
            whole.command(point.name, context_settings=getattr(loaded, "context_settings", None))(loaded)
    return whole


def called(words: Sequence[str]) -> list[str]:
    """How `whole_command` is called for what somebody types behind `eod`."""
    return list(words) if words[0] in entry_points(group="eod.commands").names else ["eod", *words]
