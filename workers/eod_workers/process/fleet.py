"""A stage's workers in one process: as many as the scaler says, each a member of the stage's consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import structlog

from eod_workers.runtime.stages import Ports, Service, Stage, assemble

logger = structlog.get_logger()
_T = TypeVar("_T")


class Fleet:
    """Starts and stops workers of one kind."""

    def __init__(self, stage: Stage, ports: Ports, settings: Mapping[str, object]) -> None:
        """All workers share the ports and the metrics; of the settings each stage takes what it knows."""
        self.kind = stage.kind
        self.failure: BaseException | None = None
        """What the first worker that failed has failed with."""
        self.metrics = stage.metrics()
        self._stage = stage
        self._settings = stage.settings.fitting(settings)
        self._ports = ports
        self._workers: list[tuple[Service, asyncio.Task[None]]] = []
        self._leaving: dict[asyncio.Task[None], None] = {}
        self._failed = asyncio.Event()

    @property
    def size(self) -> int:
        """Workers running now."""
        return len(self._workers)

    @property
    def processed(self) -> float:
        """How many trades its workers have taken, in all."""
        metrics = self.metrics
        counter = getattr(metrics, "ingested", None) or getattr(metrics, "processed", None)
        families = counter.collect() if counter is not None else ()
        return float(sum(one.value for family in families for one in family.samples if one.name.endswith("_total")))

    async def lag(self) -> tuple[int, ...]:
        """How many records of each partition that it reads its group has not committed; nothing if it reads none."""
        log, group = self._ports.log, self._settings.group_of(self.kind)
        lags = []
        for topic in self._settings.consumed(self.kind):
            committed = await log.committed(group, topic)
            ends = await log.end_offsets(topic)
            lags += [end - committed.get(number, 0) for number, end in ends.items()]
        return tuple(lags)

    async def scale(self, replicas: int) -> None:
        """Starts or stops workers; those that leave drain on their own time."""
        while len(self._workers) < replicas:
            service = assemble(self._stage, self._settings, self._ports, self.metrics).service
            task = asyncio.create_task(service.run(), name=f"{self.kind.name}-{len(self._workers)}")
            task.add_done_callback(self._ended)
            self._workers.append((service, task))
        while len(self._workers) > replicas:
            service, task = self._workers.pop()
            self._leaving[task] = None
            task.add_done_callback(self._leaving.pop)
            await service.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()
            self._failed.set()
            logger.error("worker.failed", stage=self.kind.name, error=repr(task.exception()))

    def check(self) -> None:
        """Raises what a worker has failed with, if one has."""
        if self.failure is not None:
            raise self.failure

    async def unless_failed(self, brought_about: Coroutine[Any, Any, _T]) -> _T:
        """Waits for what a worker brings about; raises what one has failed with, if that comes first."""
        wanted, failed = asyncio.create_task(brought_about), asyncio.create_task(self._failed.wait())
        try:
            await asyncio.wait({wanted, failed}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                self.check()
            return await wanted
        finally:
            wanted.cancel()
            failed.cancel()

    async def stop(self) -> None:
        """Drains all workers and waits for them."""
        tasks = [task for _, task in self._workers] + list(self._leaving)
        await self.scale(0)
        if tasks:
            await asyncio.wait(tasks)

    def lose(self) -> tuple[Service, asyncio.Task[None]]:
        """Forgets the first worker, which its caller ends: the scaler sees one less, and replaces it."""
        return self._workers.pop(0)

    async def abandon(self) -> None:
        """Ends all workers at once, without a drain."""
        tasks = [task for _, task in self._workers] + list(self._leaving)
        self._workers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def services(self) -> list[Service]:
        """The running workers."""
        return [service for service, _ in self._workers]
