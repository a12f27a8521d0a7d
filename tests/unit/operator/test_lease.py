"""The rules of the election, in virtual time, on an API server that loses, delays and refuses."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.kube.lease import Lease, identity
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amounts import examples
from support.virtual_time import now, virtually

WALL_S = 1_780_000_000.25
MICRO_TIME = "2026-05-28T20:26:40.250000Z"


class Server:
    """Leases with resource versions."""

    def __init__(self) -> None:
        self.stored: Manifest | None = None
        self.version = 0
        self.creations_under_way = 0

    def do(self, verb: str, body: Manifest | None) -> Manifest:
        if verb == "create" and self.stored is not None:
            raise ClusterError(409, "exists", reason="AlreadyExists")
        if verb != "create" and self.stored is None:
            raise ClusterError(404, "not found", reason="NotFound")
        if verb == "update" and self.stored["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ClusterError(409, "changed", reason="Conflict")
        if verb != "get":
            self.version += 1
            self.stored = copy.deepcopy(body)
            self.stored["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.stored)

    def put(self, holder: str, **spec: Any) -> None:
        """Write as somebody else."""
        self.version += 1
        self.stored = {
            "metadata": {"name": "eod-operator", "resourceVersion": str(self.version), "labels": {"kept": "yes"}},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3, **spec},
        }

    @property
    def spec(self) -> Manifest:
        return self.stored["spec"]


class Client(Api):
    """One replica's connection: it hangs, or answers with an error, when told to."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.hangs = False
        self.errors: dict[str, ClusterError] = {}
        self.called: list[str] = []
        self.called_s: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def call(
        self, verb: str, kind: str, namespace: str | None, name: str = "", *, urgent: bool = False, **request: Any
    ) -> Manifest:
        assert (kind, namespace, urgent) == ("Lease", "operators", True)
        assert name == ("" if verb == "create" else "eod-operator")
        self.called.append(verb)
        self.called_s.append(now())
        if self.hangs:
            await asyncio.Event().wait()
        if verb in self.errors:
            raise self.errors[verb]
        try:
            return self.server.do(verb, request.get("body"))
        finally:
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()


def a_lease(api: Api, name: str = "me", **settings: Any) -> Lease:
    """With client-go's times and the virtual clock."""
    return Lease(
        api,
        namespace="operators",
        identity=name,
        **{"clock": now, "wall": lambda: WALL_S, "rng": NoJitter()} | settings,
    )


class NoJitter(random.Random):
    """A candidate that looks every two seconds sharp."""

    def random(self) -> float:
        return 0.0


