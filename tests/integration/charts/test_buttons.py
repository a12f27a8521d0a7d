"""The button that plays a close, on a real API server: it takes the calendar, and has the old one back afterwards."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.chart_release import ROOT
from support.fake_programs import FakePrograms
from support.patience import limit_s
from testbed.kubernetes import Kubernetes

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]
CALENDAR = {"exchange": "XNYS", "burst": {"leadSeconds": 300, "durationSeconds": 900}}
_PRESS = """
import runpy, sys
from pathlib import Path
sys.executable = sys.argv.pop(1)  # beside which the command eod is looked for
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_the_close_is_taken_by_the_api_server_and_put_back(
    kubernetes: Kubernetes, crds: None, strict_namespace: str, tmp_path: Path
) -> None:
    """The real kubectl, but for the name of the cluster, and for the wait: no operator makes the pipeline ready."""
    del crds
    pipeline = {
        "apiVersion": "eod.markets/v1alpha1",
        "kind": "EodPipeline",
        "metadata": {"name": "us-equities"},
        "spec": {
            "kafka": {"bootstrapServers": "kafka:9092"},
            "image": "eod:dev",
            "calendar": CALENDAR,
            "stages": [{"name": "ingestion", "kind": "ingestion", "replicas": {"min": 1, "max": 1}}],
        },
    }
    own = f"--namespace={strict_namespace}"
    kubernetes.kubectl(own, "apply", "-f", "-", input=json.dumps(pipeline))
    kubectl = shlex.join([str(Kubernetes.fetch() / "kubectl"), f"--kubeconfig={kubernetes.kubeconfig}", own])
    seen = tmp_path / "seen.json"
    programs = FakePrograms(tmp_path)
    programs.add("kubectl", f'shift 2\n[ "$1" = wait ] || exec {kubectl} "$@"')
    programs.add("eod", f"{kubectl} get eodp/us-equities -o json >{shlex.quote(str(seen))}")
    command = [
        sys.executable,
        "-c",
        _PRESS,
        programs.path / "python",
        ROOT / "tools/buttons.py",
        "close",
        "--seconds=60",
    ]
    env = programs.env(KUBECACHEDIR=str(tmp_path / "kubectl-cache"))
    pressed = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=limit_s(60))
    assert pressed.returncode == 0, pressed.stderr
    during = json.loads(seen.read_text())["spec"]["calendar"]
    assert during.keys() == {"sessions", "burst"}
    assert pressed.stdout.strip() == f"the close is at {during['sessions'][0]['close']}"
    after = json.loads(kubernetes.kubectl(own, "get", "eodp/us-equities", "-o", "json"))["spec"]["calendar"]
    assert after == CALENDAR
