"""What is in the cluster, kept by watches: the objects of all pipelines, and whoever else scales Deployments.

A pass reads from here and makes no request; what it writes is put here at once, so that the next pass sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from eod_operator.kube.api import Api, Manifest
from eod_operator.kube.informer import Informer
from eod_operator.live import Live, slim
from eod_operator.resources import LABEL_MANAGER, MANAGER, Owner

OWNED = (
    "ServiceAccount",
    "ConfigMap",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "Deployment",
    "ServiceMonitor",
)
"""Kinds that the operator makes."""
OPTIONAL = ("ServiceMonitor", "ScaledObject")
"""Kinds that a cluster may not have."""
AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")

Objects = Mapping[tuple[str, str], Live]
"""Objects by kind and name."""


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Somebody else who scales something, and what."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    owner_kind: str
    target: str
    """Name of the Deployment; empty for another kind of target."""

    @property
    def group(self) -> tuple[str, str] | None:
        """The Deployment, by which indexes find it."""
        return (self.namespace, self.target) if self.target else None


def autoscaler(kind: str, found: Manifest) -> Autoscaler:
    """Make a record of a HorizontalPodAutoscaler, or of KEDA's ScaledObject (whose target may leave its kind out)."""
    meta, target = found["metadata"], (found.get("spec") or {}).get("scaleTargetRef") or {}
    deployed = target.get("kind", "Deployment") == "Deployment"
    return Autoscaler(
        kind=kind,
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        owner_kind=next((one["kind"] for one in meta.get("ownerReferences") or () if one.get("controller")), ""),
        target=target.get("name", "") if deployed else "",
    )


class Index:
    """All watches of the operator but that of the pipelines, which is kopf's."""

    def __init__(
        self, api: Api, namespaces: Sequence[str | None], *, changed: Callable[[tuple[str, str]], None]
    ) -> None:
        """Prepare the watches.

        Args:
            api: where to.
            namespaces: those to watch; (None,) for all.
            changed: told (namespace, pipeline) when one of its objects was added, changed or removed.
        """
        selector = f"{LABEL_MANAGER}={MANAGER}"
        self._owned = {
            kind: Informer(
                api,
                kind,
                namespaces=namespaces,
                selector=selector,
                slim=_slimmer(kind),
                group=lambda live: live.group,
                changed=lambda group: changed(_pair(group)),
                optional=kind in OPTIONAL,
            )
            for kind in OWNED
        }
        self._autoscalers = {
            kind: Informer(
                api,
                kind,
                namespaces=namespaces,
                slim=_autoscaler_of(kind),
                group=lambda found: found.group,
                changed=lambda group: self._rescaled(_pair(group), changed),
                optional=kind in OPTIONAL,
            )
            for kind in AUTOSCALERS
        }

    @property
    def _informers(self) -> Sequence[Informer[Live] | Informer[Autoscaler]]:
        return (*self._owned.values(), *self._autoscalers.values())

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed."""
        return all(informer.synced for informer in self._informers)

    @property
    def fresh_s(self) -> float:
        """Seconds since the quietest watch has said anything, if only that it is alive."""
        return max(informer.fresh_s for informer in self._informers)

    @property
    def problem(self) -> str | None:
        """Why a kind cannot be read, with the remedy; None when all can."""
        return next((informer.problem for informer in self._informers if informer.problem), None)

    def of(self, owner: Owner) -> Objects:
        """Objects with the pipeline's label, whoever owns them."""
        group = (owner.namespace, owner.name)
        return {
            (kind, live.name): live for kind, informer in self._owned.items() for live in informer.of(group).values()
        }

    def autoscaler(self, namespace: str, deployment: str) -> Autoscaler | None:
        """Who else scales a Deployment; of KEDA's pair (its object and the HPA that it made), its object."""
        found = [
            one for informer in self._autoscalers.values() for one in informer.of((namespace, deployment)).values()
        ]
        return min(found, key=lambda one: (one.owner_kind == "ScaledObject", one.kind, one.name), default=None)

    def put(self, manifest: Manifest) -> Live:
        """Take note of what the API server answered to a write (or a read) of ours."""
        kind = manifest["kind"]
        if (manifest["metadata"].get("labels") or {}).get(
            LABEL_MANAGER
        ) == MANAGER:  # or no watch would tell of its end
            self._owned[kind].put(manifest)
        return slim(kind, manifest)

    def forget(self, live: Live) -> None:
        """Take note of a deletion of ours."""
        self._owned[live.kind].forget(live.namespace, live.name, live.uid)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())

    def _rescaled(self, target: tuple[str, str], changed: Callable[[tuple[str, str]], None]) -> None:
        """An autoscaler came or went: its target's pipeline is told, if the target is one of ours."""
        namespace, name = target
        live = self._owned["Deployment"].get(namespace, name)
        if live is not None and live.group is not None:
            changed(live.group)


def _slimmer(kind: str) -> Callable[[Manifest], Live]:
    return lambda found: slim(kind, found)


def _autoscaler_of(kind: str) -> Callable[[Manifest], Autoscaler]:
    return lambda found: autoscaler(kind, found)


def _pair(group: Hashable) -> tuple[str, str]:
    if isinstance(group, tuple):
        return str(group[0]), str(group[1])
    raise TypeError(f"{group!r} is no (namespace, name)")
