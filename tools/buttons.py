"""What the buttons of Tilt do to the pipeline on the local cluster: play a close, kill a worker, redrive, reconcile.

    python tools/buttons.py close --seconds 120

Each works on the context kind-eod alone, whatever kubectl's current one is, so that no button reaches another cluster.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from eod_workers.market.profile import Profile

CONTEXT, NAMESPACE, PIPELINE, RELEASE = "kind-eod", "eod", "us-equities", "eod"
FIX_PORT = 9876
"""Of this machine; kind-config.yaml leads it to ingestion."""
READY_WITHIN_S, RECONCILED_WITHIN_S, LOOK_S = 300, 600, 2.0
LEAD_S = 30
"""How long before the played close the stages are to be scaled up: the start of a pod, on a busy laptop."""
EOD = Path(sys.executable).with_name("eod")

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


def fail(message: str) -> NoReturn:
    """Say what is wrong and end."""
    typer.echo(f"buttons: {message}", err=True)
    raise typer.Exit(1)


def kubectl(*words: str) -> str:
    """Run kubectl on the local cluster and return what it printed."""
    command = ["kubectl", f"--context={CONTEXT}", f"--namespace={NAMESPACE}", *words]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        fail("kubectl is not on PATH: install it (docs/development.md lists what is needed)")
    if ended.returncode:
        said = f"kubectl {' '.join(words[:3])}: {ended.stderr.strip()}"
        fail(f"{said} (if there is no cluster, 'make kind-up' or 'tilt up' makes it)")
    return ended.stdout


def calendar_of_close(now: datetime, seconds: float) -> dict[str, Any]:
    """A calendar whose only close is when a market that begins now, and lasts so long, bursts."""
    close_s = Profile(seconds, 1, 1).close_s
    session = {
        "open": (now - timedelta(hours=1)).isoformat(timespec="seconds"),
        "close": (now + timedelta(seconds=close_s)).isoformat(timespec="seconds"),
    }
    burst = {"leadSeconds": LEAD_S, "durationSeconds": round(seconds - close_s)}
    return {"sessions": [session], "burst": burst}


def set_calendar(calendar: dict[str, Any]) -> None:
    """Give the pipeline a calendar, whole: what the old one has beside it goes."""
    patch = json.dumps([{"op": "replace", "path": "/spec/calendar", "value": calendar}])
    kubectl("patch", f"eodp/{PIPELINE}", "--type=json", f"--patch={patch}")


@app.command()
def close(
    seconds: Annotated[float, typer.Option(min=10, help="Length of the market; its close is after 55 % of it.")] = 120,
    rate: Annotated[float, typer.Option(min=1, help="Trades per second in the calm.")] = 100,
    burst: Annotated[float, typer.Option(min=1, help="Trades per second at the close.")] = 2_000,
) -> None:
    """Move the pipeline's close to within this market, play the market, and put the calendar back."""
    kubectl("wait", f"eodp/{PIPELINE}", "--for=condition=Ready", f"--timeout={READY_WITHIN_S}s")
    before = json.loads(kubectl("get", f"eodp/{PIPELINE}", "--output=json"))["spec"]["calendar"]
    now = datetime.now(UTC)
    played = calendar_of_close(now, seconds)
    typer.echo(f"the close is at {played['sessions'][0]['close']}")
    set_calendar(played)
    words = [f"--port={FIX_PORT}", f"--seconds={seconds}", f"--rate={rate}", f"--burst={burst}"]
    words += [f"--seed={int(now.timestamp())}", "--reconnect=30"]  # a seed twice would send the same trades again
    try:
        ended = subprocess.run([EOD, "market", "play", *words], check=False)
    finally:
        set_calendar(before)
    if ended.returncode:
        fail(f"the market was not played to its end: see above; FIX is expected on port {FIX_PORT} of this machine")


@app.command()
def kill() -> None:
    """Kill a worker without a word, as a node that dies does; a stage, and which of its pods, is chosen by chance."""
    selector = f"--selector=eod.markets/pipeline={PIPELINE}"
    pods = kubectl("get", "pods", selector, "--field-selector=status.phase=Running", "--output=name").split()
    if not pods:
        fail(f"no pod of {PIPELINE} runs: 'eod explain {PIPELINE}' says why")
    chosen = random.choice(pods)
    kubectl("delete", chosen, "--grace-period=0", "--force", "--wait=false")
    typer.echo(f"killed {chosen}, one of {len(pods)}")


@app.command()
def redrive() -> None:
    """Put every dead letter back on the log that was not yet and can be."""
    inside = ("exec", f"deployment/{PIPELINE}-dead-letters", "--", "eod", "dlq")
    letters = [one for one in json.loads(kubectl(*inside, "list", "--json")) if not one["redriven"]]
    done = 0
    for letter in letters:
        command = ["kubectl", f"--context={CONTEXT}", f"--namespace={NAMESPACE}", *inside, "redrive", letter["id"]]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        typer.echo(f"{letter['id']} ({letter['reason']}): {(ended.stdout + ended.stderr).strip().splitlines()[0]}")
        done += not ended.returncode
    typer.echo(f"{done} of {len(letters)} dead letters redriven")


@app.command()
def reconcile() -> None:
    """Compare every store with the log, now, by the release's CronJob; a difference fails."""
    name = f"reconcile-{int(time.time())}"
    kubectl("create", "job", name, f"--from=cronjob/{RELEASE}-reconcile")
    until = time.monotonic() + RECONCILED_WITHIN_S
    while time.monotonic() < until:
        status = json.loads(kubectl("get", f"job/{name}", "--output=json")).get("status", {})
        now = {one["type"] for one in status.get("conditions", []) if one["status"] == "True"}
        if now & {"Complete", "Failed"}:
            typer.echo(kubectl("logs", f"job/{name}", "--tail=-1").strip())
            if "Failed" in now:
                fail(f"job {name} has failed: something differs, or could not be compared; it says what above")
            return
        time.sleep(LOOK_S)
    fail(f"job {name} has not ended within {RECONCILED_WITHIN_S} s: kubectl -n {NAMESPACE} describe job {name}")


if __name__ == "__main__":
    app()
