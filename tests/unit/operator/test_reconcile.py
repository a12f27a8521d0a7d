"""A pipeline over a cluster and a Kafka in memory: what survives failures, and what is written only when it is news."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from eod_operator.cluster import NotLeadingError, OwnerGoneError
from eod_operator.index import Autoscaler
from eod_operator.kafka import Security
from eod_operator.kafka.errors import TopicRefusedError
from eod_operator.kafka.readings import Lost, Reading
from eod_operator.kube.api import ClusterError
from support.operator_fakes import Manifest, OperatorBench

NO_ANSWER = ClusterError(0, "no answer")


@pytest.fixture
def bench(raw_spec: Manifest) -> OperatorBench:
    return OperatorBench(raw_spec)


def kinds(bench: OperatorBench) -> set[str]:
    return {f"{kind}/{name}" for kind, name in bench.api.objects}


async def test_every_stage_gets_its_objects(bench: OperatorBench) -> None:
    await bench.step()
    each = ("ServiceAccount", "ConfigMap", "PodDisruptionBudget", "Service", "Deployment")
    assert kinds(bench) == {f"{kind}/close-{stage}" for kind in each for stage in ("in", "pnl")} | {
        "ConfigMap/close.decisions"
    }


async def test_steady_state_writes_nothing(bench: OperatorBench) -> None:
    await bench.step()
    bench.set_ready()
    for _ in range(4):
        await bench.step()
    before = len(bench.api.calls)
    for _ in range(50):
        await bench.step()
    assert bench.api.calls[before:] == []


async def test_a_restart_writes_nothing_and_tells_no_old_trouble(bench: OperatorBench) -> None:
    """It compares what is there with what should be, and finds it so."""
    bench.kafka.down = True
    for _ in range(4):
        await bench.step()
    assert [reason for _, reason, _ in bench.events] == ["Scaled", "Scaled", "KafkaUnreachable"]
    before = len(bench.api.writes)
    bench.restart()
    await bench.step()
    assert bench.api.writes[before:] == []
    assert len(bench.events) == 3


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("kind", ["Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"])
async def test_drift_is_repaired(bench: OperatorBench, kind: str, *, restarted: bool) -> None:
    """Whoever edits or deletes an object of ours, while we look or while we are away."""
    await bench.step()
    known = json.dumps(bench.api.objects[kind, "close-pnl"], default=str)
    edited = json.loads(known)
    edited["metadata"]["labels"]["app.kubernetes.io/part-of"] = "somebody else's"
    bench.api.put(edited)
    if restarted:
        bench.restart()
    await bench.step()
    assert bench.api.objects[kind, "close-pnl"]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "close"
    del bench.api.objects[kind, "close-pnl"]
    if restarted:
        bench.restart()
    await bench.step()
    assert (kind, "close-pnl") in bench.api.objects


async def test_fields_of_others_are_left_alone(bench: OperatorBench) -> None:
    """An annotation that somebody adds is no reason to write, after a restart neither."""
    await bench.step()
    for name in ("close-pnl", "close-in"):
        found = bench.api.objects["Deployment", name]
        found["metadata"]["annotations"]["team"] = "desk"
        found["spec"]["revisionHistoryLimit"] = 3
        bench.api.put(found)
    for restart in (False, True):
        if restart:
            bench.restart()
        before = len(bench.api.writes)
        await bench.step()
        assert [call for call in bench.api.writes[before:] if call[1] == "Deployment"] == []


async def test_lag_is_believed_for_a_while_after_kafka_went_down(bench: OperatorBench) -> None:
    """The last lag sizes the stage until it is stale; then the count is held, in either direction."""
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 6
    bench.kafka.down = True
    for _ in range(100):
        await bench.step()
        assert bench.replicas() == 6
    assert "lag" not in bench.stage()
    assert "(stale)" in bench.stage()["reason"]
    assert bench.condition("ScalingLimited")["reason"] == "SignalsStale"


async def test_a_scale_down_waits_for_the_stabilization_window(bench: OperatorBench) -> None:
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.kafka.lag = (0,) * 12
    counts = []
    for _ in range(22):
        await bench.step()
        counts.append(bench.replicas())
    assert counts == [6] * 20 + [1] * 2


async def test_more_lag_than_the_stages_can_take_calls_for_a_pass(bench: OperatorBench) -> None:
    await bench.step()
    assert not bench.reconciler.wants_more(bench.pipeline())
    bench.kafka.lag = (500,) * 12
    assert bench.reconciler.wants_more(bench.pipeline())
    await bench.step(0.1)
    assert bench.replicas() == 6
    assert not bench.reconciler.wants_more(bench.pipeline())


async def test_less_lag_waits_for_the_next_pass(bench: OperatorBench) -> None:
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.kafka.lag = (0,) * 12
    bench.now_s += 1_000
    assert not bench.reconciler.wants_more(bench.pipeline())


async def test_a_pipeline_being_deleted_is_left_alone(bench: OperatorBench) -> None:
    bench.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await bench.step()
    assert bench.api.calls == []


async def test_a_spec_that_cannot_be_read_is_told_and_nothing_is_touched(bench: OperatorBench) -> None:
    """It may have been stored by another version of the CRD."""
    await bench.step()
    bench.change(stages=[{"name": "x", "kind": "teleport", "replicas": {"max": 1}}])
    before = len(bench.api.writes)
    await bench.step()
    assert bench.api.writes[before:] == [("patch", "EodPipeline/status", "close")]
    status, ready = bench.api.statuses[-1], bench.condition("Ready")
    assert (ready["reason"], status["phase"], status["observedGeneration"]) == ("InvalidSpec", "Degraded", 2)
    assert "spec.stages.0: kind 'teleport' is unknown" in ready["message"]
    assert bench.replicas() == 1


async def test_what_only_a_newer_crd_has_is_told_and_the_rest_is_carried_out(bench: OperatorBench) -> None:
    """Its defaults are in every pipeline as soon as the CRD is upgraded, which comes before the operator's turn."""
    await bench.step()
    bench.set_ready()
    bench.kafka.lag = (500,) * 12
    pnl = {**bench.body["spec"]["stages"][1], "replicas": {"min": 2, "max": 12, "burst": 6, "surge": 3}}
    bench.change(stages=[bench.body["spec"]["stages"][0], pnl], shadow={"enabled": True})
    await bench.step()
    assert bench.replicas() > 2
    valid = bench.condition("SpecValid")
    assert (valid["status"], valid["reason"]) == ("Unknown", "NewerFields")
    assert valid["message"].startswith("spec.stages.1.replicas.surge, spec.shadow: this operator does not know ")
    assert bench.condition("Degraded")["status"] == "False"
    bench.annotate(freeze="perhaps")
    await bench.step()
    assert bench.condition("SpecValid")["reason"] == "InvalidAnnotation"