class Running:
    """Leases that run until the end of the block."""

    def __init__(self, *leases: Lease) -> None:
        self.leases = leases

    async def __aenter__(self) -> tuple[asyncio.Task[None], ...]:
        self.tasks = tuple(asyncio.create_task(one.run()) for one in self.leases)
        await asyncio.sleep(0.01)
        return self.tasks

    async def __aexit__(self, *_error: object) -> None:
        await ended(*self.tasks)


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel and wait, as the operator does when it ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time, with a server and a client of its own."""

    def run() -> None:
        server = Server()
        virtually(test(server, Client(server)))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# --- acquiring ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_an_absent_lease_is_made_and_held(server: Server, client: Client) -> None:
    lease = a_lease(client)
    assert (lease.held, lease.holder, lease.renewed_ago_s) == (False, None, None)
    async with Running(lease):
        assert (lease.held, lease.holder, lease.transitions, lease.problem) == (True, "me", 0, None)
        assert lease.renewed_ago_s == pytest.approx(0.01)
        assert server.stored == {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "eod-operator", "namespace": "operators", "resourceVersion": "1"},
            "spec": {
                "holderIdentity": "me",
                "leaseDurationSeconds": 15,
                "acquireTime": MICRO_TIME,
                "renewTime": MICRO_TIME,
                "leaseTransitions": 0,
            },
        }


@in_virtual_time
async def test_a_renewal_is_one_request_and_keeps_the_time_of_acquisition(server: Server, client: Client) -> None:
    lease = a_lease(client, wall=lambda: WALL_S + now())
    async with Running(lease):
        acquired = server.spec["acquireTime"]
        await asyncio.sleep(60)
        assert client.called == ["get", "create", *["update"] * 30]
        assert server.spec["acquireTime"] == acquired < server.spec["renewTime"]
        assert server.spec["leaseTransitions"] == 0


@pytest.mark.parametrize("skew_years", [-50, 0, 50])
def test_only_our_own_clock_says_when_another_has_expired(skew_years: int) -> None:
    """The holder's renewTime may be half a century away, in both directions: it changes nothing."""

    async def test(server: Server, client: Client) -> None:
        server.put("other", renewTime=f"{2026 + skew_years}-01-01T00:00:00.000000Z")
        lease = a_lease(client)
        async with Running(lease):
            await asyncio.sleep(14.9)
            assert (lease.held, lease.holder, lease.problem) == (False, "other", None)
            await asyncio.sleep(0.2)  # and it does not sleep through that moment
            assert (lease.held, lease.holder, lease.transitions) == (True, "me", 4)
            assert server.stored["metadata"]["labels"] == {"kept": "yes"}

    in_virtual_time(test)()


@in_virtual_time
async def test_every_renewal_of_the_other_starts_the_wait_anew(server: Server, client: Client) -> None:
    server.put("other", renewTime="0")
    lease = a_lease(client)
    async with Running(lease):
        for number in range(10):
            await asyncio.sleep(14)
            assert not lease.held
            server.put("other", renewTime=str(number + 1))
        await asyncio.sleep(14)
        assert not lease.held
        await asyncio.sleep(4)
        assert lease.held


@in_virtual_time
async def test_a_write_that_does_not_renew_does_not_prolong(server: Server, client: Client) -> None:
    """An annotation is not a sign of life."""
    server.put("other")
    lease = a_lease(client)
    async with Running(lease):
        await asyncio.sleep(14)
        server.put("other")
        await asyncio.sleep(2)
        assert lease.held


@in_virtual_time
async def test_the_holder_says_how_long_to_wait(server: Server, client: Client) -> None:
    server.put("other", leaseDurationSeconds=40)
    lease = a_lease(client)
    async with Running(lease):
        await asyncio.sleep(39)
        assert not lease.held
        await asyncio.sleep(2)
        assert lease.held


@in_virtual_time
async def test_a_record_without_a_holder_is_free(server: Server, client: Client) -> None:
    server.put("")
    lease = a_lease(client)
    async with Running(lease):
        assert (lease.held, lease.transitions) == (True, 4)


@in_virtual_time
async def test_whoever_is_quicker_wins(server: Server, client: Client) -> None:
    """A conflict is no problem, only a reason to look again."""
    lease = a_lease(client)
    client.meanwhile = lambda: server.put("quicker", renewTime="1")
    async with Running(lease):
        assert client.called == ["get", "create"]
        assert (lease.held, lease.problem) == (False, None)
        await asyncio.sleep(2)
        assert lease.holder == "quicker"
        client.meanwhile = lambda: server.put("quicker", renewTime="2")
        server.put("")
        await asyncio.sleep(2)
        assert client.called[-2:] == ["get", "update"]
        assert (lease.held, lease.problem, server.spec["holderIdentity"]) == (False, None, "quicker")


@in_virtual_time
async def test_candidates_spread_their_looks(server: Server, client: Client) -> None:
    server.put("other", leaseDurationSeconds=1_000)
    lease = a_lease(client, rng=random.Random(1))
    async with Running(lease):
        await asyncio.sleep(500)
    pauses = [later - sooner for sooner, later in itertools.pairwise(client.called_s)]
    assert 2.0 <= min(pauses) < 2.5
    assert 4.0 < max(pauses) <= 4.4


