"""A loop for each pipeline, while this process leads: a pass when it is due, and sooner when there is reason to.

Passes are due at fixed intervals, whatever happens between them, so a decision is never missed for having been busy. A
pass comes sooner when the spec or an object has changed, and when Kafka shows more lag than the stages can take. One
loop a pipeline: a broken one delays nobody else. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from eod_operator import metrics
from eod_operator.api.spec import DEFAULT_INTERVAL_S
from eod_operator.cluster import NotLeadingError, OwnerGoneError
from eod_operator.kube.api import ClusterError
from eod_operator.passes import Pipeline
from eod_operator.reconcile import Reconciler

logger = logging.getLogger(__name__)

SETTLE_S = 1.0
"""Changes of objects within this after a pass wait for its end: a rollout brings a dozen of them at once."""
SPREAD_S = 3.0
SPREAD_EACH_S = 0.01
"""First passes are spread over so long at most, and so long for each pipeline: a thousand do not all begin at once."""
_ASK_READY_S = 0.1


@dataclass(slots=True)
class _Loop:
    """The loop of one pipeline.

    Attributes:
        pipeline: as last seen.
        reconciler: its own.
        due: rung for a pass as soon as may be: the spec has changed.
        stirred: rung for a pass soon: one of its objects has changed.
        grown: rung for a look at whether lag calls for a pass now.
        rung: any of the three.
        task: None while this process does not lead.
    """

    pipeline: Pipeline
    reconciler: Reconciler
    due: bool = False
    stirred: bool = False
    grown: bool = False
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Loops:
    """All watched pipelines; their loops run between `start` and `stop`."""

    def __init__(
        self,
        reconciler: Callable[[], Reconciler],
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
        ready: Callable[[], bool] = lambda: True,
        spread_s: float = SPREAD_S,
    ) -> None:
        """Prepare.

        Args:
            reconciler: makes one for a pipeline.
            interval_s: between two passes over a pipeline that does not say so itself.
            ready: whether the indexes are complete; no pass is made before.
            spread_s: over which first passes are spread.
        """
        self._make = reconciler
        self._interval_s = interval_s
        self._ready = ready
        self._spread_s = spread_s
        self._loops: dict[str, _Loop] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._running = False

    def __len__(self) -> int:
        return len(self._loops)

    def __iter__(self) -> Iterator[tuple[Pipeline, Reconciler]]:
        return iter([(loop.pipeline, loop.reconciler) for loop in self._loops.values()])

    def seen(self, pipeline: Pipeline) -> None:
        """Take note of a new or changed pipeline."""
        uid = pipeline.owner.uid
        loop = self._loops.get(uid)
        if loop is None:
            loop = self._loops[uid] = _Loop(pipeline, self._make())
            self._by_name[pipeline.owner.namespace, pipeline.owner.name] = uid
            if self._running:
                self._begin(uid, loop, wait_s=0.0)
            return
        changed = _wishes(loop.pipeline) != _wishes(pipeline)
        loop.pipeline = pipeline
        if changed:
            loop.due = True
            loop.rung.set()

    def gone(self, uid: str) -> None:
        """End the loop of a deleted pipeline."""
        loop = self._loops.pop(uid, None)
        if loop is None:
            return
        name = (loop.pipeline.owner.namespace, loop.pipeline.owner.name)
        if self._by_name.get(name) == uid:
            del self._by_name[name]
        if loop.task is not None:
            loop.task.cancel()
        loop.reconciler.close(loop.pipeline)

    def stirred(self, name: tuple[str, str]) -> None:
        """Hurry a pipeline (namespace, name), one of whose objects has changed."""
        loop = self._loops.get(self._by_name.get(name, ""))
        if loop is not None:
            loop.stirred = True
            loop.rung.set()

    def grown(self, uid: str) -> None:
        """Look whether what Kafka says now is worth a pass."""
        loop = self._loops.get(uid)
        if loop is not None:
            loop.grown = True
            loop.rung.set()

    def start(self) -> None:
        """Begin (again): this process leads."""
        self._running = True
        spread_s = min(self._spread_s, len(self._loops) * SPREAD_EACH_S)
        for uid, loop in self._loops.items():
            self._begin(uid, loop, wait_s=random.uniform(0, spread_s))

    async def stop(self) -> None:
        """End all loops; the pipelines stay known."""
        self._running = False
        tasks = []
        for loop in self._loops.values():
            if loop.task is not None:
                loop.task.cancel()
                tasks.append(loop.task)
                loop.task = None
            loop.reconciler.close(loop.pipeline)
            loop.reconciler = self._make()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, uid: str, loop: _Loop, *, wait_s: float) -> None:
        if loop.task is None:
            loop.task = asyncio.create_task(self._run(uid, loop, wait_s), name=f"pipeline {uid}")

    async def _run(self, uid: str, loop: _Loop, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        while not self._ready():  # noqa: ASYNC110 - several watches fill the indexes; no one event says so
            await asyncio.sleep(_ASK_READY_S)
        due_s = _now_s()
        while True:
            late_s = _now_s() - due_s
            loop.due = loop.stirred = loop.grown = False
            loop.rung.clear()
            if not await one_pass(loop.reconciler, loop.pipeline):
                self.gone(uid)
                return
            ended_s = _now_s()
            interval_s = self._interval_of(loop.pipeline)
            if late_s >= 0:  # this pass was a timed one
                metrics.LATE_SECONDS.observe(late_s)
                due_s += interval_s
            # Not before now (a pass may take longer than the interval), nor later than a newly shortened interval says.
            due_s = min(max(due_s, ended_s), ended_s + interval_s)
            await self._wait(loop, due_s, ended_s)

    async def _wait(self, loop: _Loop, due_s: float, ended_s: float) -> None:
        """Return when the next pass is due, or there is reason for one."""
        while True:
            until_s = min(due_s, ended_s + SETTLE_S) if loop.stirred else due_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await loop.rung.wait()
            loop.rung.clear()
            now_s = _now_s()
            if loop.due or now_s >= due_s or (loop.stirred and now_s >= ended_s + SETTLE_S):
                return
            if loop.grown:
                loop.grown = False
                if loop.reconciler.wants_more(loop.pipeline):
                    return

    def _interval_of(self, pipeline: Pipeline) -> float:
        own = None if pipeline.spec is None else pipeline.spec.scaling.interval_seconds
        return float(own or self._interval_s)


async def one_pass(reconciler: Reconciler, pipeline: Pipeline) -> bool:
    """Reconcile, and survive whatever happens: the next pass starts from the state that is then.

    Returns:
        False when the pipeline turned out to be gone, so that there is to be no next pass.
    """
    name = f"{pipeline.owner.namespace}/{pipeline.owner.name}"
    result = "failed"
    started_s = _now_s()
    try:
        await reconciler.reconcile(pipeline)
        result = "done"
    except NotLeadingError:
        result = "not-leading"
    except OwnerGoneError as error:
        result = "gone"
        logger.info("%s", error)
    except ClusterError as error:
        logger.warning("%s: %s; trying again at the next pass", name, error)
    except Exception:
        logger.exception("%s: this pass failed; trying again at the next", name)
    finally:
        metrics.RECONCILES.labels(result).inc()
        metrics.RECONCILE_SECONDS.observe(_now_s() - started_s)
    return result != "gone"


def _now_s() -> float:
    """Seconds on the event loop's own clock, by which it wakes us."""
    return asyncio.get_running_loop().time()


def _wishes(pipeline: Pipeline) -> tuple[object, ...]:
    """What of a pipeline is worth a pass at once: its spec, its annotations, its deletion; not its status."""
    return pipeline.generation, pipeline.annotations, pipeline.deleting