async def test_an_object_made_by_hand_under_our_name_is_refused(bench: OperatorBench) -> None:
    """Adoption would take somebody's Deployment from them; it is named, and the other stages go on."""
    bench.api.put({"kind": "Deployment", "metadata": {"name": "close-pnl", "labels": {}}, "spec": {}})
    await bench.step()
    assert bench.condition("ObjectsApplied")["reason"] == "NotOwned"
    assert "Deployment close-pnl exists and does not belong" in bench.condition("ObjectsApplied")["message"]
    assert bench.api.objects["Deployment", "close-pnl"]["spec"] == {}
    assert bench.replicas("in") == 1


async def test_objects_of_a_stage_that_left_the_spec_are_removed(bench: OperatorBench) -> None:
    await bench.step()
    bench.change(stages=bench.body["spec"]["stages"][:1])
    await bench.step()
    assert not [name for name in kinds(bench) if "close-pnl" in name]
    assert ("Normal", "Removed") in [event[:2] for event in bench.events]


async def test_objects_that_are_no_longer_asked_for_are_removed(bench: OperatorBench) -> None:
    bench.change(networkPolicy={"enabled": True})
    await bench.step()
    assert "NetworkPolicy/close-pnl" in kinds(bench)
    bench.change(networkPolicy={"enabled": False})
    await bench.step()
    assert "NetworkPolicy/close-pnl" not in kinds(bench)


async def test_preview_decides_and_records_and_changes_nothing(bench: OperatorBench) -> None:
    bench.kafka.lag = (500,) * 12
    bench.change(mode="Preview")
    for _ in range(3):
        await bench.step()
    assert kinds(bench) == {"ConfigMap/close.decisions"}
    assert (bench.stage()["desired"], bench.stage()["current"]) == (6, 0)
    assert bench.condition("Paused")["reason"] == "ModePreview"
    recorded = json.loads(bench.api.objects["ConfigMap", "close.decisions"]["data"]["decisions.json"])
    assert {one["outcome"] for one in recorded} == {"not carried out: spec.mode is Preview"}


async def test_paused_leaves_what_was_there(bench: OperatorBench) -> None:
    await bench.step()
    bench.kafka.lag = (500,) * 12
    bench.change(mode="Paused")
    bench.api.edit("Deployment", "close-pnl", replicas=9)
    await bench.step()
    assert bench.replicas() == 9
    assert bench.condition("Paused")["reason"] == "ModePaused"


async def test_a_paused_stage_is_left_and_the_others_go_on(bench: OperatorBench) -> None:
    await bench.step()
    stages = [dict(stage) for stage in bench.body["spec"]["stages"]]
    stages[1]["paused"] = True
    bench.change(stages=[*stages, {"name": "arc", "kind": "archive", "replicas": {"min": 1, "max": 4}}])
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert (bench.replicas("pnl"), bench.replicas("arc")) == (1, 4)
    assert bench.condition("Paused")["reason"] == "StagesPaused"
    assert bench.stage()["reason"].startswith("paused; otherwise 6 replicas")


# Annotations


