"""A recorded day is replayed, and what was done then is a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eod_operator.scaling.sessions import BINS
from eod_operator.simulate import trace
from eod_operator.simulate.scenario import ScenarioError
from unit.simulate.worlds import only

RECORDED: dict[str, Any] = {
    "version": 1,
    "close": "2026-11-24T21:00:00Z",
    "edges": [-900, -60, 0, 60, 900],
    "arrivalPerSecond": [50, None, 350, 40],
    "shares": [1, 3],
    "servicePerSecond": 120,
    "startSeconds": 30,
    "pauseSeconds": 3,
    "min": 1,
    "max": 4,
    "replicas": [[-900, 1], [-120, 3], [600, 1]],
}


def file(tmp_path: Path, **changes: Any) -> Path:
    made = tmp_path / "recorded.json"
    made.write_text(json.dumps(RECORDED | changes))
    return made


def test_what_arrived_arrives_again_and_gaps_are_filled_from_their_neighbours(tmp_path: Path) -> None:
    world = trace.world(trace.read(file(tmp_path)), "recorded", (1, 2))
    since = world.times_s - 1_795_554_000
    rate = np.diff(world.arrived[:, 0].sum(axis=1)) / np.diff(world.times_s)
    assert rate[(since[:-1] >= -900) & (since[:-1] < -60)] == pytest.approx(50)
    assert rate[(since[:-1] >= 0) & (since[:-1] < 60)] == pytest.approx(350)
    # Between the middles of the bins beside it, at -480 and 30.
    assert rate[(since[:-1] >= -60) & (since[:-1] < 0)] == pytest.approx(50 + (-30 + 480) / (30 + 480) * 300)
    assert (world.arrived[-1, 0, 1] / world.arrived[-1, 0, 0]) == pytest.approx(3)
    setting = world.settings[0]
    assert (setting.service_per_s, setting.start_s, setting.pause_s, setting.closes_s) == (120, 30, 3, (1_795_554_000,))


def test_what_was_asked_for_is_asked_for_again(tmp_path: Path) -> None:
    recording = trace.read(file(tmp_path))
    day, _ = only(trace.world(recording, "recorded", (1,)), trace.Recorded.of(recording))
    since = day.times_s[:-1] - 1_795_554_000
    assert set(day.asked[since < -120]) == {1}
    assert set(day.asked[(since >= -120) & (since < 600)]) == {3}
    assert set(day.asked[since >= 600]) == {1}
    assert day.policy == "recorded"


def test_history_may_come_along(tmp_path: Path) -> None:
    past = {"close": "2026-11-23T21:00:00Z", "arrivalPerSecond": [1.5] * BINS, "event": "odd"}
    (session,) = trace.world(trace.read(file(tmp_path, history=[past])), "x", (1,)).settings[0].history
    assert (session.close_s, session.rates_per_s[0], session.event) == (1_795_554_000 - 86_400, 1.5, "odd")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 2}, "version: input should be 1"),
        ({"close": "2026-11-24T21:00:00"}, "close: input should have timezone info"),
        ({"edges": [0, 1]}, "arrivalPerSecond has 4 bins and edges 2 times: there must be one time more than bins"),
        ({"edges": [0, 1, 1, 2, 3]}, "edges must rise"),
        ({"arrivalPerSecond": [None] * 4}, "is null throughout"),
        ({"arrivalPerSecond": [1, -1, 0, 0]}, "arrivalPerSecond.1: input should be greater than or equal to 0"),
        ({"shares": [0, 0]}, "shares are all 0"),
        ({"min": 5}, "min is 5 and max 4"),
        ({"replicas": []}, "replicas: tuple should have at least 1 item"),
        ({"colour": 1}, "colour: there is no such field"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ScenarioError) as error:
        trace.read(file(tmp_path, **changes))
    assert sentence in str(error.value)
    assert "recorded.json: " in str(error.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        trace.read(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ScenarioError, match=r"broken.json: Invalid JSON"):
        trace.read(broken)
