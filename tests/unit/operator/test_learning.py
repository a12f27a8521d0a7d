"""What the operator learns of closes, played over days with a clock set by hand: used, kept, and doubted."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eod_operator.forecast_command import app
from eod_operator.kafka.readings import Reading
from eod_operator.learning import LEAST_STARTS, LONGEST_START_S, Learning
from eod_operator.scaling.memory import loads
from eod_operator.scaling.service_rate import ServiceRate
from eod_operator.simulate.ours import OURS
from eod_operator.simulate.run import run
from eod_operator.simulate.trace import read, world
from support.operator_fakes import Manifest, OperatorBench
from typer.testing import CliRunner

DAY_S = 86_400.0
FIRST_CLOSE_S = 1_010_000.0
PARTITIONS = 12
STEP_S, LATER_STEP_S = 10.0, 60.0
BURST_S = 600.0
"""After the close; the steps behind it are longer."""
MAP = ("ConfigMap", "close.forecast")


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).isoformat().replace("+00:00", "Z")


def close_of(day: int) -> float:
    return FIRST_CLOSE_S + day * DAY_S


@pytest.fixture
def bench(raw_spec: Manifest) -> OperatorBench:
    made = OperatorBench(raw_spec)
    sessions = [{"open": iso(close_of(day) - 20_000), "close": iso(close_of(day))} for day in range(8)]
    (pnl,) = [one for one in raw_spec["stages"] if one["name"] == "pnl"]
    raw_spec["stages"] = [pnl]
    pnl["replicas"] = {"min": 1, "max": 12}
    pnl["target"] = {"recordsPerSecond": 100}
    made.change(calendar={"sessions": sessions, "burst": {"leadSeconds": 0, "durationSeconds": 0}})
    return made


def arrived(at_s: float, day: int, burst: float) -> float:
    """Records of a day up to a time: 40 a second, and from its close on `burst` more, which fall off over 90 s."""
    since_s = max(0.0, at_s - close_of(day))
    return 1e7 * (day + 1) + 40 * (at_s - close_of(day) + DAY_S / 2) + burst * 90 * (1 - math.exp(-since_s / 90))


async def play(
    bench: OperatorBench, day: int, *, burst: float = 460.0, until_s: float = 3_700.0
) -> list[tuple[float, int]]:
    """A session's last minutes and what follows; the changes of the count, with the time since the close.

    A replica does 100 records a second, and serves at once.
    """
    changes: list[tuple[float, int]] = []
    bench.now_s = close_of(day) - 900
    done = [arrived(bench.now_s - STEP_S * back, day, burst) for back in range(3, -1, -1)]
    while bench.now_s < close_of(day) + until_s:
        step_s = STEP_S if bench.now_s < close_of(day) + BURST_S else LATER_STEP_S
        now_s = bench.now_s + step_s
        before = bench.replicas() if ("Deployment", "close-pnl") in bench.api.objects else 0
        came = arrived(now_s, day, burst)
        done = [*done[1:], min(came, done[-1] + step_s * 100 * max(1, before))]
        waits = came - done[-1]
        bench.kafka.seen = Reading(
            partitions=PARTITIONS,
            lag=(round(waits / PARTITIONS),) * PARTITIONS,
            ages_s=(waits / 400,) * PARTITIONS,
            ends=(int(came / PARTITIONS),) * PARTITIONS,
            arrivals_per_s=((came - arrived(now_s - 30, day, burst)) / 30 / PARTITIONS,) * PARTITIONS,
            consumptions_per_s=((done[-1] - done[0]) / (3 * step_s) / PARTITIONS,) * PARTITIONS,
        )
        await bench.step(step_s)
        bench.set_ready()
        if bench.replicas() != before:
            changes.append((bench.now_s - close_of(day), bench.replicas()))
    return changes


async def test_a_close_that_was_seen_twice_is_met_before_it_in_one_step(bench: OperatorBench) -> None:
    """The first two are met by load, when they come; then the forecast has been right, and comes first."""
    for day in range(2):
        changes = await play(bench, day)
        assert next(at_s for at_s, count in changes if count > 1) >= 0, changes
    changes = await play(bench, 2)
    raised_s, count = changes[0]
    assert -90 <= raised_s <= -48
    assert count >= 6
    assert max(size for _, size in changes) == count
    assert changes[-1][1] == 1
    assert bench.condition("ForecastReady")["reason"] == "Learned"
    assert bench.stage()["forecast"]["learned"] is True


async def test_what_was_learned_survives_a_restart(bench: OperatorBench) -> None:
    for day in range(2):
        await play(bench, day)
    remembered = loads(bench.api.objects[MAP]["data"]["pnl.json"])
    assert [one.close_s for one in remembered.sessions] == [close_of(0), close_of(1)]
    bench.restart()
    changes = await play(bench, 2)
    assert changes[0][0] < -45, changes


async def test_a_session_is_written_once_and_quiet_days_are_not(bench: OperatorBench) -> None:
    """Without traffic nothing is written."""
    await play(bench, 0, burst=0.0, until_s=0.0)
    bench.now_s = close_of(0) + 40_000
    before = len([one for one in bench.api.writes if one[2] == MAP[1]])
    for _ in range(500):
        await bench.step(15)
    assert len([one for one in bench.api.writes if one[2] == MAP[1]]) - before <= 1


@pytest.mark.slow
async def test_the_last_day_can_be_played_again(bench: OperatorBench, tmp_path: Path) -> None:
    """`eod forecast trace` joins it with the sessions before it, `eod simulate --trace` plays it."""
    for day in range(3):
        await play(bench, day)
    config_map = tmp_path / "map.json"
    config_map.write_text(json.dumps({**bench.api.objects[MAP], "kind": "ConfigMap"}))
    file = tmp_path / "day.json"
    fetched = CliRunner().invoke(app, ["trace", str(config_map), "--stage", "pnl", "-o", str(file)])
    assert fetched.exit_code == 0, fetched.output
    recording = read(file)
    assert [one.close.timestamp() for one in recording.history] == [close_of(0), close_of(1)]
    assert (recording.close.timestamp(), recording.max) == (close_of(2), 12)
    (ours,) = run(world(recording, "day", (1,)), OURS)
    assert ours.max_age_s < 60


async def test_switched_off_it_learns_and_does_not_size(bench: OperatorBench) -> None:
    bench.change(scaling={"forecast": "Off"})
    for day in range(2):
        await play(bench, day)
    changes = await play(bench, 2)
    assert next(at_s for at_s, count in changes if count > 1) >= 0, changes
    assert len(loads(bench.api.objects[MAP]["data"]["pnl.json"]).sessions) == 3


async def test_a_map_that_cannot_be_read_is_begun_anew_with_a_sentence(bench: OperatorBench) -> None:
    await play(bench, 0)
    bench.api.objects[MAP]["data"]["pnl.json"] = "{not json"
    bench.restart()
    await play(bench, 1)
    assert len(loads(bench.api.objects[MAP]["data"]["pnl.json"]).sessions) == 1


@pytest.mark.slow
async def test_a_forecast_that_was_wrong_is_dropped_and_told(bench: OperatorBench) -> None:
    """Five bursts of a hundredth: the profile's peak did not come."""
    for day in range(2):
        await play(bench, day)
    for day in range(2, 7):
        await play(bench, day, burst=0.0)
    changes = await play(bench, 7, burst=0.0)
    assert [count for _, count in changes if count > 1] == [], changes


def test_measured_starts_replace_what_the_spec_says_once_there_are_enough() -> None:
    learning = Learning()
    for number in range(LEAST_STARTS):
        assert learning.start_s is None
        learning.scaled(1_000.0 * number, 6)
        learning.serving(1_000.0 * number + 10, 5)
        learning.serving(1_000.0 * number + 20 + number, 6)
    assert learning.start_s == pytest.approx(21.9)
    assert loads(learning.text(ServiceRate())).starts_s == (20.0, 21.0, 22.0)


def test_a_start_that_was_prevented_teaches_nothing() -> None:
    learning = Learning()
    for _ in range(LEAST_STARTS):
        learning.scaled(0.0, 6)
        learning.serving(LONGEST_START_S + 1, 6)
    assert learning.start_s is None


def test_a_learned_service_rate_is_remembered() -> None:
    text = Learning().text(ServiceRate(per_s=123.0, observations=3))
    assert Learning(text).restored_per_s == pytest.approx(123.0, rel=1e-3)
    assert Learning(Learning().text(ServiceRate(per_s=123.0, observations=2))).restored_per_s is None