async def test_freeze_keeps_every_count(bench: OperatorBench) -> None:
    await bench.step()
    bench.annotate(freeze="true")
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 1
    assert bench.condition("ScalingLimited")["reason"] == "Frozen"
    bench.annotate()
    await bench.step()
    assert bench.replicas() == 6


async def test_a_pin_wins_over_lag_and_calendar_and_lowers_too(bench: OperatorBench) -> None:
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.annotate(pin="pnl=4, in=2")
    await bench.step()
    assert (bench.replicas("pnl"), bench.replicas("in")) == (4, 2)
    assert bench.condition("ScalingLimited")["reason"] == "Pinned"


async def test_hold_scale_down_raises_and_does_not_lower(bench: OperatorBench) -> None:
    bench.annotate(hold_scale_down="1970-01-12T14:46:40Z")  # 1,003,600: an hour from the beginning
    bench.change(scaling={"scaleDownStabilizationSeconds": 0})
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.kafka.lag = (0,) * 12
    await bench.step()
    assert bench.replicas() == 6
    assert bench.condition("ScalingLimited")["reason"] == "Held"
    await bench.step(3_600)
    await bench.step()
    assert bench.replicas() == 1


async def test_an_annotation_that_cannot_be_read_lowers_nothing_and_is_told(bench: OperatorBench) -> None:
    bench.change(scaling={"scaleDownStabilizationSeconds": 0})
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.annotate(freeze="until lunch")
    bench.kafka.lag = (0,) * 12
    await bench.step()
    assert bench.replicas() == 6
    told = bench.condition("SpecValid")
    assert (told["status"], told["reason"]) == ("False", "InvalidAnnotation")
    assert "eod.markets/freeze is 'until lunch': write true, or a time such as" in told["message"]


# Others


