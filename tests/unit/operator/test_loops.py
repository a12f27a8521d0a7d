"""When passes are made: on time, sooner for a reason, never two at once for one pipeline, and only while leading."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_operator import loops as loops_module
from eod_operator.cluster import NotLeadingError, OwnerGoneError
from eod_operator.handlers import pipeline_of
from eod_operator.kube.api import ClusterError
from eod_operator.loops import Loops
from eod_operator.passes import Pipeline
from support.virtual_time import now, virtually


def pipeline(raw_spec: dict[str, Any], name: str = "close", **meta: Any) -> Pipeline:
    body = {"metadata": {"namespace": "trading", "name": name, "uid": f"u-{name}", **meta}, "spec": raw_spec}
    return pipeline_of(body)


class Counting:
    """A reconciler that counts its passes; some fail, or take their time."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.errors: list[Exception] = []
        self.takes_s = 0.0
        self.more = False
        self.asked = 0
        self.closed = 0
        self.within = 0
        self.last = None

    async def reconcile(self, seen: Pipeline) -> None:
        self.within += 1
        assert self.within == 1
        self.passes.append(seen.generation)
        await asyncio.sleep(self.takes_s)
        self.within -= 1
        if self.errors:
            raise self.errors.pop(0)

    def wants_more(self, seen: Pipeline) -> bool:
        del seen
        self.asked += 1
        return self.more

    def close(self, seen: Pipeline) -> None:
        del seen
        self.closed += 1


@pytest.fixture
def made() -> list[Counting]:
    return []


def loops(made: list[Counting], interval_s: float = 60.0, **more: Any) -> Loops:
    def make() -> Any:
        made.append(Counting())
        return made[-1]

    return Loops(make, interval_s=interval_s, spread_s=0.0, **more)


async def until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within 5 s")


async def test_passes_are_made_on_time_whatever_happens_between(raw_spec: dict[str, Any], made: list[Counting]) -> None:
    """The server is away, something nobody foresaw, the lease is lost: the loop goes on."""
    ours = loops(made, 0.02)
    ours.seen(pipeline(raw_spec))
    made[0].errors = [ClusterError(0, "no answer"), ZeroDivisionError(), NotLeadingError()]
    ours.start()
    await until(lambda: len(made[0].passes) >= 6)
    ours.gone("u-close")
    settled = len(made[0].passes)
    await asyncio.sleep(0.1)
    assert len(made[0].passes) == settled
    assert made[0].closed == 1


async def test_a_pipeline_that_turns_out_to_be_gone_is_let_go(raw_spec: dict[str, Any], made: list[Counting]) -> None:
    """And one that comes under its name is another."""
    ours = loops(made, 0.02)
    ours.seen(pipeline(raw_spec))
    ours.seen(pipeline(raw_spec, "other"))
    made[0].errors = [OwnerGoneError("deleted")]
    ours.start()
    await until(lambda: len(ours) == 1 and len(made[1].passes) >= 5)
    assert (len(made[0].passes), made[0].closed) == (1, 1)
    ours.seen(pipeline(raw_spec, uid="u-anew"))
    await until(lambda: len(made[2].passes) >= 2)
    ours.stirred(("trading", "close"))
    assert len(made[0].passes) == 1
    await ours.stop()


async def test_a_broken_pipeline_delays_no_other(raw_spec: dict[str, Any], made: list[Counting]) -> None:
    ours = loops(made, 0.02)
    ours.seen(pipeline(raw_spec, "slow"))
    ours.seen(pipeline(raw_spec, "quick"))
    made[0].takes_s = 60
    ours.start()
    await until(lambda: len(made[1].passes) >= 10)
    assert len(made[0].passes) == 1
    await ours.stop()


async def test_a_changed_wish_hurries_and_a_changed_status_does_not(
    raw_spec: dict[str, Any], made: list[Counting]
) -> None:
    ours = loops(made)
    ours.start()
    ours.seen(pipeline(raw_spec, generation=1))
    await until(lambda: made[0].passes == [1])
    ours.seen(pipeline(raw_spec, generation=1, resourceVersion="7"))
    await asyncio.sleep(0.05)
    assert made[0].passes == [1]
    ours.seen(pipeline(raw_spec, generation=2))
    await until(lambda: made[0].passes == [1, 2])
    ours.seen(pipeline(raw_spec, generation=2, annotations={"eod.markets/freeze": "true", "other/x": "y"}))
    await until(lambda: made[0].passes == [1, 2, 2])
    ours.seen(pipeline(raw_spec, generation=2, annotations={"eod.markets/freeze": "true", "other/x": "z"}))
    await asyncio.sleep(0.05)
    assert made[0].passes == [1, 2, 2]
    await ours.stop()


