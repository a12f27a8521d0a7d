"""Asking who serves a session elsewhere whether it is live there: who answers, who cannot, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from secrets import token_hex
from typing import Any

import pytest
import structlog
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.ingestion.claims import Claims
from eod_workers.ingestion.tenure import begin, owner_key
from eod_workers.ports import Unavailable
from support.patience import limited, soon
from support.stage_world import Flaky

SESSION = "ACME->EOD"
LONG_S = 30.0


class Asked:
    """What an ingestion says of its sessions, and which it was asked about."""

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self.sessions: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, session: str) -> bool:
        """See `Claims`."""
        self.sessions.append(session)
        await self.may_answer.wait()
        return self.live


Made = Callable[..., Awaitable[Claims]]


@pytest.fixture
def state() -> Any:
    return Flaky(MemoryState(), "state store")


@pytest.fixture
async def made(state: Any) -> AsyncIterator[Made]:
    """Makes ingestions, as far as others can ask them; each listens unless it is told not to."""
    tasks: list[asyncio.Task[None]] = []

    async def make(asked: Asked, *, listens: bool = True, within_s: float = LONG_S) -> Claims:
        claims = Claims(state, asked, drawn_name=token_hex(4), answered_within_s=within_s)
        if listens:
            tasks.append(asyncio.create_task(claims.run()))
            await soon(claims._listening.is_set, "it listens")
        return claims

    yield make
    for task in tasks:
        task.cancel()
    assert {type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)} <= {asyncio.CancelledError}


async def serve(state: Any, owner: Claims) -> None:
    """It has taken the session over."""
    assert await begin(state, SESSION, 1, owner=owner.name) is not None


@pytest.mark.parametrize("live", [True, False])
async def test_the_owner_is_asked_and_its_answer_counts(state: Any, made: Made, live: bool) -> None:  # noqa: FBT001
    says, other = Asked(live=live), Asked(live=not live)
    owner, asker, _bystander = await made(says), await made(other), await made(other)
    await serve(state, owner)
    async with limited(10):
        assert await asker.is_live(SESSION) is live
    assert (says.sessions, other.sessions) == ([SESSION], []), "the owner alone was asked, once"


async def test_who_serves_it_is_the_last_to_have_taken_it_over(state: Any, made: Made) -> None:
    gone, here = Asked(live=True), Asked(live=False)
    first, second, asker = await made(gone), await made(here), await made(Asked(live=True))
    await serve(state, first)
    await serve(state, second)
    async with limited(10):
        assert not await asker.is_live(SESSION)
    assert (gone.sessions, here.sessions) == ([], [SESSION])


async def test_nobody_is_asked_about_a_session_of_ones_own_or_of_nobody(state: Any, made: Made) -> None:
    """Not even by who can hear nothing: a session begins all the same."""
    claims = await made(Asked(live=True), listens=False)
    assert not await claims.is_live(SESSION)
    await serve(state, claims)
    assert not await claims.is_live(SESSION)
    await state.put_if_newer(owner_key(SESSION), 2**62, b"")
    assert not await claims.is_live(SESSION)


async def test_an_owner_that_has_ended_is_not_waited_for(state: Any, made: Made) -> None:
    """Its channel has nobody who listens, which the store knows at once."""
    owner, asker = await made(Asked(live=True), listens=False), await made(Asked(live=True))
    await serve(state, owner)
    async with limited(LONG_S / 3):
        assert not await asker.is_live(SESSION)


async def test_an_owner_that_does_not_answer_is_taken_for_frozen_and_named(state: Any, made: Made) -> None:
    """What it says later is not taken for an answer to anything else."""
    says = Asked(live=True)
    says.may_answer.clear()
    owner, asker = await made(says), await made(Asked(live=True), within_s=0.05)
    await serve(state, owner)
    with structlog.testing.capture_logs() as said:
        async with limited(10):
            assert not await asker.is_live(SESSION)
    (line,) = said
    assert (line["event"], line["session"], line["owner"]) == ("fix.owner_silent", SESSION, owner.name)
    says.may_answer.set()
    await soon(lambda: not owner._askers, "it has answered")
    says.live = False
    patient = await made(Asked(live=True))
    assert not await patient.is_live(SESSION)


async def test_several_who_ask_at_once_are_answered_together(state: Any, made: Made) -> None:
    """A counterparty is sent one TestRequest, however many want to be it."""
    says = Asked(live=True)
    says.may_answer.clear()
    owner, askers = await made(says), [await made(Asked(live=False)) for _ in range(3)]
    await serve(state, owner)
    asking = [asyncio.create_task(asker.is_live(SESSION)) for asker in askers for _ in range(5)]
    await soon(lambda: len(owner._askers.get(SESSION, ())) == 15, "all have asked")
    says.may_answer.set()
    async with limited(10):
        assert await asyncio.gather(*asking) == [True] * 15
    assert says.sessions == [SESSION]
    assert not owner._askers
    assert not any(asker._questions for asker in askers)


async def test_who_cannot_hear_answers_takes_nothing_over(state: Any, made: Made) -> None:
    """The subscription of who asks is away: it says why, and listens again as soon as it can."""
    owner = await made(Asked(live=False))
    await serve(state, owner)
    state.down_for.add("subscribe")
    asker = await made(Asked(live=True), listens=False)
    running = asyncio.create_task(asker.run())
    with pytest.raises(Unavailable, match="the ingestion that serves it cannot be heard: the state store is down"):
        await asker.is_live(SESSION)
    state.down_for.clear()
    await soon(asker._listening.is_set, "it listens")
    assert not await asker.is_live(SESSION)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_ingestion_whose_subscription_broke_is_asked_again_once_it_has_another(state: Any, made: Made) -> None:
    owner, asker = await made(Asked(live=True)), await made(Asked(live=False))
    await serve(state, owner)
    (mine,) = [one for one in state.port._subscriptions if one._matches(f"fix:ask:{owner.name}")]
    mine._overrun = True
    mine._news.set()
    await soon(lambda: mine not in state.port._subscriptions and owner._listening.is_set(), "it listens again")
    assert await asker.is_live(SESSION)


@pytest.mark.parametrize(
    "message", [b"", b"\xff", b"[]", b"{}", b'{"session": "A->EOD"}', b'{"live": true}', b'"live"']
)
async def test_what_is_no_question_and_no_answer_is_passed_over(state: Any, made: Made, message: bytes) -> None:
    owner, asker = await made(Asked(live=True)), await made(Asked(live=False))
    await serve(state, owner)
    with structlog.testing.capture_logs() as said:
        await state.publish(f"fix:ask:{owner.name}", message)
        async with limited(10):
            assert await asker.is_live(SESSION)
    assert [line["event"] for line in said] == ["fix.not_understood"]


async def test_a_question_that_is_lost_with_the_subscription_is_in_nobodys_way(
    state: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks before the answer has begun: whoever asks the same later is answered."""
    owner, asker = await made(Asked(live=True)), await made(Asked(live=False), within_s=0.2)
    await serve(state, owner)
    (mine,) = [one for one in state.port._subscriptions if one._matches(f"fix:ask:{owner.name}")]
    take = owner._heard

    def take_and_break(*said: Any) -> None:
        take(*said)
        mine._overrun = True

    monkeypatch.setattr(owner, "_heard", take_and_break)
    assert not await asker.is_live(SESSION)
    monkeypatch.setattr(owner, "_heard", take)
    await soon(lambda: mine not in state.port._subscriptions and owner._listening.is_set(), "it listens again")
    assert await asker.is_live(SESSION)


async def test_an_answer_that_the_store_does_not_take_is_none(state: Any, made: Made) -> None:
    """And the next question is answered."""
    owner, asker = await made(Asked(live=True)), await made(Asked(live=False), within_s=0.3)
    await serve(state, owner)

    def deaf(name: str) -> None:
        if name == "publish":  # the question has come through; nothing else does
            state.after = lambda _name: None
            state.down_for.add("publish")

    state.after = deaf
    assert not await asker.is_live(SESSION)
    state.down_for.clear()
    assert await asker.is_live(SESSION)