async def test_it_steps_back_from_a_deployment_that_somebody_else_scales(bench: OperatorBench) -> None:
    await bench.step()
    bench.index.autoscalers["close-pnl"] = Autoscaler(
        "HorizontalPodAutoscaler", "trading", "theirs", "u", 1, "", "close-pnl"
    )
    bench.api.edit("Deployment", "close-pnl", replicas=3)
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 3
    told = bench.condition("ScalingLimited")
    assert told["reason"] == "OtherAutoscaler"
    assert "HorizontalPodAutoscaler theirs scales stage pnl too" in told["message"]
    assert not bench.reconciler.wants_more(bench.pipeline())
    bench.change(image="eod:2")
    await bench.step()
    assert bench.replicas() == 3
    pod = bench.api.objects["Deployment", "close-pnl"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "eod:2"
    bench.index.autoscalers.clear()
    await bench.step()
    assert bench.replicas() == 6


async def test_without_the_lease_nothing_is_written(bench: OperatorBench) -> None:
    bench.leading = False
    with pytest.raises(NotLeadingError):
        await bench.step()
    assert bench.api.writes == []


@pytest.mark.parametrize("there", [None, {"uid": "u-2"}, {"uid": "u-1", "deletionTimestamp": "2026-11-27T21:00:00Z"}])
async def test_for_a_pipeline_that_was_deleted_unseen_nothing_is_made(
    bench: OperatorBench, there: dict[str, str] | None
) -> None:
    """It is gone, another has its name, or it is going; its objects went with it, and no watch has said so."""
    await bench.step()
    bench.api.objects.clear()
    before = len(bench.api.writes)
    meta = bench.body["metadata"]
    bench.api.pipeline = None if there is None else {**bench.body, "metadata": {**meta, **there}}
    with pytest.raises(OwnerGoneError, match="EodPipeline trading/close was deleted: nothing is made for it"):
        await bench.step()
    assert bench.api.writes[before:] == []
    assert bench.api.objects == {}


async def test_a_pipeline_is_asked_for_once_when_its_objects_are_made(bench: OperatorBench) -> None:
    await bench.step()
    assert bench.api.calls.count(("get", "EodPipeline", "close")) == 1


async def test_an_object_that_changed_meanwhile_is_read_and_written_again(bench: OperatorBench) -> None:
    """Optimistic locking: the index is late, the server refuses, the second try is on what is there."""
    await bench.step()
    stale = bench.index.of(bench.pipeline().owner)
    bench.api.edit("Deployment", "close-pnl", paused=False)
    bench.index.of = lambda _owner: dict(stale)  # type: ignore[method-assign]
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 6


async def test_a_pipeline_that_changed_meanwhile_gets_its_status_at_the_next_pass(bench: OperatorBench) -> None:
    bench.api.refusals["EodPipeline"] = ClusterError(409, "modified", reason="Conflict")
    await bench.step()
    assert bench.api.statuses == []
    bench.api.refusals.clear()
    await bench.step()
    assert bench.api.statuses[-1]["replicas"] == 2


async def test_a_refused_object_stops_its_stage_and_no_other(bench: OperatorBench) -> None:
    bench.api.refusals["Deployment"] = ClusterError(403, "exceeded quota: deployments.apps", reason="Forbidden")
    await bench.step()
    assert "Deployment close-pnl: exceeded quota" in bench.condition("ObjectsApplied")["message"]
    bench.api.refusals.clear()
    await bench.step()
    assert bench.condition("ObjectsApplied")["status"] == "True"


async def test_an_api_server_that_was_away_is_told_when_it_is_back(bench: OperatorBench) -> None:
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.api.failing = NO_ANSWER
    bench.change(image="eod:2")
    for _ in range(20):
        with pytest.raises(ClusterError):
            await bench.step()
    bench.api.failing = None
    bench.api.outage = (bench.now_s - 300, bench.now_s)
    for _ in range(3):
        await bench.step()
    assert bench.replicas() == 6
    assert [event[:2] for event in bench.events].count(("Warning", "ClusterUnreachable")) == 1


@pytest.mark.parametrize(
    ("skew_s", "silent_s", "problem", "reason"),
    [
        (60.0, 0.0, None, "ClockSkew"),
        (-60.0, 0.0, None, "ClockSkew"),
        (0.0, 400.0, None, "WatchSilent"),
        (0.0, 0.0, "Deployment objects cannot be read", "WatchRefused"),
    ],
)
async def test_a_view_that_cannot_be_trusted_raises_and_does_not_lower(
    bench: OperatorBench, skew_s: float, silent_s: float, problem: str | None, reason: str
) -> None:
    bench.change(scaling={"scaleDownStabilizationSeconds": 0})
    bench.kafka.lag = (300,) * 12
    await bench.step()
    bench.api.skew_s, bench.index.fresh_s, bench.index.problem = skew_s, silent_s, problem
    bench.kafka.lag = (0,) * 12
    await bench.step()
    assert bench.replicas() == 4
    assert bench.condition("ClusterInView")["reason"] == reason
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 6
    bench.api.skew_s, bench.index.fresh_s, bench.index.problem = 0, 0, None
    bench.kafka.lag = (0,) * 12
    await bench.step()
    assert bench.replicas() == 1


# What the spec refers to


def refer(bench: OperatorBench) -> None:
    bench.change(config={"secretRef": {"name": "redis"}})


def secret(password: str) -> Manifest:
    return {"kind": "Secret", "metadata": {"name": "redis"}, "data": {"EOD_REDIS_PASSWORD": password}}


def template(bench: OperatorBench) -> dict[str, Any]:
    made: dict[str, Any] = bench.api.objects["Deployment", "close-pnl"]["spec"]["template"]
    return made


async def test_a_missing_secret_is_named_and_noticed_when_it_comes(bench: OperatorBench) -> None:
    refer(bench)
    await bench.step()
    told = bench.condition("ReferencesFound")
    assert (told["status"], told["reason"]) == ("False", "ReferenceMissing")
    assert "Secret redis" in told["message"]
    bench.api.put(secret("one"))
    await bench.step()
    assert bench.condition("ReferencesFound")["status"] == "True"


async def test_a_missing_key_is_named(bench: OperatorBench) -> None:
    bench.api.put(secret("one"))
    source = {"secretKeyRef": {"name": "redis", "key": "USER"}}
    bench.change(config={"env": [{"name": "EOD_REDIS_USER", "valueFrom": source}]})
    await bench.step()
    assert "key USER of Secret redis" in bench.condition("ReferencesFound")["message"]


async def test_a_changed_secret_rolls_the_stage_and_scaling_does_not(bench: OperatorBench) -> None:
    refer(bench)
    bench.api.put(secret("one"))
    await bench.step()
    first = template(bench)
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert (bench.replicas(), template(bench)) == (6, first)
    bench.api.put(secret("two"))
    await bench.step(120)
    assert template(bench)["metadata"]["annotations"] != first["metadata"]["annotations"]


async def test_a_deleted_secret_does_not_roll_pods_that_run(bench: OperatorBench) -> None:
    refer(bench)
    bench.api.put(secret("one"))
    await bench.step()
    first = template(bench)
    del bench.api.objects["Secret", "redis"]
    await bench.step(120)
    assert template(bench) == first
    assert bench.condition("ReferencesFound")["status"] == "False"


async def test_a_changed_secret_waits_for_the_end_of_the_burst(bench: OperatorBench) -> None:
    """A rotated password must not restart every worker at the close; a changed spec is its owner's own will."""
    refer(bench)
    bench.api.put(secret("one"))
    bench.now_s = 1_795_802_400 - 3_600  # an hour before the close of the spec
    await bench.step()
    first = template(bench)
    bench.now_s = 1_795_802_400
    bench.api.put(secret("two"))
    await bench.step()
    assert template(bench) == first
    assert bench.condition("Progressing")["reason"] == "RolloutDeferred"
    await bench.step(1_000)
    assert template(bench) != first


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_secret_that_cannot_be_read_rolls_nothing(bench: OperatorBench, *, restarted: bool) -> None:
    """Whether its content is known from before or the operator has just begun."""
    refer(bench)
    bench.api.put(secret("one"))
    await bench.step()
    first = template(bench)
    bench.api.unreadable["Secret"] = ClusterError(403, "secrets is forbidden", reason="Forbidden")
    if restarted:
        bench.restart()
    await bench.step(120)
    assert template(bench) == first
    assert bench.condition("ReferencesFound")["reason"] == "ReferenceUnreadable"
    bench.api.unreadable.clear()
    await bench.step(120)
    assert template(bench) == first
    assert bench.condition("ReferencesFound")["status"] == "True"


# Kafka's credentials


def secure(bench: OperatorBench) -> None:
    bench.kafka.password = "right"
    security = {"protocol": "SASL_SSL", "secretRef": {"name": "kafka-client"}}
    bench.change(kafka={"bootstrapServers": "kafka:9092", "security": security}, scaling={"staleAfterSeconds": 20})


def login(**keys: str) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    return {"kind": "Secret", "metadata": {"name": "kafka-client"}, "data": data}


async def test_kafka_is_asked_with_what_the_secret_holds(bench: OperatorBench) -> None:
    secure(bench)
    bench.api.put(login(username="eod", password="right", **{"ca.crt": "PEM"}))
    await bench.step()
    assert bench.condition("KafkaReachable")["status"] == "True"
    (endpoint,) = bench.kafka.endpoints.values()
    assert (endpoint.address, endpoint.security) == (
        "kafka:9092",
        Security("SASL_SSL", "SCRAM-SHA-512", "eod", "right", authority="PEM"),
    )


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (None, "its Secret kafka-client (spec.kafka.security.secretRef) is missing or cannot be read"),
        ({"username": "eod"}, "has no key password"),
        ({"username": "eod", "password": ""}, "has no key password"),
        ({}, "has no key username and no key password"),
    ],
)
async def test_missing_credentials_are_told_and_counts_are_held_until_they_come(
    bench: OperatorBench, there: dict[str, str] | None, sentence: str
) -> None:
    bench.kafka.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 6
    secure(bench)
    bench.kafka.lag = (5000,) * 12
    if there is not None:
        bench.api.put(login(**there))
    await bench.step()
    told = bench.condition("KafkaReachable")
    assert (told["status"], told["reason"]) == ("False", "CredentialsMissing")
    assert sentence in told["message"]
    assert bench.condition("TopicsReady")["reason"] == "CredentialsMissing"
    await bench.step(60)
    assert bench.replicas() == 6
    bench.api.put(login(username="eod", password="right"))
    await bench.step(15 if there != {"username": "eod", "password": ""} else 120)
    await bench.step(120)
    assert bench.condition("KafkaReachable")["status"] == "True"
    assert bench.replicas() == 12


