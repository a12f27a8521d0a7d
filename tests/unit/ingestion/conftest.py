"""No test of ingestion leaves a connection open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.fix_wire import Wire


@pytest.fixture(autouse=True)
async def no_wire_is_left() -> AsyncIterator[None]:
    """Close every connection of the test, whatever became of it."""
    yield
    while Wire.made:
        await Wire.made[-1].close()
