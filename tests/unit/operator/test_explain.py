"""What `eod explain` makes of a pipeline and its recorded decisions: the structure, and the text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from eod_operator.explain import NEVER_SEEN, explain
from eod_operator.telling import text
from support.operator_fakes import OperatorBench

Manifest = dict[str, Any]

CLOSE = "2026-11-27T13:00:00-05:00"
pytestmark = pytest.mark.filterwarnings(
    "ignore:Series.values returning:DeprecationWarning"
)  # see test_scaling_calendar


def at(when: str) -> float:
    return datetime.fromisoformat(when).timestamp()


NOON = at("2026-11-27T12:00:00-05:00")


@pytest.fixture
def pipeline(raw_spec: Manifest) -> Manifest:
    """A pipeline that no operator has seen."""
    return {"metadata": {"namespace": "trading", "name": "close", "uid": "u-1", "generation": 1}, "spec": raw_spec}


def entry(stage: str = "pnl", when: str = "2026-11-27T16:00:00Z", **more: Any) -> Manifest:
    """A decision as recorded."""
    return {
        "at": when,
        "stage": stage,
        "from": 1,
        "replicas": 2,
        "winner": "lag",
        "cappedBy": None,
        "outcome": "applied",
        "reason": "2 replicas (lag): so much",
        "terms": [
            {"name": "lag", "replicas": 2, "detail": "lag 2,000 at 1,000 a replica calls for 2"},
            {"name": "min", "replicas": 1, "detail": "the least it may have"},
        ],
        "signals": {"lag": 2000, "ageSeconds": 0.4, "partitions": 12},
        **more,
    }


def recorded(*entries: Manifest) -> dict[str, str]:
    return {"decisions.json": json.dumps(entries)}


def stage_status(name: str, current: int, **more: Any) -> Manifest:
    return {"name": name, "desired": current, "current": current, "ready": current, "reason": "because", **more}


def condition(kind: str, status: str, reason: str = "Reason", message: str = "a sentence") -> Manifest:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-27T15:00:00Z",
        "observedGeneration": 1,
    }


def status(*conditions: Manifest, pnl: int = 2) -> Manifest:
    stages = [stage_status("in", 1), stage_status("pnl", pnl, lag=2000, lagSeconds=1.5, arrivalPerSecond=310.0)]
    return {"observedGeneration": 1, "phase": "Running", "replicas": 3, "conditions": conditions, "stages": stages}


def told(pipeline: Manifest, decisions: dict[str, str] | None = None, now_s: float = NOON, **more: Any) -> Manifest:
    return explain(pipeline, decisions, now_s, **{"last": 5, **more})


def at_close(explanation: Manifest, stage: str = "pnl") -> tuple[int | None, int, bool, str | None]:
    one = next(one for one in explanation["close"]["stages"] if one["name"] == stage)
    return one["now"], one["atClose"], one["atLeast"], one["hindrance"]


# --- shape --------------------------------------------------------------------------------------------------


def test_the_json_has_the_documented_shape(pipeline: Manifest) -> None:
    """Keys in this order; docs/operator.md and the module describe them."""
    made = told(
        pipeline | {"status": status(condition("Ready", "True"), condition("KafkaReachable", "False"))},
        recorded(entry()),
    )
    assert list(made) == ["at", "pipeline", "orders", "notes", "close", "stages", "attention", "decisions"]
    assert list(made["pipeline"]) == ["namespace", "name", "phase", "mode", "ready", "generation", "observedGeneration"]
    assert list(made["close"]) == ["next", "local", "timezone", "prescaling", "burst", "problem", "stages", "last"]
    assert list(made["close"]["stages"][0]) == ["name", "now", "atClose", "atLeast", "reason", "hindrance"]
    assert list(made["stages"][0]) == [
        "name", "kind", "paused", "desired", "current", "ready", "lag", "lagSeconds", "arrivalPerSecond", "consumedPerSecond", "reason",
    ]  # fmt: skip
    assert list(made["attention"][0]) == ["type", "status", "reason", "message", "since"]
    assert made["decisions"] == [entry()]
    assert json.loads(json.dumps(made)) == made


async def test_what_the_operator_writes_can_be_explained(raw_spec: Manifest) -> None:
    """Status and ConfigMap of a real pass, not of this file's making."""
    bench = OperatorBench(raw_spec)
    bench.kafka.lag = (500,) * 12
    await bench.step()
    bench.set_ready()
    await bench.step()
    manifest = bench.body | {"status": bench.api.statuses[-1]}
    data = bench.api.objects["ConfigMap", "close.decisions"]["data"]
    made = explain(manifest, data, bench.now_s, last=2)
    assert made["notes"] == []
    assert made["pipeline"]["ready"]["status"] == "True"
    assert [(one["name"], one["current"], one["ready"]) for one in made["stages"]] == [("in", 1, 1), ("pnl", 6, 6)]
    assert {one["stage"]: one["winner"] for one in made["decisions"]} == {"in": "min", "pnl": "lag"}
    assert "trading/close  Running  mode Auto  ready" in text(made)