async def test_records_that_retention_has_deleted_are_told_for_a_day(bench: OperatorBench) -> None:
    """Also when the stage has gone on, and nothing in Kafka tells of them; by a restarted operator, too."""
    behind = Reading(partitions=12, lag=(0,) * 12)
    bench.kafka.seen = behind
    await bench.step()
    assert bench.condition("RecordsKept")["status"] == "True"
    bench.kafka.seen = replace(behind, lost=(Lost("trades.raw", 3, 100, 200), Lost("trades.raw", 5, 0, 1)))
    await bench.step()
    told = bench.condition("RecordsKept")
    assert told["status"] == "False"
    assert "stage pnl has lost 101 records: trades.raw[3]@100-199, trades.raw[5]@0-0 (seen 1970-01-" in told["message"]
    assert [event for event in bench.events if event[1] == "RetentionOvertook"] == [
        ("Warning", "RetentionOvertook", told["message"])
    ]
    assert bench.condition("Degraded")["status"] == "False"
    bench.kafka.seen = behind
    bench.restart()
    for _ in range(3):
        await bench.step(20_000)
    assert bench.condition("RecordsKept")["message"] == told["message"]
    bench.kafka.seen = replace(behind, lost=(Lost("trades.raw", 3, 300, 400),))
    await bench.step()
    later = bench.condition("RecordsKept")["message"]
    assert "stage pnl has lost 100 records: trades.raw[3]@300-399 (seen " in later
    bench.kafka.seen = behind
    await bench.step(80_000)
    assert bench.condition("RecordsKept")["message"] == later, "a day from what was seen last"
    await bench.step(10_000)
    assert bench.condition("RecordsKept")["status"] == "True"


@pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning")  # exchange_calendars 4.13 reads it
@pytest.mark.parametrize(
    ("calendar", "at", "told"),
    [
        ({"exchange": "XNYS"}, "2026-12-10", ""),
        ({"exchange": "XSHG"}, "2026-11-01", ""),
        (
            {"exchange": "XSHG"},
            "2026-12-10",
            "of exchange XSHG no close after that at 2026-12-31T07:00:00Z is recorded",
        ),
        (
            {"exchange": "XSHG", "closed": ["2026-12-31"]},
            "2026-12-10",
            "of exchange XSHG no close after that at 2026-12-30T07:00:00Z is recorded: upgrade the operator",
        ),
        ({}, "2026-11-01", "spec.calendar.sessions has no close after that at 2026-11-27T18:00:00Z: write further"),
        ({}, "2026-12-01", "spec.calendar.sessions has no close ahead: write further sessions out"),
        ({}, "2026-10-01", ""),
    ],
)
async def test_a_calendar_that_runs_out_is_told_a_month_ahead(
    bench: OperatorBench, raw_spec: Manifest, calendar: Manifest, at: str, told: str
) -> None:
    bench.change(calendar=calendar or raw_spec["calendar"])
    bench.now_s = datetime.fromisoformat(f"{at}T12:00:00+00:00").timestamp()
    await bench.step()
    found = bench.condition("CalendarReaches")
    assert found["status"] == ("False" if told else "True")
    assert found["message"].startswith(told)
    assert len([event for event in bench.events if event[1] == "EndsSoon"]) == bool(told)
    assert bench.condition("Degraded")["status"] == "False"


async def test_what_many_partitions_have_lost_fits_a_message(bench: OperatorBench) -> None:
    lost = tuple(Lost("trades.raw", number, 10**15, 2 * 10**15) for number in range(200))
    bench.kafka.seen = Reading(partitions=200, lag=(0,) * 200, lost=lost)
    await bench.step()
    told = bench.condition("RecordsKept")["message"]
    assert "trades.raw[7]@1000000000000000-1999999999999999 and of 192 partitions more (seen " in told
    assert len(told) < 1_000


async def test_a_refused_password_is_told_and_its_correction_is_noticed_soon(bench: OperatorBench) -> None:
    """The Secret of a Kafka that takes it is looked at once a minute, that of one that refuses it every ten seconds."""
    secure(bench)
    bench.api.put(login(username="eod", password="wrong"))
    await bench.step()
    assert bench.condition("KafkaReachable")["reason"] == "AuthenticationFailed"
    assert bench.condition("LagKnown")["status"] == "Unknown"
    bench.api.put(login(username="eod", password="right"))
    await bench.step(11)
    assert bench.condition("KafkaReachable")["status"] == "True"


async def test_a_rotated_password_is_followed(bench: OperatorBench) -> None:
    secure(bench)
    bench.api.put(login(username="eod", password="right"))
    await bench.step()
    bench.kafka.password = "next"
    bench.api.put(login(username="eod", password="next"))
    await bench.step(61)
    assert bench.condition("KafkaReachable")["status"] == "True"
    (endpoint,) = bench.kafka.endpoints.values()
    assert endpoint.security.password == "next"


async def test_credentials_that_cannot_be_read_for_a_while_stay_in_use(bench: OperatorBench) -> None:
    secure(bench)
    bench.api.put(login(username="eod", password="right"))
    await bench.step()
    bench.api.unreadable["Secret"] = ClusterError(503, "no etcd", reason="ServiceUnavailable")
    await bench.step(120)
    assert bench.condition("ReferencesFound")["reason"] == "ReferenceUnreadable"
    assert bench.condition("KafkaReachable")["status"] == "True"


async def test_no_password_of_kafka_is_told_anywhere(bench: OperatorBench, caplog: pytest.LogCaptureFixture) -> None:
    secure(bench)
    for password in ("hunter2", "right"):
        bench.api.put(login(username="eod", password=password))
        await bench.step(120)
    made = [one for (kind, _), one in bench.api.objects.items() if kind != "Secret"]
    written = json.dumps([bench.api.statuses, bench.events, made]) + caplog.text
    seen = f"{bench.reconciler.last!r} {bench.kafka.endpoints!r}"
    for password in ("hunter2", "right"):
        assert password not in written
        assert f"'{password}'" not in seen


async def test_files_are_references_too(bench: OperatorBench) -> None:
    """A missing one is named; a changed one rolls the stages."""
    bench.change(config={"files": [{"mountPath": "/etc/eod/redis", "secretRef": {"name": "redis"}}]})
    await bench.step()
    assert "Secret redis" in bench.condition("ReferencesFound")["message"]
    bench.api.put(secret("one"))
    await bench.step()
    first = template(bench)
    assert bench.condition("ReferencesFound")["status"] == "True"
    bench.api.put(secret("two"))
    await bench.step(120)
    assert template(bench)["metadata"]["annotations"] != first["metadata"]["annotations"]


async def test_files_that_stages_read_again_roll_nobody_unless_they_are_read_once_as_well(bench: OperatorBench) -> None:
    again = {"mountPath": "/etc/eod/fix", "secretRef": {"name": "redis"}, "reread": True}
    bench.change(config={"files": [again]})
    await bench.step()
    assert "Secret redis" in bench.condition("ReferencesFound")["message"]
    seen = []
    for files in ([again], [again, {"mountPath": "/etc/eod/redis", "secretRef": {"name": "redis"}}]):
        bench.change(config={"files": files})
        for content in ("one", "two"):
            bench.api.put(secret(content))
            await bench.step(120)
            seen.append(template(bench)["metadata"].get("annotations", {}))
    assert seen[0] == seen[1]
    assert seen[2] != seen[3]


