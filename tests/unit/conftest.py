"""A world for each test of a stage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.stage_world import StageWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StageWorld]:
    """Log, stores and archive of this test's own."""
    made = await StageWorld(tmp_path).open()
    yield made
    await made.close()