# --- the next close -----------------------------------------------------------------------------------------


def test_the_close_and_the_start_of_pre_scaling(pipeline: Manifest) -> None:
    close = told(pipeline)["close"]
    assert (close["next"], close["prescaling"], close["burst"]) == (
        "2026-11-27T18:00:00Z",
        "2026-11-27T17:55:00Z",
        None,
    )
    assert (close["local"], close["timezone"]) == (None, None)
    assert "next close 2026-11-27 18:00:00 UTC, in 1 h; pre-scaling begins 2026-11-27 17:55:00 UTC" in text(
        told(pipeline)
    )


def test_an_exchange_has_a_local_time(pipeline: Manifest) -> None:
    """The day after Thanksgiving ends at one, and is told so."""
    pipeline["spec"] |= {"calendar": {"exchange": "XNYS"}}
    made = told(pipeline)
    assert (made["close"]["local"], made["close"]["timezone"]) == ("2026-11-27T13:00:00-05:00", "America/New_York")
    assert "(2026-11-27 13:00 America/New_York)" in text(made)


@pytest.mark.parametrize(
    ("now", "burst", "words"),
    [
        ("2026-11-27T12:54:59-05:00", None, "pre-scaling begins 2026-11-27 17:55:00 UTC"),
        ("2026-11-27T12:55:00-05:00", "2026-11-27T18:15:00Z", "pre-scaling began 2026-11-27 17:55:00 UTC"),
        ("2026-11-27T13:14:00-05:00", "2026-11-27T18:15:00Z", "no close ahead"),
        ("2026-11-27T13:16:00-05:00", None, "no close ahead: nothing will be pre-scaled"),
    ],
)
def test_the_burst_around_a_close(pipeline: Manifest, now: str, burst: str | None, words: str) -> None:
    made = told(pipeline, now_s=at(now))
    assert (made["close"]["burst"] or {}).get("until") == burst
    assert words in text(made)
    assert (
        "during the burst of the close at 2026-11-27 18:00:00 UTC until 2026-11-27 18:15:00 UTC" in text(made)
    ) == bool(burst)


