"""A worker is installed without what the operator needs, and says so where somebody asks for the operator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from eod_contract.extras import NOT_OF_A_WORKER
from eod_contract.kinds import KINDS
from support.patience import limit_s

EOD = Path(sys.executable).with_name("eod")
_HIDE = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"matplotlib", *{sorted(NOT_OF_A_WORKER)}}}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds none of it."""
    (tmp_path / "sitecustomize.py").write_text(_HIDE, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def eod(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EOD, *words], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60))


def test_stages_settings_and_the_demo_work(alone: dict[str, str]) -> None:
    listed = eod(alone, "stage", "list", "--json")
    assert [one["name"] for one in json.loads(listed.stdout)] == list(KINDS)
    assert eod(alone, "settings").returncode == 0
    played = eod(alone, "demo", "--seconds", "2", "--rate", "50", "--burst", "100", "--json", "-")
    assert json.loads(played.stdout)["mismatches"] == 0


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["simulate", "--quick"], "numpy"),
        (["explain", "us-equities"], "kubernetes"),
        (["operator", "run"], "aiohttp"),
    ],
)
def test_what_is_the_operators_is_refused_in_a_sentence(alone: dict[str, str], words: list[str], package: str) -> None:
    done = eod(alone, *words)
    said = f"eod: 'eod {words[0]}' needs {package}, which a worker does without: pip install 'eod[operator]'"
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_the_help_and_what_needs_no_cluster_work(alone: dict[str, str]) -> None:
    assert eod(alone, "--help").returncode == 0
    assert eod(alone, "operator", "crd").returncode == 0


def test_the_plugin_of_kubectl_says_so_too(alone: dict[str, str]) -> None:
    plugin = EOD.with_name("kubectl-eod")
    done = subprocess.run(
        [plugin, "explain", "us-equities"], env=alone, capture_output=True, text=True, check=False, timeout=limit_s(60)
    )
    said = "eod: 'kubectl eod' needs kubernetes, which a worker does without: pip install 'eod[operator]'"
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_what_is_not_a_workers_is_what_the_extra_brings() -> None:
    (ours,) = [found for found in distributions() if found.name == "eod"]
    extra = [one for one in ours.requires or () if "extra == 'operator'" in one or 'extra == "operator"' in one]
    brought = {re.split(r"[^\w-]", one)[0].replace("-", "_") for one in extra}
    assert brought == NOT_OF_A_WORKER - {"pandas"}
