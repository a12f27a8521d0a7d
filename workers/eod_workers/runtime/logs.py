"""Where logs go: one line an event, for people or as JSON."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import structlog
from eod_contract.outputs import printable
from structlog.typing import EventDict


def log_to(file: TextIO, level: int, *, as_json: bool = False, plain: bool = False) -> None:
    """Logs from a level on; `plain` has no time and no colors, which only a terminal has."""
    colors = not plain and file.isatty()
    last: list[Any] = [structlog.processors.JSONRenderer()]
    if not as_json:
        last = [_printable, structlog.dev.ConsoleRenderer(colors=colors)]
    stamp = [] if plain else [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *stamp,
            structlog.processors.format_exc_info,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file),
    )


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What was read from outside commands no terminal."""
    texts = {name: printable(value) for name, value in event.items() if isinstance(value, str) and name != "exception"}
    return {**event, **texts}


def log_to_stderr(level: int, *, as_json: bool = False) -> None:
    """Logs from a level on, to standard error."""
    log_to(sys.stderr, level, as_json=as_json)
