"""Releases of the stores and of the whole on a real API server: passwords survive, data is left, the pieces fit.

No kubelet runs, so pods stay Pending and Helm is told not to wait for the Jobs; what they would do is tested where their
commands are, and test_stores_run runs what the servers would.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.chart_release import STORES, Release
from support.patience import eventually
from testbed.errors import CommandFailed

pytestmark = pytest.mark.slow

ACCEPTED = ("--set", "sqlserver.acceptEula=true", "--no-hooks")
NAME = "desk-eod-stores"
_ALL = "statefulset,service,serviceaccount,configmap,secret,networkpolicy,pdb,pvc,pod"
_MINE = f"app.kubernetes.io/name={STORES.name}"


def held(release: Release, name: str) -> dict[str, str]:
    """What is in a Secret."""
    data = release.get("secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def left(release: Release, kinds: str = _ALL) -> set[str]:
    """`Kind/name` of what there is of the stores; pods of a StatefulSet without a node go when it goes."""
    listed = json.loads(release.kubectl("get", kinds, "-l", _MINE, "-o", "json"))["items"]
    return {f"{one['kind']}/{one['metadata']['name']}" for one in listed}


def test_what_is_made_is_admitted_and_passwords_are_made_once(stores: Release) -> None:
    told = stores.run("install", *ACCEPTED)
    assert f"spec.config.secretRef     {NAME}" in told
    assert "WARNING: one broker" in told
    secrets = {name: held(stores, name) for name in (NAME, f"{NAME}-kafka", f"{NAME}-servers")}
    assert secrets[NAME].keys() == {
        *("EOD_REDIS_URL", "EOD_SQLSERVER_USER", "EOD_SQLSERVER_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    assert secrets[f"{NAME}-kafka"].keys() == {"username", "password"}
    password = secrets[f"{NAME}-servers"]["redis-password"]
    host = f"{NAME}-redis.{stores.namespace}.svc.cluster.local"
    assert secrets[NAME]["EOD_REDIS_URL"] == f"redis://:{password}@{host}:6379/0"
    made = [value for one in secrets.values() for key, value in one.items() if "user" not in key.lower()]
    assert len(set(made)) == len(made) == 8
    assert min(len(value) for value in made) >= 20

    eventually(lambda: {f"Pod/{NAME}-{store}-0" for store in ("kafka", "redis", "sqlserver", "s3")} <= left(stores))
    assert stores.kubectl("get", "events", "--field-selector=type=Warning,reason=FailedCreate", "-o", "name") == ""
    before = {one["metadata"]["name"]: one["metadata"]["generation"] for one in stores.all("statefulset")}
    stores.run("upgrade", *ACCEPTED)
    assert {name: held(stores, name) for name in secrets} == secrets
    assert {one["metadata"]["name"]: one["metadata"]["generation"] for one in stores.all("statefulset")} == before


def test_another_number_of_brokers_is_refused_and_the_release_stays_as_it_is(stores: Release) -> None:
    """Two brokers that were just made would be a majority that knows of no topic."""
    stores.run("install", *ACCEPTED)
    with pytest.raises(CommandFailed, match=r"kafka\.replicas cannot become 3: this release has 1"):
        stores.run("upgrade", *ACCEPTED, "--set", "kafka.replicas=3")
    assert stores.get("statefulset", f"{NAME}-kafka")["spec"]["replicas"] == 1


def test_no_password_is_in_an_object_that_is_no_secret(stores: Release) -> None:
    """Nor in what Helm prints; a changed setting rolls the pods that it is for, and no others."""
    told = stores.run("install", *ACCEPTED)
    secrets = [value for name in (NAME, f"{NAME}-kafka", f"{NAME}-servers") for value in held(stores, name).values()]
    everything = told + json.dumps(stores.all("statefulset,configmap,service,networkpolicy,serviceaccount"))
    assert [one for one in secrets if one in everything and one not in {"eod", "eod_writer"}] == []
    before = checksums(stores)
    stores.run("upgrade", *ACCEPTED, "--set", "redis.maxMemoryMebibytes=128")
    after = checksums(stores)
    assert {name for name in before if before[name] != after[name]} == {f"{NAME}-redis"}


def checksums(release: Release) -> dict[str, Any]:
    """Name of a StatefulSet → annotations of its pods."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"].get("annotations")
        for one in release.all("statefulset")
    }


def test_uninstalling_leaves_data_and_what_opens_it_and_a_new_release_finds_both(stores: Release) -> None:
    stores.run("install", *ACCEPTED)
    kept = {f"Secret/{name}" for name in (NAME, f"{NAME}-kafka", f"{NAME}-servers")}
    volumes = {f"PersistentVolumeClaim/data-{NAME}-{store}-0" for store in ("kafka", "redis", "sqlserver", "s3")}
    eventually(lambda: volumes <= left(stores))
    secrets = {name.partition("/")[2]: held(stores, name.partition("/")[2]) for name in kept}
    stores.run("uninstall", "--no-hooks")
    eventually(lambda: left(stores) == kept | volumes)
    stores.run("install", *ACCEPTED)
    assert {name: held(stores, name) for name in secrets} == secrets


