"""Kopf's entry points: watched pipelines come in, one reconcile loop each goes on until its pipeline is gone.

Only `on.event` is used. Kopf's timers, daemons and change handlers would put finalizers and annotations on the
pipelines; owner references already clean up, and a level-based loop has no use for "what changed". So the loops are
plain asyncio tasks: one a pipeline, so that a broken one delays nobody else. Peering is off: it freezes on equal
priorities. Everything runs on one event loop; blocking calls go to threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from eod_operator.api import GROUP, PLURAL, VERSION
from eod_operator.api.spec import DEFAULT_INTERVAL_S
from eod_operator.apply import Cluster, ClusterError, login
from eod_operator.reconcile import Emit, Reconciler
from eod_operator.resources import MANAGER

log = logging.getLogger(__name__)

Body = Mapping[str, Any]


@dataclass(slots=True)
class _Loop:
    """The loop of one pipeline: its body as last seen, and a bell that ends the wait between two passes."""

    body: Body
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Pipelines:
    """All watched pipelines, each with its loop."""

    def __init__(self, reconciler: Callable[[Emit], Reconciler], *, interval_s: float = DEFAULT_INTERVAL_S) -> None:
        self._make = reconciler
        self._interval_s = interval_s
        self._loops: dict[str, _Loop] = {}

    def seen(self, body: Body) -> None:
        """Start the loop of a new pipeline; hurry that of a pipeline whose spec has changed."""
        uid = body["metadata"]["uid"]
        loop = self._loops.get(uid)
        if loop is None:
            loop = self._loops[uid] = _Loop(body)
            loop.task = asyncio.create_task(self._run(loop), name=f"pipeline {_name(body)}")
            return
        changed = _generation(loop.body) != _generation(body)
        loop.body = body
        if changed:
            loop.bell.set()

    def gone(self, body: Body) -> None:
        """End the loop of a deleted pipeline."""
        loop = self._loops.pop(body["metadata"]["uid"], None)
        if loop is not None and loop.task is not None:
            loop.task.cancel()

    async def stop(self) -> None:
        """End all loops."""
        tasks = [loop.task for loop in self._loops.values() if loop.task is not None]
        self._loops.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, loop: _Loop) -> None:
        def emit(kind: str, reason: str, message: str) -> None:
            log.info("%s: %s", _name(loop.body), message)
            kopf.event(loop.body, type=kind, reason=reason, message=message)  # type: ignore[arg-type] # any body

        reconciler = self._make(emit)
        try:
            while True:
                loop.bell.clear()
                await _one_pass(reconciler, loop.body)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_interval_s(loop.body, self._interval_s)):
                        await loop.bell.wait()
        finally:
            await reconciler.close()


async def _one_pass(reconciler: Reconciler, body: Body) -> None:
    """Reconcile, and survive whatever happens: the next pass starts from the state that is then."""
    try:
        await reconciler.reconcile(body)
    except ClusterError as error:
        log.warning("%s: %s; trying again at the next pass", _name(body), error)
    except Exception:
        log.exception("%s: this pass failed; trying again at the next", _name(body))


def _name(body: Body) -> str:
    return f"{body['metadata'].get('namespace')}/{body['metadata']['name']}"


def _generation(body: Body) -> tuple[object, object]:
    meta = body["metadata"]
    return meta.get("generation"), meta.get("deletionTimestamp")


def _interval_s(body: Body, default_s: float) -> float:
    scaling = body.get("spec", {}).get("scaling") or {}
    return float(scaling.get("intervalSeconds") or default_s)


def registry(*, interval_s: float) -> kopf.OperatorRegistry:
    """Kopf's handlers, in a registry of their own."""
    handlers = kopf.OperatorRegistry()
    # An operator has one set of pipelines; it needs the running event loop, which exists from the start-up on.
    running: list[Pipelines] = []

    @kopf.on.startup(id="start", registry=handlers)
    def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.posting.reporting_component = MANAGER
        settings.posting.event_name_prefix = "eod-"
        settings.process.ultimate_exiting_timeout = 15
        cluster = Cluster(login())
        running.append(Pipelines(functools.partial(Reconciler, cluster), interval_s=interval_s))

    @kopf.on.login(id="login", registry=handlers)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, id="watch", registry=handlers)
    async def watch(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf names and awaits it
        if type == "DELETED":
            running[0].gone(body)
        else:
            running[0].seen(body)

    @kopf.on.cleanup(id="stop", registry=handlers)
    async def stop(**_: Any) -> None:
        for pipelines in running:
            await pipelines.stop()

    return handlers
