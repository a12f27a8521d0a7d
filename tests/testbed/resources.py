"""Objects of a Kubernetes cluster, read from its API server directly, and shown to it.

A test that waits asks ten times a second, and a table of refusals has eighty rows: each time a kubectl would be a process to
start.
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed.errors import CommandFailed

_ANSWER_S = 30.0
_OK, _CREATED = 200, 201
Manifest = dict[str, Any]


class Resources:
    """Reads as kubectl get does, and asks as its dry runs do. Threads may share it."""

    def __init__(self, server: str, ca: Path, certificate: Path, key: Path) -> None:
        self._address = urlsplit(server).netloc
        self._files = (ca, certificate, key)
        self._places: dict[str, tuple[str, str, bool]] = {}

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object; its kind by any name that kubectl takes.

        Raises:
            CommandFailed: the server has none, or refused.
        """
        return self._ask(f"{self._path(kind, namespace)}/{name}")

    def items(self, kinds: str, namespace: str) -> list[Manifest]:
        """All objects of a kind, or of several with commas.

        Raises:
            CommandFailed: the server refused.
        """
        found: list[Manifest] = []
        for kind in kinds.split(","):
            found += self._ask(self._path(kind, namespace))["items"]
        return found

    def would_create(self, manifest: Manifest, namespace: str = "default") -> Manifest:
        """What would be kept if this were created; nothing is (`kubectl create --dry-run=server`).

        Raises:
            CommandFailed: the server would refuse it; also for a field that it does not know.
        """
        path = f"{self._path(manifest['kind'].lower(), namespace)}?dryRun=All&fieldValidation=Strict"
        status, body = self._request("POST", path, json.dumps(manifest).encode())
        answer: Manifest = json.loads(body)
        if status != _CREATED:
            raise CommandFailed(f"POST {path}: {status} {answer['message']}")
        return answer

    def _path(self, kind: str, namespace: str) -> str:
        if kind not in self._places:
            self._places = dict(self._discovered())
        if kind not in self._places:
            raise CommandFailed(f"the API server has no {kind}")
        group, plural, namespaced = self._places[kind]
        return f"{group}/namespaces/{namespace}/{plural}" if namespaced else f"{group}/{plural}"

    def _discovered(self) -> Iterator[tuple[str, tuple[str, str, bool]]]:
        groups = [one["preferredVersion"]["groupVersion"] for one in self._ask("/apis")["groups"]]
        for path in [*(f"/apis/{group}" for group in reversed(groups)), "/api/v1"]:  # core wins, as for events
            for one in self._ask(path)["resources"]:
                if "/" not in one["name"]:
                    place = (path, one["name"], one["namespaced"])
                    yield f"{one['name']}.{path.split('/')[2]}", place
                    for name in (one["name"], one["singularName"], *one.get("shortNames", ())):
                        yield name, place

    def _ask(self, path: str) -> Manifest:
        status, body = self._request("GET", path)
        if status != _OK:
            raise CommandFailed(f"GET {path}: {status} {body.decode(errors='replace')[:500]}")
        answer: Manifest = json.loads(body)
        return answer

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self._address, timeout=_ANSWER_S, context=self._context)
        try:
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            raise CommandFailed(f"{method} {path}: {error}") from error
        finally:
            connection.close()

    @cached_property
    def _context(self) -> ssl.SSLContext:
        ca, certificate, key = self._files
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(certificate, key)
        return context
