"""Requests to a Kubernetes API server: what each asks for, read from its method and URL, and a bounded record of them.

The rules are those of the API server's own RequestInfo (k8s.io/apiserver/pkg/endpoints/request), so that what a test
counts is what RBAC and the audit log would say.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
RECORDED = 100_000
"""Requests that are remembered, the newest ones."""
BODY_BYTES = 64 * 1024
"""How much of a write's body is remembered."""
_BODIES_BYTES = 256 * 1024 * 1024
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_NAMESPACES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request and what became of it.

    Attributes:
        at_s: when it arrived, by `time.monotonic`.
        agent: the User-Agent.
        verb: as in RBAC, deletecollection included; of a path that is no resource the method in lower case.
        path: without the query.
        query: the query as sent.
        group: API group, empty for core.
        resource: plural; empty for discovery, /version and other paths that are no resource.
        namespace: None when cluster-scoped or of all namespaces; a Namespace itself is cluster-scoped.
        name: empty for a collection.
        subresource: such as status.
        body: of a write, at most `BODY_BYTES`.
        status: what the caller saw; 0 when it was cut, or has no answer yet.
        forwarded: whether the API server got it.
        fault: what was injected; empty for nothing.
    """

    at_s: float
    agent: str
    verb: str
    path: str
    query: str
    group: str = ""
    resource: str = ""
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    body: bytes = b""
    status: int = 0
    forwarded: bool = False
    fault: str = ""

    @property
    def expirable(self) -> bool:
        """Whether a server may find its resource version too old; "0" asks for whatever the server has."""
        if self.verb != "list":
            return self.verb == "watch"
        asked = parse_qs(self.query)
        return "continue" in asked or asked.get("resourceVersion", ["0"])[0] != "0"


def request_of(method: str, target: str, *, at_s: float, agent: str = "", body: bytes = b"") -> Request:
    """Read a request from its method and its target: path and query as in the request line."""
    path, _, query = target.partition("?")
    words = [unquote(word) for word in path.split("/") if word]
    match words:
        case ["api", _, *place] if place:
            group = ""
        case ["apis", group, _, *place] if place:
            pass
        case _:
            return Request(at_s=at_s, agent=agent, verb=method.lower(), path=path, query=query)
    namespace: str | None = None
    match place:
        case ["namespaces", _, below, *_] if below not in _OF_NAMESPACES:
            namespace, place = place[1], place[2:]
        case _:
            pass
    resource, name, subresource = (*place, "", "")[:3]
    verb = _verb(method, name, query)
    return Request(
        at_s=at_s,
        agent=agent,
        verb=verb,
        path=path,
        query=query,
        group=group,
        resource=resource,
        namespace=namespace,
        name=name,
        subresource=subresource,
        body=body[:BODY_BYTES] if verb in WRITES else b"",
    )


def _verb(method: str, name: str, query: str) -> str:
    verb = _VERBS.get(method, method.lower())
    if name:
        return verb
    if verb == "delete":
        return "deletecollection"
    if verb == "get":
        watch = parse_qs(query, keep_blank_values=True).get("watch", ["false"])[0]
        return "list" if watch.lower() in {"false", "0"} else "watch"
    return verb


class Record:
    """The newest requests, in the order of their arrival; written by one thread and read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: OrderedDict[int, Request] = OrderedDict()
        self._next = 0
        self._bodies_bytes = 0

    def add(self, request: Request) -> int:
        """Remember a request that has arrived, and return the number to settle it by."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._requests[number] = request
            self._bodies_bytes += len(request.body)
            while len(self._requests) > RECORDED or self._bodies_bytes > _BODIES_BYTES:
                _, oldest = self._requests.popitem(last=False)
                self._bodies_bytes -= len(oldest.body)
            return number

    def settle(self, number: int, **outcome: Any) -> None:
        """Write down what became of a request; one that is no longer remembered stays forgotten."""
        with self._lock:
            if number in self._requests:
                self._requests[number] = dataclasses.replace(self._requests[number], **outcome)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._requests.clear()
            self._bodies_bytes = 0

    def select(self, *, since_s: float, agent: str, verbs: Collection[str]) -> list[Request]:
        """Those that arrived since, whose User-Agent contains `agent`, and whose verb is one of `verbs` if any."""
        with self._lock:
            requests = list(self._requests.values())
        return [
            one for one in requests if one.at_s >= since_s and agent in one.agent and (not verbs or one.verb in verbs)
        ]
