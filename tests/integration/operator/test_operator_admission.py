"""What the API server itself refuses, and the sentence it refuses it with; no operator runs here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
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
    ("broker without a port", lambda spec: spec["kafka"].update(bootstrapServers="kafka"), "spec.kafka.bootstrapServers"),
    ("unknown mode", lambda spec: spec.update(mode="Yolo"), 'spec.mode: Unsupported value: "Yolo"'),
    ("a variable of the operator's", lambda spec: spec.update(config={"env": [{"name": "EOD_GROUP", "value": "x"}]}), "choose another name"),
    ("a variable twice valued", lambda spec: spec.update(config={"env": [{"name": "A"}]}), "exactly one of value and valueFrom"),
]  # fmt: skip


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(("change", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_nonsense_is_refused_with_a_sentence(kubernetes: Kubernetes, change: Change, sentence: str) -> None:
    """The refusal names the field and says what to do; nothing is created."""
    manifest = copy.deepcopy(BASE)
    change(manifest["spec"])
    with pytest.raises(CommandFailed) as refusal:
        kubernetes.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(manifest))
    assert sentence in str(refusal.value)


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize("name", ["9close", "close.day", "c" * 39])
def test_names_that_cannot_name_a_service_are_refused(kubernetes: Kubernetes, name: str) -> None:
    manifest = BASE | {"metadata": {"name": name}}
    with pytest.raises(CommandFailed, match=r"metadata\.name must start with a letter"):
        kubernetes.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(manifest))


@pytest.mark.usefixtures("crd")
def test_the_unchanged_base_is_accepted(kubernetes: Kubernetes) -> None:
    """So that the refusals above are due to the change in each."""
    kubernetes.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(BASE))


@pytest.mark.usefixtures("crd")
@pytest.mark.parametrize(
    ("first", "then", "sentence"),
    [
        ({"group": "a"}, {"group": "b"}, 'spec.stages[0].group: Invalid value: "object": group cannot change'),
        ({"group": "a"}, {}, "group cannot change"),
        ({}, {"group": "b"}, "group cannot change"),
        ({}, {"kind": "regulatory"}, "kind cannot change"),
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
