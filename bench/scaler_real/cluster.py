"""What this benchmark asks of the API server: objects by path, and a watch that goes on where it broke."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
from operator_bars.cluster import Admin

Manifest = dict[str, Any]
_NOT_FOUND, _CONFLICT, _REFUSED = 404, 409, 400
_AGAIN_AFTER_S = 0.2
_WATCH_S = 300
_PATCHES = MappingProxyType(
    {
        "merge": "application/merge-patch+json",
        "strategic": "application/strategic-merge-patch+json",
        "apply": "application/apply-patch+yaml",
    }
)


class Refused(RuntimeError):
    """The API server did not do what was asked of it."""


class Cluster:
    """One API server, with all rights."""

    def __init__(self, admin: Admin) -> None:
        self._session = admin.session

    async def get(self, path: str) -> Manifest | None:
        """An object or a list; None when there is no such object."""
        return await self._ask("GET", path)

    async def create(self, path: str, body: Manifest) -> None:
        """Make an object; one that is there already is left as it is."""
        await self._ask("POST", path, body)

    async def patch(self, path: str, body: Manifest, how: str = "merge") -> None:
        """Change an object, or with `apply` make it."""
        query = {"fieldManager": "bench", "force": "true"} if how == "apply" else {}
        await self._ask("PATCH", path, body, _PATCHES[how], query)

    async def delete(self, path: str, *, grace_s: int | None = None, foreground: bool = False) -> None:
        """Delete an object, if it is there."""
        body: Manifest = {"propagationPolicy": "Foreground" if foreground else "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        await self._ask("DELETE", path, body)

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Events of a list, for ever: ADDED of what is there first, and again whenever the watch had to begin anew."""
        while True:
            listed = await self.get(path)
            if listed is None:
                raise Refused(f"{path}: there is no such list")
            for one in listed["items"]:
                yield "ADDED", one
            version = listed["metadata"]["resourceVersion"]
            try:
                async for kind, found in self._events(path, version):
                    if kind == "ERROR":
                        break
                    if kind != "BOOKMARK":
                        yield kind, found
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_AGAIN_AFTER_S)

    async def _events(self, path: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        async with self._session.get(path, params=query) as answer:
            answer.raise_for_status()
            rest = b""
            async for chunk in answer.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    event = json.loads(line)
                    yield event["type"], event["object"]

    async def _ask(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        kind: str = "application/json",
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> Manifest | None:
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": kind}
        async with self._session.request(method, path, data=data, headers=headers, params=dict(query)) as answer:
            text = await answer.text()
            if answer.status == _NOT_FOUND and method in {"GET", "DELETE"}:
                return None
            if answer.status == _CONFLICT and method == "POST":
                return None
            if answer.status >= _REFUSED:
                raise Refused(f"{method} {path}: {answer.status}: {text.strip()[:500]}")
            found: Manifest = json.loads(text)
            return found