# --- losing -------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_without_answers_it_is_lost_while_the_request_still_hangs(server: Server, client: Client) -> None:
    """The watchdog tells; ten seconds count from when the last renewal was sent."""
    told: list[tuple[bool, float]] = []
    lease = a_lease(client, changed=lambda held: told.append((held, round(now(), 3))))
    async with Running(lease):
        await asyncio.sleep(4)
        sent_s = now() - 0.01
        client.hangs = True
        await asyncio.sleep(9.98)
        assert lease.held
        await asyncio.sleep(0.02)
        assert not lease.held
        assert told == [(True, 1000.0), (False, round(sent_s + 10, 3))]
        assert "cannot be read or written" in (lease.problem or "")
        assert "no answer within 5 s" in (lease.problem or "")
        client.hangs = False
        await asyncio.sleep(10)
        assert (lease.held, lease.problem, server.spec["leaseTransitions"]) == (True, None, 0)
    assert [held for held, _at in told] == [True, False, True, False]


@in_virtual_time
async def test_one_hanging_request_leaves_time_for_another(server: Server, client: Client) -> None:
    del server
    told: list[bool] = []
    lease = a_lease(client, changed=told.append)
    async with Running(lease):
        client.hangs = True
        await asyncio.sleep(6)
        client.hangs = False
        await asyncio.sleep(20)
        assert told == [True]


@in_virtual_time
async def test_a_process_that_was_frozen_knows_at_once(server: Server, client: Client) -> None:
    """Nothing has run since, and yet `held` is False; and it is told although no renewal failed."""
    frozen_s = 0.0
    told: list[bool] = []
    lease = a_lease(client, clock=lambda: now() + frozen_s, changed=told.append)
    async with Running(lease):
        assert lease.held
        frozen_s = 10.0
        assert not lease.held
        server.put("other")
        await asyncio.sleep(3)
        assert (lease.held, lease.holder, told) == (False, "other", [True, False])


@in_virtual_time
async def test_an_answer_that_comes_too_late_gives_nothing(server: Server, client: Client) -> None:
    """The time counts from the sending: an answer that a frozen process finds when it wakes is an old one."""
    del server
    frozen_s = 0.0

    def freeze() -> None:
        nonlocal frozen_s
        frozen_s += 11

    told: list[bool] = []
    lease = a_lease(client, clock=lambda: now() + frozen_s, changed=told.append)
    async with Running(lease):
        client.meanwhile = freeze
        await asyncio.sleep(2)
        assert not lease.held
        assert lease.renewed_ago_s == pytest.approx(11.01)
        await asyncio.sleep(2)
        assert lease.held
        assert told == [True, False, True]


@in_virtual_time
async def test_another_name_in_the_record_ends_it(server: Server, client: Client) -> None:
    lease = a_lease(client)
    async with Running(lease):
        server.put("other")
        await asyncio.sleep(2)
        assert (lease.held, lease.holder) == (False, "other")


@in_virtual_time
async def test_a_write_of_another_between_look_and_renewal_ends_it(server: Server, client: Client) -> None:
    """Who it was, the next look tells; until then it is not believed that we lead."""
    told: list[bool] = []
    lease = a_lease(client, changed=told.append)
    async with Running(lease):
        server.put("me", **server.spec)
        client.meanwhile = lambda: setattr(client, "meanwhile", lambda: server.put("other"))
        await asyncio.sleep(2)
        assert client.called == ["get", "create", "update", "get", "update"]
        assert (lease.held, lease.holder, lease.problem, told) == (False, "me", None, [True, False])


