"""What may befall a request to an API server, drawn from a seeded generator: a function of values, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Any

from support.api_requests import WRITES, Request

GONE_WITHIN_S = 2.0
"""A watch that is to expire in its middle does so within this time, uniformly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The probability of each fault; at most one befalls a request, so those that compete may add up to 1.

    Attributes:
        conflict: of a write, that it is answered 409 Conflict and not forwarded.
        gone: of a list with a resource version and of a watch, that it is answered 410 Expired; half of the watches
            get it as an ERROR event in their middle instead.
        throttled: that it is answered 429 with `Retry-After: 1` and not forwarded.
        broken: that it is answered 500; half of them after the server has done the work.
        timeout: that it gets no answer and is cut after `timeout_s`; half of them after the server has done the work.
        silent_watch: of a watch, that it is accepted, delivers nothing, and is cut after `silent_for_s`.
        dropped_watch: of an open watch, each second, that its connection is cut.
        timeout_s: seconds.
        silent_for_s: seconds.
        latency_s: least and most delay of each request, in seconds.
    """

    conflict: float = 0.0
    gone: float = 0.0
    throttled: float = 0.0
    broken: float = 0.0
    timeout: float = 0.0
    silent_watch: float = 0.0
    dropped_watch: float = 0.0
    timeout_s: float = 12.0
    silent_for_s: float = 60.0
    latency_s: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in (*_ANY, "conflict", "gone", "silent_watch", "dropped_watch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: a probability is between 0 and 1")
        for kind, names in (("write", ("conflict", *_ANY)), ("watch", ("gone", "silent_watch", *_ANY))):
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(f"{' + '.join(names)} of a {kind} is {total:g}: lower some, they may add up to 1")
        low_s, high_s = self.latency_s
        if not 0 <= low_s <= high_s:
            raise ValueError(f"latency_s is {self.latency_s}: give (least, most), neither below 0")


_ANY = ("throttled", "broken", "timeout")


@dataclass(frozen=True, slots=True)
class Fate:
    """What befalls one request.

    Attributes:
        fault: its name in `Faults`; empty for nothing.
        late: after the server has done the work; of a watch, in its middle.
        delay_s: before anything else.
        late_s: how far into a watch.
    """

    fault: str = ""
    late: bool = False
    delay_s: float = 0.0
    late_s: float = 0.0


UNHARMED = Fate()


def draw(random: Random, faults: Faults, request: Request) -> Fate:
    """Draw the fate of the next request; always four numbers, so that a fate depends on the seed and its turn alone."""
    choice, half, moment, delay = (random.random() for _ in range(4))
    watch = request.verb == "watch"
    low_s, high_s = faults.latency_s
    delay_s = low_s + delay * (high_s - low_s)
    below = 0.0
    for fault in _possible(request):
        below += getattr(faults, fault)
        if choice < below:
            late = half < 0.5 and fault in ({"gone"} if watch else {"broken", "timeout"})
            return Fate(fault, late, delay_s, moment * GONE_WITHIN_S)
    return Fate(delay_s=delay_s)


def _possible(request: Request) -> tuple[str, ...]:
    own = (
        *(("conflict",) if request.verb in WRITES else ()),
        *(("gone",) if request.expirable else ()),
        *(("silent_watch",) if request.verb == "watch" else ()),
    )
    return (*own, *_ANY)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in place of the API server's."""

    code: int
    body: bytes
    headers: Mapping[str, str]


def refusal(fault: str, request: Request) -> Refusal:
    """The answer that an API server would give, as a Status object with its words."""
    thing = f"{request.resource}.{request.group}" if request.group else request.resource
    match fault:
        case "conflict":
            said = (
                f'Operation cannot be fulfilled on {thing} "{request.name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
            return _refusal(409, "Conflict", said, request)
        case "gone":
            return _refusal(410, "Expired", "The provided resource version is too old", request)
        case "throttled":
            said = "Too many requests, please try again later"
            return _refusal(429, "TooManyRequests", said, request, retry_after_s=1)
        case "broken":
            return _refusal(500, "InternalError", "Internal error occurred: injected by a test", request)
        case _:
            raise ValueError(f"{fault} has no answer: only conflict, gone, throttled and broken do")


def error_event(request: Request) -> bytes:
    """The line by which a server says in the middle of a watch that the resource version is too old."""
    return b'{"type":"ERROR","object":%b}\n' % refusal("gone", request).body


def _refusal(code: int, reason: str, message: str, request: Request, *, retry_after_s: int = 0) -> Refusal:
    details: dict[str, Any] = {"name": request.name, "group": request.group, "kind": request.resource}
    headers = {"Content-Type": "application/json"}
    if retry_after_s:
        details["retryAfterSeconds"] = retry_after_s
        headers["Retry-After"] = str(retry_after_s)
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": {key: value for key, value in details.items() if value},
        "code": code,
    }
    return Refusal(code, json.dumps(status).encode(), MappingProxyType(headers))
