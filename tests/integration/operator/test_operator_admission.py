"""What the API server itself refuses, and the sentence it refuses it with; no operator runs here."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eod_operator.api import PipelineSpec
from eod_operator.api.crd import crd as generated
from eod_operator.resources import Owner, stage_objects
from testbed.errors import CommandFailed
from testbed.kubernetes import Kubernetes

BASE: dict[str, Any] = {
    "apiVersion": "eod.markets/v1alpha1",
    "kind": "EodPipeline",
    "metadata": {"name": "close"},
    "spec": {
        "kafka": {"bootstrapServers": "kafka-0:9092,kafka-1:9092"},
        "image": "eod:1",
        "calendar": {"exchange": "XNYS"},
        "stages": [{"name": "pnl", "kind": "flash-pnl", "replicas": {"min": 1, "max": 4, "burst": 2}}],
    },
}
SESSION = {"open": "2026-11-27T09:30:00-05:00", "close": "2026-11-27T13:00:00-05:00"}
BACKWARDS = {"open": SESSION["close"], "close": SESSION["open"]}
Change = Callable[[dict[str, Any]], object]


def stage(**fields: Any) -> Change:
    return lambda spec: spec["stages"][0].update(fields)


def security(**fields: Any) -> Change:
    return lambda spec: spec["kafka"].update(security=fields)


def files(*mounted: dict[str, Any]) -> Change:
    return lambda spec: spec.update(config={"files": list(mounted)})


def http(**fields: Any) -> Change:
    return lambda spec: spec.update(http=fields)


def env(*variables: dict[str, Any]) -> Change:
    return lambda spec: spec.update(config={"env": list(variables)})


def anew(**fields: Any) -> Change:
    return lambda spec: spec.update(fields)


KEY = {"name": "s", "key": "k"}

SECRET = {"secretRef": {"name": "kafka-client"}}
REFUSED: list[tuple[str, Change, str]] = [
    ("min above max", stage(replicas={"min": 5, "max": 4}), 'spec.stages[0].replicas.min: Invalid value: "object": min (5) must not be above max (4)'),
    ("burst above max", stage(replicas={"max": 4, "burst": 5}), 'spec.stages[0].replicas.burst: Invalid value: "object": burst (5) must not be above max (4)'),
    ("burst below min", stage(replicas={"min": 2, "max": 4, "burst": 1}), "burst (1) must not be below min (2)"),
    ("max of zero", stage(replicas={"min": 0, "max": 0}), "spec.stages[0].replicas.max"),
    ("unknown kind", stage(kind="teleport"), 'spec.stages[0].kind: Unsupported value: "teleport": supported values: "ingestion", "flash-pnl"'),
    ("no kind", lambda spec: spec["stages"][0].pop("kind"), "spec.stages[0].kind: Required value"),
    ("duplicate stage names", lambda spec: spec["stages"].append(spec["stages"][0]), "spec.stages[1]: Duplicate value"),
    ("no stages", lambda spec: spec.update(stages=[]), "spec.stages"),
    ("stage name in capitals", stage(name="PnL"), "spec.stages[0].name"),
    ("no lag a replica", stage(target={"lagPerReplica": 0}), "spec.stages[0].target.lagPerReplica"),
    ("a topic with a space", stage(topics=["trades raw"]), "spec.stages[0].topics[0]"),
    ("a quantity that is none", stage(resources={"requests": {"cpu": "lots"}}), "spec.stages[0].resources.requests.cpu"),
    ("both calendar forms", lambda spec: spec["calendar"].update(sessions=[SESSION]), "exactly one of exchange (such as XNYS) and sessions"),
    ("neither calendar form", lambda spec: spec.update(calendar={}), "exactly one of exchange (such as XNYS) and sessions"),
    ("close before open", lambda spec: spec.update(calendar={"sessions": [BACKWARDS]}), 'spec.calendar.sessions[0].close: Invalid value: "object": close must be after open'),
    ("close that is no time", lambda spec: spec.update(calendar={"sessions": [SESSION | {"close": "16:00"}]}), "spec.calendar.sessions[0].close"),
    ("an exchange that nobody knows", lambda spec: spec["calendar"].update(exchange="XNYZ"), 'spec.calendar.exchange: Invalid value: "object": exchange is not known: use an ISO 10383 code such as XNYS'),
    ("max above partitions", lambda spec: spec.update(topics=[{"name": "trades.raw", "partitions": 3}, {"name": "prices.updates", "partitions": 3}]), "replicas.max of a stage must not be above the partitions of its topics"),
    ("max above partitions of topics given", lambda spec: (stage(topics=["t"])(spec), spec.update(topics=[{"name": "t", "partitions": 3}])), "Lower replicas.max, or plan more partitions"),
    ("a topic twice", lambda spec: spec.update(topics=[{"name": "t"}, {"name": "t"}]), "spec.topics[1]: Duplicate value"),
    ("a topic to be made of unknown size", lambda spec: spec.update(topics=[{"name": "t", "create": True}]), "a topic to be created needs partitions"),
    ("stabilization for hours", lambda spec: spec.update(scaling={"scaleDownStabilizationSeconds": 3601}), "scaleDownStabilizationSeconds must lie between 0 and 3600 (one hour)"),
    ("negative stabilization", lambda spec: spec.update(scaling={"scaleDownStabilizationSeconds": -1}), "spec.scaling.scaleDownStabilizationSeconds"),
    ("signals that are stale at once", lambda spec: spec.update(scaling={"intervalSeconds": 90}), "staleAfterSeconds must not be below intervalSeconds"),
    ("a grace of nothing", stage(terminationGraceSeconds=1), "spec.stages[0].terminationGraceSeconds"),
    ("an egress port that is none", lambda spec: spec.update(networkPolicy={"egressPorts": [70000]}), "spec.networkPolicy.egressPorts[0]"),
    ("a priority class that is no name", lambda spec: spec.update(scheduling={"priorityClassName": "Very High"}), "spec.scheduling.priorityClassName"),
    ("broker with a port that is none", lambda spec: spec["kafka"].update(bootstrapServers="kafka-0:9092,kafka:99999"), "spec.kafka.bootstrapServers"),
    ("broker without a port", lambda spec: spec["kafka"].update(bootstrapServers="kafka"), "spec.kafka.bootstrapServers"),
    ("unknown mode", lambda spec: spec.update(mode="Yolo"), 'spec.mode: Unsupported value: "Yolo"'),
    ("a variable of the operator's", lambda spec: spec.update(config={"env": [{"name": "EOD_GROUP", "value": "x"}]}), "choose another name"),
    ("a login of nobody", security(protocol="SASL_SSL"), 'spec.kafka.security.protocol: Invalid value: "object": SASL_PLAINTEXT and SASL_SSL need secretRef'),
    ("a login of nobody, without TLS", security(protocol="SASL_PLAINTEXT", mechanism="PLAIN"), "SASL_PLAINTEXT and SASL_SSL need secretRef"),
    ("credentials in plain text", security(protocol="PLAINTEXT", **SECRET), "protocol PLAINTEXT has no use for secretRef"),
    ("a mechanism without a login", security(protocol="SSL", mechanism="PLAIN"), "mechanism goes with protocol SASL_SSL or SASL_PLAINTEXT"),
    ("a mechanism that is none", security(protocol="SASL_SSL", mechanism="GSSAPI", **SECRET), 'spec.kafka.security.mechanism: Unsupported value: "GSSAPI"'),
    ("IAM without a region", security(protocol="SASL_SSL", mechanism="AWS_MSK_IAM"), "mechanism AWS_MSK_IAM needs protocol SASL_SSL and awsRegion"),
    ("IAM without TLS", security(protocol="SASL_PLAINTEXT", mechanism="AWS_MSK_IAM", awsRegion="eu-west-1"), "mechanism AWS_MSK_IAM needs protocol SASL_SSL and awsRegion"),
    ("a region without IAM", security(protocol="SASL_SSL", awsRegion="eu-west-1", **SECRET), "awsRegion goes with mechanism AWS_MSK_IAM alone"),
    ("a region that is none", security(protocol="SASL_SSL", mechanism="AWS_MSK_IAM", awsRegion="Ireland"), "spec.kafka.security.awsRegion"),
    ("security without a protocol", security(**SECRET), "spec.kafka.security.protocol: Required value"),
    ("a password of the operator's", lambda spec: spec.update(config={"env": [{"name": "EOD_KAFKA_PASSWORD", "value": "x"}]}), "choose another name"),
    ("files of nothing", files({"mountPath": "/reference"}), "files takes exactly one of secretRef and configMapRef"),
    ("files of two things", files({"mountPath": "/reference", **SECRET, "configMapRef": {"name": "c"}}), "files takes exactly one of secretRef and configMapRef"),
    ("files twice in a place", files({"mountPath": "/a", **SECRET}, {"mountPath": "/a", **SECRET}), "spec.config.files[1]: Duplicate value"),
    ("files below files", files({"mountPath": "/a/b", **SECRET}, {"mountPath": "/a", **SECRET}), "no mountPath may lie below another"),
    *[(f"files at {path}", files({"mountPath": path, **SECRET}), "mountPath must not be, hold or lie below /tmp, /venv, /etc/eod/kafka, /etc/eod/http") for path in ("/tmp", "/tmp/x", "/venv/bin", "/etc", "/etc/eod", "/etc/eod/kafka", "/etc/eod/kafka/more", "/etc/eod/http")],
    *[(f"files at '{path}'", files({"mountPath": path, **SECRET}), "spec.config.files[0].mountPath: Invalid value") for path in ("/", "reference", "/a/", "/a/../venv", "/a b", "")],
    ("annotations of an account that is ours", lambda spec: spec.update(serviceAccounts={"name": "a", "annotations": {"b": "c"}}), 'spec.serviceAccounts.annotations: Invalid value: "object": annotations are of the accounts that the operator makes'),
    ("an account that is no name", lambda spec: spec.update(serviceAccounts={"name": "A_b"}), "spec.serviceAccounts.name"),
    ("a pull secret twice", lambda spec: spec.update(imagePullSecrets=[{"name": "a"}, {"name": "a"}]), "spec.imagePullSecrets[1]: Duplicate value"),
    ("a pull secret of no name", lambda spec: spec.update(imagePullSecrets=[{}]), "spec.imagePullSecrets[0].name: Required value"),
    ("an affinity that is none", lambda spec: spec.update(scheduling={"affinity": "fast"}), "spec.scheduling.affinity"),
    ("a port that nothing protects", http(), 'spec.http: Invalid value: "object": http takes tls, token or both'),
    ("a certificate of no Secret", http(tls={"serverName": "stages.example"}), "spec.http.tls.secretRef: Required value"),
    ("a token of no key", http(token={"secretKeyRef": {"name": "s"}}), "spec.http.token.secretKeyRef.key: Required value"),
    ("a name of no certificate", http(tls={**SECRET, "serverName": "https://stages"}), "spec.http.tls.serverName: Invalid value"),
    ("a scraped port whose name nobody verifies", lambda spec: spec.update(http={"tls": SECRET}, serviceMonitor={"enabled": True}), 'spec.http: Invalid value: "object": http.tls needs serverName'),
    ("a token file of the operator's", lambda spec: spec.update(config={"env": [{"name": "EOD_HTTP_TOKEN_FILE", "value": "x"}]}), "choose another name"),
    ("a variable of no value", env({"name": "A"}), "exactly one of value and valueFrom"),
    ("a variable twice valued", env({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": KEY}}), "exactly one of value and valueFrom"),
    ("a variable from nowhere", env({"name": "A", "valueFrom": {}}), "valueFrom takes exactly one of secretKeyRef and configMapKeyRef"),
    ("a variable from two places", env({"name": "A", "valueFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY}}), "valueFrom takes exactly one of secretKeyRef and configMapKeyRef"),
]  # fmt: skip
GROUP_CANNOT_CHANGE = "group cannot change"
KIND_CANNOT_CHANGE = "kind cannot change"
NO_NAME_OF_A_SERVICE = "metadata.name must start with a letter"


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(("change", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_nonsense_is_refused_with_a_sentence(kubernetes: Kubernetes, change: Change, sentence: str) -> None:
    """The refusal names the field and says what to do; nothing is created."""
    manifest = copy.deepcopy(BASE)
    change(manifest["spec"])
    with pytest.raises(CommandFailed) as refusal:
        kubernetes.resources.would_create(manifest)
    assert sentence in str(refusal.value)


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize("name", ["9close", "close.day", "c" * 39])
def test_names_that_cannot_name_a_service_are_refused(kubernetes: Kubernetes, name: str) -> None:
    manifest = BASE | {"metadata": {"name": name}}
    with pytest.raises(CommandFailed) as refusal:
        kubernetes.resources.would_create(manifest)
    assert NO_NAME_OF_A_SERVICE in str(refusal.value)


def test_every_rule_of_the_crd_has_a_row_that_it_refuses() -> None:
    """A number in a sentence is the row's own."""
    tables = [*(sentence for _, _, sentence in REFUSED), GROUP_CANNOT_CHANGE, KIND_CANNOT_CHANGE, NO_NAME_OF_A_SERVICE]
    said = [re.sub(r" \(\d+\)", "", sentence.rpartition('"object": ')[2]) for sentence in tables]
    rules = list(rules_of(generated()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    assert len(rules) > 20
    assert [rule for rule in rules if not any(sentence in rule for sentence in said)] == []


def rules_of(schema: dict[str, Any]) -> Iterator[str]:
    """What each rule of a schema says."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for below in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(below, dict):
            yield from rules_of(below)


@pytest.mark.usefixtures("crd")
def test_the_unchanged_base_is_accepted(kubernetes: Kubernetes) -> None:
    """So that the refusals above are due to the change in each; kubectl says the same as the server."""
    kubernetes.resources.would_create(BASE)
    kubernetes.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(BASE))


ACCEPTED: list[tuple[str, Change]] = [
    ("one replica, always", stage(replicas={"min": 1, "max": 1, "burst": 1})),
    ("burst as low as min", stage(replicas={"min": 2, "max": 4, "burst": 2})),
    ("burst as high as max", stage(replicas={"min": 0, "max": 4, "burst": 4})),
    ("no burst", stage(replicas={"min": 4, "max": 4})),
    ("sessions written out", anew(calendar={"sessions": [SESSION]})),
    ("an exchange of another continent", anew(calendar={"exchange": "XTKS"})),
    ("two stages of a kind", lambda spec: spec["stages"].append(spec["stages"][0] | {"name": "other"})),
    ("no stabilization", anew(scaling={"scaleDownStabilizationSeconds": 0})),
    ("stabilization of an hour", anew(scaling={"scaleDownStabilizationSeconds": 3600})),
    ("signals as old as an interval", anew(scaling={"intervalSeconds": 60, "staleAfterSeconds": 60})),
    ("a topic to be made", anew(topics=[{"name": "t", "create": True, "partitions": 12}])),
    ("a topic to be left", anew(topics=[{"name": "t"}])),
    ("variables of each kind", env({"name": "A", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": KEY}}, {"name": "C", "valueFrom": {"configMapKeyRef": KEY}})),
    ("a variable like one of the operator's", env({"name": "EOD_GROUPS", "value": "x"})),
    ("an account of ours", anew(serviceAccounts={"name": "ours"})),
    ("annotations of an account that is made", anew(serviceAccounts={"annotations": {"a": "b"}})),
    ("scraping without a certificate", anew(serviceMonitor={"enabled": True})),
    ("a certificate without scraping", anew(http={"tls": SECRET}, serviceMonitor={"enabled": False})),
    ("a port with both", http(tls=SECRET, token={"secretKeyRef": KEY})),
]  # fmt: skip
"""What is just within each rule."""


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize("change", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_what_is_just_within_a_rule_is_accepted(kubernetes: Kubernetes, change: Change) -> None:
    manifest = copy.deepcopy(BASE)
    change(manifest["spec"])
    kubernetes.resources.would_create(manifest)


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize("name", ["c", "c" * 38, "us-equities-2"])
def test_names_that_can_name_a_service_are_accepted(kubernetes: Kubernetes, name: str) -> None:
    kubernetes.resources.would_create(BASE | {"metadata": {"name": name}})


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(
    "change",
    [
        security(protocol="PLAINTEXT"),
        security(protocol="SSL"),
        security(protocol="SSL", **SECRET),
        security(protocol="SASL_SSL", **SECRET),
        security(protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-256", **SECRET),
        security(protocol="SASL_SSL", mechanism="AWS_MSK_IAM", awsRegion="us-gov-west-1"),
        security(protocol="SASL_SSL", mechanism="AWS_MSK_IAM", awsRegion="eu-west-1", **SECRET),
        http(tls=SECRET),
        http(token={"secretKeyRef": {"name": "s", "key": "token"}}),
        lambda spec: spec.update(http={"tls": {**SECRET, "serverName": "stages.example"}}, serviceMonitor={"enabled": True}),
        files({"mountPath": "/etc/eod/reference", "configMapRef": {"name": "c"}}, {"mountPath": "/etc/eod/redis", **SECRET}),
        files({"mountPath": "/tmpfiles", **SECRET}, {"mountPath": "/a", **SECRET}, {"mountPath": "/ab", **SECRET}),
    ],
    ids=["plain text", "TLS", "TLS with files", "SCRAM by default", "a login without TLS", "IAM", "IAM with an authority", "TLS on the stages' port", "a token on it", "a name that Prometheus verifies", "files", "files in neighbouring folders"],
)  # fmt: skip
def test_credentials_and_files_that_fit_together_are_accepted(kubernetes: Kubernetes, change: Change) -> None:
    manifest = copy.deepcopy(BASE)
    change(manifest["spec"])
    kubernetes.resources.would_create(manifest)


def test_the_objects_of_a_protected_port_are_objects_of_kubernetes(kubernetes: Kubernetes) -> None:
    protected = {"tls": SECRET, "token": {"secretKeyRef": {"name": "s", "key": "token"}}}
    spec = PipelineSpec.model_validate({**BASE["spec"], "http": protected})
    for one in stage_objects(Owner("default", "close", "u-1"), spec, spec.stages[0], 1):
        kubernetes.resources.would_create(one)


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(
    "topics",
    [
        [{"name": "trades.raw", "partitions": 3}],  # its other topic may have more
        [{"name": "trades.raw", "partitions": 3}, {"name": "prices.updates", "partitions": 4}],
        [{"name": "trades.raw"}, {"name": "prices.updates"}],
        [{"name": "elsewhere", "partitions": 1}],
    ],
)
def test_partitions_that_suffice_or_are_not_known_are_accepted(
    kubernetes: Kubernetes, topics: list[dict[str, Any]]
) -> None:
    manifest = copy.deepcopy(BASE)
    manifest["spec"]["topics"] = topics
    kubernetes.resources.would_create(manifest)


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(
    ("first", "then", "sentence"),
    [
        ({"group": "a"}, {"group": "b"}, f'spec.stages[0].group: Invalid value: "object": {GROUP_CANNOT_CHANGE}'),
        ({"group": "a"}, {}, GROUP_CANNOT_CHANGE),
        ({}, {"group": "b"}, GROUP_CANNOT_CHANGE),
        ({}, {"kind": "regulatory"}, KIND_CANNOT_CHANGE),
        ({}, {"group": "flash-pnl"}, None),  # the default, written out
        ({}, {"image": "eod:2"}, None),
    ],
)
def test_group_and_kind_of_a_stage_cannot_change(
    kubernetes: Kubernetes, unique: str, first: dict[str, str], then: dict[str, str], sentence: str | None
) -> None:
    """Offsets are committed under the group: another one would start over, or skip."""
    manifest = copy.deepcopy(BASE)
    manifest["metadata"]["name"] = f"g{unique[-8:]}"
    manifest["spec"]["stages"][0].update(first)
    kubernetes.kubectl("create", "-f", "-", input=json.dumps(manifest))
    manifest["spec"]["stages"][0] = BASE["spec"]["stages"][0] | then
    try:
        if sentence is None:
            kubernetes.kubectl("replace", "-f", "-", input=json.dumps(manifest))
            return
        with pytest.raises(CommandFailed) as refusal:
            kubernetes.kubectl("replace", "-f", "-", input=json.dumps(manifest))
        assert sentence in str(refusal.value)
    finally:
        kubernetes.kubectl("delete", "eodp", manifest["metadata"]["name"])


@pytest.mark.usefixtures("crd")
def test_explain_describes_the_fields(kubernetes: Kubernetes) -> None:
    assert "Never more than this" in kubernetes.kubectl("explain", "eodp.spec.stages.replicas.max")
