"""The chart's counterparties: the file that it makes is one that ingestion reads, and who needs no key has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.terms import Terms, TermsBook
from support.chart_release import API, EOD
from testbed.helm import Helm

VALUES = EOD / "ci/counterparties-values.yaml"


def rendered(helm: Helm, charts: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    """Kind → the objects."""
    text = helm("template", "eod", charts / EOD.name, API, *words)
    found: dict[str, list[dict[str, Any]]] = {}
    for one in yaml.safe_load_all(text):
        if one:
            found.setdefault(one["kind"], []).append(one)
    return found


def env_of(pipeline: dict[str, Any]) -> dict[str, str]:
    """The variables of FIX that the stages are told."""
    env = pipeline["spec"]["config"].get("env", [])
    return {one["name"]: one["value"] for one in env if one["name"].startswith("EOD_FIX_")}


def test_the_sessions_are_read_by_ingestion_and_their_changes_roll_nobody(
    helm: Helm, charts: Path, tmp_path: Path
) -> None:
    made = rendered(helm, charts, "--values", str(VALUES))
    (pipeline,) = made["EodPipeline"]
    told = env_of(pipeline)
    settings = {name.removeprefix("EOD_").lower() for name in told}
    assert settings <= IngestionSettings.model_fields.keys()
    files = {one["mountPath"]: one for one in pipeline["spec"]["config"]["files"]}
    folder, _, name = told["EOD_FIX_SESSIONS_FILE"].rpartition("/")
    mount = files[folder]
    assert mount["reread"] is True
    (config,) = (one for one in made["ConfigMap"] if one["metadata"]["name"] == mount["configMapRef"]["name"])
    file = tmp_path / name
    file.write_text(config["data"][name])
    book = TermsBook(Terms(), str(file))
    second = book.of("FIX.4.2:BROKER2->EOD")
    assert isinstance(second, Terms)
    assert (second.told, second.certificate, second.messages_per_s) == ("17:00 Europe/London", "broker2.example", 500)
    assert book.of("BROKER1->EOD") == Terms()
    assert isinstance(book.of("BROKER3->EOD"), str)


def test_the_certificate_is_the_stages_and_nobody_elses(helm: Helm, charts: Path) -> None:
    made = rendered(helm, charts, "--values", str(VALUES))
    (pipeline,) = made["EodPipeline"]
    told = env_of(pipeline)
    (tls,) = (one for one in pipeline["spec"]["config"]["files"] if "secretRef" in one)
    assert (tls["secretRef"]["name"], tls["reread"]) == ("fix-tls", True)
    for name, file in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
        assert told[f"EOD_FIX_TLS_{name}_FILE"] == f"{tls['mountPath']}/{file}"
    assert "fix" not in yaml.safe_dump(made["CronJob"]).lower()


def test_nobody_is_admitted_unless_the_values_say_so(helm: Helm, charts: Path) -> None:
    accepted = "--set=eod-stores.sqlserver.acceptEula=true"
    own = '--set-json=pipeline.env=[{"name": "EOD_FIX_COUNTERPARTIES", "value": "ACME"}]'
    default, demo, named = (
        rendered(helm, charts, accepted, *words) for words in ((), ("--set=fix.admitAnybody=true",), (own,))
    )
    assert env_of(default["EodPipeline"][0]) == {"EOD_FIX_SESSIONS_FILE": "/etc/eod/fix/sessions.yaml"}
    (file,) = (one["data"]["sessions.yaml"] for one in default["ConfigMap"] if "sessions.yaml" in one["data"])
    assert yaml.safe_load(file) == {"sessions": {}}
    assert env_of(demo["EodPipeline"][0]) == {"EOD_FIX_ADMIT_ANYBODY": "true"}
    assert env_of(named["EodPipeline"][0]) == {"EOD_FIX_COUNTERPARTIES": "ACME"}
    for made in (demo, named):
        assert not [one for one in made["ConfigMap"] if "sessions.yaml" in one["data"]]


def test_of_a_variable_that_the_user_says_too_the_users_own_counts(helm: Helm, charts: Path) -> None:
    own = '--set-json=pipeline.env=[{"name": "EOD_FIX_TLS_CA_FILE", "value": "/own"}]'
    (pipeline,) = rendered(helm, charts, "--values", str(VALUES), own)["EodPipeline"]
    said = [one["value"] for one in pipeline["spec"]["config"]["env"] if one["name"] == "EOD_FIX_TLS_CA_FILE"]
    assert said == ["/own"]


def test_the_hint_of_the_notes_works(helm: Helm, charts: Path) -> None:
    """As NOTES.txt has it."""
    made = rendered(
        helm, charts, "--set=eod-stores.sqlserver.acceptEula=true", "--set=fix.sessions.BROKER->EOD.zone=Europe/London"
    )
    (config,) = (one for one in made["ConfigMap"] if "sessions.yaml" in one["data"])
    assert yaml.safe_load(config["data"]["sessions.yaml"]) == {"sessions": {"BROKER->EOD": {"zone": "Europe/London"}}}
