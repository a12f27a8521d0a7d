"""`eod settings` lists every variable, with what one needs to set it; docs/settings.md is the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from eod_operator.api.spec import DEFAULT_INTERVAL_S
from eod_workers.cli.commands import app
from eod_workers.process.catalogue import metrics, metrics_page, page, settings
from eod_workers.process.probes import registry_of
from eod_workers.process.settings import ADMIN_PREFIX, ELSEWHERE, Admin, Settings
from eod_workers.runtime.stages import load_stages
from eod_workers.runtime.variables import PREFIX
from prometheus_client import generate_latest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[3]
STAGES = load_stages()
FOUND = {setting.name: setting for setting in settings(STAGES)}


def told(*words: str) -> list[dict[str, object]]:
    ended = CliRunner().invoke(app, ["settings", *words, "--json"])
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_every_field_of_every_model_is_there_once() -> None:
    models = [Settings, *(stage.settings for stage in STAGES.values())]
    names = {PREFIX + field.upper() for model in models for field in model.model_fields}
    names |= {ADMIN_PREFIX + field.upper() for field in Admin.model_fields}
    elsewhere = {name for name, one in FOUND.items() if one.about == "Read elsewhere"}
    assert set(FOUND) - elsewhere == names
    assert names & elsewhere == set()
    assert elsewhere >= ELSEWHERE
    assert len(settings(STAGES)) == len(FOUND)


def test_what_is_read_elsewhere_is_read_there() -> None:
    """By name, somewhere in what is installed or sets it up; and its default is the one there."""
    folders = (ROOT / "workers", ROOT / "operator")
    sources = [
        *(one for folder in folders for one in folder.rglob("*.py")),
        ROOT / "hatch_build.py",
        ROOT / "tools/bootstrap.sh",
    ]
    text = "\n".join(one.read_text() for one in sources if one.name != "catalogue.py")
    for name, one in FOUND.items():
        if one.about == "Read elsewhere":
            assert name in text
    assert FOUND["EOD_OPERATOR_INTERVAL_SECONDS"].default == f"{DEFAULT_INTERVAL_S:g}"


def test_the_operator_reads_no_variable_that_is_not_listed() -> None:
    said = "\n".join(one.read_text() for one in (ROOT / "operator").rglob("*.py"))
    assert set(re.findall(r'envvar="(\w+)"', said)) <= set(FOUND)


def test_everything_is_described() -> None:
    assert [one.name for one in FOUND.values() if not one.what.endswith(".") or not one.type or not one.readers] == []


@pytest.mark.parametrize(
    ("name", "type_", "default"),
    [
        ("EOD_FIX_PORT", "whole number, from 0 to 65535", "9876"),
        ("EOD_FLUSH_INTERVAL_S", "number, above 0", "5"),
        ("EOD_FIX_COUNTERPARTIES", "comma-separated texts", ""),
        ("EOD_REDIS_URL", "secret text", ""),
        ("EOD_KAFKA_SASL_MECHANISM", "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, AWS_MSK_IAM", ""),
        ("EOD_LOG_LEVEL", "one of debug, info, warning, error", "info"),
        ("EOD_TRADES_TOPIC", "text", "trades.raw"),
    ],
)
def test_types_and_defaults_are_in_words(name: str, type_: str, default: str) -> None:
    assert (FOUND[name].type, FOUND[name].default) == (type_, default)


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("EOD_FLUSH_INTERVAL_S", ("regulatory", "archive")),
        ("EOD_REDIS_URL", ("ingestion", "flash-pnl", "dead-letters", "eod dlq", "eod fix", "eod reconcile")),
        ("EOD_PRICES_TOPIC", ("flash-pnl",)),
        ("EOD_GROUP", tuple(name for name, stage in STAGES.items() if stage.kind.reads)),
        ("EOD_HTTP_PORT", tuple(STAGES)),
    ],
)
def test_it_is_known_who_reads_it(name: str, readers: tuple[str, ...]) -> None:
    assert FOUND[name].readers == readers


def test_one_stage_is_shown_what_it_reads() -> None:
    names = {one["name"] for one in told("dead-letters")}
    assert {
        "EOD_KAFKA_BOOTSTRAP",
        "EOD_REDIS_URL",
        "EOD_LETTERS_TOPIC",
        "EOD_GROUP",
        "EOD_LIVE_PATH",
        "EOD_KERNEL",
    } <= names
    assert names & {"EOD_FIX_PORT", "EOD_ARCHIVE_URL", "EOD_TRADES_TOPIC", "EOD_FLUSH_ROWS"} == set()
    assert {one["name"] for one in told()} == set(FOUND)


def test_a_stage_that_is_not_there_is_answered_with_those_that_are() -> None:
    ended = CliRunner().invoke(app, ["settings", "pnl"])
    assert ended.exit_code == 2
    assert "there is no stage 'pnl'; registered are archive, dead-letters, flash-pnl" in ended.stderr


def test_people_are_shown_a_table() -> None:
    ended = CliRunner().invoke(app, ["settings", "ingestion"])
    assert ended.exit_code == 0
    assert "what it does" in ended.stdout


def test_the_page_is_generated() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert text == page(FOUND.values()), "docs/settings.md is behind the models: make settings"


def test_variables_that_the_other_pages_name_are_settings() -> None:
    """Those of the build, the tests and the live update are no settings of a process."""
    others = {"EOD_KERNEL", "EOD_LIVE_PATH", "EOD_NO_KERNEL", "EOD_PATIENCE", "EOD_TIERS", "EOD_TEST_MSSQL"}
    others |= {"EOD_RUNTIME", "EOD_EXTRAS"}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {name for one in pages for name in re.findall(r"EOD_[A-Z0-9_]*[A-Z0-9]", one.read_text(encoding="utf-8"))}
    assert sorted(name for name in named - others if not any(known.startswith(name) for known in FOUND)) == []


# --- metrics ------------------------------------------------------------------------------------------------


def test_each_stage_exports_its_own_metrics_and_no_others() -> None:
    of = {one.name: set(one.stages) for one in metrics(STAGES)}
    assert {name for name, stages in of.items() if "ingestion" in stages} == {
        "eod_trades_ingested_total", "eod_ingestion_in_flight_bytes", "eod_ingestion_superseded_total",
        "eod_ingestion_latency_seconds", "eod_dead_letters_total", "eod_fix_connections", "eod_fix_refused_total",
        "eod_fix_sessions_file_refused", "eod_fix_sessions_waiting",
    }  # fmt: skip
    assert of["eod_positions"] == {"flash-pnl"}
    assert of["eod_regulatory_exceptions_total"] == {"regulatory"}
    assert of["eod_flush_seconds"] == set(STAGES) - {"ingestion"}


def test_metrics_are_listed_for_programs_and_for_people() -> None:
    ended = CliRunner().invoke(app, ["metrics", "regulatory", "--json"])
    listed = {one["name"]: one for one in json.loads(ended.stdout)}
    assert "eod_positions" not in listed
    exceptions = listed["eod_regulatory_exceptions_total"]
    assert (exceptions["type"], exceptions["labels"], exceptions["stages"]) == ("counter", ["field"], ["regulatory"])
    assert "could not be" in CliRunner().invoke(app, ["metrics"], env={"COLUMNS": "200"}).stdout
    refused = CliRunner().invoke(app, ["metrics", "nonsense"])
    assert (refused.exit_code, "there is no stage 'nonsense'" in refused.stderr) == (2, True)


def test_the_page_of_metrics_is_as_it_is_generated() -> None:
    assert (ROOT / "docs/metrics.md").read_text(encoding="utf-8") == metrics_page(metrics(STAGES)), "make settings"


def test_what_a_metric_is_called_outside_is_what_is_exported() -> None:
    for stage in STAGES.values():
        exported = generate_latest(registry_of(stage.metrics())).decode()
        named = {line.split()[2] for line in exported.splitlines() if line.startswith("# TYPE eod_")}
        assert {one.name for one in metrics({"this": stage})} == {name for name in named if "_created" not in name}
