"""Kopf's entry points: pipelines come in as events, and go out as what the loops need of them.

Only `on.event` is used. Kopf's timers, daemons and change handlers would put finalizers and annotations on the
pipelines; owner references already clean up, and a level-based loop has no use for "what changed". Peering is off: it
freezes on equal priorities, so a Lease says which replica acts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kopf
from pydantic import ValidationError

from eod_operator import conditions
from eod_operator.api import GROUP, PLURAL, VERSION
from eod_operator.api.spec import sentences, understood
from eod_operator.passes import Pipeline, packed
from eod_operator.resources import MANAGER, Owner

_BACKOFF_S = (1, 1, 2, 3, 5, 8, 15)
_SILENT_WATCH_S = 150
"""The API server sends a bookmark about once a minute."""


class _Patient:
    """Delays between tries without an end: an API server may be away for hours."""

    def __iter__(self) -> Iterator[float]:
        yield from _BACKOFF_S
        while True:
            yield _BACKOFF_S[-1]


def pipeline_of(body: Mapping[str, Any]) -> Pipeline:
    """A pipeline as the API server has it, and no more of it than is needed."""
    meta = body["metadata"]
    wrong, content = "", b""
    newer: tuple[str, ...] = ()
    try:
        spec, newer = understood(_plain(body.get("spec") or {}))
        content = packed(spec)
    except ValidationError as error:
        wrong = "; ".join(sentences(error))
    annotations = meta.get("annotations") or {}
    return Pipeline(
        owner=Owner(meta["namespace"], meta["name"], meta["uid"]),
        generation=int(meta.get("generation", 0)),
        version=int(meta.get("resourceVersion", 0)),
        content=content,
        wrong=wrong,
        newer=newer,
        annotations={key: value for key, value in annotations.items() if key.startswith(f"{GROUP}/")},
        status=conditions.pack(_plain(body.get("status") or {})),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def registry(seen: Callable[[Pipeline], None], gone: Callable[[str], None]) -> kopf.OperatorRegistry:
    """Kopf's handlers, in a registry of their own.

    Args:
        seen: told of a pipeline that is there, new, changed or merely listed.
        gone: told of the uid of one that was deleted.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(id="start", registry=handlers)
    def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.posting.enabled = False  # Events are the recorder's
        settings.posting.reporting_component = MANAGER
        settings.networking.error_backoffs = _Patient()
        settings.networking.request_timeout = 30
        settings.watching.inactivity_timeout = _SILENT_WATCH_S
        settings.watching.reconnect_backoff = 1.0

    @kopf.on.login(id="login", registry=handlers)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, id="watch", registry=handlers)
    async def watch(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf names and awaits it
        if type == "DELETED":
            gone(body["metadata"]["uid"])
        else:
            seen(pipeline_of(body))

    return handlers


def _plain(value: Any) -> Any:
    """Kopf's views of dicts as dicts."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value
