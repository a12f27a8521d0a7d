"""Scenarios are files that say what is wrong with them."""

from __future__ import annotations

from datetime import date, time
from itertools import islice
from pathlib import Path

import pytest
from eod_operator.simulate.scenario import ScenarioError, epoch_s, find, names, parse, sessions

HEAD = "name: mine\nabout: A day.\ndate: 2026-11-25\n"


@pytest.mark.parametrize("name", names())
def test_those_that_come_along_are_sound_and_named_like_their_files(name: str) -> None:
    assert find(name).name == name


def test_defaults_are_an_ordinary_day() -> None:
    made = parse(HEAD, "mine.yaml")
    assert made.close_s == epoch_s(date(2026, 11, 25), time(16)) == 1_795_640_400
    assert (made.until_s - made.open_s) / 3600 == 7.25
    assert made.at("11:07") - made.open_s == 97 * 60
    assert made.at("11:07:30") - made.at("11:07") == 30


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("colour: red\n", "mine.yaml: colour: there is no such field; take it out"),
        ("slo_s: -1\n", "mine.yaml: slo_s: input should be greater than 0"),
        ("close: '25:00'\n", "mine.yaml: close: '25:00' is not a time of day: write it as HH:MM or HH:MM:SS in quotes"),
        ("close: 960\n", "mine.yaml: close: input should be a valid string"),
        ("close: '09:00'\n", "close is 09:00: it must lie between open 09:30 and until 16:45"),
        ("until: '09:00'\n", "until is 09:00, which is not after open 09:30"),
        ("group: {min: 5, max: 3}\n", "mine.yaml: group: min is 5 and max 3: min must not be above max"),
        ("pods: {start_median_s: 60}\n", "start_p95_s is 45: it must not be below start_median_s"),
        ("traffic: {bursts: [{at: close}]}\n", "mine.yaml: traffic.bursts.0.peak: is missing; add it"),
        ("close: null\nevents: [{name: x, factor: 2}]\n", "events need a close"),
        ("close: null\ntraffic: {bursts: [{at: close, peak: 5}]}\n", 'write a time as "HH:MM"'),
        ("traffic: {base: {level: .nan}}\n", "traffic.base.level: input should be"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(more: str, sentence: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse(HEAD + more, "mine.yaml")
    assert sentence in str(error.value)


def test_all_wrong_fields_are_said_at_once() -> None:
    with pytest.raises(ScenarioError) as error:
        parse(HEAD + "slo_s: 0\nservice: {per_s: 0}\n", "mine.yaml")
    assert [line.split(":")[1].strip() for line in str(error.value).splitlines()] == ["slo_s", "service.per_s"]


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "", "a: [", "name: mine"])
def test_what_is_no_scenario_at_all(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"mine.yaml: "):
        parse(text, "mine.yaml")


def test_a_file_or_a_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"'normal' is not a scenario: give the path of a \.yaml file, or one of b"):
        find("normal")
    with pytest.raises(ScenarioError, match=r"none\.yaml: cannot be read: No such file"):
        find(str(tmp_path / "none.yaml"))
    file = tmp_path / "mine.yaml"
    file.write_text(HEAD)
    assert find(str(file)).name == "mine"


def test_sessions_leave_weekends_and_holidays_out_and_know_half_days() -> None:
    before = list(islice(sessions(date(2026, 11, 30), -1), 3))
    assert before == [(date(2026, 11, 27), time(13)), (date(2026, 11, 25), time(16)), (date(2026, 11, 24), time(16))]
    assert next(sessions(date(2026, 11, 25), 1)) == (date(2026, 11, 27), time(13))