async def test_no_content_of_a_secret_is_told_anywhere(bench: OperatorBench) -> None:
    refer(bench)
    bench.api.put(secret("hunter2"))
    await bench.step()
    written = json.dumps(
        [bench.api.statuses, bench.events, [one for (kind, _), one in bench.api.objects.items() if kind != "Secret"]],
        default=str,
    )
    assert "hunter2" not in written


# Topics


def plan(bench: OperatorBench, **topic: Any) -> None:
    bench.change(topics=[{"name": "trades.raw", "partitions": 12, **topic}])


async def test_a_missing_topic_is_created_where_that_is_asked(bench: OperatorBench) -> None:
    bench.kafka.missing = {"trades.raw"}
    plan(bench, create=True, retentionHours=168)
    await bench.step()
    assert bench.kafka.created == [("trades.raw", 12, 604_800_000)]
    await bench.step()
    assert bench.condition("TopicsReady")["status"] == "True"
    assert ("Normal", "TopicCreated") in [event[:2] for event in bench.events]


async def test_a_planned_topic_that_no_stage_uses_is_told_too(bench: OperatorBench) -> None:
    bench.kafka.missing = {"later"}
    bench.change(topics=[{"name": "later"}])
    await bench.step()
    assert "planned topic later" in bench.condition("TopicsReady")["message"]


async def test_a_message_that_is_too_long_is_cut(bench: OperatorBench) -> None:
    """Sixteen stages, each with a long trouble of its own: the status is written nevertheless."""
    stages = [{"name": f"s{n}", "kind": "archive", "group": f"g{n}", "replicas": {"max": 1}} for n in range(16)]
    bench.change(stages=stages)
    await bench.step()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota " + "x" * 600}
    for (kind, name), found in list(bench.api.objects.items()):
        if kind == "Deployment":
            bench.api.objects[kind, name] = {**found, "status": {"conditions": [failure]}}
    await bench.step()
    assert len(bench.condition("PodsHealthy")["message"]) == 4096


@pytest.mark.parametrize("more", [{}, {"create": False}])
async def test_a_missing_topic_is_told_and_not_created_otherwise(bench: OperatorBench, more: dict[str, Any]) -> None:
    bench.kafka.missing = {"trades.raw"}
    plan(bench, **more)
    await bench.step()
    assert bench.kafka.created == []
    assert bench.condition("TopicsReady")["reason"] == "TopicMissing"


async def test_preview_creates_no_topic(bench: OperatorBench) -> None:
    bench.kafka.missing = {"trades.raw"}
    plan(bench, create=True)
    bench.change(mode="Preview")
    await bench.step()
    assert bench.kafka.created == []


async def test_a_topic_unlike_the_plan_is_reported_and_not_altered(bench: OperatorBench) -> None:
    bench.kafka.partitions = 6
    bench.kafka.retained_ms = {"trades.raw": 3_600_000}
    plan(bench, create=True, retentionHours=168)
    await bench.step()
    told = bench.condition("TopicsReady")
    assert told["reason"] == "TopicDiffers"
    assert "topic trades.raw has 6 partitions where spec.topics says 12" in told["message"]
    assert "retention.ms=3600000 where spec.topics says 168 hours (604800000)" in told["message"]
    assert bench.kafka.created == []


async def test_a_topic_that_kafka_refuses_is_told(bench: OperatorBench) -> None:
    bench.kafka.missing = {"trades.raw"}
    bench.kafka.refusal = TopicRefusedError("Kafka refused: ask for no more copies")
    plan(bench, create=True)
    await bench.step()
    assert (
        "TopicRefused" in bench.condition("Degraded")["message"]
        or "ask for no more copies" in (bench.condition("TopicsReady")["message"])
    )


# Pods


def put_failing_pod(bench: OperatorBench) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image eod:1"}
    bench.api.put(
        {
            "kind": "Pod",
            "metadata": {"name": "close-pnl-x", "labels": {}},
            "status": {"containerStatuses": [{"state": {"waiting": waiting}}]},
        }
    )


async def test_new_pods_that_do_not_come_up_are_told_although_old_ones_serve(bench: OperatorBench) -> None:
    """A rolling update keeps the old pods until the new ones are ready: nothing lacks, and nothing moves on either."""
    await bench.step()
    bench.set_ready(outdated=1)
    put_failing_pod(bench)
    await bench.step(20)
    await bench.step(20)
    assert bench.condition("PodsHealthy")["reason"] == "ImageNotPulled"
    assert bench.condition("Degraded")["status"] == "True"
    assert (bench.condition("Progressing")["status"], bench.condition("Progressing")["reason"]) == (
        "True",
        "RollingOut",
    )
    assert "older pods" in bench.condition("Progressing")["message"]
    bench.set_ready()
    await bench.step()
    assert bench.condition("PodsHealthy")["status"] == "True"
    assert bench.condition("Progressing")["status"] == "False"


