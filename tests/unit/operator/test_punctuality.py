"""Whether each stage was ready for a close: what the status says, when Kafka is asked, what is told at the bell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from eod_operator.kafka.readings import Reading
from support.operator_fakes import Manifest, OperatorBench

CLOSE_S = datetime(2026, 11, 27, 18, tzinfo=UTC).timestamp()
AT = "2026-11-27T18:00:00Z"
BURST = {"leadSeconds": 600, "durationSeconds": 900}
QUIET = Reading(partitions=12, lag=(0,) * 12)


@pytest.fixture
def bench(raw_spec: Manifest) -> OperatorBench:
    """A quarter of an hour before the close, with a window that begins ten minutes before it."""
    raw_spec["calendar"]["burst"] = BURST
    made = OperatorBench(raw_spec)
    made.now_s = CLOSE_S - 900
    made.kafka.seen = QUIET
    return made


def close(bench: OperatorBench) -> Manifest:
    found: Manifest = bench.api.statuses[-1].get("lastClose", {})
    return found


def stage(bench: OperatorBench, name: str = "pnl") -> Manifest:
    return next(one for one in close(bench)["stages"] if one["name"] == name)


def told(bench: OperatorBench) -> list[tuple[str, str, str]]:
    return [event for event in bench.events if event[1].endswith("ForClose")]


async def at(bench: OperatorBench, seconds: float) -> None:
    """A pass so many seconds after the bell."""
    await bench.step(CLOSE_S + seconds - bench.now_s)


async def test_each_stage_has_its_replicas_and_then_its_partitions(bench: OperatorBench) -> None:
    await at(bench, -700)
    assert close(bench) == {}
    bench.set_ready()
    await at(bench, -600)
    assert close(bench) == {"at": AT, "stages": [{"name": "in", "replicas": 2}, {"name": "pnl", "replicas": 6}]}
    assert bench.replicas() == 6
    assert "readySeconds" not in stage(bench)
    assert bench.kafka.asked_about == [], "nobody is ready, so nobody has partitions"
    bench.set_ready()
    bench.kafka.holding = {"flash-pnl": 5}
    await at(bench, -590)
    assert (stage(bench)["readySeconds"], stage(bench).get("assignedSeconds")) == (-590, None)
    assert stage(bench, "in")["readySeconds"] == -590
    bench.kafka.holding = {"flash-pnl": 6}
    await at(bench, -575)
    assert (stage(bench)["readySeconds"], stage(bench)["assignedSeconds"]) == (-590, -575)
    assert bench.kafka.asked_about == [["flash-pnl"]] * 2
    await at(bench, -500)
    assert bench.kafka.asked_about == [["flash-pnl"]] * 2, "it is known"
    assert told(bench) == []
    await at(bench, 5)
    await at(bench, 20)
    (event,) = told(bench)
    assert event[:2] == ("Normal", "ReadyForClose")
    assert event[2] == (
        f"at the close of {AT}: in had its 2 replicas at work 590 s before; pnl had its 6 replicas at work 575 s before"
    )


async def test_who_is_late_is_named_and_the_time_goes_on(bench: OperatorBench) -> None:
    await at(bench, -600)
    await at(bench, 3)
    (event,) = told(bench)
    assert event[:2] == ("Warning", "LateForClose")
    assert "in lacked some of its 2 replicas; pnl lacked some of its 6 replicas. To mend it, " in event[2]
    bench.set_ready()
    bench.kafka.holding = {"flash-pnl": 6}
    await at(bench, 40)
    assert (stage(bench)["readySeconds"], stage(bench)["assignedSeconds"]) == (40, 40)
    assert len(told(bench)) == 1


async def test_replicas_without_partitions_are_late(bench: OperatorBench) -> None:
    await at(bench, -600)
    bench.set_ready()
    bench.kafka.holding = {"flash-pnl": 1}
    await at(bench, -10)
    await at(bench, 1)
    (event,) = told(bench)
    assert event[1] == "LateForClose"
    assert "pnl had its 6 replicas ready, and not all of them partitions; in had its 2" in event[2]


async def test_no_more_members_than_partitions_are_waited_for(bench: OperatorBench) -> None:
    bench.kafka.seen = Reading(partitions=4, lag=(0,) * 4)
    bench.kafka.holding = {"flash-pnl": 4}
    await at(bench, -600)
    bench.set_ready()
    await at(bench, -590)
    assert stage(bench)["assignedSeconds"] == -590


async def test_the_worst_lag_of_the_window_stays(bench: OperatorBench) -> None:
    bench.set_ready()
    await at(bench, -600)
    for seconds, lag_s in ((10, 2.0), (40, 7.5), (100, 0.0)):
        bench.kafka.seen = Reading(partitions=12, lag=(9,) * 12, ages_s=(lag_s,) * 12)
        await at(bench, seconds)
    assert stage(bench)["worstLagSeconds"] == 7.5
    await at(bench, 5_000)
    assert close(bench)["at"] == AT, "it stays until the next one"
    assert stage(bench)["worstLagSeconds"] == 7.5


async def test_an_operator_that_takes_over_goes_on_with_it(bench: OperatorBench) -> None:
    await at(bench, -600)
    bench.set_ready()
    bench.kafka.holding = {"flash-pnl": 6}
    await at(bench, -590)
    bench.restart()
    await at(bench, -100)
    assert (stage(bench)["readySeconds"], stage(bench)["assignedSeconds"]) == (-590, -590)


async def test_a_kafka_that_is_away_leaves_it_open(bench: OperatorBench) -> None:
    await at(bench, -600)
    bench.set_ready()
    bench.kafka.away = True
    await at(bench, -590)
    assert (stage(bench)["readySeconds"], stage(bench).get("assignedSeconds")) == (-590, None)
    bench.kafka.away = False
    bench.kafka.holding = {"flash-pnl": 6}
    await at(bench, -570)
    assert stage(bench)["assignedSeconds"] == -570
