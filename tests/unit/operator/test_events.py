"""What becomes of Events that are posted once, often, too often, and to an API server that will not have them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from eod_operator.kube.api import MERGE, Api, ClusterError, Manifest
from eod_operator.kube.events import Recorder
from eod_operator.resources import Owner
from support.virtual_time import now, virtually

OWNER = Owner("trading", "close", "uid-1")
WALL_S = 1_780_000_000.25 - 1_000
"""So that the first moment of the virtual time is 2026-05-28T20:26:40Z."""


class Cluster(Api):
    """Events by namespace and name; errors come first, one a call."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Manifest] = {}
        self.errors: list[ClusterError | None] = []
        self.calls: list[str] = []
        self.hangs = False
        self.before: Callable[[], None] = lambda: None

    async def call(
        self,
        verb: str,
        kind: str,
        namespace: str | None,
        name: str = "",
        *,
        body: Manifest | None = None,
        content_type: str = "",
        **_more: Any,
    ) -> Manifest:
        assert kind == "Event"
        self.calls.append(verb)
        self.before()
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        if self.errors and (error := self.errors.pop(0)):
            raise error
        key = (namespace, name or body["metadata"]["name"])
        if verb == "create":
            if key in self.stored:
                raise ClusterError(409, "exists")
            self.stored[key] = copy.deepcopy(body)
        elif key not in self.stored:
            raise ClusterError(404, "not found")
        elif verb == "patch":
            assert content_type == MERGE
            self.stored[key] |= body
        return copy.deepcopy(self.stored[key])

    @property
    def only(self) -> Manifest:
        """The one Event that there is."""
        (event,) = self.stored.values()
        return event

    @property
    def messages(self) -> list[str]:
        return [event["message"] for event in self.stored.values()]


class Running:
    """A recorder that runs until the end of the block."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def __aenter__(self) -> Recorder:
        self.task = asyncio.create_task(self.recorder.run())
        await asyncio.sleep(0.01)
        return self.recorder

    async def __aexit__(self, *_error: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert self.task.cancelled()


def a_recorder(api: Api, **settings: Any) -> Recorder:
    """With the virtual wall clock."""
    return Recorder(api, **{"instance": "eod-operator-0", "wall": lambda: WALL_S + now()} | settings)


def in_virtual_time(test: Callable[[Cluster], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time, with a cluster of its own."""

    def run() -> None:
        virtually(test(Cluster()))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# --- once and often -----------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_event_says_who_what_and_when(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        recorder.post(OWNER, "Warning", "KafkaUnreachable", "Kafka gave no answer")
        await asyncio.sleep(0.01)
        assert cluster.only == {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "close.f14f506253e6f956", "namespace": "trading"},
            "involvedObject": {
                "apiVersion": "eod.markets/v1alpha1",
                "kind": "EodPipeline",
                "namespace": "trading",
                "name": "close",
                "uid": "uid-1",
            },
            "type": "Warning",
            "reason": "KafkaUnreachable",
            "message": "Kafka gave no answer",
            "count": 1,
            "firstTimestamp": "2026-05-28T20:26:40Z",
            "lastTimestamp": "2026-05-28T20:26:40Z",
            "source": {"component": "eod-operator"},
            "reportingComponent": "eod-operator",
            "reportingInstance": "eod-operator-0",
        }
    assert recorder.dropped == 0


