"""Who adds a stage adds a folder, an entry point and a row: it plays in the demo, and the operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from eod_contract.kinds import HTTP_PORT
from support.madeup import VOLUME, install, known, noted
from support.patience import limit_s

EOD = Path(sys.executable).with_name("eod")
PIPELINE = Path(__file__).resolve().parents[3] / "examples/eodpipeline.yaml"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the stage."""
    folder = tmp_path / "site"
    folder.mkdir()
    return install(folder)


def eod(env: dict[str, str], *words: str) -> str:
    """Run a command that has the stage, and return what it printed."""
    done = subprocess.run([EOD, *words], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_plays_in_the_demo(env: dict[str, str], tmp_path: Path) -> None:
    """It sees each trade that the market sent, and the demo waits for it and sizes it."""
    told = json.loads(eod(env, "demo", "--seconds", "2", "--rate", "100", "--burst", "400", "--json", "-"))
    assert set(told["replicas_seen"]) == set(known())
    assert told["mismatches"] == 0
    lines = noted(tmp_path / "site").read_text().splitlines()
    assert len(set(lines)) == told["traded"] > 100


def test_the_operator_runs_it(env: dict[str, str], tmp_path: Path) -> None:
    """It may be asked for, with the defaults of its kind, and becomes a Deployment that starts it."""
    crd = yaml.safe_load(eod(env, "operator", "crd"))
    (version,) = crd["spec"]["versions"]
    stage = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["stages"]["items"]
    assert stage["properties"]["kind"]["enum"] == known()
    pipeline = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))
    pipeline["spec"]["stages"].append({"name": "volume", "kind": "volume", "replicas": {"max": 3}})
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    (plan,) = json.loads(eod(env, "operator", "plan", "-f", str(file), "--json"))
    mine = {made["kind"]: made for made in plan["objects"] if made["metadata"]["name"] == "us-equities-volume"}
    (container,) = mine["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["stage", "run", "volume"]
    assert [port["containerPort"] for port in container["ports"]] == [HTTP_PORT]
    settings = next(made for made in plan["objects"] if made["kind"] == "ConfigMap" and "volume" in json.dumps(made))
    assert (settings["data"]["EOD_TOPICS"], settings["data"]["EOD_GROUP"]) == ("trades.raw", VOLUME.group)


def test_it_is_listed(env: dict[str, str]) -> None:
    listed = json.loads(eod(env, "stage", "list", "--json"))
    assert {"name": "volume", "topics": ["trades.raw"], "group": "volume", "needs": []} in listed
    assert {one["name"] for one in listed} == set(known())