@in_virtual_time
async def test_a_foreign_edit_does_not_end_it(server: Server, client: Client) -> None:
    """An annotation changes the resource version; the renewal reads again and goes on."""
    told: list[bool] = []
    lease = a_lease(client, changed=told.append)
    async with Running(lease):
        server.put("me", **server.spec)
        await asyncio.sleep(20)
        assert told == [True]
        assert client.called[:6] == ["get", "create", "update", "get", "update", "update"]


@in_virtual_time
async def test_a_deleted_lease_is_made_anew_by_its_holder(server: Server, client: Client) -> None:
    """A candidate that has seen the holder waits meanwhile, as if it had just been renewed."""
    told: list[bool] = []
    lease, candidate = a_lease(client, changed=told.append), a_lease(Client(server), "candidate")
    async with Running(lease, candidate):
        await asyncio.sleep(3)
        server.stored = None
        client.hangs = True
        await asyncio.sleep(4)
        client.hangs = False
        assert server.stored is None
        await asyncio.sleep(4)
        assert (told, server.spec["holderIdentity"], candidate.held) == ([True], "me", False)


@in_virtual_time
async def test_a_former_holder_does_not_make_a_deleted_lease_at_once(server: Server, client: Client) -> None:
    """Another may have taken it over, unseen, before it was deleted."""
    lease = a_lease(client)
    async with Running(lease):
        client.hangs = True
        await asyncio.sleep(20)
        server.stored = None
        client.hangs = False
        await asyncio.sleep(15)
        assert not lease.held
        await asyncio.sleep(8)
        assert lease.held


@in_virtual_time
async def test_a_lease_that_was_free_before_it_was_deleted_is_not_made_at_once(server: Server, client: Client) -> None:
    """Another may have taken it, unseen, before it was deleted."""
    server.put("", leaseDurationSeconds=1)
    client.errors["update"] = ClusterError(500, "etcd has no leader")
    lease = a_lease(client)
    async with Running(lease):
        server.stored = None
        client.errors.clear()
        await asyncio.sleep(15.5)
        assert not lease.held
        await asyncio.sleep(2)
        assert lease.held


@in_virtual_time
async def test_a_deleted_lease_of_a_dead_holder_is_made_after_its_time(server: Server, client: Client) -> None:
    server.put("dead")
    lease = a_lease(client)
    async with Running(lease):
        await asyncio.sleep(6)
        server.stored = None
        await asyncio.sleep(16.5)
        assert not lease.held
        await asyncio.sleep(2)
        assert lease.held


# --- releasing ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_released_lease_is_taken_at_the_next_look(server: Server, client: Client) -> None:
    told: list[bool] = []
    first, second = a_lease(client, "first", changed=told.append), a_lease(Client(server), "second")
    async with Running(first, second) as (task, _other):
        await ended(task)
        assert (first.held, first.holder, told) == (False, None, [True, False])
        assert (server.spec["holderIdentity"], server.spec["leaseDurationSeconds"]) == ("", 1)
        await asyncio.sleep(2)
        assert (second.held, second.transitions, server.spec["leaseDurationSeconds"]) == (True, 1, 15)


@in_virtual_time
async def test_it_is_not_held_while_it_is_being_released(server: Server, client: Client) -> None:
    del server
    lease = a_lease(client)
    held: list[bool] = []
    async with Running(lease):
        client.meanwhile = lambda: held.append(lease.held)
    assert held == [False]


@in_virtual_time
async def test_releasing_is_bounded(server: Server, client: Client) -> None:
    del server
    lease = a_lease(client)
    async with Running(lease):
        client.hangs = True
        began_s = now()
    assert now() - began_s == pytest.approx(2)
    assert "was not released, so the others wait 15 s: no answer within 2 s" in (lease.problem or "")


@in_virtual_time
async def test_a_renewal_that_arrives_during_the_release_is_released_too(server: Server, client: Client) -> None:
    lease = a_lease(client)
    async with Running(lease):
        client.meanwhile = lambda: server.put("me", renewTime="just now")
    assert client.called[-4:] == ["get", "update", "get", "update"]
    assert server.spec["holderIdentity"] == ""


