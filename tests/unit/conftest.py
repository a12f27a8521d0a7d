"""A world for each test of a stage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from unit.runtime.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Log, stores and archive of this test's own."""
    made = await World(tmp_path).open()
    yield made
    await made.close()
