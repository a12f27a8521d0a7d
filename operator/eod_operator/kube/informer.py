"""A watch-fed index of one kind of object: what the API server has, as small records in memory.

The server filters by label, lists come in pages, and of each object only a record stays: an index of whole objects
(kopf's, or client-go's without a transform) would hold a thousand pipelines' Pods and Deployments in hundreds of MB.
Our own writes go in with their answers, so whoever reads after writing never sees what was before.

Resource versions of one kind are compared as numbers, which Kubernetes promises (KEP-5504). A watch delivers them in
order, so `_Place.version` means: all that happened up to here is in the index, and an older answer is old news. A list
is the truth, also where it goes back in time (an etcd restored from a backup), except for what we wrote while it ran.

All of it runs on one event loop, without locks: nothing awaits between reading the index and changing it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.kube.kinds import RESOURCES

WATCH_WITHIN_S = (240.0, 360.0)
"""Between these the server is asked to end a watch, so that watches do not all end at once."""
SILENT_FOR_S = 150.0
"""The server sends a bookmark once a minute, the first after up to two; a watch without one for so long is dead."""
ENDED_AT_ONCE_S = 1.0
"""A watch that ends sooner counts as a failure: something in between closes it, and asking again at once would spin."""
STANDS_AFTER_S = 10.0
"""A watch that has been neither refused nor ended for so long stands; of a quiet kind the first bookmark may take two
minutes, and all that time nothing would be lowered because of a refusal that is history."""
BACKOFF_S = 0.5
BACKOFF_MAX_S = 15.0
LIST_AFTER_FAILURES = 3
ABSENT_AGAIN_S = 60.0
TOMBSTONES = 4096
"""So many objects that we deleted are remembered, until the watch has long told of them too."""

logger = logging.getLogger(__name__)
Key = tuple[str, str]


class Record(Protocol):
    """What the index must know of each object."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def uid(self) -> str:
        """Its uid: another object of the same name has another."""

    @property
    def version(self) -> int:
        """Its resourceVersion."""


R = TypeVar("R", bound=Record)


@dataclass(slots=True, eq=False)
class _Place:
    """One namespace (None: all of them) with its own list and watch.

    Attributes:
        version: everything up to this resource version is in the index; the watch goes on from here.
        list_next: whether to list before watching.
        failures: in a row, since a watch last said something.
        problem: the verb that failed, and the sentence for people.
        touched: what we wrote since the running list was asked for, which may be newer than the list; None between.
    """

    namespace: str | None
    heard_at_s: float = -math.inf
    synced: bool = False
    version: int = 0
    list_next: bool = True
    failures: int = 0
    problem: tuple[str, str] | None = None
    touched: set[Key] | None = None