def test_uninstalling_takes_everything_where_that_was_asked_for(stores: Release) -> None:
    stores.run("install", *ACCEPTED, "--set", "volumesWhenDeleted=Delete")
    eventually(lambda: len([one for one in left(stores) if one.startswith("PersistentVolumeClaim")]) == 4)
    stores.run("uninstall", "--no-hooks")
    eventually(lambda: {one for one in left(stores) if not one.startswith(("Pod/", "PersistentVolume"))} == set())
    # No kubelet ends the pods here, and a claim that a pod uses goes after it: that it is to go is all there is to see.
    eventually(lambda: all(one["metadata"].get("deletionTimestamp") for one in stores.all("pvc")))


def test_without_volumes_nothing_is_kept_and_that_is_said(stores: Release) -> None:
    off = [
        word
        for store in ("kafka", "redis", "sqlserver", "s3")
        for word in ("--set", f"{store}.persistence.enabled=false")
    ]
    told = stores.run("install", *ACCEPTED, *off)
    assert told.count("is LOST with its pod") == 4
    stores.run("uninstall", "--no-hooks")
    eventually(lambda: {one for one in left(stores) if not one.startswith("Pod/")} == set())


def test_everything_that_the_pipeline_of_the_whole_refers_to_is_there(whole: Release) -> None:
    """The operator would tell what is missing; and it counts on labels and names of the other charts."""
    told = whole.run(
        *("install", "--no-hooks", "--set", "eod-stores.sqlserver.acceptEula=true"),
        *("--set", "reference.data=traders: {}", "--set", "eod-observability.otlp.endpoint=http://collector:4318"),
    )
    assert "from within the cluster" in told
    pipeline = whole.get("eodp", "us-equities")
    spec = pipeline["spec"]
    whole.get("secret", spec["kafka"]["security"]["secretRef"]["name"])
    whole.get("configmap", spec["config"]["configMapRef"]["name"])
    whole.get("secret", spec["config"]["secretRef"]["name"])
    for file in spec["config"]["files"]:
        whole.get("configmap", file["configMapRef"]["name"])
    for variable in spec["config"]["env"]:
        source = variable.get("valueFrom", {}).get("configMapKeyRef")
        assert source is None or source["key"] in whole.get("configmap", source["name"])["data"]
    host = spec["kafka"]["bootstrapServers"].partition(".")[0]
    assert whole.get("service", host)["spec"]["ports"][0]["port"] == 9092
    fix = whole.get("service", "eod-fix")["spec"]
    assert fix["selector"] == {"eod.markets/pipeline": "us-equities", "eod.markets/stage": "ingestion"}
    (operator,) = whole.all("deployment")
    (rule,) = (
        peer
        for peer in whole.get("networkpolicy", "eod-stores-kafka")["spec"]["ingress"][0]["from"]
        if "namespaceSelector" in peer
    )
    assert rule["podSelector"]["matchLabels"].items() <= operator["spec"]["template"]["metadata"]["labels"].items()


def test_the_reconciliation_is_there_sleeps_and_can_be_started_by_hand(whole: Release) -> None:
    whole.run("install", "--no-hooks", "--set", "eod-stores.sqlserver.acceptEula=true")
    cron = whole.get("cronjob", "eod-reconcile")["spec"]
    assert (cron["suspend"], cron["timeZone"]) == (True, "America/New_York")
    whole.kubectl("create", "job", "--from=cronjob/eod-reconcile", "now")
    eventually(lambda: whole.kubectl("get", "pods", "-l", "job-name=now", "-o", "name") != "")
    (container,) = whole.get("job", "now")["spec"]["template"]["spec"]["containers"]
    variables = {one["name"] for one in container["env"]}
    assert {"EOD_KAFKA_BOOTSTRAP", "EOD_KAFKA_SASL_MECHANISM", "EOD_KAFKA_USERNAME", "EOD_KAFKA_PASSWORD"} <= variables
    assert whole.get("job", "now")["spec"]["template"]["metadata"]["labels"]["eod.markets/stores"] == "eod-stores"


def test_a_pause_survives_an_upgrade_and_one_of_a_stage_until_the_list_of_stages_changes(whole: Release) -> None:
    """As docs/operator.md says: Helm patches from manifest to manifest, a list as a whole."""

    def paused() -> tuple[str, bool]:
        spec = whole.get("eodp", "us-equities")["spec"]
        return spec["mode"], spec["stages"][0].get("paused", False)

    words = ("--no-hooks", "--set", "eod-stores.sqlserver.acceptEula=true")
    whole.run("install", *words)
    stage = {"op": "add", "path": "/spec/stages/0/paused", "value": True}
    pipeline = {"op": "add", "path": "/spec/mode", "value": "Paused"}
    whole.kubectl("patch", "eodp", "us-equities", "--type=json", "-p", json.dumps([stage, pipeline]))
    whole.run("upgrade", *words, "--set", "image.tag=next")
    assert whole.get("eodp", "us-equities")["spec"]["image"].endswith(":next")
    assert paused() == ("Paused", True)
    one = {"name": "ingestion", "kind": "ingestion", "replicas": {"min": 1, "max": 1}}
    whole.run("upgrade", *words, "--set-json", f"pipeline.stages={json.dumps([one])}")
    assert paused() == ("Paused", False)
