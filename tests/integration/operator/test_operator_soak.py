"""Half a minute (EOD_SOAK_S) of an API server at its worst: what is right in the end is what would have been without."""

from __future__ import annotations

import json
import os
import random
import time

import pytest
from support.api_proxy import ApiProxy, Faults
from support.operator_world import Manifest, OperatorWorld
from support.patience import eventually

SOAK_S = float(os.environ.get("EOD_SOAK_S", "30"))
PATIENCE_S = 60.0
"""More of it, until enough kinds of faults have come up: chance deals them out."""

KINDS = 5
WORST = Faults(
    conflict=0.05,
    gone=0.05,
    throttled=0.05,
    broken=0.1,
    timeout=0.02,
    timeout_s=3,
    dropped_watch=0.05,
    silent_watch=0.02,
    silent_for_s=10,
    latency_s=(0.0, 0.3),
)
NAMES = ("one", "two", "three")


def pipeline(world: OperatorWorld, name: str, topic: str, image: str) -> Manifest:
    stage = world.stage(topic, group=f"{world.namespace}-{name}")
    return world.pipeline(stage, name=name, image=image)


def images(world: OperatorWorld) -> set[str]:
    found = json.loads(world.kubectl("get", "deploy", "-o", "json"))["items"]
    return {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in found}


def kinds(proxy: ApiProxy) -> set[str]:
    """The kinds of faults that have come up so far."""
    return {one.fault for one in proxy.requests() if one.fault}


def few(proxy: ApiProxy) -> bool:
    """Whether they are too few to prove anything."""
    return len(kinds(proxy)) < KINDS


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + PATIENCE_S + 180)
def test_an_api_server_at_its_worst_changes_nothing_in_the_end(world: OperatorWorld, unique: str) -> None:
    """Conflicts, expired versions, throttling, errors before and after the deed, time-outs, cut and silent watches."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    topics = {name: world.topic(name) for name in NAMES}
    lag = dict.fromkeys(NAMES, 0)
    for name in NAMES:
        world.commit(topics[name], f"{world.namespace}-{name}", at="end")
    with ApiProxy(world.kubernetes, faults=WORST, seed=seed) as proxy:
        through = proxy.kubeconfig(world.kubeconfig, world.log.parent / unique)
        operator = world.start_operator(kubeconfig=through)
        image = "eod:0"
        deadline_s = time.monotonic() + SOAK_S
        while time.monotonic() < deadline_s or (few(proxy) and time.monotonic() < deadline_s + PATIENCE_S):
            name = chance.choice(NAMES)
            match chance.choice(("apply", "more", "more", "none", "drift", "delete")):
                case "apply":
                    image = f"eod:{chance.randrange(100)}"
                    for one in NAMES:
                        world.apply(pipeline(world, one, topics[one], image))
                case "more":
                    more = chance.randrange(1, 40)
                    world.produce(topics[name], more)
                    lag[name] += more
                case "none":
                    world.commit(topics[name], f"{world.namespace}-{name}", at="end")
                    lag[name] = 0
                case "drift":
                    world.kubectl("scale", "deployment", f"{name}-pnl", "--replicas=7", "--current-replicas=1") if (
                        f"{name}-pnl" in world.names("deployments") and world.replicas(f"{name}-pnl") == 1
                    ) else None
                case "delete":
                    world.kubectl("delete", "deployment", f"{name}-pnl", "--ignore-not-found")
            time.sleep(chance.uniform(0.1, 1.0))
        for one in NAMES:
            world.apply(pipeline(world, one, topics[one], "eod:last"))
        faults = kinds(proxy)
        proxy.faults = Faults()
        wanted = {name: _needed(records) for name, records in lag.items()}
        eventually(lambda: {name: world.replicas(f"{name}-pnl") for name in NAMES} == wanted, within_s=90)
        eventually(lambda: images(world) == {"eod:last"})
        for name in NAMES:
            eventually(lambda name=name: world.condition("ObjectsApplied", name).get("status") == "True")
            eventually(lambda name=name: world.condition("ClusterInView", name).get("status") == "True", within_s=60)
        assert operator.alive
        assert len(faults) >= KINDS, f"too few kinds of faults came up to prove anything: {faults}"


def _needed(records: int) -> int:
    """Replicas for a lag at 10 records each, on 12 partitions: see `scaling.partitions.align`."""
    wanted = min(12, max(1, -(-records // 10)))
    return next(count for count in (1, 2, 3, 4, 6, 12) if count >= wanted)
