"""Every kind of object that the operator touches, with what it does to it: the one table that rights come from.

`kube.api` refuses a call that is not in this table, and `kube.rbac` writes the chart's rules from it, so the code
cannot call what the chart does not grant, and the chart grants nothing that no code may call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from eod_operator.api import GROUP, KIND, PLURAL, VERSION

READ = frozenset({"get", "list", "watch"})
OWN = READ | {"create", "patch", "delete"}
"""What it takes to keep an object by server-side apply: `create` for the first apply, `patch` for the others."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind.

    Attributes:
        kind: as in a manifest.
        plural: as in a path.
        group: API group, empty for core.
        version: API version.
        verbs: what the operator does to it.
        subresources: verbs of its subresources, by their names.
        why: what for, in one sentence; it becomes the comment of the rule.
        home: whether the operator uses it in its own namespace alone.
    """

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    verbs: frozenset[str] = OWN
    subresources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    why: str = ""
    home: bool = False

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Path of the collection (of all namespaces when None), of an object, or of its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = "" if namespace is None else f"/namespaces/{namespace}"
        rest = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{place}/{self.plural}{rest}"

    def allows(self, verb: str, subresource: str = "") -> bool:
        """Whether the table has this call."""
        return verb in (self.subresources.get(subresource, frozenset()) if subresource else self.verbs)


def _table(*resources: Resource) -> Mapping[str, Resource]:
    return MappingProxyType({one.kind: one for one in resources})


RESOURCES: Mapping[str, Resource] = _table(
    Resource(
        KIND,
        PLURAL,
        GROUP,
        VERSION,
        verbs=READ,
        # Owner references that block deletion need `update` on finalizers where the cluster enforces this.
        subresources={"status": frozenset({"patch"}), "finalizers": frozenset({"update"})},
        why="the pipelines themselves; their status is ours, their spec is their owners'",
    ),
    Resource("Deployment", "deployments", "apps", why="one a stage"),
    Resource(
        "ConfigMap", "configmaps", why="settings of each stage, decisions of each pipeline, and those the spec names"
    ),
    Resource("Service", "services", why="metrics of each stage, and the ports that others connect to"),
    Resource("ServiceAccount", "serviceaccounts", why="one a stage, without rights and without a token"),
    Resource(
        "PodDisruptionBudget", "poddisruptionbudgets", "policy", why="one a stage: nodes drain one replica at once"
    ),
    Resource("NetworkPolicy", "networkpolicies", "networking.k8s.io", why="one a stage, where spec.networkPolicy asks"),
    Resource(
        "ServiceMonitor", "servicemonitors", "monitoring.coreos.com", why="one a stage, where spec.serviceMonitor asks"
    ),
    Resource(
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "autoscaling",
        "v2",
        verbs=READ - {"get"},
        why="to step back from a Deployment that somebody else scales",
    ),
    Resource("ScaledObject", "scaledobjects", "keda.sh", "v1alpha1", verbs=READ - {"get"}, why="the same, for KEDA"),
    Resource(
        "Secret",
        "secrets",
        verbs=frozenset({"get"}),
        why="whether a Secret that the spec names exists, and a digest of it; Kafka is asked with the one that "
        "spec.kafka.security names; never listed",
    ),
    Resource("Pod", "pods", verbs=frozenset({"list"}), why="why the replicas of a stage do not become ready"),
    Resource(
        "Event", "events", verbs=frozenset({"get", "create", "patch"}), why="what was done, and what needs attention"
    ),
    Resource(
        "Lease",
        "leases",
        "coordination.k8s.io",
        verbs=frozenset({"get", "create", "update"}),
        why="which replica of the operator acts",
        home=True,
    ),
)