def test_an_unknown_exchange_is_a_problem_of_the_close_alone(pipeline: Manifest) -> None:
    pipeline["spec"] |= {"calendar": {"exchange": "XNYZ"}}
    made = told(pipeline)
    assert made["close"]["problem"].startswith("spec.calendar.exchange: 'XNYZ' is not an exchange")
    assert "next close unknown: spec.calendar.exchange" in text(made)
    assert [one["name"] for one in made["stages"]] == ["in", "pnl"]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("team", "desk", (8, 6, True, None)),  # what runs now may be lowered until then
        ("eod.markets/hold-scale-down", "true", (8, 8, True, None)),
        ("eod.markets/hold-scale-down", "2026-11-27T17:30:00Z", (8, 6, True, None)),  # it ends before the close
        ("eod.markets/freeze", "true", (8, 8, False, None)),
        ("eod.markets/freeze", "2026-11-27T17:30:00Z", (8, 6, True, None)),
        ("eod.markets/pin", "pnl=3", (8, 3, False, None)),
        ("eod.markets/pin", "pnl=3,in=many", (8, 3, False, None)),
    ],
)
def test_orders_count_at_the_close_while_they_last(
    pipeline: Manifest, annotation: str, value: str, expected: tuple[int, int, bool, str | None]
) -> None:
    pipeline["metadata"]["annotations"] = {annotation: value}
    assert at_close(told(pipeline | {"status": status(pnl=8)})) == expected


@pytest.mark.parametrize(
    ("partitions", "expected"), [(None, (2, 6, True, None)), (12, (2, 6, True, None)), (4, (2, 4, False, None))]
)
def test_the_partitions_that_were_last_seen_cap_it(
    pipeline: Manifest, partitions: int | None, expected: tuple[int, int, bool, str | None]
) -> None:
    log = recorded(entry(signals={"lag": 0, "ageSeconds": 1, "partitions": partitions}))
    assert at_close(told(pipeline | {"status": status()}, log)) == expected


def test_a_stage_without_lag_will_have_exactly_its_burst(pipeline: Manifest) -> None:
    assert at_close(told(pipeline | {"status": status()}), "in") == (1, 2, False, None)


@pytest.mark.parametrize(
    ("spec", "stage", "outcome", "hindrance"),
    [
        ({"mode": "Preview"}, {}, "applied", "spec.mode is Preview"),
        ({"mode": "Paused"}, {}, "applied", "spec.mode is Paused"),
        ({}, {"paused": True}, "applied", "the stage is paused"),
        ({}, {}, "not carried out: HorizontalPodAutoscaler x scales it", "HorizontalPodAutoscaler x scales it"),
        ({}, {}, "not carried out: spec.mode is Preview", None),  # of before
        ({}, {}, "failed: see the condition ObjectsApplied", None),
    ],
)
def test_what_will_not_be_carried_out_is_said(
    pipeline: Manifest, spec: Manifest, stage: Manifest, outcome: str, hindrance: str | None
) -> None:
    pipeline["spec"] |= spec
    pipeline["spec"]["stages"][1] |= stage
    made = told(pipeline | {"status": status()}, recorded(entry(outcome=outcome)))
    assert at_close(made) == (2, 6, True, hindrance)
    assert (f"not carried out, because {hindrance}" in text(made)) == (hindrance is not None)


# --- header, stages, attention ------------------------------------------------------------------------------


def test_a_pipeline_that_no_operator_has_seen(pipeline: Manifest) -> None:
    made = told(pipeline)
    assert made["notes"] == [NEVER_SEEN]
    assert at_close(made) == (None, 6, True, None)
    assert text(made).startswith(
        "trading/close  no phase yet  mode Auto  readiness unknown\nnote: no operator has looked"
    )
    assert "none recorded" in text(made)


@pytest.mark.parametrize(
    ("ready", "words"),
    [
        (condition("Ready", "True"), "Running  mode Auto  ready\n"),
        (condition("Ready", "False", "TopicMissing", "not found"), "not ready (TopicMissing): not found\n"),
    ],
)
def test_the_first_line_says_whether_it_is_ready_and_why_not(pipeline: Manifest, ready: Manifest, words: str) -> None:
    assert words in text(told(pipeline | {"status": status(ready)}))


