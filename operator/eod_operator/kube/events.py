"""Kubernetes Events of a pipeline, each written once and counted afterwards, so that nothing can flood the cluster.

Whoever reports never waits: what it posts goes into a bounded queue, and one loop sends it. The same thing said again
is no new object but a higher count, and while it is said more often than once a minute its repeats are summed up into
one write. An Event's name follows from what it says, so that an operator that starts anew counts on where the last
one ended. A write whose answer was lost may be counted twice; a missing Event is nothing that anybody decides by.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from eod_operator.api import API_VERSION, KIND
from eod_operator.kube.api import MERGE, Api, ClusterError, Manifest
from eod_operator.resources import Owner

MESSAGE_LENGTH = 1024
"""As the API server demands of newer Events, and as much as anybody reads."""
SUMMED_FOR_S = 60.0
FLUSHED_WITHIN_S = 2.0
_RETRIED_AFTER_S = (0.5, 1.0, 2.0)
_WRITES = 3
"""It may expire between our finding it and our counting it up, and be made between our missing it and our making it."""
_DIGEST = 16

EventType = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class _Said:
    """What makes two Events the same."""

    owner: Owner
    kind: EventType
    reason: str
    message: str

    @property
    def name(self) -> str:
        said = f"{self.owner.uid}\0{self.kind}\0{self.reason}\0{self.message}"
        digest = hashlib.sha256(said.encode(errors="replace"))
        return f"{self.owner.name}.{digest.hexdigest()[:_DIGEST]}"


@dataclass(slots=True)
class _Waiting:
    """What is to be sent: so many times, the first and the last at these seconds since 1970."""

    times: int
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class _Sent:
    """What was last tried: the count that the cluster has, None when unknown, and when, by the event loop's clock."""

    count: int | None
    at_s: float


class Recorder:
    """Takes Events and sends them; made and used on one event loop.

    Args:
        api: where to.
        component: who reports, as everybody names it.
        instance: which replica of it.
        wall: seconds since 1970.
        remember: Events whose count is known without asking.
        queue: different Events that wait at once.

    Attributes:
        dropped: occurrences that were never told: the queue was full, or the API server would not have them.
    """

    def __init__(
        self,
        api: Api,
        *,
        component: str = "eod-operator",
        instance: str = "",
        wall: Callable[[], float] = time.time,
        remember: int = 4096,
        queue: int = 1000,
    ) -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._wall = wall
        self._remember = remember
        self._queue = queue
        self._waiting: OrderedDict[_Said, _Waiting] = OrderedDict()
        self._sent: OrderedDict[_Said, _Sent] = OrderedDict()
        self._posted = asyncio.Event()
        self._ending = False
        self.dropped = 0

    def post(self, owner: Owner, kind: EventType, reason: str, message: str) -> None:
        """Say something of a pipeline, soon; of a full queue the oldest is dropped."""
        if len(message) > MESSAGE_LENGTH:
            message = message[: MESSAGE_LENGTH - 1] + "…"
        said, now_s = _Said(owner, kind, reason, message), self._wall()
        if waiting := self._waiting.get(said):
            waiting.times += 1
            waiting.last_s = now_s
            return
        self._waiting[said] = _Waiting(1, now_s, now_s)
        if len(self._waiting) > self._queue:
            _oldest, lost = self._waiting.popitem(last=False)
            self.dropped += lost.times
        self._posted.set()

    async def run(self) -> None:
        """Send until cancelled, and then what is queued, as far as `FLUSHED_WITHIN_S` allows."""
        self._ending = False
        sender = asyncio.create_task(self._send_all())
        try:
            await asyncio.shield(sender)
        finally:
            self._ending = True
            self._posted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSHED_WITHIN_S):
                    await sender
            self.dropped += sum(waiting.times for waiting in self._waiting.values())
            self._waiting.clear()

    async def _send_all(self) -> None:
        """Send what is due until the end, and then what is not."""
        while self._waiting or not self._ending:
            self._posted.clear()
            said, pause_s = self._next()
            if said is not None:
                await self._send(said, self._waiting.pop(said))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._posted.wait()

    def _next(self) -> tuple[_Said | None, float | None]:
        """What to send now; else None and the seconds until then, None for never."""
        now_s = asyncio.get_running_loop().time()
        soonest_s: float | None = None
        for said in self._waiting:
            sent = self._sent.get(said)
            left_s = 0.0 if sent is None else sent.at_s + SUMMED_FOR_S - now_s
            if left_s <= 0 or self._ending:
                return said, 0.0
            soonest_s = left_s if soonest_s is None else min(soonest_s, left_s)
        return None, soonest_s

    async def _send(self, said: _Said, waiting: _Waiting) -> None:
        """Write it, with a few more attempts where these may help; a failure too is not repeated within a minute."""
        before = self._sent.pop(said, None)
        known = count = None if before is None else before.count
        told = False
        try:
            for pause_s in (*_RETRIED_AFTER_S, None):
                try:
                    count = await self._write(said, waiting, known)
                except ClusterError as error:
                    if pause_s is None or not error.transient:
                        break
                    await asyncio.sleep(pause_s)
                else:
                    told = True
                    break
        finally:
            self._sent[said] = _Sent(count, asyncio.get_running_loop().time())
            if len(self._sent) > self._remember:
                self._sent.popitem(last=False)
            self.dropped += 0 if told else waiting.times

    async def _write(self, said: _Said, waiting: _Waiting, count: int | None) -> int:
        """Count it up, or make it where there is none; return its count."""
        namespace, name = said.owner.namespace, said.name
        for _ in range(_WRITES):
            try:
                if count is None:
                    await self._api.call("create", "Event", namespace, body=self._manifest(said, waiting))
                    return waiting.times
                patch = {"count": count + waiting.times, "lastTimestamp": _time(waiting.last_s)}
                await self._api.call("patch", "Event", namespace, name, body=patch, content_type=MERGE)
                return count + waiting.times
            except ClusterError as error:
                if count is None and error.conflict:
                    count = await self._count(namespace, name)
                elif count is not None and error.missing:
                    count = None
                else:
                    raise
        raise ClusterError(409, f"Event {namespace}/{name} comes and goes: it was {_WRITES} times not what it just was")

    async def _count(self, namespace: str, name: str) -> int | None:
        try:
            found = await self._api.call("get", "Event", namespace, name)
        except ClusterError as error:
            if error.missing:
                return None
            raise
        return int(found.get("count") or 0)

    def _manifest(self, said: _Said, waiting: _Waiting) -> Manifest:
        owner = said.owner
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": said.name, "namespace": owner.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
            "type": said.kind,
            "reason": said.reason,
            "message": said.message,
            "count": waiting.times,
            "firstTimestamp": _time(waiting.first_s),
            "lastTimestamp": _time(waiting.last_s),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