@in_virtual_time
async def test_a_claim_without_an_answer_is_released_too(server: Server, client: Client) -> None:
    """The create was cancelled on its way back; the record has our name although we never held it."""
    lease = a_lease(client)

    async def create_and_hang(verb: str, *_args: Any, body: Manifest | None = None, **_more: Any) -> Manifest:
        if verb == "create":
            server.do(verb, body)
            await asyncio.Event().wait()
        return server.do(verb, body)

    client.call = create_and_hang  # type: ignore[method-assign]
    async with Running(lease):
        assert (lease.held, server.spec["holderIdentity"]) == (False, "me")
    assert server.spec["holderIdentity"] == ""


@in_virtual_time
async def test_a_candidate_releases_nothing(server: Server, client: Client) -> None:
    server.put("other")
    async with Running(a_lease(client)):
        pass
    assert client.called == ["get"]
    assert server.spec["holderIdentity"] == "other"


# --- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["get", "create"])
def test_a_missing_role_is_named(verb: str) -> None:
    async def test(server: Server, client: Client) -> None:
        del server
        client.errors[verb] = ClusterError(403, "leases is forbidden", reason="Forbidden")
        lease = a_lease(client)
        async with Running(lease):
            told = lease.problem or ""
            assert "lacks a Role in namespace operators that grants get, create and update on leases" in told
            assert "leases is forbidden" in told
            assert not lease.held
            client.errors.clear()
            await asyncio.sleep(2)
            assert (lease.held, lease.problem) == (True, None)

    in_virtual_time(test)()


@in_virtual_time
async def test_a_missing_namespace_is_named(server: Server, client: Client) -> None:
    del server
    client.errors["create"] = ClusterError(404, "namespaces not found", reason="NotFound")
    lease = a_lease(client)
    async with Running(lease):
        assert "there is no namespace operators: make it" in (lease.problem or "")


@in_virtual_time
async def test_an_error_is_survived_while_there_is_time(server: Server, client: Client) -> None:
    del server
    told: list[bool] = []
    lease = a_lease(client, changed=told.append)
    async with Running(lease):
        client.errors["update"] = ClusterError(500, "etcd has no leader")
        await asyncio.sleep(6)
        assert lease.held
        assert "etcd has no leader" in (lease.problem or "")
        client.errors.clear()
        await asyncio.sleep(10)
        assert (told, lease.problem) == ([True], None)


@pytest.mark.parametrize(
    "settings",
    [
        {"renew_within_s": 15.0},
        {"renew_within_s": 20.0},
        {"retry_every_s": 10.0},
        {"retry_every_s": 9.0},
        {"retry_every_s": 0.0},
        {"retry_every_s": -1.0},
        {"duration_s": float("nan")},
    ],
)
def test_times_that_do_not_fit_together_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="does not hold: the leader must have time to try twice"):
        a_lease(Client(Server()), **settings)


def test_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="identity is empty"):
        a_lease(Client(Server()), "")


def test_identities_differ() -> None:
    assert re.fullmatch(r".+_[0-9a-f]{32}", identity())
    assert identity() != identity()


@in_virtual_time
async def test_a_part_of_a_second_is_announced_as_a_whole_one(server: Server, client: Client) -> None:
    """The others must not wait less than was meant."""
    async with Running(a_lease(client, duration_s=2.5, renew_within_s=2.4, retry_every_s=0.5)):
        assert server.spec["leaseDurationSeconds"] == 3


# --- never two ----------------------------------------------------------------------------------------------


