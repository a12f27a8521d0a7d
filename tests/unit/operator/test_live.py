"""What is kept of an object, and whether it still is as it should be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from eod_operator.api import PipelineSpec
from eod_operator.live import contains, slim
from eod_operator.resources import Owner, stage_objects

Manifest = dict[str, Any]


@pytest.fixture
def wanted(spec: PipelineSpec, owner: Owner) -> Manifest:
    return next(one for one in stage_objects(owner, spec, spec.stages[1], 3) if one["kind"] == "Deployment")


@pytest.fixture
def served(wanted: Manifest) -> Manifest:
    """The same as an API server gives it back: with defaults, and bookkeeping."""
    made = copy.deepcopy(wanted)
    made["metadata"] |= {
        "uid": "u",
        "resourceVersion": "77",
        "generation": 4,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "eod-operator"}],
    }
    made["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    made["spec"] |= {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
    made["spec"]["template"]["spec"] |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
    made["status"] = {"readyReplicas": 2, "updatedReplicas": 3, "replicas": 5, "observedGeneration": 4}
    return made


def test_a_deployment_in_a_nutshell(served: Manifest) -> None:
    live = slim("Deployment", served)
    assert (live.name, live.uid, live.version, live.owner_uid) == ("close-pnl", "u", 77, "uid-1")
    assert (live.pipeline, live.stage, live.group) == ("close", "pnl", ("trading", "close"))
    assert (live.replicas, live.ready, live.updated, live.outdated, live.settled) == (3, 2, 3, 2, True)
    assert live.failure == ""


def test_what_the_server_fills_in_is_no_drift(served: Manifest, wanted: Manifest) -> None:
    assert slim("Deployment", served).fits(wanted)


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "template", "spec", "containers", 0, "image"),
        ("spec", "template", "spec", "terminationGracePeriodSeconds"),
        ("metadata", "labels", "eod.markets/stage"),
        ("metadata", "annotations", "eod.markets/applied"),
        ("spec", "replicas"),
    ],
)
def test_what_somebody_else_changes_is(served: Manifest, wanted: Manifest, path: tuple[str | int, ...]) -> None:
    target: Any = served
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = 99 if isinstance(target[path[-1]], int) else "other"
    assert not slim("Deployment", served).fits(wanted)


def test_a_field_that_somebody_takes_away_is_drift(served: Manifest, wanted: Manifest) -> None:
    del served["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert not slim("Deployment", served).fits(wanted)


def test_status_versions_and_counts_do_not_change_the_state(served: Manifest) -> None:
    """They change all the time, and an object is as we left it nevertheless."""
    before = slim("Deployment", served).state
    served["status"]["readyReplicas"] = 3
    served["metadata"]["resourceVersion"] = "78"
    served["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "4"
    served["spec"]["replicas"] = 9
    assert slim("Deployment", served).state == before
    served["metadata"]["labels"]["x"] = "y"
    assert slim("Deployment", served).state != before


def test_words_of_the_controller_are_kept(served: Manifest) -> None:
    served["status"]["conditions"] = [
        {"type": "Progressing", "status": "True", "message": "fine"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
    ]
    assert slim("Deployment", served).failure == "exceeded quota"


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        (None, {"a": 1}, False),
        (None, {}, True),
        ({"x": 1}, {}, True),
        (None, [], True),
        ([1, 2], [1, 2], True),
        ([1, 2, 3], [1, 2], False),
        ([{"name": "b"}, {"name": "a", "v": 1, "w": 2}], [{"name": "a", "v": 1}], True),
        ([{"name": "b"}], [{"name": "a"}], False),
        ([{"port": 1, "protocol": "TCP"}], [{"port": 1}], True),
        ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "0.5"}}, True),
        ({"limits": {"memory": "1Ki"}}, {"limits": {"memory": 1024}}, True),
        ({"limits": {"memory": "1Ki"}}, {"limits": {"memory": 1025}}, False),
        ({"cpu": "500m"}, {"cpu": "0.5"}, False),
    ],
)
def test_contains(found: object, wanted: object, *, expected: bool) -> None:
    assert contains(found, wanted) is expected
