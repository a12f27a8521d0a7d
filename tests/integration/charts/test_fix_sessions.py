"""The chart's counterparties: the file that it makes is one that ingestion reads, and who needs no key has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_workers.fix.rules import MAX_ACCURACY_S, MAX_HEARTBEAT_S
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.terms import Terms, TermsBook
from support.chart_release import API, EOD
from testbed.errors import CommandFailed
from testbed.helm import Helm

VALUES = EOD / "ci/counterparties-values.yaml"
NAME = "BROKER->EOD"


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


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        (NAME, {}),
        ("FIX.4.2:BROKER/DESK 1->EOD/2", {}),
        ("A-B-->E", {}),
        (NAME, {"zone": "UTC"}),
        (NAME, {"zone": "Europe/London"}),
        (NAME, {"zone": "America/Argentina/Buenos_Aires"}),
        (NAME, {"zone": "America/Port-au-Prince"}),
        (NAME, {"zone": "Etc/GMT+5"}),
        (NAME, {"reset": "17:00"}),
        (NAME, {"reset": ""}),
        (NAME, {"addresses": ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7"]}),
        (NAME, {"messages_per_s": 0.5, "trade_captures": False, "trader_tag": 50}),
        (NAME, {"heartbeat_s": 1, "sending_time_within_s": 0}),
        (NAME, {"heartbeat_s": MAX_HEARTBEAT_S, "sending_time_within_s": MAX_ACCURACY_S}),
    ],
)
def test_terms_that_the_chart_takes_are_taken_by_ingestion(
    helm: Helm, charts: Path, tmp_path: Path, name: str, terms: dict[str, Any]
) -> None:
    given = tmp_path / "values.yaml"
    given.write_text(yaml.safe_dump({"fix": {"sessions": {name: terms}}}))
    made = rendered(helm, charts, "--set=eod-stores.sqlserver.acceptEula=true", f"--values={given}")
    (text,) = (one["data"]["sessions.yaml"] for one in made["ConfigMap"] if "sessions.yaml" in one["data"])
    file = tmp_path / "sessions.yaml"
    file.write_text(text)
    assert TermsBook(Terms(), str(file)).of(name) == Terms.model_validate(terms)


@pytest.mark.parametrize(
    ("name", "terms", "sentence"),
    [
        ("BROKER", {}, "'BROKER' does not match pattern '->'"),
        ("BROKER->", {}, 'fix.sessions "BROKER->" is no name of a session'),
        ("BROKER ->EOD", {}, 'fix.sessions "BROKER ->EOD" is no name of a session'),
        ("FIX.4.4:BROKER->EOD", {}, 'fix.sessions "FIX.4.4:BROKER->EOD" is no name of a session'),
        ("BROKER/A/B->EOD", {}, 'fix.sessions "BROKER/A/B->EOD" is no name of a session'),
        (NAME, {"zon": "Europe/London"}, "at '/fix/sessions/BROKER->EOD': additional properties 'zon' not allowed"),
        (NAME, {"zone": "london"}, "at '/fix/sessions/BROKER->EOD/zone': "),
        (NAME, {"reset": "25:00"}, "at '/fix/sessions/BROKER->EOD/reset': "),
        (NAME, {"reset": "5pm"}, "at '/fix/sessions/BROKER->EOD/reset': "),
        (NAME, {"addresses": ["broker.example"]}, "at '/fix/sessions/BROKER->EOD/addresses/0': "),
        (NAME, {"addresses": "192.0.2.0/24"}, "at '/fix/sessions/BROKER->EOD/addresses': "),
        (NAME, {"trade_captures": "perhaps"}, "at '/fix/sessions/BROKER->EOD/trade_captures': "),
        (NAME, {"trader_tag": 0}, "at '/fix/sessions/BROKER->EOD/trader_tag': "),
        (NAME, {"messages_per_s": 0}, "at '/fix/sessions/BROKER->EOD/messages_per_s': "),
        (NAME, {"heartbeat_s": 0}, "at '/fix/sessions/BROKER->EOD/heartbeat_s': "),
        (NAME, {"heartbeat_s": MAX_HEARTBEAT_S + 1}, "at '/fix/sessions/BROKER->EOD/heartbeat_s': "),
        (NAME, {"heartbeat_s": 1.5}, "at '/fix/sessions/BROKER->EOD/heartbeat_s': "),
        (NAME, {"sending_time_within_s": -1}, "at '/fix/sessions/BROKER->EOD/sending_time_within_s': "),
        (NAME, {"sending_time_within_s": MAX_ACCURACY_S + 1}, "at '/fix/sessions/BROKER->EOD/sending_time_within_s': "),
    ],
)
def test_terms_that_ingestion_would_refuse_are_refused_by_the_chart(
    helm: Helm, charts: Path, tmp_path: Path, name: str, terms: dict[str, Any], sentence: str
) -> None:
    sessions = {"sessions": {name: terms}}
    file = tmp_path / "sessions.yaml"
    file.write_text(yaml.safe_dump(sessions))
    with pytest.raises(ValueError, match="the sessions file"):
        TermsBook(Terms(), str(file))
    given = tmp_path / "values.yaml"
    given.write_text(yaml.safe_dump({"fix": sessions}))
    with pytest.raises(CommandFailed) as refused:
        rendered(helm, charts, "--set=eod-stores.sqlserver.acceptEula=true", f"--values={given}")
    assert sentence in str(refused.value)
