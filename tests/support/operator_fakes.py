"""A cluster and a Kafka in memory, for tests of what the operator makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from eod_operator.api import KIND
from eod_operator.asking import Door
from eod_operator.cluster import Cluster
from eod_operator.conditions import Problem
from eod_operator.handlers import pipeline_of
from eod_operator.index import Autoscaler
from eod_operator.kafka.errors import KafkaUnreachableError
from eod_operator.kafka.readings import Look, Reading, Wanted
from eod_operator.kafka.security import Endpoint
from eod_operator.kube.api import ClusterError
from eod_operator.live import Live, slim
from eod_operator.passes import Pipeline
from eod_operator.reconcile import Reconciler, Surroundings
from eod_operator.references import References
from eod_operator.resources import Owner

Manifest = dict[str, Any]


class FakeBudget:
    """Always plenty, unless said otherwise."""

    plenty = True


class FakeApi:
    """An API server in a dict: server-side apply, optimistic locking, status; enough for one operator."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.statuses: list[Manifest] = []
        self.failing: ClusterError | None = None
        self.refusals: dict[str, ClusterError] = {}
        self.unreadable: dict[str, ClusterError] = {}
        self.budget = FakeBudget()
        self.skew_s = 0.0
        self.outage: tuple[float, float] | None = None
        self.version = 100
        self.pipeline: Manifest | None = None
        """The one that there is."""

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        """Every write so far: verb, kind, name."""
        return [call for call in self.calls if call[0] in {"create", "patch", "update", "delete"}]

    async def call(
        self,
        verb: str,
        kind: str,
        namespace: str | None,
        name: str = "",
        *,
        subresource: str = "",
        fence: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> Manifest:
        """Answer as the API server would."""
        del namespace
        fence()
        self.calls.append((verb, f"{kind}/{subresource}" if subresource else kind, name))
        if self.failing is not None:
            raise self.failing
        if verb != "get" and kind in self.refusals:
            raise self.refusals[kind]
        if verb == "get" and kind in self.unreadable:
            raise self.unreadable[kind]
        if subresource == "status":
            return self._status(more["body"])
        if verb == "list":
            return {"items": [one for (of, _), one in self.objects.items() if of == kind]}
        if verb == "get":
            return copy.deepcopy(self._found(kind, name))
        if verb == "delete":
            return self._delete(kind, name)
        return self._apply(kind, name, more["body"])

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        """Change an object's spec as somebody else would."""
        found = self._found(kind, name)
        self._store(kind, name, {**found, "spec": {**found.get("spec", {}), **spec}})

    def put(self, manifest: Manifest) -> None:
        """Make an object as somebody else would."""
        self._store(manifest["kind"], manifest["metadata"]["name"], manifest)

    def _found(self, kind: str, name: str) -> Manifest:
        if kind == KIND and self.pipeline is not None and self.pipeline["metadata"]["name"] == name:
            return self.pipeline
        if (kind, name) not in self.objects:
            raise ClusterError(404, f"{kind} {name} not found", reason="NotFound")
        return self.objects[kind, name]

    def _delete(self, kind: str, name: str) -> Manifest:
        self._found(kind, name)
        del self.objects[kind, name]
        return {}

    def _apply(self, kind: str, name: str, body: Manifest) -> Manifest:
        meta = body["metadata"]
        known = self.objects.get((kind, name))
        if (
            known is not None
            and meta.get("resourceVersion", known["metadata"]["resourceVersion"])
            != (known["metadata"]["resourceVersion"])
        ):
            raise ClusterError(409, "the object has been modified", reason="Conflict")
        merged = {**(known or {}), **copy.deepcopy(body)}
        merged["metadata"].pop("resourceVersion", None)
        return copy.deepcopy(self._store(kind, name, merged))

    def _store(self, kind: str, name: str, manifest: Manifest) -> Manifest:
        self.version += 1
        known = self.objects.get((kind, name), {})
        uid = known.get("metadata", {}).get("uid", f"uid-{self.version}")
        meta = {**manifest["metadata"], "uid": uid, "resourceVersion": str(self.version), "namespace": "trading"}
        self.objects[kind, name] = {**manifest, "kind": kind, "metadata": meta}
        return self.objects[kind, name]

    def _status(self, body: Manifest) -> Manifest:
        self.version += 1
        self.statuses.append(copy.deepcopy(body["status"]))
        return {"metadata": {"resourceVersion": str(self.version)}}


class FakeIndex:
    """Watches that are never late."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self.synced = True
        self.fresh_s = 0.0
        self.problem: str | None = None
        self.autoscalers: dict[str, Autoscaler] = {}

    def of(self, owner: Owner) -> dict[tuple[str, str], Live]:
        """Whatever carries the pipeline's label."""
        found = {key: slim(key[0], one) for key, one in self._api.objects.items()}
        return {key: live for key, live in found.items() if live.pipeline == owner.name}

    def autoscaler(self, namespace: str, deployment: str) -> Autoscaler | None:
        """As set by the test."""
        del namespace
        return self.autoscalers.get(deployment)

    def put(self, manifest: Manifest) -> Live:
        """The API server has it already."""
        return slim(manifest["kind"], manifest)

    def forget(self, live: Live) -> None:
        """The API server has forgotten it already."""


class FakeKafka:
    """A Kafka that says what it is told to, or nothing."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.lag: tuple[int, ...] | None = (0,) * 12
        self.partitions = 12
        self.seen: Reading | None = None
        """What is said of stages that consume, instead of lag and partitions alone."""
        self.missing: set[str] = set()
        self.down = False
        self.at_s: float | None = None
        self.wanted: dict[str, Mapping[str, Wanted]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.withheld: dict[str, Problem] = {}
        self.password: str | None = None
        """The one that it takes; None to ask for none."""
        self.retained_ms: dict[str, int | None] = {}
        self.holding: dict[str, int] = {}
        """Members of each settled group that have partitions."""
        self.away = False
        """Whether it answers no question about members."""
        self.asked_about: list[list[str]] = []
        """Groups, each time that it was asked about members."""
        self.created: list[tuple[str, int, int | None]] = []
        self.refusal: Exception | None = None

    def subscribe(self, key: str, endpoint: Endpoint, wanted: Mapping[str, Wanted]) -> None:
        """Remember what is wanted."""
        self.withheld.pop(key, None)
        self.endpoints[key] = endpoint
        self.wanted[key] = wanted

    def withhold(self, key: str, problem: Problem) -> None:
        """Remember why it is not asked."""
        self.unsubscribe(key)
        self.withheld[key] = problem

    def unsubscribe(self, key: str) -> None:
        """Forget it."""
        self.withheld.pop(key, None)
        self.endpoints.pop(key, None)
        self.wanted.pop(key, None)

    def look(self, key: str) -> Look:
        """The same of every stage."""
        if key in self.withheld:
            return Look(problem=self.withheld[key].message, reason=self.withheld[key].reason)
        if key in self.endpoints and self.password not in {None, self.endpoints[key].security.password}:
            return Look({}, self.at_s, "authentication failed", "AuthenticationFailed")
        if not self.down:
            self.at_s = self._clock()
        readings = {}
        for name, one in self.wanted.get(key, {}).items():
            missing = tuple(topic for topic in one.topics if topic in self.missing)
            if missing:
                readings[name] = Reading(missing=missing)
            else:
                plain = Reading(partitions=self.partitions, lag=self.lag if one.group else None)
                readings[name] = plain if self.seen is None or one.group is None else self.seen
        problem = "Kafka at kafka:9092 gave no answer" if self.down else None
        reason = "KafkaUnreachable" if self.down else ""
        return Look(readings if self.at_s is not None else {}, self.at_s, problem, reason)

    async def retention(self, endpoint: Endpoint, topics: Collection[str]) -> Mapping[str, int | None]:
        """As set by the test."""
        del endpoint
        return {topic: self.retained_ms.get(topic) for topic in topics}

    async def members(self, endpoint: Endpoint, groups: Collection[str]) -> Mapping[str, int]:
        """As set by the test."""
        if self.away:
            raise KafkaUnreachableError(f"Kafka at {endpoint.address} gave no answer")
        self.asked_about.append(sorted(groups))
        return {group: count for group, count in self.holding.items() if group in groups}

    async def create_topic(
        self,
        endpoint: Endpoint,
        name: str,
        *,
        partitions: int,
        replication_factor: int | None,
        retention_ms: int | None,
    ) -> None:
        """Make it, or refuse."""
        del endpoint, replication_factor
        if self.refusal is not None:
            raise self.refusal
        self.created.append((name, partitions, retention_ms))
        self.missing.discard(name)


class OperatorBench:
    """A reconciler of one pipeline over fakes, with a clock that is set by hand."""

    def __init__(self, raw_spec: Manifest) -> None:
        self.now_s = 1_000_000.0
        self.api = FakeApi()
        self.index = FakeIndex(self.api)
        self.kafka = FakeKafka(lambda: self.now_s)
        self.leading = True
        self.events: list[tuple[str, str, str]] = []
        self.says: dict[str, str] = {}
        self.asked: list[str] = []
        self.doors: list[Door] = []
        self.body: Manifest = {
            "metadata": {
                "namespace": "trading",
                "name": "close",
                "uid": "u-1",
                "generation": 1,
                "resourceVersion": "1",
                "annotations": {},
            },
            "spec": raw_spec,
        }
        self.api.pipeline = self.body
        self.restart()

    def restart(self) -> None:
        """Lose the reconciler's memory; the cluster keeps what it has."""
        if self.api.statuses:
            self.body["status"] = self.api.statuses[-1]
        index: Any = self.index
        api: Any = self.api
        kafka: Any = self.kafka
        around = Surroundings(
            view=self.api,
            index=index,
            cluster=Cluster(api, index, leading=lambda: self.leading),
            kafka=kafka,
            references=References(api, clock=lambda: self.now_s),
            emit=lambda _owner, *event: self.events.append(event),
            ask=self._say,
            clock=lambda: self.now_s,
        )
        self.reconciler = Reconciler(around)

    async def _say(self, address: str, door: Door) -> str:
        self.asked.append(address)
        self.doors.append(door)
        return self.says.get(address, "")

    def pipeline(self) -> Pipeline:
        """The pipeline as kopf would hand it in."""
        return pipeline_of(self.body)

    def annotate(self, **annotations: str) -> None:
        """Set annotations of eod.markets, by their names with underscores."""
        named = {f"eod.markets/{name.replace('_', '-')}": value for name, value in annotations.items()}
        self.body["metadata"]["annotations"] = named

    def change(self, **spec: Any) -> None:
        """Edit the spec."""
        self.body["spec"] = {**self.body["spec"], **spec}
        self.body["metadata"]["generation"] += 1

    async def step(self, seconds: float = 15) -> None:
        """Make one pass, some time later."""
        self.now_s += seconds
        await self.reconciler.reconcile(self.pipeline())

    def replicas(self, stage: str = "pnl") -> int:
        """Replicas that a stage's Deployment asks for."""
        return int(self.api.objects["Deployment", f"close-{stage}"]["spec"]["replicas"])

    def set_ready(self, outdated: int = 0) -> None:
        """Let every Deployment be as it was asked for, perhaps with some pods of an older template besides."""
        for (kind, name), found in self.api.objects.items():
            if kind == "Deployment":
                count = found["spec"]["replicas"]
                status = {"readyReplicas": count, "updatedReplicas": count, "replicas": count + outdated}
                self.api.objects[kind, name] = {**found, "status": status}

    def condition(self, kind: str) -> Manifest:
        """A condition as last written."""
        return next((one for one in self.api.statuses[-1]["conditions"] if one["type"] == kind), {})

    def stage(self, name: str = "pnl") -> Manifest:
        """A stage's status as last written."""
        return next(one for one in self.api.statuses[-1]["stages"] if one["name"] == name)
