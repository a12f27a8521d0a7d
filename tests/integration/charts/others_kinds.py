"""Kinds of other projects, with the fields that the charts set and no others: Helm's output is checked strictly.

The fields are those of the projects' own CRDs: monitoring.coreos.com/v1 of the Prometheus operator, kafka.strimzi.io/v1
of Strimzi 0.49 and newer.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer"}
ANY: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
"""An object of Kubernetes' own, or a table of settings."""


def fields(required: tuple[str, ...] = (), **known: Schema) -> Schema:
    """An object of these fields."""
    return {"type": "object", "properties": known, **({"required": list(required)} if required else {})}


def many(of: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": of}


def one_of(*values: str) -> Schema:
    """A text of a few."""
    return {"type": "string", "enum": list(values)}


def kind(name: str, plural: str, group: str, spec: Schema) -> dict[str, Any]:
    """A CRD."""
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": fields(spec=spec)}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": name, "plural": plural, "singular": name.lower()},
            "versions": [version],
        },
    }


_EXPRESSION = fields(("key", "operator"), key=TEXT, operator=one_of("In", "NotIn", "Exists", "DoesNotExist"))
_SELECTED = fields(("key",), name=TEXT, key=TEXT)
_ENDPOINT = fields(
    port=TEXT,
    path=TEXT,
    interval=TEXT,
    scheme=one_of("http", "https"),
    tlsConfig=fields(ca=fields(secret=_SELECTED, configMap=_SELECTED), serverName=TEXT),
    authorization=fields(type=TEXT, credentials=_SELECTED),
)
_SERVICE_MONITOR = fields(
    ("endpoints", "selector"),
    endpoints=many(_ENDPOINT),
    selector=fields(matchLabels={"type": "object", "additionalProperties": TEXT}, matchExpressions=many(_EXPRESSION)),
    podTargetLabels=many(TEXT),
)
_LISTENER = fields(
    ("name", "port", "type", "tls"),
    name={"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
    port={"type": "integer", "minimum": 9092},
    type=one_of("internal", "route", "loadbalancer", "nodeport", "ingress", "cluster-ip"),
    tls=TRUTH,
    authentication=fields(("type",), type=one_of("tls", "scram-sha-512", "custom")),
    configuration=fields(
        brokerCertChainAndKey=fields(("secretName", "certificate", "key"), secretName=TEXT, certificate=TEXT, key=TEXT)
    ),
    networkPolicyPeers=many(ANY),
)
_POD = fields(
    securityContext=ANY,
    imagePullSecrets=many(fields(name=TEXT)),
    priorityClassName=TEXT,
    tolerations=many(ANY),
    affinity=ANY,
)
_KAFKA = fields(
    ("kafka",),
    kafka=fields(("listeners",), version=TEXT, listeners=many(_LISTENER), config=ANY),
    entityOperator=fields(userOperator=ANY, template=fields(pod=_POD)),
)
_VOLUME = {
    "id": COUNT,
    "type": one_of("ephemeral", "persistent-claim"),
    "size": TEXT,
    "class": TEXT,
    "deleteClaim": TRUTH,
    "kraftMetadata": one_of("shared"),
}
_POOL = fields(
    ("replicas", "roles", "storage"),
    replicas=COUNT,
    roles=many(one_of("controller", "broker")),
    storage=fields(("type",), type=one_of("jbod"), volumes=many(fields(("type",), **_VOLUME))),
    resources=ANY,
    jvmOptions=fields(**{"-Xms": TEXT, "-Xmx": TEXT}),
    template=fields(pod=_POD, kafkaContainer=fields(securityContext=ANY)),
)
_USER = fields(
    authentication=fields(
        ("type",),
        type=one_of("tls", "tls-external", "scram-sha-512"),
        password=fields(valueFrom=fields(secretKeyRef=fields(name=TEXT, key=TEXT))),
    )
)
OTHERS = [
    kind("ServiceMonitor", "servicemonitors", "monitoring.coreos.com", _SERVICE_MONITOR),
    kind("Kafka", "kafkas", "kafka.strimzi.io", _KAFKA),
    kind("KafkaNodePool", "kafkanodepools", "kafka.strimzi.io", _POOL),
    kind("KafkaUser", "kafkausers", "kafka.strimzi.io", _USER),
]
