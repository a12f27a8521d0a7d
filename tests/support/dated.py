"""A pytest plugin: with EOD_DATE=2028-02-29T20:55:00Z the tests run on that date, from that moment on.

Clocks that tell the date are moved for this process (time-machine), not those that only measure how long something takes,
and not those of programs that a test starts. tools/test_dates.py runs the unit tests on eight dates.
"""

from __future__ import annotations

import os
from datetime import datetime

import pytest
import time_machine


def pytest_configure(config: pytest.Config) -> None:
    if date := os.environ.get("EOD_DATE"):
        there = time_machine.travel(datetime.fromisoformat(date), tick=True)
        there.start()
        config.add_cleanup(there.stop)


def pytest_report_header() -> str | None:
    """Say so."""
    return f"the date is {datetime.now().astimezone():%A, %d %B %Y, %H:%M %Z}" if os.environ.get("EOD_DATE") else None
