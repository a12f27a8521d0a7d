"""`python -m hostile.edge`: an ingestion whose log keeps nothing, and how much it takes.

It says its port in a line, then answers each line of its standard input with a line of JSON: what was used since the
line before. `stall` and `flow` stop and start the log first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.embedded import embedded
from eod_workers.archive.segments import received_frames
from eod_workers.ingestion.stage import STAGE
from eod_workers.ports import Appended, Record, TopicPartition
from eod_workers.runtime.stages import assemble

_LOOK_S = 0.002


class Drain:
    """A log that counts what it is given and forgets it; while it stalls it acknowledges nothing."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.flows = asyncio.Event()
        self.flows.set()

    async def partition_count(self, _topic: str) -> int:
        """As many as usual."""
        return 12

    async def producer(self) -> Drain:
        """Itself."""
        return self

    async def send(
        self, topic: str, partition: int, value: bytes, *, key: bytes | None = None, headers: Any = ()
    ) -> asyncio.Future[Appended]:
        """Counts a record."""
        del headers
        record = Record(topic, partition, 0, key, value, 0)
        received = received_frames(record, sessions_topic="sessions.raw", letters_topic="trades.dlq")
        self.counts[topic] += 1
        self.counts[f"{topic} value bytes"] += len(value)
        self.counts["received bytes"] += sum(map(len, received))
        self.counts["trades"] += len(received) if topic == "trades.raw" else 0
        if self.flows.is_set():
            done: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            done.set_result(Appended(topic, partition, 0))
            return done
        return asyncio.ensure_future(self._later(topic, partition, value))

    async def _later(self, topic: str, partition: int, value: bytes) -> Appended:
        await self.flows.wait()
        del value  # it was kept until now, as a producer does
        return Appended(topic, partition, 0)

    def leaderless(self) -> frozenset[TopicPartition]:
        """None: it takes everything, or stalls."""
        return frozenset()

    async def close(self) -> None:
        """Nothing is open."""


class Used:
    """What the process has used since it was last asked."""

    def __init__(self) -> None:
        self.stop_s = 0.0
        self._cpu_s = time.process_time()

    async def watch(self) -> None:
        """Sees for how long the loop stands still."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_LOOK_S)
            self.stop_s = max(self.stop_s, time.perf_counter() - before - _LOOK_S)

    def told(self) -> Mapping[str, float]:
        """MiB and seconds; and begins anew."""
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        cpu_s, self._cpu_s = time.process_time() - self._cpu_s, time.process_time()
        stop_s, self.stop_s = self.stop_s, 0.0
        Path("/proc/self/clear_refs").write_text("5")  # the most that was resident begins at what is
        return {"peak_mib": int(peak.split()[1]) / 1024, "cpu_s": cpu_s, "stop_s": stop_s}


async def _serve(folder: Path) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    drain, used = Drain(), Used()
    async with embedded(folder, clock=SystemClock()) as ports:
        told = {"fix_host": "127.0.0.1", "fix_port": 0, "fix_admit_anybody": True}
        told |= {"fix_sending_time_within_s": 0}  # what is sent is of the same day for ever
        told |= {key: json.loads(value) for key, _, value in (word.partition("=") for word in sys.argv[2:])}
        worker = assemble(STAGE, STAGE.settings.fitting(told), dataclasses.replace(ports, log=drain))
        running = asyncio.create_task(worker.service.run())
        watching = asyncio.create_task(used.watch())
        print(await worker.service.listening(), flush=True)  # type: ignore[attr-defined]  # noqa: T201
        loop = asyncio.get_running_loop()
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            {"stall": drain.flows.clear, "flow": drain.flows.set}.get(line, lambda: None)()
            admission = worker.service._admission  # type: ignore[attr-defined]
            more = {"connections": len(admission.connections), "ready": not worker.health.why_not}
            print(json.dumps({**used.told(), **more, **drain.counts}), flush=True)  # noqa: T201 - it is asked to
        watching.cancel()
        await worker.service.stop()
        await running


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
