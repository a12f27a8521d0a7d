"""A stage's workers in one process: as many as the scaler says, each a member of the stage's consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from eod_workers.runtime.stages import Service, Stage, StageContext

log = structlog.get_logger()


class Fleet:
    """Starts and stops workers of one kind."""

    def __init__(self, stage: Stage, context: StageContext, settings: Mapping[str, Any]) -> None:
        """All workers share the ports of the context; of the settings each stage takes what it knows."""
        self.kind = stage.kind
        self.failure: BaseException | None = None
        self._start = stage.start
        self._settings = stage.settings.fitting(settings)
        self._context = context
        self._workers: list[tuple[Service, asyncio.Task[None]]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Workers running now."""
        return len(self._workers)

    async def scale(self, replicas: int) -> None:
        """Starts or stops workers; those that leave drain on their own time."""
        while len(self._workers) < replicas:
            service = self._start(self._context, self._settings)
            task = asyncio.create_task(service.run(), name=f"{self.kind.name}-{len(self._workers)}")
            task.add_done_callback(self._ended)
            self._workers.append((service, task))
        while len(self._workers) > replicas:
            service, task = self._workers.pop()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            await service.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()
            log.error("demo.worker_failed", stage=self.kind.name, error=repr(task.exception()))

    async def stop(self) -> None:
        """Drains all workers and waits for them."""
        tasks = [task for _, task in self._workers] + list(self._leaving)
        await self.scale(0)
        if tasks:
            await asyncio.wait(tasks)

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
