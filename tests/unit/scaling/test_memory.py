"""What the forecast remembers over a restart: it fits, comes back, and never stands in the way."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from eod_operator.scaling.forecast import Score
from eod_operator.scaling.memory import (
    KEPT_SCORES,
    KEPT_STARTS,
    Memory,
    bounded,
    dumps,
    loads,
    paused,
    remember,
    started,
    summary,
)
from eod_operator.scaling.sessions import BINS, RecordedSession
from hypothesis import given
from hypothesis import strategies as st
from support.recorded import session

RATES = st.one_of(st.none(), st.just(0.0), st.floats(1e-3, 1e9))
TIMES = st.lists(st.floats(0, 1e4), max_size=KEPT_STARTS).map(tuple)
SCORE = Score(1_780_000_000.0, 550.25, 500.5, 0.1, -0.05)


@cache
def full(noise: float = 0.05) -> Memory:
    """As much as is usual: twenty ordinary sessions and five of an event."""
    memory = Memory(service_per_s=101.5, starts_s=(30.0, 31.5), pauses_s=(3.0,), scores=(SCORE,))
    for day in range(20):
        memory = remember(memory, session(day, noise=noise))
    for day in range(30, 35):
        memory = remember(memory, session(day, scale=3.0, noise=noise, event="index-rebalance"))
    return memory


def assert_alike(one: RecordedSession, other: RecordedSession) -> None:
    assert (one.close_s, one.event) == (other.close_s, other.event)
    gaps = [rate is None for rate in one.rates_per_s]
    assert gaps == [rate is None for rate in other.rates_per_s]
    known = [[rate for rate in each.rates_per_s if rate is not None] for each in (one, other)]
    assert known[0] == pytest.approx(known[1], rel=1e-3, abs=1e-12)


@pytest.mark.slow
@given(
    st.lists(st.lists(RATES, min_size=BINS, max_size=BINS).map(tuple), max_size=3),
    st.sampled_from(["", "index-rebalance", 'a "name" with é']),
    st.one_of(st.none(), st.floats(1e-3, 1e6)),
    TIMES,
    st.booleans(),
)
def test_what_is_saved_comes_back(
    rates: list[tuple[float | None, ...]],
    event: str,
    service: float | None,
    times: tuple[float, ...],
    recording: bool,  # noqa: FBT001 - drawn
) -> None:
    known = tuple(RecordedSession(86_400.5 * day, rate, event) for day, rate in enumerate(rates))
    memory = Memory(known, known[0] if recording and known else None, service, times, times[:3], (SCORE,))
    back = loads(dumps(memory))
    assert (back.note, len(back.sessions)) == ("", len(known))
    for one, other in zip(back.sessions, memory.sessions, strict=True):
        assert_alike(one, other)
    assert (back.today is None) == (memory.today is None)
    assert back.service_per_s == (service if service is None else pytest.approx(service, rel=1e-3))
    assert (back.starts_s, back.pauses_s) == (pytest.approx(times, rel=1e-3), pytest.approx(times[:3], rel=1e-3))
    assert back.scores == (SCORE,)
    assert dumps(back) == dumps(loads(dumps(back)))  # saving what was read changes nothing more


@pytest.mark.parametrize(("noise", "most_bytes"), [(0.0, 4_096), (0.05, 12 * 1024), (0.2, 16 * 1024)])
def test_it_is_small(noise: float, most_bytes: int) -> None:
    """Twenty-five sessions, whose neighbouring rates differ by 5 % of chance, or by 20 %."""
    memory = full(noise)
    assert len(memory.sessions) == 25
    assert len(dumps(memory).encode()) < most_bytes


def test_a_summary_is_for_people() -> None:
    found = json.loads(dumps(full()))["summary"]
    assert found == summary(full())
    assert found == (
        "20 ordinary sessions, 5 of index-rebalance; closes from 2026-05-28 to 2026-07-01; "
        "101.5 records a second and replica"
    )
    assert summary(Memory()) == "0 ordinary sessions"


@cache
def sound() -> str:
    return dumps(full())


def spoilt(**changed: Any) -> str:
    return json.dumps({**json.loads(sound()), **changed})


BOMB = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "version None"),
        (spoilt(version=2), "version 2, and this operator reads version 1"),
        ('{"version":1}', "damaged (KeyError"),
        (spoilt(rates="!"), "damaged"),
        (spoilt(rates=None), "damaged"),
        (spoilt(rates="AAAA"), "damaged"),
        (spoilt(rates=json.loads(sound())["rates"][:400]), "damaged"),
        (spoilt(rates=BOMB), "not 8400 numbers"),
        (spoilt(closes=[1.0]), "not 336 numbers"),
        (spoilt(closes=list(range(100))), "100 sessions, and 41 at most"),
        (spoilt(closes=None), "damaged"),
        (spoilt(closes=["x"] * 25), "damaged"),
        (spoilt(closes=[float("nan")] * 25), "nan is not a number"),
        (spoilt(events=[]), "damaged"),
        (spoilt(servicePerSecond=-1), "below 0"),
        (spoilt(startSeconds=[10**400]), "damaged"),
        (spoilt(scores=[[1, 2]]), "damaged"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_what_cannot_be_read_is_begun_anew_with_a_sentence(text: str, why: str) -> None:
    memory = loads(text)
    assert memory == Memory()
    assert memory.note.startswith("the remembered sessions could not be read, because it is ")
    assert why in memory.note
    assert memory.note.endswith(": they are recorded anew")
    assert len(memory.note) < 300


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda found: found.decode("latin-1")))
def test_no_text_is_a_crash(text: str) -> None:
    assert loads(text).sessions == ()


@given(st.integers(0, 12_000), st.characters(codec="ascii"))
def test_no_damage_is_a_crash(at: int, instead: str) -> None:
    text = DUMPED[: at % len(DUMPED)] + instead + DUMPED[at % len(DUMPED) + 1 :]
    assert all(len(one.rates_per_s) == BINS for one in loads(text).sessions)


DUMPED = sound()


def test_it_stays_bounded() -> None:
    memory = Memory()
    for day in range(60):
        memory = remember(memory, session(day), replace(SCORE, close_s=float(day)))
        memory = remember(memory, session(1_000 + day, event=f"kind-{day // 12}"))
        memory = paused(started(memory, 1.0 * day), 2.0 * day)
    ordinary = [one for one in memory.sessions if not one.event]
    assert ordinary == [session(day) for day in range(40, 60)]
    assert memory.events() == ("kind-1", "kind-2", "kind-3", "kind-4")
    assert len(memory.sessions) == 40
    assert (len(memory.scores), memory.scores[-1].close_s) == (KEPT_SCORES, 59)
    assert (len(memory.starts_s), memory.starts_s[-1], memory.pauses_s[-1]) == (KEPT_STARTS, 59, 118)
    assert bounded(memory.sessions) == memory.sessions


def test_a_session_is_remembered_once() -> None:
    memory = remember(Memory(), session(1), SCORE)
    again = remember(memory, replace(session(1, scale=2.0)), replace(SCORE, close_s=session(1).close_s))
    assert again.sessions == (session(1, scale=2.0),)
    assert len(again.scores) == 2


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_true_is_passed_over(wrong: float) -> None:
    assert paused(started(Memory(), wrong), wrong) == Memory()
