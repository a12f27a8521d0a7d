"""The command configures logging for its process; tests share one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what the command has set up."""
    yield
    structlog.reset_defaults()
