"""`eod simulate` as people call it: tables, files, pictures, and what it says when something is wrong."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from eod_operator.simulate import compare, policies
from eod_operator.simulate.command import simulate
from eod_operator.simulate.scenario import names
from typer.testing import CliRunner
from unit.simulate.test_trace import RECORDED

SHORT = """
name: short
about: Half an hour & a close, for <tests>.
date: 2026-11-25
open: "15:40"
until: "16:10"
traffic: {bursts: [{at: close, peak: 300}]}
history: {sessions: 0}
"""

app = typer.Typer()
app.command()(simulate)


def call(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def short(tmp_path: Path) -> str:
    file = tmp_path / "short.yaml"
    file.write_text(SHORT)
    return str(file)


def test_what_there_is_can_be_listed() -> None:
    told = call("--list")
    assert all(f"  {name} " in told for name in names())
    assert "Policies: eod, hpa, keda, cron, keda+cron, static, flink" in told


def test_a_day_is_played_and_every_seed_written(short: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    told = call("-s", short, "-p", "eod", "-p", "static", "--seeds", "3", "--json", str(out))
    assert re.search(r"short +│ eod", told)
    written = json.loads(out.read_text())["scenarios"]["short"]
    assert set(written["policies"]) == {"eod", "static"}
    seeds = written["policies"]["static"]["seeds"]
    assert [one["seed"] for one in seeds] == [1, 2, 3]
    # Twelve replicas for half an hour.
    assert {round(one["replica_hours"], 6) for one in seeds} == {6}
    assert written["policies"]["static"]["median"]["replica_hours"] == pytest.approx(6)
    assert written["bars"] is None


def test_settings_are_those_of_the_spec(short: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    call("-s", short, "-p", "eod", "--seeds", "1", "--set", "catchUpSeconds=10", "--json", str(out))
    assert json.loads(out.read_text())["scenarios"]["short"]["policies"]["eod"]["params"] == {"catchUpSeconds": "10"}
    assert policies.ours(["catchUpSeconds=10", "utilizationPercent=50", "forecast=false"]) == policies.OURS.tuned(
        catch_up_s=10.0, utilization=0.5, forecast=False
    )


def test_tuned_baselines_are_compared_and_drawn(short: str, tmp_path: Path) -> None:
    out, folder = tmp_path / "out.json", tmp_path / "pictures"
    told = call(
        *("-s", short, "-p", "eod", "-p", "keda+cron", "--seeds", "2", "--tune", "--quick", "--json", str(out)),
        *("--plots", str(folder)),
    )
    assert "eod as a multiple of the best tuned keda+cron" in told
    written = json.loads(out.read_text())["scenarios"]["short"]
    tried = written["tuned"]["keda+cron"]
    assert len(tried) == len(compare.tune.QUICK_GRIDS["keda+cron"])
    price = {json.dumps(one["params"]): one["cost"] + one["lateness"] / 3600 for one in tried}
    assert price[json.dumps(written["bars"]["knee"]["params"])] == min(price.values())
    assert written["policies"]["keda+cron"]["params"] == written["bars"]["knee"]["params"]
    assert {file.name for file in folder.iterdir()} == {"index.html", "pareto.png", "short.png"}
    assert (folder / "short.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "Half an hour &amp; a close, for &lt;tests&gt;." in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing but itself


def test_tuning_many_at_a_time_changes_nothing(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = compare.Job(short, ("static",), (1, 2), tuned=True, quick=True)
    together = compare.study(job).tuned
    monkeypatch.setattr(compare, "ROWS", 1)
    assert compare.study(job).tuned == together


def test_a_recorded_day_is_replayed(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    file.write_text(json.dumps(RECORDED))
    told = call("--trace", str(file), "-p", "eod", "--seeds", "2")
    assert re.search(r"recorded +│ recorded", told)
    assert re.search(r"│ +│ eod", told)


def test_several_scenarios_are_shown_in_the_order_they_were_asked_for(short: str, tmp_path: Path) -> None:
    other = tmp_path / "a.yaml"
    other.write_text(SHORT.replace("name: short", "name: a-first"))
    told = call("-s", short, "-s", str(other), "-p", "static", "--seeds", "1", "--workers", "1")
    assert 0 < told.index("│ short ") < told.index("│ a-first ")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-s", "normal"], "'normal' is not a scenario"),
        (["-p", "best"], "--policy best: there is no such policy: choose from eod, hpa"),
        (["--set", "catchup=1"], "--set catchup=1: write NAME=NUMBER with a name of a pipeline's spec: catchUpSeconds"),
        (["--set", "catchUpSeconds=soon"], "--set catchUpSeconds=soon: 'soon' must be a number from 0 on"),
        (["--set", "catchUpSeconds=NaN"], "--set catchUpSeconds=NaN: 'NaN' must be a number from 0 on"),
        (["--set", "catchUpSeconds=-1"], "--set catchUpSeconds=-1: '-1' must be a number from 0 on"),
        (["--trace", "none.json"], "none.json: cannot be read: No such file"),
        (["--trace", "none.json", "-s", "holiday"], "give --trace or --scenario, not both"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_played(args: list[str], sentence: str) -> None:
    told = call(*args, code=1)
    assert told.startswith(f"eod simulate: {sentence}")


def test_where_it_is_to_write_is_looked_at_before_a_day_is_played(
    short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "studies", lambda *_, **__: pytest.fail("it has played"))
    play = ("-s", short, "-p", "static", "--seeds", "1")
    told = call(*play, "--json", str(tmp_path / "no" / "out.json"), code=1)
    assert f"out.json: there is no folder {tmp_path / 'no'}: make it" in told
    (tmp_path / "file").write_text("x")
    told = call(*play, "--plots", str(tmp_path / "file" / "pictures"), code=1)
    assert f"{tmp_path / 'file'} is no folder: name another" in told


def test_without_matplotlib_it_says_how_to_get_it(short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    told = call("-s", short, "-p", "static", "--seeds", "1", "--plots", str(tmp_path / "x"), code=1)
    assert "pictures need matplotlib, which is not installed: pip install 'eod[plots]'" in told


@pytest.mark.slow
def test_the_quick_comparison_is_quick_and_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    call("--quick", "--tune", "--json", str(out))
    whole = json.loads(out.read_text())
    written = whole["scenarios"]
    assert set(written) == {"normal-close", "holiday", "flash-crash"}
    usual = whole["priceAgainstTunedForUsualDay"]
    assert set(usual) == set(written)
    assert usual["normal-close"] == written["normal-close"]["bars"]["knee_price"]
    for found in written.values():
        assert set(found["policies"]) == set(policies.NAMES)
        assert found["bars"] is not None
        for policy in found["policies"].values():
            assert all(one["unfinished"] == pytest.approx(0, abs=1e-6) for one in policy["seeds"])