@pytest.mark.parametrize(
    ("annotations", "sentences"),
    [
        ({}, []),
        ({"eod.markets/freeze": "true"}, ["frozen by the annotation eod.markets/freeze"]),
        ({"eod.markets/freeze": "2026-11-27T16:00:00Z"}, []),
        (
            {"eod.markets/hold-scale-down": "2026-11-27T18:30:00Z"},
            ["nothing is lowered: by the annotation eod.markets/hold-scale-down until 2026-11-27T18:30:00Z"],
        ),
        ({"eod.markets/pin": "pnl=3,in=1"}, ["in pinned to 1", "pnl pinned to 3"]),
        (
            {"eod.markets/pin": "pnl"},
            [
                "nothing is lowered: an annotation of the pipeline cannot be read, so nothing is lowered",
                "annotation eod.markets/pin has 'pnl': write a replica count, such as pnl=4",
            ],
        ),
    ],
)
def test_orders_are_in_the_first_line(pipeline: Manifest, annotations: dict[str, str], sentences: list[str]) -> None:
    pipeline["metadata"]["annotations"] = annotations
    made = told(pipeline)
    assert made["orders"] == sentences
    assert all(one in text(made).splitlines()[0] for one in sentences)


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        (condition("Ready", "False"), False),  # repeats another, and the first line has it
        (condition("Degraded", "True"), False),
        (condition("KafkaReachable", "True"), False),
        (condition("KafkaReachable", "False"), True),
        (condition("LagKnown", "Unknown"), True),
        (condition("ForecastReady", "False"), True),
        (condition("ScalingLimited", "False"), False),
        (condition("ScalingLimited", "True"), True),
        (condition("Paused", "True"), True),
        (condition("Progressing", "True"), True),
        (condition("Progressing", "False"), False),
    ],
)
def test_conditions_that_are_not_as_they_should_be(pipeline: Manifest, one: Manifest, *, shown: bool) -> None:
    made = told(pipeline | {"status": status(one)})
    assert bool(made["attention"]) == shown
    line = f"  {one['type']} Reason since 2026-11-27 15:00:00 UTC: a sentence"
    assert (line in text(made).splitlines()) == shown


def test_the_table_of_stages(pipeline: Manifest) -> None:
    lines = text(told(pipeline | {"status": status()})).splitlines()
    heads = next(number for number, line in enumerate(lines) if "DESIRED" in line)
    assert lines[heads].split() == [
        "STAGE",
        "DESIRED",
        "CURRENT",
        "READY",
        "LAG",
        "BEHIND",
        "ARRIVAL/S",
        "CONSUMED/S",
        "REASON",
    ]
    assert [line.split() for line in lines[heads + 1 : heads + 3]] == [
        ["in", "1", "1", "1", "-", "-", "-", "-", "because"],
        ["pnl", "2", "2", "2", "2,000", "1.5", "310", "-", "because"],
    ]


def test_a_status_of_an_older_spec_is_noted(pipeline: Manifest) -> None:
    pipeline["metadata"]["generation"] = 4
    (note,) = told(pipeline | {"status": status()})["notes"]
    assert note.startswith("the status is about generation 1 of the spec, which is at 4 by now")


def test_what_only_a_newer_crd_has_is_noted_and_the_rest_is_explained(pipeline: Manifest) -> None:
    pipeline["spec"]["shadow"] = {"enabled": True}
    made = told(pipeline | {"status": status()}, recorded(entry()))
    assert made["notes"] == ["the CRD is newer than this version, which leaves spec.shadow out of account"]
    assert made["close"]["next"] is not None


def test_a_spec_that_cannot_be_read_leaves_the_rest(pipeline: Manifest) -> None:
    """It was stored by another version of the CRD; annotations still count."""
    pipeline["spec"] = {"mode": "Preview", "stages": "what"}
    pipeline["metadata"]["annotations"] = {"eod.markets/pin": "pnl=3"}
    made = told(pipeline | {"status": status()}, recorded(entry()))
    assert made["notes"][0].startswith("the spec cannot be read by this version: spec.kafka: Field required")
    assert (made["pipeline"]["mode"], made["orders"], made["close"]["next"]) == ("Preview", ["pnl pinned to 3"], None)
    assert [one["name"] for one in made["stages"]] == ["in", "pnl"]
    assert "next close unknown: the spec cannot be read" in text(made)