@in_virtual_time
async def test_a_repeat_is_a_count(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for _ in range(3):
            recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
            await asyncio.sleep(100)
    assert cluster.calls == ["create", "patch", "patch"]
    assert cluster.only["count"] == 3
    assert cluster.only["firstTimestamp"] == "2026-05-28T20:26:40Z"
    assert cluster.only["lastTimestamp"] == "2026-05-28T20:30:00Z"


@in_virtual_time
async def test_what_is_said_at_once_is_summed_from_the_start(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for times in (3, 2):
            for _ in range(times):
                recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
            await asyncio.sleep(100)
    assert cluster.calls == ["create", "patch"]
    assert cluster.only["count"] == 5


@in_virtual_time
async def test_a_flapping_condition_is_one_write_a_minute(cluster: Cluster) -> None:
    """And nothing of it is lost: what is not yet written is written at the end."""
    async with Running(a_recorder(cluster)) as recorder:
        for second in range(590):
            recorder.post(OWNER, "Warning", "Degraded", "it flaps")
            await asyncio.sleep(1)
            assert len(cluster.calls) <= 1 + second // 60 + 1
    assert (cluster.only["count"], cluster.only["lastTimestamp"]) == (590, "2026-05-28T20:36:29Z")
    assert len(cluster.calls) == 11


@in_virtual_time
async def test_a_held_back_repeat_delays_no_other(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for _ in range(2):
            recorder.post(OWNER, "Normal", "Scaled", "first")
            await asyncio.sleep(1)
        recorder.post(OWNER, "Normal", "Scaled", "second")
        await asyncio.sleep(0.01)
        assert cluster.messages == ["first", "second"]
        assert [event["count"] for event in cluster.stored.values()] == [1, 1]


@in_virtual_time
async def test_each_held_back_repeat_has_a_minute_of_its_own(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for message in ("first", "second"):
            recorder.post(OWNER, "Normal", "Scaled", message)
            await asyncio.sleep(20)
        for message in ("second", "first"):
            recorder.post(OWNER, "Normal", "Scaled", message)
        await asyncio.sleep(21)
        assert [event["count"] for event in cluster.stored.values()] == [2, 1]
        await asyncio.sleep(20)
        assert [event["count"] for event in cluster.stored.values()] == [2, 2]


@pytest.mark.parametrize(
    ("owner", "kind", "reason", "message"),
    [
        (Owner("trading", "close", "uid-2"), "Normal", "Scaled", "1 to 2"),
        (OWNER, "Warning", "Scaled", "1 to 2"),
        (OWNER, "Normal", "ScaledUp", "1 to 2"),
        (OWNER, "Normal", "Scaled", "1 to 3"),
    ],
)
def test_what_differs_in_anything_is_another_event(owner: Owner, kind: Any, reason: str, message: str) -> None:
    """A pipeline that was deleted and made anew too: its Events are not those of the former one."""

    async def test(cluster: Cluster) -> None:
        async with Running(a_recorder(cluster)) as recorder:
            recorder.post(OWNER, "Normal", "Scaled", "1 to 2")
            recorder.post(owner, kind, reason, message)
        assert [event["count"] for event in cluster.stored.values()] == [1, 1]

    in_virtual_time(test)()


@in_virtual_time
async def test_a_restarted_operator_counts_on(cluster: Cluster) -> None:
    for _ in range(2):
        async with Running(a_recorder(cluster)) as recorder:
            recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
    assert cluster.calls == ["create", "create", "get", "patch"]
    assert cluster.only["count"] == 2


@in_virtual_time
async def test_an_expired_event_is_made_anew(cluster: Cluster) -> None:
    """The API server forgets Events after an hour; the count starts again, as it does for everybody's Events."""
    async with Running(a_recorder(cluster)) as recorder:
        recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
        await asyncio.sleep(5_000)
        cluster.stored.clear()
        recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
    assert cluster.calls == ["create", "patch", "create"]
    assert (cluster.only["count"], cluster.only["firstTimestamp"]) == (1, "2026-05-28T21:50:00Z")


@in_virtual_time
async def test_one_that_expires_while_it_is_counted_is_made_anew(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        cluster.errors = [ClusterError(409, "exists"), ClusterError(404, "gone again")]
        recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
    assert cluster.calls == ["create", "get", "create"]
    assert cluster.only["count"] == 1


@in_virtual_time
async def test_one_that_comes_and_goes_is_given_up(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        cluster.errors = [ClusterError(409, "exists"), ClusterError(404, "gone again")] * 3
        recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
        await asyncio.sleep(1)
        assert cluster.calls == ["create", "get"] * 3
        assert recorder.dropped == 1


@in_virtual_time
async def test_what_it_no_longer_remembers_it_asks(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster, remember=1)) as recorder:
        for message in ("first", "second", "first"):
            recorder.post(OWNER, "Normal", "Scaled", message)
            await asyncio.sleep(100)
    assert cluster.calls == ["create", "create", "create", "get", "patch"]
    assert [event["count"] for event in cluster.stored.values()] == [2, 1]


@in_virtual_time
async def test_a_long_message_is_cut(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        recorder.post(OWNER, "Normal", "Fits", "x" * 1024)
        recorder.post(OWNER, "Normal", "Cut", "x" * 1025)
    assert cluster.messages == ["x" * 1024, "x" * 1023 + "…"]


# --- too much and too late ----------------------------------------------------------------------------------


@in_virtual_time
async def test_of_a_full_queue_the_oldest_is_dropped(cluster: Cluster) -> None:
    """Every occurrence counts; and what is already in the queue takes no more room."""
    recorder = a_recorder(cluster, queue=2)
    for message in ("first", "first", "second", "third", "third"):
        recorder.post(OWNER, "Normal", "Scaled", message)
    assert recorder.dropped == 2
    async with Running(recorder):
        pass
    assert cluster.messages == ["second", "third"]
    assert [event["count"] for event in cluster.stored.values()] == [1, 2]


@in_virtual_time
async def test_what_is_queued_at_the_end_is_sent(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for number in range(100):
            recorder.post(OWNER, "Normal", "Scaled", str(number))
    assert len(cluster.stored) == 100
    assert recorder.dropped == 0


@in_virtual_time
async def test_what_is_under_way_at_the_end_is_counted_once(cluster: Cluster) -> None:
    """Cancelling must not cut a write off and then repeat it."""
    recorder = a_recorder(cluster)
    task = asyncio.create_task(recorder.run())
    recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
    cluster.before = task.cancel
    await asyncio.gather(task, return_exceptions=True)
    assert cluster.calls == ["create"]
    assert (cluster.only["count"], recorder.dropped) == (1, 0)


@in_virtual_time
async def test_the_end_is_bounded(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        cluster.hangs = True
        for message in ("under way", "queued", "queued"):
            recorder.post(OWNER, "Normal", "Scaled", message)
        await asyncio.sleep(1)
        began_s = now()
    assert now() - began_s == pytest.approx(2)
    assert recorder.dropped == 3


@in_virtual_time
async def test_an_idle_one_ends_at_once(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)):
        began_s = now()
    assert now() == pytest.approx(began_s)


@in_virtual_time
async def test_it_can_run_again(cluster: Cluster) -> None:
    recorder = a_recorder(cluster)
    for message in ("first", "second"):
        async with Running(recorder):
            recorder.post(OWNER, "Normal", "Scaled", message)
            await asyncio.sleep(1)
            assert cluster.messages[-1] == message


# --- trouble ------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_passing_failure_is_tried_again(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        cluster.errors = [ClusterError(0, "no answer"), ClusterError(429, "slow down"), ClusterError(503, "starting")]
        recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
        await asyncio.sleep(4)
        assert cluster.calls == ["create"] * 4
        assert (cluster.only["count"], recorder.dropped) == (1, 0)


@in_virtual_time
async def test_a_lasting_failure_is_counted_and_the_next_is_sent(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        cluster.errors = [ClusterError(0, "no answer")] * 4
        recorder.post(OWNER, "Normal", "Scaled", "first")
        recorder.post(OWNER, "Normal", "Scaled", "second")
        await asyncio.sleep(4)
        assert (cluster.messages, recorder.dropped) == (["second"], 1)


@in_virtual_time
async def test_a_refusal_is_final_and_is_not_provoked_again_within_a_minute(cluster: Cluster) -> None:
    """A namespace that is being deleted takes no new Events."""
    async with Running(a_recorder(cluster)) as recorder:
        cluster.errors = [ClusterError(403, "the namespace is being terminated")]
        for _ in range(30):
            recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
            await asyncio.sleep(1)
        assert cluster.calls == ["create"]
        await asyncio.sleep(60)
        assert cluster.calls == ["create", "create"]
        assert (cluster.only["count"], recorder.dropped) == (29, 1)


@in_virtual_time
async def test_a_failed_count_is_not_forgotten(cluster: Cluster) -> None:
    async with Running(a_recorder(cluster)) as recorder:
        for _ in range(3):
            recorder.post(OWNER, "Normal", "Scaled", "pnl: 1 to 6")
            await asyncio.sleep(70)
            cluster.errors = [ClusterError(500, "etcd")] * 4 if cluster.calls == ["create"] else []
    assert cluster.calls == ["create", *["patch"] * 5]
    assert (cluster.only["count"], recorder.dropped) == (2, 1)
