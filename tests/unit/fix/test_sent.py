"""What was sent is sent again as it was, within a bound, and under no other numbers."""

from __future__ import annotations

import pytest
from eod_workers.fix.sent import Kept, Sent, SentMessages
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import message, report
from unit.fix.parties import Now, Party

LOGON = message("A", 1, "98=0|108=30|")
WRONG = message("8", 2, "17=X2|150=F|37=O|39=1|54=1|55=IBM|31=10|31=11|32=1|")


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def eod(now: Now) -> Party:
    """EOD, which keeps what it rejects, logged on by ACME's message 1; its own next number is 2."""
    party = Party("EOD", "ACME", now)
    party.rejections = SentMessages(b"FIX.4.4", b"EOD", b"ACME", now)
    party.connect()
    party.hear(LOGON)
    party.answers()
    return party


def test_a_reject_is_sent_again_as_a_possible_duplicate_with_its_first_time(eod: Party, now: Now) -> None:
    eod.hear(WRONG)
    (first,) = eod.answers()
    now.pass_s(5)
    eod.hear(message("2", 3, "7=1|16=0|"))
    fill, again, *rest = eod.answers()
    assert (fill[b"35"], fill[b"34"], fill[b"36"]) == (b"4", b"1", b"2")
    assert (again[b"43"], again[b"122"]) == (b"Y", first[b"52"])
    assert again[b"52"] != first[b"52"]
    same = {b"8", b"35", b"34", b"49", b"56", b"45", b"58", b"371", b"372", b"373"}
    assert {tag: again[tag] for tag in same} == {tag: first[tag] for tag in same}
    assert rest == []


def test_what_nobody_handles_is_refused_again_and_the_rest_is_filled(eod: Party) -> None:
    eod.hear(message("B", 2, "148=closing|33=1|58=x|", sender="ACME"))
    eod.session.unsupported(eod.delivered[-1])
    eod.hear(message("1", 3, "112=are you there|"))
    eod.answers()
    eod.hear(message("2", 4, "7=2|16=0|"))
    assert eod.said() == ["j 2 43=Y 45=2 58=Unsupported Message Type", "4 3 36=4 43=Y 123=Y"]


def test_routing_fields_and_our_own_sub_ids_are_those_of_the_first_time(now: Now) -> None:
    eod = Party("EOD", "ACME", now, header={50: b"DESK", 57: b"FLOOR"})
    eod.rejections = SentMessages(b"FIX.4.4", b"EOD", b"ACME", now)
    eod.connect()
    eod.hear(LOGON)
    eod.hear(message("8", 2, "115=BROKER|31=10|31=11|"))
    eod.hear(message("2", 3, "7=2|16=2|"))
    _, first, again = eod.answers()
    assert [again[tag] for tag in (b"50", b"57", b"128")] == [b"DESK", b"FLOOR", b"BROKER"]
    assert [first[tag] for tag in (b"50", b"57", b"128")] == [b"DESK", b"FLOOR", b"BROKER"]


@pytest.mark.parametrize("live", [True, False])
def test_what_was_sent_before_the_numbers_began_again_is_not_sent_under_the_new_ones(
    eod: Party,
    live: bool,  # noqa: FBT001
) -> None:
    eod.hear(WRONG)
    if not live:
        eod.connect()
    eod.hear(message("A", 1, "98=0|108=30|141=Y|"))
    eod.hear(report(2, "X"))
    eod.hear(message("1", 3, "112=two|"))
    eod.answers()
    eod.hear(message("2", 4, "7=1|16=0|"))
    assert eod.said() == ["4 1 36=3 43=Y 123=Y"]


def test_beyond_the_bound_the_oldest_are_forgotten() -> None:
    one = Sent(b"3", b"20260102-21:00:00.000", b"x" * 1_000, {})
    kept = Kept(max_bytes=5 * one.size)
    for number in range(1, 9):
        kept.add(number, one)
    assert list(kept.messages) == [4, 5, 6, 7, 8]
    kept.add(9, one._replace(body=b"x" * 6_000))
    assert list(kept.messages) == [], "what is beyond the bound alone is not kept"
    kept.add(10, one)
    assert list(kept.messages) == [10]
    kept.forget()
    for number in range(1, 9):
        kept.add(number, one)
    assert len(kept.messages) == 5, "what is forgotten takes no room"


TEXT = st.binary(max_size=20)
SENT = st.builds(Sent, TEXT, TEXT, TEXT, st.dictionaries(st.integers(1, 9_999), TEXT, max_size=3))


@given(st.dictionaries(st.integers(1, 10**9), SENT, max_size=5), st.integers(1, 10**10))
def test_what_is_stored_is_what_is_read_and_only_in_its_epoch(messages: dict[int, Sent], epoch: int) -> None:
    kept = Kept(1 << 20)
    for number, sent in messages.items():
        kept.add(number, sent)
    value = kept.encode(epoch)
    read = Kept.decode(value, epoch, 1 << 20)
    assert (read.messages, read.changes) == (messages, 0)
    assert Kept.decode(value, epoch + 1).messages == {}


def test_what_was_stored_with_more_room_is_cut_to_the_bound() -> None:
    one = Sent(b"3", b"", b"x" * 100, {})
    kept = Kept()
    for number in (1, 2, 3):
        kept.add(number, one)
    assert list(Kept.decode(kept.encode(1), 1, 2 * one.size).messages) == [2, 3]


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"[]", b"1", b"{}", b'{"epoch": 1}', b'{"epoch": 1, "sent": 5}', b'{"epoch": 1, "sent": [[1, "3"]]}',
     b'{"epoch": 1, "sent": [[1, "3", "t", 5, {}]]}', b'{"epoch": 1, "sent": [[1, "3", "t", "b", []]]}',
     b'{"epoch": 1, "sent": [[1, "3", "t", "\\u20ac", {}]]}', b"\xff"],
)  # fmt: skip
def test_what_is_none_of_ours_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Kept.decode(value, 1)
