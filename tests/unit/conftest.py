"""A world for each test of a stage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from support.stage_world import StageWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StageWorld]:
    """Log, stores and archive of this test's own."""
    made = await StageWorld(tmp_path).open()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process says where logs go, for all that comes behind it."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
