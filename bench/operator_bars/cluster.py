"""The benchmark's own eyes and hands in the cluster: fast applies, and a watch of every Deployment's replica count."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes import client, config

Manifest = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
_DEPLOYMENTS = "/apis/apps/v1/deployments"
_AT_ONCE = 16
_GONE = 410
_AGAIN_AFTER_S = 0.2


class Admin:
    """The API server with all rights, over a connection pool."""

    def __init__(self, kubeconfig: Path) -> None:
        self._settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=self._settings)  # type: ignore[no-untyped-call]
        context = ssl.create_default_context(cafile=self._settings.ssl_ca_cert)
        context.load_cert_chain(str(self._settings.cert_file), str(self._settings.key_file))
        self.session = aiohttp.ClientSession(
            base_url=self._settings.host,
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=30),
            read_bufsize=1 << 20,
        )
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def apply(self, pipelines: Iterable[Manifest]) -> None:
        """Create or update pipelines by server-side apply."""
        async with asyncio.TaskGroup() as group:
            for one in pipelines:
                group.create_task(self._apply(one))

    async def _apply(self, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        path = f"/apis/eod.markets/v1alpha1/namespaces/{meta['namespace']}/eodpipelines/{meta['name']}"
        headers = {"Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "bench", "force": "true"}
        async with (
            self._slots,
            self.session.patch(path, params=query, data=json.dumps(manifest), headers=headers) as answer,
        ):
            if answer.status >= 300:  # noqa: PLR2004 - HTTP's successes end here
                raise RuntimeError(f"applying {meta['name']}: {await answer.text()}")

    async def text(self, path: str) -> str:
        """Read a page, such as /metrics."""
        async with self.session.get(path) as answer:
            answer.raise_for_status()
            return await answer.text()


@dataclass(frozen=True, slots=True)
class Change:
    """A replica count that was changed."""

    at_s: float
    deployment: Key
    before: int
    after: int


class ReplicaWatch:
    """What Deployments ask for, as it changes; missing nothing between two connections, since it then lists anew."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self.counts: dict[Key, int] = {}
        self.changes: list[Change] = []
        self._waiting: dict[Key, tuple[Callable[[int], bool], asyncio.Future[float]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listed = asyncio.Event()
        self._task = asyncio.create_task(self._run(listed), name="watch of Deployments")
        await listed.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def until(self, deployment: Key, holds: Callable[[int], bool], within_s: float) -> float | None:
        """When the count of a Deployment came to satisfy `holds`; None if it did not in time."""
        if deployment in self.counts and holds(self.counts[deployment]):
            return time.monotonic()
        future = asyncio.get_running_loop().create_future()
        self._waiting[deployment] = (holds, future)
        try:
            return await asyncio.wait_for(future, within_s)
        except TimeoutError:
            return None
        finally:
            del self._waiting[deployment]

    async def _run(self, listed: asyncio.Event) -> None:
        version = ""
        while True:
            if not version:
                version = await self._list()
                listed.set()
            try:
                async for event in self._events(version):
                    found = event["object"]
                    if event["type"] == "ERROR":
                        version = "" if found.get("code") == _GONE else version
                        break
                    version = found["metadata"]["resourceVersion"]
                    if event["type"] == "DELETED":
                        self.counts.pop(_key(found), None)
                    elif event["type"] != "BOOKMARK":
                        self._saw(found)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_AGAIN_AFTER_S)

    async def _list(self) -> str:
        found = json.loads(await self._admin.text(_DEPLOYMENTS))
        for one in found["items"]:
            self._saw(one)
        return str(found["metadata"]["resourceVersion"])

    async def _events(self, version: str) -> AsyncIterator[Manifest]:
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        async with self._admin.session.get(_DEPLOYMENTS, params=query) as answer:
            answer.raise_for_status()
            rest = b""
            async for chunk in answer.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield json.loads(line)

    def _saw(self, found: Manifest) -> None:
        key, after = _key(found), int(found["spec"]["replicas"])
        before = self.counts.get(key)
        self.counts[key] = after
        at_s = time.monotonic()
        if before is not None and before != after:
            self.changes.append(Change(at_s, key, before, after))
        if key in self._waiting:
            holds, future = self._waiting[key]
            if holds(after) and not future.done():
                future.set_result(at_s)


def _key(found: Manifest) -> Key:
    return found["metadata"]["namespace"], found["metadata"]["name"]
