"""A whole close in virtual time: market, FIX sessions, all stages, a crash; and all that it has left behind.

It is the demo on embedded ports, a network in memory and a clock that leaps. `close` returns the *transcript*: every
record, every stored value, row, exception and object, and every line that was logged, in order. The same seed gives
the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eod_contract.streams import STREAMS
from eod_workers.adapters.embedded import embedded
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.demo.run import Demo, DemoOptions, DemoResult
from eod_workers.ports import TopicPartition
from eod_workers.process.fleet import Fleet
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.stages import Ports
from rich.console import Console
from structlog.testing import capture_logs

from support.virtual_time import VirtualClock, now, virtually

BELL_NS = 1_732_895_940_000_000_000
"""2024-11-29T15:59:00Z, a minute before a close."""
_LOOK_S = 0.01
_QUICK = "/dev/shm"
"""What a close writes is read once and thrown away."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What is left of a close."""

    result: DemoResult
    transcript: list[str]
    replaced_after_s: float | None
    """How long the fleet had no worker, once one was killed; None if none was, or it had none to the end."""

    @property
    def digest(self) -> str:
        """Of the transcript."""
        return hashlib.sha256("\n".join(self.transcript).encode()).hexdigest()


def close(options: DemoOptions, *, crash: str = "", crash_at_s: float = 0.0) -> Closed:
    """Play a close in virtual time; `crash` names a stage whose first worker is killed after so many seconds."""
    with TemporaryDirectory(dir=_QUICK if os.access(_QUICK, os.W_OK) else None) as folder, capture_logs() as logged:
        said: list[str] = []
        result, replaced_after_s = virtually(_play(options, Path(folder), said, crash, crash_at_s))
    logs = [repr(sorted(entry.items(), key=str)) for entry in logged]
    return Closed(result, [*said, *logs], replaced_after_s)


async def _play(
    options: DemoOptions, folder: Path, said: list[str], crash: str, crash_at_s: float
) -> tuple[DemoResult, float | None]:
    @asynccontextmanager
    async def open_ports(_: Path) -> AsyncIterator[Ports]:
        async with embedded(folder, clock=VirtualClock(BELL_NS), network=MemoryNetwork()) as ports:
            drawn = count(1)
            ports.draw_name = lambda: f"{next(drawn)}"
            yield ports
            said.extend([line async for line in _transcript(ports)])

    demo = Demo(options, Console(file=StringIO()), open_ports=open_ports)
    playing = asyncio.create_task(demo.run())
    replaced_after_s = None
    if crash:
        await asyncio.sleep(crash_at_s)
        replaced_after_s = await _replaced(demo.fleets[crash], playing)
    return await playing, replaced_after_s


async def _replaced(fleet: Fleet, playing: asyncio.Task[DemoResult]) -> float | None:
    begun_s = now()
    kill(fleet)
    while not fleet.size:
        if playing.done():
            return None
        await asyncio.sleep(_LOOK_S)
    return now() - begun_s


def kill(fleet: Fleet) -> None:
    """End a worker at once, as kill -9 does: nothing is flushed or committed, and the group expels it."""
    service: Any
    service, task = fleet.lose()
    loop = service if isinstance(service, BatchLoop) else service.loop
    loop._consumer.abandon()
    task.cancel()


async def _transcript(ports: Ports) -> AsyncIterator[str]:
    for topic in STREAMS:
        for number, end in (await ports.log.end_offsets(topic)).items():
            async for record in ports.log.read(TopicPartition(topic, number), 0, end):
                yield repr(record)
    for key in await ports.state.keys(""):
        for line in _stored(ports, key):
            yield line
    async for row in ports.regulatory.trades():
        yield repr(row)
    async for exception in ports.regulatory.exceptions():
        yield repr(exception)
    async for one in ports.archive.objects():
        yield repr(one)


def _stored(ports: Ports, key: str) -> Iterator[str]:
    """Of any kind, as the embedded store keeps it."""
    state: Any = ports.state
    yield f"{key} {state._entries[key]!r}"


def options_of(seed: int) -> DemoOptions:
    """A short close with every mischief."""
    return DemoOptions(3.0, 50, 480, seed, corrupt=0.03, duplicates=0.04, busts=0.03, unknown=0.03)


def main() -> None:
    """Play one close in a process of its own, and say how it went; its digest goes to standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--crash", default="", metavar="STAGE", help="kill a worker of this stage")
    parser.add_argument("--at", type=float, default=1.8, metavar="SECONDS", help="when")
    told = parser.parse_args()
    begun = time.perf_counter()
    closed = close(options_of(told.seed), crash=told.crash, crash_at_s=told.at)
    took_s = time.perf_counter() - begun
    for problem in (*closed.result.problems, *closed.result.reconciliation.named):
        sys.stderr.write(f"{problem}\n")
    sys.stderr.write(f"{closed.result.seconds:.1f} s of a close in {took_s:.2f} s\n")
    sys.stdout.write(f"{closed.digest}\n")


if __name__ == "__main__":
    main()
