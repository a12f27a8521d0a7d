"""`eod operator`: help, the CRD, and plans without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_operator.api.crd import as_yaml
from eod_operator.cli import app
from typer.testing import CliRunner

EXAMPLE = Path(__file__).parents[3] / "examples/eodpipeline.yaml"

pytestmark = pytest.mark.filterwarnings(
    "ignore:Series.values returning:DeprecationWarning"
)  # see test_scaling_calendar


def run(*args: str, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, args, input=text)
    return result.exit_code, result.stdout, result.stderr


def test_crd_prints_the_crd() -> None:
    assert run("crd") == (0, as_yaml(), "")


def test_plan_shows_replicas_now_and_at_the_close() -> None:
    code, out, _ = run("plan", "-f", str(EXAMPLE))
    assert code == 0
    assert "next close" in out
    (line,) = [line.split() for line in out.splitlines() if line.startswith("flash-pnl")]
    assert line[3:5] == ["6", "12"]


def test_plan_as_json_holds_whole_objects() -> None:
    code, out, _ = run("plan", "-f", str(EXAMPLE), "--json")
    (plan,) = json.loads(out)
    assert code == 0
    assert [one["kind"] for one in plan["objects"]].count("Deployment") == len(plan["stages"]) == 5


def test_plan_reads_standard_input() -> None:
    assert run("plan", "-f", "-", text=EXAMPLE.read_text(encoding="utf-8"))[0] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kafka": {}}, "us-equities: spec.kafka.bootstrapServers: Field required"),
        ({"calendar": {"exchange": "XNYZ"}}, "spec.calendar.exchange: 'XNYZ' is not an exchange"),
        ({"stages": []}, "us-equities: spec.stages"),
    ],
)
def test_plan_refuses_with_the_field_and_exit_code_1(change: dict[str, Any], sentence: str) -> None:
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    manifest["spec"] |= change
    code, _, err = run("plan", "-f", "-", text=yaml.safe_dump(manifest))
    assert code == 1
    assert sentence in err


def test_plan_of_a_missing_file_says_so() -> None:
    code, _, err = run("plan", "-f", "/nowhere.yaml")
    assert (code, err.split(":")[0]) == (1, "/nowhere.yaml")


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "is not YAML"), ("kind: Pod", "holds no EodPipeline")])
def test_plan_of_something_else_says_so(text: str, sentence: str) -> None:
    code, _, err = run("plan", "-f", "-", text=text)
    assert code == 1
    assert sentence in err


def test_run_takes_one_or_all_namespaces() -> None:
    code, _, err = run("run", "-n", "a", "-A")
    assert code == 2
    assert "not both" in " ".join(err.replace("│", " ").split())


def test_help_and_plans_load_no_kubernetes_client() -> None:
    """`eod --help` mounts these commands: importing them must stay cheap."""
    code = "import sys, eod_operator.cli, eod_operator.planning; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kopf", "kubernetes", "aiokafka", "pandas"} & set(loaded)