async def test_changes_of_objects_are_gathered(
    raw_spec: dict[str, Any], made: list[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollout brings a dozen of them; one pass after they have settled sees them all."""
    monkeypatch.setattr(loops_module, "SETTLE_S", 0.1)
    ours = loops(made)
    ours.start()
    ours.seen(pipeline(raw_spec))
    await until(lambda: len(made[0].passes) == 1)
    for _ in range(10):
        ours.stirred(("trading", "close"))
        await asyncio.sleep(0.005)
    assert len(made[0].passes) == 1
    await until(lambda: len(made[0].passes) == 2)
    ours.stirred(("trading", "nobody's"))
    await asyncio.sleep(0.15)
    assert len(made[0].passes) == 2
    await ours.stop()


async def test_lag_calls_for_a_pass_only_if_it_calls_for_more(raw_spec: dict[str, Any], made: list[Counting]) -> None:
    ours = loops(made)
    ours.start()
    ours.seen(pipeline(raw_spec))
    await until(lambda: len(made[0].passes) == 1)
    ours.grown("u-close")
    await until(lambda: made[0].asked == 1)
    assert len(made[0].passes) == 1
    made[0].more = True
    ours.grown("u-close")
    await until(lambda: len(made[0].passes) == 2)
    await ours.stop()


def times_of(raw_spec: dict[str, Any], *, takes_s: float, hurry_every_s: float, for_s: float) -> list[float]:
    """When passes begin, in virtual time from the first one on."""
    begun: list[float] = []

    class Timed(Counting):
        async def reconcile(self, seen: Pipeline) -> None:
            del seen
            begun.append(now())
            await asyncio.sleep(takes_s)

    async def play() -> None:
        ours = Loops(Timed, interval_s=15.0, spread_s=0.0)  # type: ignore[arg-type] # the part that is used
        ours.seen(pipeline(raw_spec, generation=0))
        ours.start()
        for generation in range(1, int(for_s / hurry_every_s) + 1):
            await asyncio.sleep(hurry_every_s)
            ours.seen(pipeline(raw_spec, generation=generation))
        await ours.stop()

    virtually(play())
    return [round(at_s - begun[0], 3) for at_s in begun]


def test_early_passes_do_not_move_the_timed_ones(raw_spec: dict[str, Any]) -> None:
    """However often a pipeline is hurried, its timed passes come at their interval."""
    begun = times_of(raw_spec, takes_s=0.1, hurry_every_s=4, for_s=64)
    assert {at_s for at_s in begun if at_s <= 60} == {0, 15, 30, 45, *range(4, 61, 4)}


def test_a_pass_that_takes_longer_than_the_interval_is_followed_by_the_next(raw_spec: dict[str, Any]) -> None:
    assert times_of(raw_spec, takes_s=40, hurry_every_s=200, for_s=200)[:4] == [0, 40, 80, 120]


async def test_nothing_is_done_before_the_lease_and_before_the_indexes(
    raw_spec: dict[str, Any], made: list[Counting]
) -> None:
    synced = False
    ours = loops(made, 0.02, ready=lambda: synced)
    ours.seen(pipeline(raw_spec))
    await asyncio.sleep(0.05)
    ours.start()
    await asyncio.sleep(0.15)
    assert made[0].passes == []
    synced = True
    await until(lambda: made[0].passes)
    await ours.stop()


async def test_who_loses_the_lease_stops_and_forgets_and_may_begin_again(
    raw_spec: dict[str, Any], made: list[Counting]
) -> None:
    """What was remembered is void: somebody else has acted since."""
    ours = loops(made, 0.02)
    ours.seen(pipeline(raw_spec))
    ours.start()
    await until(lambda: made[0].passes)
    await ours.stop()
    settled = len(made[0].passes)
    await asyncio.sleep(0.06)
    assert (len(made[0].passes), len(made)) == (settled, 2)
    ours.start()
    await until(lambda: made[1].passes)
    await ours.stop()
    assert len(made[0].passes) == settled


async def test_a_pipeline_made_anew_under_its_name_has_a_loop_of_its_own(
    raw_spec: dict[str, Any], made: list[Counting]
) -> None:
    ours = loops(made)
    ours.start()
    ours.seen(pipeline(raw_spec))
    ours.seen(pipeline(raw_spec, uid="u-new"))
    ours.gone("u-close")
    await until(lambda: made[1].passes)
    ours.stirred(("trading", "close"))
    await until(lambda: len(made[1].passes) == 2)
    await ours.stop()
