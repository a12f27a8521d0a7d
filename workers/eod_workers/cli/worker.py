"""What `eod stage run` does, and how commands log and end; nothing here knows the library of the command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import structlog

from eod_workers.runtime.logs import log_to_stderr

if TYPE_CHECKING:
    from eod_workers.runtime.stages import Stage


def say(message: str) -> None:
    """A line for people, beside what the command prints."""
    sys.stderr.write(f"eod: {message}\n")


def fail(message: str) -> NoReturn:
    """Ends the command with a sentence and exit code 2."""
    say(message)
    raise SystemExit(2)


def stages_with(kind: str) -> Mapping[str, Stage]:
    """The registered stages; refuses a kind that is none of them. "" is any."""
    from eod_workers.runtime.stages import load_stages  # noqa: PLC0415

    stages = load_stages()
    if kind and kind not in stages:
        fail(f"there is no stage {kind!r}; registered are {', '.join(sorted(stages))}")
    return stages


def run_worker(kind: str) -> None:
    """Runs one worker of a stage until SIGTERM, told by the environment; what is wrong with that is one line."""
    from eod_workers.ports import UnevenTopics, UnknownTopic  # noqa: PLC0415
    from eod_workers.process.bootstrap import run_stage  # noqa: PLC0415
    from eod_workers.process.settings import Settings, SettingsError, refuse_strange  # noqa: PLC0415
    from eod_workers.runtime.stages import load_stage  # noqa: PLC0415
    from eod_workers.runtime.variables import check, read  # noqa: PLC0415

    stage = load_stage(kind) or stages_with(kind)[kind]
    try:
        check(Settings, stage.settings)
        settings, own = read(Settings), read(stage.settings)
        log_to_stderr(logging.getLevelNamesMapping()[settings.log_level.upper()], as_json=True)
        if strange := refuse_strange(stage.settings):
            structlog.get_logger().info("stage.unknown_settings", names=strange)
        asyncio.run(run_stage(stage, settings, own))
    except (SettingsError, UnevenTopics, UnknownTopic, PermissionError) as error:
        fail(str(error))