class Lossy(Api):
    """A connection that delays and loses; what was sent may arrive long after its sender gave up."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.trouble = True

    async def call(self, verb: str, *_args: Any, body: Manifest | None = None, **_more: Any) -> Manifest:
        answer = await asyncio.shield(asyncio.create_task(self._carried(verb, copy.deepcopy(body))))
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    async def _carried(self, verb: str, body: Manifest | None) -> Manifest | ClusterError:
        lost_there, lost_back = (self.trouble and self.rng.random() < 0.15 for _ in range(2))
        self.server.creations_under_way += verb == "create"
        await asyncio.sleep(self._delay_s())
        self.server.creations_under_way -= verb == "create"
        if lost_there:
            return ClusterError(0, "reset on the way there")
        answer: Manifest | ClusterError
        try:
            answer = self.server.do(verb, body)
        except ClusterError as error:
            answer = error
        await asyncio.sleep(self._delay_s())
        return ClusterError(0, "reset on the way back") if lost_back else answer

    def _delay_s(self) -> float:
        if self.trouble and self.rng.random() < 0.15:
            return self.rng.uniform(0, 20)
        return self.rng.expovariate(20)


class Contenders:
    """Replicas that come, go and die, each with a clock of its own rate and offset."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.server = Server()
        self.all: list[tuple[Lease, Lossy]] = []
        self.live: list[tuple[Lease, asyncio.Task[None]]] = []
        self.overlaps: list[tuple[float, list[str]]] = []
        self.leaders: set[str] = set()

    def look(self) -> None:
        """At every step of the event loop."""
        held = [lease.holder or "?" for lease, _api in self.all if lease.held]
        self.leaders.update(held)
        if len(held) > 1:
            self.overlaps.append((len(self.overlaps), held))

    def come(self) -> None:
        api = Lossy(self.server, self.rng)
        # 15 s against 10 s allows one clock to run half as fast again as another.
        rate, offset_s = self.rng.uniform(0.85, 1.25), self.rng.uniform(0, 1e6)
        lease = a_lease(
            api,
            f"replica-{len(self.all)}",
            clock=lambda: now() * rate + offset_s,
            wall=lambda: WALL_S + now() * rate + offset_s * 1_000,
            rng=self.rng,
        )
        self.all.append((lease, api))
        self.live.append((lease, asyncio.create_task(lease.run())))

    async def go(self) -> None:
        """One ends in good order; its release may get lost like any other request."""
        _lease, task = self.live.pop(self.rng.randrange(len(self.live)))
        await ended(task)

    async def live_through(self, count: int, *, deletion: bool) -> None:
        for _ in range(count):
            self.come()
        to_delete = deletion
        for _ in range(30):
            await asyncio.sleep(self.rng.uniform(1, 15))
            if deletion:
                # Nobody comes, because who has seen nothing cannot know of a holder; nor can one whose request to make
                # it is still on its way.
                knowing = all(lease.holder for lease, _task in self.live)
                if to_delete and knowing and not self.server.creations_under_way and self.rng.random() < 0.2:
                    to_delete = False
                    self.server.stored = None
            elif self.rng.random() < 0.3:
                await self.go()
                self.come()
        for _lease, api in self.all:
            api.trouble = False
        await asyncio.sleep(90)
        assert sum(lease.held for lease, _task in self.live) == 1
        await ended(*(task for _lease, task in self.live))
        assert not any(lease.held for lease, _api in self.all)


@settings(max_examples=examples(60))
@given(st.integers(0, 2**32), st.integers(2, 5), st.booleans())
def test_two_never_hold_it_at_once(seed: int, count: int, deletion: bool) -> None:  # noqa: FBT001 - hypothesis draws it
    """Whatever is lost, late or deleted and however the clocks run; and when it is over, one holds it."""
    contenders = Contenders(seed)
    virtually(contenders.live_through(count, deletion=deletion), contenders.look)
    assert contenders.overlaps == []


def test_the_lease_changes_hands_in_that_world() -> None:
    """Else the property above would hold of replicas that never lead."""
    contenders = Contenders(7)
    virtually(contenders.live_through(3, deletion=False), contenders.look)
    assert len(contenders.leaders) > 2
