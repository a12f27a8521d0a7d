"""What only the extra `operator` brings, and what a command says that wants it where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

NOT_OF_A_WORKER = frozenset({"aiohttp", "exchange_calendars", "kopf", "kubernetes", "numpy", "pandas"})
"""Packages as they are imported; pandas comes with exchange_calendars."""


@contextmanager
def missing_said(command: str) -> Iterator[None]:
    """Ends a command that wants what is not installed in a sentence; any other module that is missing is a fault.

    Raises:
        SystemExit: with the sentence.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in NOT_OF_A_WORKER:
            raise
        raise SystemExit(
            f"eod: '{command}' needs {package}, which a worker does without: pip install 'eod[operator]'"
        ) from None
