"""tools/buttons.py, with a kubectl that writes down how it was called and answers as a cluster would."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from eod_operator.api.closes import Calendar
from eod_workers.market.profile import Profile
from support.fake_programs import FakePrograms
from support.loaded import module_of
from typer.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[3]
WORDS = "kubectl --context=kind-eod --namespace=eod"
NOW = datetime(2026, 11, 27, 17, 30, tzinfo=UTC)
OLD = {"exchange": "XNYS", "burst": {"leadSeconds": 300, "durationSeconds": 900}}


@pytest.fixture
def buttons(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of("tools/buttons.py")
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    return module


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    made = FakePrograms(tmp_path)
    monkeypatch.setenv("PATH", str(made.path))
    return made


def press(buttons: ModuleType, *words: str) -> Result:
    return CliRunner().invoke(buttons.app, words)


# --- a close ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [10, 60, 120.5])
def test_the_close_is_when_the_market_bursts(buttons: ModuleType, seconds: float) -> None:
    made = buttons.calendar_of_close(NOW, seconds)
    calendar = Calendar.model_validate(made)  # the operator's own model takes it
    assert calendar.sessions is not None
    (session,) = calendar.sessions
    assert abs((session.close - NOW).total_seconds() - Profile(seconds, 1, 1).close_s) < 1
    assert session.open < NOW < session.close
    assert calendar.burst.duration_seconds > 0


@pytest.mark.parametrize(("code", "words"), [(0, []), (2, ["--seconds=20", "--rate=5", "--burst=50"])])
def test_a_close_is_played_and_the_calendar_put_back_also_when_the_market_fails(
    buttons: ModuleType, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, code: int, words: list[str]
) -> None:
    pipeline = json.dumps({"spec": {"calendar": OLD}})
    programs.add("kubectl", f"case \"$*\" in *' get '*) printf %s '{pipeline}' ;; esac")
    programs.add("eod", f"exit {code}")
    monkeypatch.setattr(buttons, "EOD", programs.path / "eod")
    pressed = press(buttons, "close", *words)
    wait, get, there, play, back = programs.calls
    assert wait == f"{WORDS} wait eodp/us-equities --for=condition=Ready --timeout=300s"
    assert get == f"{WORDS} get eodp/us-equities --output=json"
    assert f"{WORDS} patch eodp/us-equities --type=json --patch=" in there
    (during,), (after,) = (json.loads(call.partition("--patch=")[2]) for call in (there, back))
    assert during["value"].keys() == {"sessions", "burst"}
    assert after == {"op": "replace", "path": "/spec/calendar", "value": OLD}
    assert play.startswith("eod market play --port=9876 ")
    assert all(word in play for word in words)
    assert pressed.exit_code == (1 if code else 0)
    assert ("FIX is expected on port 9876" in pressed.output) == bool(code)


# --- the others ---------------------------------------------------------------------------------------------


def test_one_worker_is_killed_without_a_word(buttons: ModuleType, programs: FakePrograms) -> None:
    programs.add("kubectl", "case \"$*\" in *' get pods '*) echo pod/a pod/b ;; esac")
    pressed = press(buttons, "kill")
    assert pressed.exit_code == 0
    assert re.fullmatch(r"killed pod/[ab], one of 2\n", pressed.output)
    look, kill = programs.calls
    assert "--selector=eod.markets/pipeline=us-equities" in look
    assert re.fullmatch(f"{WORDS} delete pod/[ab] --grace-period=0 --force --wait=false", kill)


def test_there_may_be_no_worker_to_kill(buttons: ModuleType, programs: FakePrograms) -> None:
    programs.add("kubectl")
    pressed = press(buttons, "kill")
    assert pressed.exit_code == 1
    assert "no pod of us-equities runs: 'eod explain us-equities' says why" in pressed.output
    assert len(programs.calls) == 1


def test_every_letter_that_was_not_redriven_is_tried_and_told_of(buttons: ModuleType, programs: FakePrograms) -> None:
    letters = [{"id": one, "reason": "bust", "redriven": one == "b"} for one in ("a", "b", "c")]
    inside = f"{WORDS} exec deployment/us-equities-dead-letters -- eod dlq"
    answers = (
        f"case \"$*\" in *list*) printf %s '{json.dumps(letters)}' ;; "
        "*'redrive a') echo redriven to here ;; *) echo 'eod: still not acceptable' >&2; exit 2 ;; esac"
    )
    programs.add("kubectl", answers)
    pressed = press(buttons, "redrive")
    assert pressed.exit_code == 0
    assert pressed.output.splitlines() == [
        "a (bust): redriven to here",
        "c (bust): eod: still not acceptable",
        "1 of 2 dead letters redriven",
    ]
    assert programs.calls == [f"{inside} list --json", f"{inside} redrive a", f"{inside} redrive c"]


@pytest.mark.parametrize(("end", "code"), [("Complete", 0), ("Failed", 1)])
def test_a_reconciliation_is_started_waited_for_and_shown(
    buttons: ModuleType, programs: FakePrograms, tmp_path: Path, end: str, code: int
) -> None:
    status = {"status": {"conditions": [{"type": end, "status": "True"}, {"type": "Suspended", "status": "False"}]}}
    answers = (
        f"case \"$*\" in *' get '*) if [ -e {tmp_path}/asked ]; then printf %s '{json.dumps(status)}'; "
        f"else : >{tmp_path}/asked; printf '{{}}'; fi ;; *' logs '*) echo rows: equal ;; esac"
    )
    programs.add("kubectl", answers)
    pressed = press(buttons, "reconcile")
    assert pressed.exit_code == code
    assert pressed.output.startswith("rows: equal\n")
    create, *looks, logs = programs.calls
    made = re.fullmatch(rf"{WORDS} create job (reconcile-\d+) --from=cronjob/eod-reconcile", create)
    assert made is not None
    assert looks == [f"{WORDS} get job/{made[1]} --output=json"] * 2
    assert logs == f"{WORDS} logs job/{made[1]} --tail=-1"


def test_a_reconciliation_that_does_not_end_is_given_up(
    buttons: ModuleType, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add("kubectl", "case \"$*\" in *' get '*) printf '{}' ;; esac")
    monkeypatch.setattr(buttons, "RECONCILED_WITHIN_S", 0.05)
    pressed = press(buttons, "reconcile")
    assert pressed.exit_code == 1
    assert "has not ended within 0.05 s" in pressed.output


def test_what_kubectl_refuses_and_that_it_is_missing_are_said(buttons: ModuleType, programs: FakePrograms) -> None:
    assert "kubectl is not on PATH" in press(buttons, "kill").output
    programs.add("kubectl", 'echo "error: context kind-eod does not exist" >&2; exit 1')
    pressed = press(buttons, "kill")
    assert pressed.exit_code == 1
    assert "context kind-eod does not exist" in pressed.output
    assert "'make kind-up' or 'tilt up' makes it" in pressed.output
