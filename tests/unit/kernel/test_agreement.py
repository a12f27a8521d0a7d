"""Whatever a counterparty sends, however it is cut into reads: a connection with the kernel does what one without does."""

from __future__ import annotations

from typing import Any

import pytest
from eod_workers import kernel
from eod_workers.fix.session import Session
from fuzz import executions
from fuzz.agreement import Disagreement, Read, agree
from fuzz.streams import BYTES, DAMAGES, EDITS, ODD_KINDS, TAGS, VALUES, Damage, Edit, Step, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amounts import examples

if not kernel.available():
    pytest.skip(f"the kernel is not used: {kernel.why_not()}", allow_module_level=True)

_EDIT = st.builds(Edit, st.sampled_from(EDITS), st.sampled_from(TAGS), st.sampled_from(VALUES) | st.binary(max_size=20))
_DAMAGE = st.builds(
    Damage,
    st.sampled_from(DAMAGES),
    st.integers(0, 1_000),
    st.sampled_from(BYTES) | st.binary(max_size=4),
    st.booleans(),
)
_PLAIN = st.sampled_from(["trade", "trade", "sell", "old", "fill"]).map(Step)
_ODD = st.builds(
    Step,
    st.sampled_from(ODD_KINDS),
    st.sampled_from([0, 0, 0, 1, 2, -1, -2]),
    st.lists(_EDIT, max_size=2).map(tuple),
    st.lists(_DAMAGE, max_size=1).map(tuple),
)
_STEPS = st.lists(_PLAIN | _ODD, max_size=6) | st.lists(_PLAIN | _PLAIN | _PLAIN | _ODD, min_size=10, max_size=50)
_CUTS = st.lists(st.integers(1, 60) | st.integers(1, 3_000), min_size=1, max_size=30)
_WAITS = st.sampled_from([0.0, 0.0, 0.001, 3.0, 40.0])


@settings(max_examples=examples(150))
@given(
    steps=_STEPS,
    cuts=_CUTS,
    waits=st.lists(_WAITS, min_size=1, max_size=8),
    version=st.sampled_from([b"FIX.4.4", b"FIX.4.2"]),
)
def test_the_kernel_changes_nothing_but_the_speed(
    steps: list[Step], cuts: list[int], waits: list[float], version: bytes
) -> None:
    data = stream([Step("logon"), *steps], version)
    reads: list[Read] = []
    at = 0
    while at < len(data):
        size, wait = cuts[len(reads) % len(cuts)], waits[len(reads) % len(waits)]
        reads += [(wait, data[at : at + size]), *([(0.0, b"")] if wait else [])]
        at += size
    agree(reads, version)


@pytest.mark.slow
def test_the_fuzzer_agrees_and_meets_what_it_is_about() -> None:
    ran = executions.run(seconds=5, seed=20261120)
    assert ran.plain > ran.trades / 2 > 0
    assert ran.trades > ran.plain
    assert ran.letters > 0
    assert ran.pieces > ran.trades + ran.letters


@pytest.mark.parametrize(
    ("steps", "cut", "plain"),
    [
        ([Step("trade")] * 9, 10_000, 9),
        ([Step("trade")] * 9, 100, 9),
        ([Step("trade"), Step("old"), Step("heartbeat"), Step("trade")], 10_000, 3),
        ([Step("trade"), Step("trade", 2), Step("trade"), Step("trade")], 10_000, 1),
        ([Step("trade"), Step("trade", 2), Step("trade"), Step("fill"), Step("trade")], 10_000, 2),
        ([Step("trade"), Step("bust"), Step("trade"), Step("new"), Step("sell")], 10_000, 3),
        ([Step("trade"), Step("reset", -2), Step("trade")], 10_000, 1),
    ],
)
def test_what_goes_the_short_way(steps: list[Step], cut: int, plain: int) -> None:
    """Behind a gap nothing does until it is filled; around an odd message everything does."""
    data = stream([Step("logon"), *steps])
    assert agree([(0.1, data[at : at + cut]) for at in range(0, len(data), cut)]).plain == plain


def test_a_difference_is_found_and_told_with_the_stream_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    took = Session.took

    def forgetful(session: Session, count: int, received_at_ns: int) -> None:
        took(session, count, received_at_ns)
        session._tested = True

    monkeypatch.setattr(Session, "took", forgetful)
    with pytest.raises(
        Disagreement, match=r"stream 3\.\d+ \(fuzz\.executions\.case repeats it\): numbers with the ker"
    ):
        executions.run(seconds=30, seed=3)


def test_a_trade_of_a_frame_that_is_not_sound_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where both readers make the same mistake."""
    from eod_workers.fix import frames  # noqa: PLC0415 - what is spoilt

    def lax(buffer: bytes, start: int, size: int, limit: int) -> tuple[int, Any, int]:
        end, why, work = sound(buffer, start, size, limit)
        return (buffer.index(b"\x0110=", start) + 8, None, 0) if why and "CheckSum(10)=" in why else (end, why, work)

    sound = frames._frame_end
    monkeypatch.setattr(frames, "_frame_end", lax)
    spoilt = stream([Step("logon"), Step("trade")])
    spoilt = spoilt[:-4] + b"%03d\x01" % ((int(spoilt[-4:-1]) + 1) % 256)
    with pytest.raises(Disagreement, match="a trade was made of a frame that is not sound"):
        agree([(0.1, spoilt)])
