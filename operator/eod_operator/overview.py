"""`kubectl eod status`: pipelines at a glance, a line each; again and again, if wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from eod_operator import conditions
from eod_operator.api import KIND, LastClose, PipelineStatus
from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.lookup import NOT_INSTALLED, PIPELINES, Access, LookupFailedError, refused

HEADS = ("NAMESPACE", "NAME", "PHASE", "MODE", "LAG", "BEHIND", "REPLICAS", "NEXT CLOSE", "LAST CLOSE", "READY")


async def pipelines(access: Access, namespace: str | None) -> list[Manifest]:
    """Those of a namespace, or of all (None), by namespace and name.

    Raises:
        LookupFailedError: they cannot be read.
    """
    api = Api(access.configuration, user_agent="kubectl-eod")
    try:
        found: list[Manifest] = (await api.call("list", KIND, namespace)).get("items") or []
    except ClusterError as error:
        told = NOT_INSTALLED if error.missing else refused(error, "list", PIPELINES, namespace)
        raise LookupFailedError(told) from error
    finally:
        await api.close()
    return sorted(found, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]))


def facts(pipeline: Manifest) -> dict[str, Any]:
    """What is shown of a pipeline; None is unknown."""
    meta, status = pipeline["metadata"], conditions.read(conditions.pack(pipeline.get("status")))
    ready = next((one for one in status.conditions if one.type == "Ready"), None) if status else None
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "phase": status.phase if status else None,
        "mode": (pipeline.get("spec") or {}).get("mode", "Auto"),
        "lag": status.lag if status else None,
        "lagSeconds": status.lag_seconds if status else None,
        "replicas": status.replicas if status else None,
        "desired": status.desired if status else None,
        "nextClose": status.next_close if status else None,
        "lastClose": _met(status),
        "ready": None if ready is None else ready.status == "True",
        "why": None if ready is None or ready.status == "True" else f"{ready.reason}: {ready.message}",
    }


def _met(status: PipelineStatus | None) -> str | None:
    """How the last close was met, in a few words; None if that is not known."""
    told = status.last_close if status else None
    return None if told is None else _in_a_word(told)


def _in_a_word(told: LastClose) -> str:
    since = [one.ready_seconds if one.assigned_seconds is None else one.assigned_seconds for one in told.stages]
    if any(at is None for at in since):
        return "replicas were missing"
    latest = max((at for at in since if at is not None), default=0)
    return f"{-latest} s early" if latest <= 0 else f"{latest} s late"


def table(rows: Iterable[dict[str, Any]], now: datetime) -> Table:
    """The rows for people, wide enough not to be cut where nobody looks."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(HEADS):
        last = number == len(HEADS) - 1
        made.add_column(head, no_wrap=not last, overflow="fold", ratio=1 if last else None)
    for row in rows:
        made.add_row(*_cells(row, now))
    return made


def _cells(row: dict[str, Any], now: datetime) -> Sequence[str]:
    counts = "-" if row["replicas"] is None else f"{row['replicas']}/{row['desired']}"
    ready = {None: "unknown", True: "yes", False: f"no: {row['why']}"}[row["ready"]]
    behind = "-" if row["lagSeconds"] is None else f"{row['lagSeconds']:g} s"
    lag = "-" if row["lag"] is None else f"{row['lag']:,}"
    close = "-" if row["nextClose"] is None else _until(datetime.fromisoformat(row["nextClose"]), now)
    phase = row["phase"] or "-"
    return (
        row["namespace"],
        row["name"],
        phase,
        row["mode"],
        lag,
        behind,
        counts,
        close,
        row["lastClose"] or "-",
        ready,
    )


def _until(at: datetime, now: datetime) -> str:
    """A moment, and how far away it is."""
    minutes = int((at - now).total_seconds() // 60)
    away = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(0, minutes)} min"  # noqa: PLR2004
    return f"{at.astimezone(UTC):%m-%d %H:%M} UTC, in {away}"
