"""An ingestion in a process of its own, for each test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest


class Edge:
    """The process, its port, and what it says of itself."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._process = process

    async def used(self, word: str = "look") -> dict[str, Any]:
        """What was used since it was last asked; `stall` and `flow` stop and start its log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        return dict(json.loads(await asyncio.wait_for(self._process.stdout.readline(), 120)))


@contextlib.asynccontextmanager
async def _running(folder: Path, **settings: Any) -> AsyncIterator[Edge]:
    words = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hostile.edge", str(folder), *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    try:
        yield Edge(process, int(await asyncio.wait_for(process.stdout.readline(), 60)))
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
def edge(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Edge]]:
    """Starts it with settings."""
    return lambda **settings: _running(tmp_path, **settings)