def test_nothing_that_can_be_read_is_still_explained(pipeline: Manifest) -> None:
    pipeline |= {"spec": {}, "status": {"phase": "Dancing"}}
    made = told(pipeline, {"decisions.json": "{"})
    assert len(made["notes"]) == 2
    assert made["notes"][1].startswith("the status was written by another version")
    assert "none recorded" in text(made)


# --- decisions ----------------------------------------------------------------------------------------------

LOG = recorded(*(entry(stage, f"2026-11-27T16:0{minute}:00Z") for minute in range(5) for stage in ("in", "pnl")))


@pytest.mark.parametrize(
    ("last", "stage", "minutes"),
    [(5, None, [4, 4, 3, 3, 2]), (0, None, []), (99, "pnl", [4, 3, 2, 1, 0]), (2, "in", [4, 3]), (5, "nobody", [])],
)
def test_the_latest_decisions_come_first(pipeline: Manifest, last: int, stage: str | None, minutes: list[int]) -> None:
    made = told(pipeline, LOG, last=last, stage=stage)
    assert [int(one["at"][14:16]) for one in made["decisions"]] == minutes
    assert {one["stage"] for one in made["decisions"]} <= ({stage} if stage else {"in", "pnl"})


def test_a_decision_in_words(pipeline: Manifest) -> None:
    lines = text(told(pipeline, recorded(entry(cappedBy="max", outcome="applied")))).splitlines()
    begin = lines.index("last decisions") + 1
    assert lines[begin:] == [
        "  2026-11-27 16:00:00 UTC  pnl  1 → 2, capped by max  applied",
        "    * lag               2  lag 2,000 at 1,000 a replica calls for 2",
        "      min               1  the least it may have",
        "      signals: lag 2,000, 0.4 s old, 12 partitions",
    ]


def test_a_count_that_stayed_is_no_change(pipeline: Manifest) -> None:
    shown = text(told(pipeline, recorded(entry(**{"from": 2}, outcome="not carried out: the stage is paused"))))
    assert "pnl  stays 2  not carried out: the stage is paused" in shown


def test_a_decision_of_another_version_is_shown_as_far_as_it_goes(pipeline: Manifest) -> None:
    shown = text(told(pipeline, recorded({"stage": "pnl", "at": "yesterday", "terms": [{}], "more": 1})))
    assert "yesterday  pnl  stays ?" in shown
    assert "signals: lag unknown, partitions unknown" in shown


def test_brackets_and_colons_are_not_taken_for_markup(pipeline: Manifest) -> None:
    made = told(pipeline | {"status": status(condition("Paused", "True", message="spec.stages[].paused [red]:smile:"))})
    assert "spec.stages[].paused [red]:smile:" in text(made)


def test_a_stage_that_a_forecast_sizes_is_told_by_what_was_learned(pipeline: Manifest) -> None:
    """Not by replicas.burst, which no longer decides."""
    foreseen = {
        "at": "2026-11-27T17:58:57Z",
        "replicas": 4,
        "learned": True,
        "peakPerSecond": 510.0,
        "note": "it was right",
    }
    seen = status(condition("Ready", "True"))
    seen["stages"][1]["forecast"] = foreseen
    made = told(pipeline | {"status": seen})
    assert at_close(made) == (2, 4, True, None)
    (reason,) = [one["reason"] for one in made["close"]["stages"] if one["name"] == "pnl"]
    assert reason == ("4 replicas (forecast): asked for at 2026-11-27T17:58:57Z, for up to 510 records/s; it was right")
    assert at_close(told(pipeline | {"status": status(condition("Ready", "True"))}))[1] == 6
