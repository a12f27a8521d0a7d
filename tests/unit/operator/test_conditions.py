"""What the status says, and when it says it anew."""

from __future__ import annotations

import pytest
from eod_operator import conditions
from eod_operator.api import Condition, Phase, StageStatus
from eod_operator.api.spec import Mode
from eod_operator.conditions import Answer, Problem

WELL = [Answer(kind, "True", "Well", "all is well") for kind in ("SpecValid", "ObjectsApplied", "KafkaReachable")]
BAD = Answer("KafkaReachable", "False", "KafkaUnreachable", "nobody answers")


def stage(name: str = "pnl", *, ready: int = 1, desired: int = 1) -> StageStatus:
    return StageStatus(name=name, current=desired, desired=desired, ready=ready, reason="")


def condition(status: str = "True", reason: str = "Well", since: str = "2026-01-01T00:00:00Z") -> Condition:
    return Condition.model_validate(
        {
            "type": "KafkaReachable",
            "status": status,
            "reason": reason,
            "message": "",
            "lastTransitionTime": since,
            "observedGeneration": 1,
        }
    )


def test_transition_time_stays_while_the_status_does() -> None:
    """A new reason or message is no transition."""
    (after,) = conditions.transition([BAD], [condition("False", "Other")], generation=2, now="now")
    assert (after.last_transition_time, after.reason, after.observed_generation) == (
        "2026-01-01T00:00:00Z",
        "KafkaUnreachable",
        2,
    )


@pytest.mark.parametrize("previous", [[], [condition("True")], [condition("Unknown")]])
def test_transition_time_moves_with_the_status(previous: list[Condition]) -> None:
    (after,) = conditions.transition([BAD], previous, generation=1, now="now")
    assert after.last_transition_time == "now"


@pytest.mark.parametrize(
    ("previous", "told"),
    [
        ([], ["KafkaUnreachable"]),
        ([condition("True")], ["KafkaUnreachable"]),
        ([condition("False", "KafkaUnreachable")], []),
        ([condition("False", "Other")], ["KafkaUnreachable"]),
    ],
)
def test_a_trouble_is_told_once(previous: list[Condition], told: list[str]) -> None:
    now = conditions.transition([BAD], previous, generation=1, now="now")
    assert told == [one.reason for one in conditions.worsened(now, previous)]


def test_ready_repeats_the_first_trouble() -> None:
    ready = conditions.ready([*WELL[:2], BAD], [stage(ready=0)])
    assert (ready.status, ready.reason, ready.message) == ("False", "KafkaUnreachable", "nobody answers")


def test_ready_names_the_stages_that_lack_replicas() -> None:
    ready = conditions.ready(WELL, [stage("in"), stage("pnl", ready=2, desired=6)])
    assert (ready.reason, ready.message) == ("StagesNotReady", "ready replicas are missing: pnl 2/6")


def test_ready_when_all_is_well() -> None:
    assert conditions.ready(WELL, [stage()]).status == "True"


def test_degraded_names_the_gravest_first_and_tells_all() -> None:
    other = Answer("SpecValid", "False", "InvalidAnnotation", "a typo")
    told = conditions.degraded([BAD, other])
    assert (told.status, told.reason, told.message) == ("True", "InvalidAnnotation", "a typo; nobody answers")
    assert conditions.degraded(WELL).status == "False"


def test_several_problems_are_all_told() -> None:
    told = conditions.answer("X", [Problem("A", "one"), Problem("B", "two")], Problem("C", "well"))
    assert (told.reason, told.message) == ("A", "one; two")


@pytest.mark.parametrize(
    ("mode", "answers", "ready", "bursting", "expected"),
    [
        ("Auto", WELL, 1, False, "Running"),
        ("Auto", WELL, 0, False, "Pending"),
        ("Auto", WELL, 0, True, "Bursting"),
        ("Auto", [BAD], 1, True, "Degraded"),
        ("Preview", [BAD], 1, True, "Preview"),
        ("Paused", WELL, 1, False, "Paused"),
    ],
)
def test_phase(mode: Mode, answers: list[Answer], ready: int, *, bursting: bool, expected: Phase) -> None:
    assert expected == conditions.phase(mode, answers, [stage(ready=ready)], bursting=bursting)


def test_total_of_unknown_lags_is_unknown() -> None:
    assert conditions.total([None, None]) is None
    assert conditions.total([None, 3, 0]) == 3


def test_unreadable_stored_status_counts_as_none() -> None:
    assert conditions.read(conditions.pack({"phase": "Dancing"})) is None
    assert conditions.read(conditions.pack(None)) is None