async def test_pods_that_do_not_come_up_are_asked_why(bench: OperatorBench) -> None:
    put_failing_pod(bench)
    await bench.step()
    await bench.step(20)
    told = bench.condition("PodsHealthy")
    assert (told["status"], told["reason"]) == ("False", "ImageNotPulled")
    assert "pod close-pnl-x: ImagePullBackOff" in told["message"]
    assert "correct spec.image" in told["message"]
    bench.set_ready()
    await bench.step()
    assert bench.condition("PodsHealthy")["status"] == "True"


async def test_pods_that_run_and_do_not_serve_say_why(bench: OperatorBench) -> None:
    """Asked again every half minute, and forgotten once they serve."""
    running = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "False"}]}
    bench.api.put({"kind": "Pod", "metadata": {"name": "close-pnl-x", "labels": {}}, "status": running})
    bench.says["10.0.0.7"] = "loading partitions: redis:6379 refuses the login"
    await bench.step()
    await bench.step(20)
    told = bench.condition("PodsHealthy")
    assert (told["status"], told["reason"]) == ("False", "NotReady")
    assert "pod close-pnl-x: not ready: loading partitions: redis:6379 refuses the login" in told["message"]
    assert bench.condition("Degraded")["reason"] == "NotReady"
    bench.says["10.0.0.7"] = "joining the group: kafka:9092 is away"
    asked = []
    for _ in range(4):
        before = len(bench.asked)
        await bench.step(20)
        asked.append(len(bench.asked) - before)
    assert asked == [0, 2, 0, 2], "the pod once for each stage that lacks some, every other pass of 20 s"
    assert "kafka:9092 is away" in bench.condition("PodsHealthy")["message"]
    bench.set_ready()
    await bench.step()
    assert bench.condition("PodsHealthy")["status"] == "True"


async def test_replicas_that_a_quota_refuses_are_told(bench: OperatorBench) -> None:
    await bench.step()
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: small'}
    found = bench.api.objects["Deployment", "close-pnl"]
    bench.api.objects["Deployment", "close-pnl"] = {**found, "status": {"conditions": [failure]}}
    await bench.step()
    told = bench.condition("PodsHealthy")
    assert told["reason"] == "ReplicasRefused"
    assert "exceeded quota: small. To mend it, raise the namespace's quota" in told["message"]


# Status and records


async def test_numbers_alone_are_written_only_now_and_then(bench: OperatorBench) -> None:
    await bench.step()
    bench.set_ready()
    await bench.step()
    before = len(bench.api.statuses)
    for lag in range(1, 41):
        bench.kafka.lag = (lag, *[0] * 11)
        await bench.step(1)
    assert len(bench.api.statuses) - before <= 5


async def test_the_status_says_what_the_close_will_bring(bench: OperatorBench) -> None:
    await bench.step()
    assert bench.stage()["forecast"] == {
        "at": "2026-11-27T17:55:00Z",
        "replicas": 6,
        "learned": False,
        "note": "fewer than 2 sessions have been recorded, so the burst size of the spec stands",
    }
    told = bench.condition("ForecastReady")
    assert (told["status"], told["reason"]) == ("True", "CalendarKnown")
    assert (
        "for the close at 2026-11-27T18:00:00Z, from 2026-11-27T17:55:00Z on at least: in 2, pnl 6" in told["message"]
    )


async def test_forecast_is_not_ready_without_a_burst_or_a_close(bench: OperatorBench) -> None:
    stages = [{**stage, "replicas": {"min": 1, "max": 2}} for stage in bench.body["spec"]["stages"]]
    bench.change(stages=stages)
    await bench.step()
    assert bench.condition("ForecastReady")["reason"] == "NoBurst"
    bench.now_s = 4_000_000_000
    await bench.step()
    assert bench.condition("ForecastReady")["reason"] == "NoMoreCloses"


async def test_a_capped_stage_says_so(bench: OperatorBench) -> None:
    bench.kafka.lag = (1_000_000,) * 12
    stages = [dict(stage) for stage in bench.body["spec"]["stages"]]
    stages[1]["replicas"] = {"min": 1, "max": 8}
    bench.change(stages=stages)
    await bench.step()
    assert bench.condition("ScalingLimited")["reason"] == "CappedByMax"


async def test_decisions_are_recorded_with_every_term_and_outlive_the_operator(bench: OperatorBench) -> None:
    await bench.step()
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.restart()
    await bench.step()
    recorded = json.loads(bench.api.objects["ConfigMap", "close.decisions"]["data"]["decisions.json"])
    (first, last) = [one for one in recorded if one["stage"] == "pnl"]
    assert (first["from"], first["replicas"], first["winner"]) == (0, 1, "min")
    assert (last["from"], last["replicas"], last["winner"], last["outcome"]) == (1, 6, "lag", "applied")
    assert {one["name"] for one in last["terms"]} == {"lag", "min", "stabilization"}
    assert last["signals"]["lag"] == 6_000