class Informer(Generic[R]):
    """The records of one kind, by name and by group.

    Args:
        api: the API server.
        kind: a kind of `RESOURCES`.
        namespaces: where; `[None]` is everywhere.
        selector: a label selector; empty for every object.
        slim: makes a record of an object; listed ones come without `kind`. It must not fail: its error ends `run`.
        group: the group of a record; None keeps it out of `of`.
        changed: told of a group each time that a record of it came, changed, left or went, by our own writes too.
        page: objects in one page of a list.
        optional: whether the server may lack this kind; it then counts as empty.
        clock: seconds.
        rng: of the jitter.
    """

    def __init__(
        self,
        api: Api,
        kind: str,
        *,
        namespaces: Sequence[str | None],
        slim: Callable[[Manifest], R],
        group: Callable[[R], Hashable | None],
        selector: str = "",
        changed: Callable[[Hashable], None] = lambda _group: None,
        page: int = 250,
        optional: bool = False,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._places = {namespace: _Place(namespace) for namespace in namespaces}
        if not self._places or (None in self._places and len(self._places) > 1):
            raise ValueError(f"namespaces is {namespaces!r}: name at least one, or give [None] alone for all")
        self._api = api
        self._kind = kind
        self._query = {"labelSelector": selector} if selector else {}
        self._slim = slim
        self._group = group
        self._changed = changed
        self._page = page
        self._optional = optional
        self._clock = clock
        self._rng = rng or random.Random()
        self._records: dict[Key, R] = {}
        self._groups: dict[Hashable, dict[Key, R]] = {}
        self._dead: OrderedDict[str, None] = OrderedDict()  # uids that are gone, though events may yet tell of them

    @property
    def synced(self) -> bool:
        """Whether every namespace has been listed at least once."""
        return all(place.synced for place in self._places.values())

    @property
    def fresh_s(self) -> float:
        """Seconds since the namespace that has been silent for longest said anything; infinite before it ever has."""
        return self._clock() - min(place.heard_at_s for place in self._places.values())

    @property
    def problem(self) -> str | None:
        """Why the kind cannot be read now and what to do about it; None when all is well."""
        return next((place.problem[1] for place in self._places.values() if place.problem), None)

    def of(self, group: Hashable) -> Mapping[Key, R]:
        """The records of a group as they are now, by namespace and name."""
        return dict(self._groups.get(group, {}))

    def get(self, namespace: str, name: str) -> R | None:
        """One record, in a group or not."""
        return self._records.get((namespace, name))

    def put(self, manifest: Manifest) -> None:
        """Take in the answer of our own write, of an object that the selector matches, unless newer is known."""
        record = self._slim(manifest)
        place = self._place(record.namespace)
        if place is None or record.version <= place.version:
            return  # nobody would tell us when it goes, or what came of it is in the index already
        if place.touched is not None:
            place.touched.add((record.namespace, record.name))
        self._offer(record)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """Take in our own delete, once the object is gone; one that finalizers still hold is to be `put`."""
        place = self._place(namespace)
        if place is not None and place.touched is not None:
            place.touched.add((namespace, name))
        self._bury(uid)
        known = self.get(namespace, name)
        if known is not None and known.uid == uid:
            self._remove(known)

    async def run(self) -> None:
        """List and watch every namespace until cancelled; trouble with the server is waited out."""
        async with asyncio.TaskGroup() as tasks:
            for place in self._places.values():
                tasks.create_task(self._follow(place))

    async def _follow(self, place: _Place) -> None:
        while True:
            try:
                if place.list_next:
                    await self._list(place)
                await self._watch(place)
            except ClusterError as error:
                if self._optional and error.missing:
                    self._absent(place)
                    await asyncio.sleep(ABSENT_AGAIN_S * self._rng.uniform(0.8, 1.2))
                else:
                    await asyncio.sleep(self._failed(place, error))

    async def _list(self, place: _Place) -> None:
        """Bring the index to what the server has now, page by page."""
        listed: set[Key] = set()
        place.touched = set()
        try:
            token, version = await self._list_page(place, "", listed)
            while token:
                token, version = await self._list_page(place, token, listed)
            self._sweep(place, listed, version)
        finally:
            place.touched = None
        place.version = version
        place.synced, place.list_next = True, False
        if place.problem and place.problem[0] == "list":
            self._well(place)

    async def _list_page(self, place: _Place, token: str, listed: set[Key]) -> tuple[str, int]:
        """Take in one page, whose dicts are free when this returns; return the token of the next and the version."""
        query = {**self._query, "limit": str(self._page)} | ({"continue": token} if token else {})
        match await self._api.call("list", self._kind, place.namespace, query=query):
            case {"metadata": {"resourceVersion": str(version), **metadata}, **page}:
                place.heard_at_s = self._clock()
                for manifest in page.get("items") or ():
                    self._take_listed(place, self._slim(manifest), listed)
                return str(metadata.get("continue") or ""), int(version)
            case _:
                raise ClusterError(0, f"list of {self._kind}: the answer is no list, so something else answers")

    def _take_listed(self, place: _Place, record: R, listed: set[Key]) -> None:
        key = (record.namespace, record.name)
        listed.add(key)
        if key in (place.touched or ()):
            self._offer(record)
        else:
            self._dead.pop(record.uid, None)
            self._store(record)

    def _sweep(self, place: _Place, listed: Collection[Key], version: int) -> None:
        """Remove what a list of this version did not have, but for what we have written since."""
        for key, record in list(self._records.items()):
            if key in listed or place.namespace not in {None, record.namespace}:
                continue
            if key in (place.touched or ()) and record.version > version:
                continue
            self._remove(record)

    async def _watch(self, place: _Place) -> None:
        """Take in events until the server ends the watch."""
        query = {**self._query, "resourceVersion": str(place.version), "allowWatchBookmarks": "true"}
        within_s = self._rng.uniform(*WATCH_WITHIN_S)
        started_s = self._clock()
        loop = asyncio.get_running_loop()
        stands = loop.call_later(STANDS_AFTER_S, self._well, place)
        try:
            async with asyncio.timeout(SILENT_FOR_S) as silence:
                async for event in self._api.watch(self._kind, place.namespace, query=query, within_s=within_s):
                    silence.reschedule(loop.time() + SILENT_FOR_S)
                    self._take_event(place, event)
                    self._well(place)
        except TimeoutError as error:
            raise ClusterError(0, f"watch of {self._kind}: nothing came for {SILENT_FOR_S:g} s") from error
        finally:
            stands.cancel()
        if self._clock() - started_s < ENDED_AT_ONCE_S:
            raise ClusterError(0, f"watch of {self._kind}: it ended at once")
        self._well(place)

    def _take_event(self, place: _Place, event: Manifest) -> None:
        match event:
            case {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}:
                place.version = int(version)
            case {"type": "ADDED" | "MODIFIED", "object": dict(manifest)}:
                record = self._slim(manifest)
                self._offer(record)
                place.version = record.version
            case {"type": "DELETED", "object": dict(manifest)}:  # or its labels match the selector no longer
                record = self._slim(manifest)
                known = self.get(record.namespace, record.name)
                if known is not None and known.version <= record.version:
                    self._remove(known)
                place.version = record.version
            case _:
                raise ClusterError(0, f"watch of {self._kind}: {event.get('type')!r} is no event that Kubernetes has")
        place.heard_at_s = self._clock()

    def _offer(self, record: R) -> None:
        """Store a record unless the index knows something newer."""
        known = self.get(record.namespace, record.name)
        if record.uid not in self._dead and (known is None or known.version < record.version):
            self._store(record)

    def _store(self, record: R) -> None:
        key = (record.namespace, record.name)
        known = self._records.get(key)
        if known is not None and (known.uid, known.version) == (record.uid, record.version):
            return
        before, after = None if known is None else self._group(known), self._group(record)
        if known is not None and known.uid != record.uid:
            self._bury(known.uid)
        self._leave(before, key)
        self._records[key] = record
        if after is not None:
            self._groups.setdefault(after, {})[key] = record
        self._tell(before, after)

    def _remove(self, record: R) -> None:
        key, group = (record.namespace, record.name), self._group(record)
        del self._records[key]
        self._leave(group, key)
        self._tell(group)

    def _leave(self, group: Hashable | None, key: Key) -> None:
        members = self._groups.get(group, {})
        members.pop(key, None)
        if not members:
            self._groups.pop(group, None)

    def _tell(self, *groups: Hashable | None) -> None:
        for group in dict.fromkeys(groups):
            if group is not None:
                self._changed(group)

    def _bury(self, uid: str) -> None:
        """Note an object that is gone before the watch has said so, so that late events do not bring it back."""
        self._dead[uid] = None
        self._dead.move_to_end(uid)
        if len(self._dead) > TOMBSTONES:
            self._dead.popitem(last=False)

    def _place(self, namespace: str) -> _Place | None:
        return self._places.get(namespace) or self._places.get(None)

    def _absent(self, place: _Place) -> None:
        """The server does not have the kind: all of it is gone."""
        self._sweep(place, (), sys.maxsize)
        place.heard_at_s = self._clock()
        place.synced = place.list_next = True
        self._well(place)

    def _well(self, place: _Place) -> None:
        if place.problem:
            logger.info("%s can be read again", self._kind)
        place.failures, place.problem = 0, None

    def _failed(self, place: _Place, error: ClusterError) -> float:
        """Note a failure; return the seconds to wait, by full jitter.

        A watch that breaks is no problem yet: the next one goes on where it was. A list that fails is one.
        """
        verb = "list" if place.list_next else "watch"
        place.failures += 1
        outrun = error.expired and place.failures < LIST_AFTER_FAILURES  # happens, and the next list mends it
        if not outrun and (verb == "list" or not error.transient):
            problem = (verb, self._sentence(place, error))
            if problem != place.problem:
                logger.warning("%s", problem[1])
            place.problem = problem
        place.list_next = place.list_next or error.expired or place.failures % LIST_AFTER_FAILURES == 0
        logger.debug("%s, failure %d in a row: %s", self._kind, place.failures, error)
        return self._rng.uniform(0, min(BACKOFF_MAX_S, BACKOFF_S * 2 ** min(place.failures - 1, 10)))

    def _sentence(self, place: _Place, error: ClusterError) -> str:
        where = "in all namespaces" if place.namespace is None else f"in namespace {place.namespace}"
        resource = RESOURCES[self._kind]
        plural = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        match error.status:
            case 401:
                remedy = "give the operator a valid token: check its ServiceAccount, or the kubeconfig"
            case 403:
                remedy = (
                    f"grant the operator's ServiceAccount list and watch of {plural} {where}, as the chart's rules do"
                )
            case 404:
                remedy = f"install the CRD {plural}"
            case 410:
                remedy = "one list takes longer than etcd keeps history: raise the API server's compaction interval"
            case _ if error.transient:
                remedy = "check that the API server runs and that the operator may reach it; it is asked again"
            case _:
                remedy = "the API server and this version of the operator do not fit: check both versions"
        return f"{self._kind} objects cannot be read {where} ({error}): {remedy}"
