"""Writes, fenced: only the holder of the lease writes, and only onto the version of an object that it has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eod_operator.api import API_VERSION, KIND
from eod_operator.index import OPTIONAL, OWNED, Index
from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.live import Live
from eod_operator.resources import LABEL_PIPELINE, MANAGER, Owner

ATTEMPTS = 3
"""Tries of one apply when others write to the same object at the same time."""
SOME_PODS = 10
_ALL = ",".join(kind.lower() for kind in OWNED if kind not in OPTIONAL)
"""As kubectl takes them; a kind that the cluster does not have would fail all of it."""


class NotLeadingError(Exception):
    """This process does not hold the lease (any more), so it writes nothing."""


class NotOwnedError(Exception):
    """An object of our name belongs to somebody else."""


class OwnerGoneError(Exception):
    """The pipeline was deleted, unseen by us: nothing is made for it any more."""


class Cluster:
    """What passes do to the cluster.

    Args:
        api: where to.
        index: what is there, by our watches.
        leading: whether the lease is ours.
    """

    def __init__(self, api: Api, index: Index, *, leading: Callable[[], bool]) -> None:
        self._api = api
        self._index = index
        self._leading = leading

    @property
    def plenty(self) -> bool:
        """Whether there is room in the budget for what could also be written later."""
        return self._api.budget.plenty

    async def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Read one object; None when there is none."""
        try:
            return await self._api.call("get", kind, namespace, name)
        except ClusterError as error:
            if error.missing:
                return None
            raise

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        """Some of the pods with these labels: enough to see why a stage does not come up."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items()), "limit": str(SOME_PODS)}
        found: list[Manifest] = (await self._api.call("list", "Pod", namespace, query=query)).get("items", [])
        return found

    async def apply(self, owner: Owner, manifest: Manifest, live: Live | None, *, met: bool = False) -> Live:
        """Create or update by server-side apply; fields that others set and we do not mention stay as they are.

        An update is refused by the server unless the object still has the version that we know, and is then tried
        again on the newer one. A create is not forced, so it cannot take over what somebody has just made. Before
        one we see for ourselves that the pipeline is there: the garbage collector, which has just removed what a
        deleted one had, would remove what we make for it, too, and so on for as long as nobody tells us. That is
        spared where it was `met` a moment ago: a first pass makes twenty objects.

        Raises:
            NotOwnedError: the object belongs to somebody else.
            OwnerGoneError: it would be made for a pipeline that is not there any more.
            NotLeadingError: the lease is not ours.
            ClusterError: the server refused, or does not answer.
        """
        kind, meta = manifest["kind"], manifest["metadata"]
        if live is None:
            live = await self._seen(manifest)
        for attempt in range(ATTEMPTS):
            if live is None:
                met = met or await self._require_there(owner)
            else:
                _require_owned(owner, live)
            body = manifest
            query = {"fieldManager": MANAGER}
            if live is not None:
                body = {**manifest, "metadata": {**meta, "resourceVersion": str(live.version), "uid": live.uid}}
                query["force"] = "true"
            try:
                return self._index.put(
                    await self._write("patch", kind, meta["namespace"], meta["name"], query=query, body=body)
                )
            except ClusterError as error:
                if not error.conflict or attempt == ATTEMPTS - 1:
                    raise
                live = await self._seen(manifest)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def delete(self, live: Live) -> None:
        """Delete this very object (not a namesake made since), with its dependents; one that is gone is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": live.uid},
        }
        try:
            await self._write("delete", live.kind, live.namespace, live.name, body=body)
        except ClusterError as error:
            if not (error.missing or error.conflict):
                raise
        self._index.forget(live)

    async def apply_status(self, owner: Owner, version: int, status: Manifest) -> int:
        """Replace our part of the pipeline's status, and return the pipeline's new version.

        Raises:
            NotLeadingError: the lease is not ours.
            ClusterError: also when the pipeline has changed since `version`, or was deleted (and made anew).
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": owner.name,
                "namespace": owner.namespace,
                "uid": owner.uid,
                "resourceVersion": str(version),
            },
            "status": status,
        }
        query = {"fieldManager": MANAGER, "force": "true"}
        answer = await self._write(
            "patch", KIND, owner.namespace, owner.name, subresource="status", query=query, body=body
        )
        return int(answer["metadata"]["resourceVersion"])

    async def _require_there(self, owner: Owner) -> bool:
        found = await self.find(KIND, owner.namespace, owner.name)
        meta = {} if found is None else found["metadata"]
        if meta.get("uid") != owner.uid or meta.get("deletionTimestamp"):
            raise OwnerGoneError(f"EodPipeline {owner.namespace}/{owner.name} was deleted: nothing is made for it")
        return True

    async def _seen(self, manifest: Manifest) -> Live | None:
        """The object as it is now: an index without it may be late, or the object may lack our labels."""
        meta = manifest["metadata"]
        found = await self.find(manifest["kind"], meta["namespace"], meta["name"])
        if found is None:
            return None
        return self._index.put({**found, "kind": manifest["kind"]})

    async def _write(
        self,
        verb: str,
        kind: str,
        namespace: str,
        name: str,
        *,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Manifest,
    ) -> Manifest:
        """One request that changes something, if the lease is still ours once the budget has let it through."""
        return await self._api.call(
            verb, kind, namespace, name, subresource=subresource, query=query, body=body, fence=self._require_lease
        )

    def _require_lease(self) -> None:
        if not self._leading():
            raise NotLeadingError


def _require_owned(owner: Owner, live: Live) -> None:
    if live.owner_uid == owner.uid:
        return
    if live.pipeline == owner.name and (live.owner_uid or live.deleting):
        raise NotOwnedError(
            f"{live.kind} {live.name} belongs to a deleted pipeline of the same name and is being removed; "
            "it is made anew when it is gone"
        )
    if live.pipeline == owner.name:
        raise NotOwnedError(
            f"{live.kind} {live.name} was left behind by an earlier pipeline of the same name and is not adopted: "
            f"delete all of that with kubectl -n {live.namespace} delete {_ALL} -l {LABEL_PIPELINE}={owner.name}"
        )
    raise NotOwnedError(
        f"{live.kind} {live.name} exists and does not belong to this pipeline, so it is left alone: "
        "delete or rename it, or rename the stage"
    )
