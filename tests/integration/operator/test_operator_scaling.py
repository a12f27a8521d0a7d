"""Replicas that follow the lag and the calendar, on a real Kafka and a real API server."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest
from support.operator_world import OperatorWorld
from support.patience import eventually, steadily


def test_lag_raises_and_its_end_lowers(operated: OperatorWorld, topic: str) -> None:
    """35 records at 10 a replica need 4; a caught-up group needs 1 again, after the stabilization window."""
    group = f"{operated.namespace}-pnl"
    operated.commit(topic, group, at="end")
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.condition("LagKnown").get("status") == "True")
    assert operated.replicas() == 1

    operated.produce(topic, 35)
    eventually(lambda: operated.replicas() == 4)
    eventually(lambda: operated.status().get("lag") == 35)
    (stage,) = operated.status()["stages"]
    assert (stage["current"], stage["desired"], stage["lag"]) == (4, 4, 35)
    assert stage["reason"] == "4 replicas (lag): lag 35 at 10 a replica calls for 4"
    eventually(lambda: any("pnl scaled from 1 to 4 replicas (lag)" in one for one in operated.events("Scaled")))

    operated.commit(topic, group, at="end")
    eventually(lambda: operated.replicas() == 1)
    eventually(lambda: any("pnl scaled from 4 to 1 replica" in one for one in operated.events("Scaled")))
    steadily(lambda: operated.replicas() == 1)


def test_never_more_replicas_than_partitions(operated: OperatorWorld) -> None:
    """Three partitions take three replicas, however long the lag; the reason says what capped it."""
    topic = operated.topic("narrow", partitions=3)
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.produce(topic, 300)
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 3)
    eventually(lambda: "calls for 30, 3 to share 3 partitions" in operated.status()["stages"][0]["reason"])
    steadily(lambda: operated.replicas() == 3)


def test_max_caps_the_lag(operated: OperatorWorld, topic: str) -> None:
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.produce(topic, 300)
    operated.apply(operated.pipeline(operated.stage(topic, replicas={"min": 1, "max": 5})))
    eventually(lambda: operated.replicas() == 5)
    eventually(lambda: operated.status()["stages"][0]["reason"].endswith("capped by max 5"))


def test_a_close_is_prescaled_before_it_and_over_after_it(operated: OperatorWorld, topic: str) -> None:
    """With a lead of 15 s the burst replicas are there before the close, and gone when the window is over."""
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    close = datetime.now(tz=UTC) + timedelta(seconds=30)
    calendar = {
        "sessions": [{"open": "2020-01-01T00:00:00Z", "close": close.isoformat()}],
        "burst": {"leadSeconds": 15, "durationSeconds": 3},
    }
    stage = operated.stage(topic, replicas={"min": 1, "max": 12, "burst": 6})
    ingestion = {"name": "in", "kind": "ingestion", "topics": [topic], "replicas": {"min": 1, "max": 2, "burst": 2}}
    operated.apply(operated.pipeline(stage, ingestion, calendar=calendar))

    eventually(lambda: operated.replicas() == 1)
    eventually(lambda: "nextClose" in operated.status())
    eventually(lambda: operated.replicas() == 6)
    assert datetime.now(tz=UTC) < close
    eventually(lambda: operated.replicas("close-in") == 2)
    eventually(lambda: operated.status()["phase"] == "Bursting")

    eventually(lambda: operated.replicas() == 1)
    eventually(lambda: operated.replicas("close-in") == 1)
    assert datetime.now(tz=UTC) >= close + timedelta(seconds=3)
    eventually(lambda: "nextClose" not in operated.status())


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_changes_no_replica_count(world: OperatorWorld, topic: str, how: signal.Signals) -> None:
    """What runs is held for a stabilization window; no second Event, no write to the Deployment."""
    group = f"{world.namespace}-pnl"
    world.commit(topic, group, at="end")
    world.produce(topic, 60)
    operator = world.start_operator()
    world.apply(world.pipeline(world.stage(topic), scaling={"scaleDownStabilizationSeconds": 600}))
    eventually(lambda: world.replicas() == 6)
    eventually(lambda: world.status().get("replicas") == 6)
    eventually(lambda: world.events("Scaled"))
    before = world.events("Scaled")
    generation = world.get("deployment", "close-pnl")["metadata"]["generation"]

    code = world.stop_operator(operator, how)
    # a killed one leaves a lease behind, which the next one waits for
    assert code == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    world.commit(topic, group, at="end")
    world.start_operator()
    eventually(lambda: world.status().get("lag") == 0)
    steadily(lambda: world.replicas() == 6)
    assert world.get("deployment", "close-pnl")["metadata"]["generation"] == generation
    assert world.events("Scaled") == before
