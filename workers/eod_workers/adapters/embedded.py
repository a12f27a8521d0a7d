"""All ports in one process: what the demo runs on, and the tests that need no server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from eod_workers.adapters import kept_log, kept_state
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.directory import DirectoryArchive
from eod_workers.adapters.keeper import Keeper
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.ports import Clock, Network
from eod_workers.runtime.stages import Ports

KEPT = "log.sqlite"
"""The file that keeps log and state."""
PortsIn = Callable[[Path], AbstractAsyncContextManager[Ports]]
"""Opens ports that keep their files in a folder."""


@asynccontextmanager
async def embedded(
    folder: Path, *, clock: Clock | None = None, network: Network | None = None, durable: bool = False
) -> AsyncIterator[Ports]:
    """Log and state in memory, rows and archive in a folder; closed at the end.

    Args:
        folder: exists, and gets `regulatory.sqlite` and `archive/`.
        clock: this machine's, if None is given.
        network: TCP, if None is given.
        durable: keep log and state in the folder as well, in the file `KEPT`: another process goes on from there.

    Raises:
        ValueError: the folder is in use by another process, or cannot be read.
    """
    async with AsyncExitStack() as stack:
        clock = clock or SystemClock()
        keeper = None
        if durable:
            keeper = Keeper(folder / KEPT, (*kept_log.SCHEMA, *kept_state.SCHEMA))
            stack.push_async_callback(keeper.close)
        log = MemoryLog(clock=clock) if keeper is None else kept_log.KeptLog(keeper, clock=clock)
        stack.push_async_callback(log.close)
        state = MemoryState() if keeper is None else kept_state.KeptState(keeper)
        stack.push_async_callback(state.close)
        regulatory = SqliteRegulatoryStore(folder / "regulatory.sqlite")
        stack.push_async_callback(regulatory.close)
        archive = DirectoryArchive(folder / "archive")
        stack.push_async_callback(archive.close)
        yield Ports(
            log=log,
            state=state,
            regulatory=regulatory,
            archive=archive,
            clock=clock,
            network=network or TcpNetwork(),
        )
