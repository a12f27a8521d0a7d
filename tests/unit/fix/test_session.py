"""The session, message by message: what each side says, delivers and sets aside."""

from __future__ import annotations

import pytest
from eod_workers.fix import session as session_module
from eod_workers.fix.reading import Problem, Reason
from eod_workers.fix.session import MAX_ASKS, RETRY_RESEND_S, SequenceNumbers, Session, name_of
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import message, parsed
from unit.fix.parties import START_NS, Now, Party


def note(number: int, text: str = "", *, dup: bool = False) -> bytes:
    """An application message of ACME; its text is its number unless given."""
    return message("B", number, ("43=Y|" if dup else "") + f"58={text or number}|")


def reset_to(number: int, new: int | str, *, fill: bool, dup: bool = False) -> bytes:
    """A SequenceReset of ACME."""
    return message("4", number, ("43=Y|" if dup else "") + f"123={'Y' if fill else 'N'}|36={new}|")


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def acceptor(now: Now) -> Party:
    """EOD, before the Logon."""
    return Party("EOD", "ACME", now)


@pytest.fixture
def eod(acceptor: Party) -> Party:
    """EOD, logged on by ACME's message 1; its own next number is 2."""
    acceptor.hear(message("A", 1, "98=0|108=30|"))
    acceptor.answers()
    acceptor.aside.clear()
    return acceptor


# --- logon --------------------------------------------------------------------------------------------------


def test_a_logon_is_answered_with_a_logon_of_the_same_heartbeat(acceptor: Party) -> None:
    acceptor.hear(message("A", 1, "98=0|108=17|"))
    assert acceptor.said() == ["A 1 108=17"]
    assert (acceptor.session.logged_on, acceptor.session.heartbeat_s) == (True, 17)
    assert acceptor.sequence == SequenceNumbers(epoch=1, inbound=2, outbound=2)


def test_the_initiator_is_logged_on_by_the_answer_and_says_no_more(now: Now) -> None:
    acme = Party("ACME", "EOD", now, initiator=True, heartbeat_s=5)
    acme.session.logon()
    assert acme.said() == ["A 1 108=5"]
    assert not acme.session.logged_on
    acme.hear(message("A", 1, "98=0|108=5|", sender="EOD", target="ACME"))
    assert acme.session.logged_on
    assert acme.said() == []


@pytest.mark.parametrize("number", [1, 77])
def test_an_initiator_whose_logon_is_refused_learns_why(now: Now, number: int) -> None:
    """The Logout has the number that the acceptor is at, which a new engine does not know."""
    acme = Party("ACME", "EOD", now, initiator=True, heartbeat_s=5)
    acme.session.logon()
    acme.answers()
    acme.hear(message("5", number, "58=MsgSeqNum too low|", sender="EOD", target="ACME"))
    assert acme.session.closed == "the counterparty has logged out: MsgSeqNum too low"
    assert acme.said() == []


def test_what_came_before_a_logon_that_resets_the_numbers_stays_on_record(acceptor: Party) -> None:
    """A Reject may come first, and is held if it is ahead: the numbers that it waits for will never come."""
    early, logon = message("3", 6, "45=1|"), message("A", 6, "98=0|108=30|141=Y|")
    acceptor.hear(early)
    acceptor.hear(logon)
    assert acceptor.aside == [early, logon]
    assert acceptor.session.held == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("98=0|", "HeartBtInt(108) is missing: a Logon(A) says it in seconds, 0 for no heartbeats"),
        ("98=0|108=|", "HeartBtInt(108)='' is no number of seconds"),
        ("98=0|108=abc|", "HeartBtInt(108)='abc' is no number of seconds"),
        ("98=0|108=1.5|", "HeartBtInt(108)='1.5' is no number of seconds"),
        ("98=0|108=+1|", "HeartBtInt(108)='+1' is no number of seconds"),
        ("98=0|108=-1|", "HeartBtInt(108) must not be negative"),
        ("98=0|108=3601|", "HeartBtInt(108)=3601 is too long: at most 3,600 s are taken, 0 for no heartbeats"),
        (
            "98=0|108=1000000000|",
            "HeartBtInt(108)=1000000000 is too long: at most 3,600 s are taken, 0 for no heartbeats",
        ),
        (f"98=0|108={'9' * 5000}|", f"HeartBtInt(108)='{'9' * 32}' is no number of seconds"),
        ("98=1|108=30|", "EncryptMethod(98)=1: only 0, none, is supported"),
        ("98=6|108=30|", "EncryptMethod(98)=6: only 0, none, is supported"),
        ("98=-0|108=30|", "EncryptMethod(98)=-0: only 0, none, is supported"),
        ("98=|108=30|", "EncryptMethod(98)=: only 0, none, is supported"),
        ("108=30|", "EncryptMethod(98) is missing: only 0, none, is supported"),
        ("98=0|108=30|abc=1|", "'abc' is no tag"),
    ],
    ids=lambda text: text[:40],
)
def test_a_logon_that_fix_does_not_allow_is_refused_with_a_sentence(acceptor: Party, body: str, why: str) -> None:
    acceptor.hear(message("A", 1, body))
    assert acceptor.said() == [f"5 1 58={why}"]
    assert (acceptor.session.closed, acceptor.session.logged_on, acceptor.sequence.inbound) == (why, False, 1)


@pytest.mark.parametrize("interval", ["0", "1", "30", "030", "3600"])
def test_the_interval_of_heartbeats_is_the_counterparty_s_choice(acceptor: Party, interval: str) -> None:
    acceptor.hear(message("A", 1, f"98=0|108={interval}|"))
    assert acceptor.said() == [f"A 1 108={int(interval)}"]


@pytest.mark.parametrize("body", ["98=1|108=30|141=Y|", "98=0|108=3601|141=Y|", "98=0|141=Y|"])
def test_a_logon_that_resets_a_live_session_is_no_less_held_to_the_rules(acceptor: Party, body: str) -> None:
    acceptor.hear(message("A", 1, "98=0|108=30|") + message("0", 2))
    acceptor.said()
    acceptor.hear(message("A", 1, body))
    assert [text.split(" 58=")[0] for text in acceptor.said()] == ["5 2"]
    assert acceptor.session.closed
    assert (acceptor.sequence.inbound, acceptor.sequence.epoch) == (3, 1)


def test_a_logon_that_is_ahead_is_answered_first_and_then_asked_for_what_is_missing(acceptor: Party) -> None:
    acceptor.hear(message("A", 4, "98=0|108=30|"))
    assert acceptor.said() == ["A 1 108=30", "2 2 7=1 16=3"]
    assert acceptor.sequence.inbound == 1


def test_a_logon_that_is_too_low_ends_the_connection_with_both_numbers(now: Now) -> None:
    eod = Party("EOD", "ACME", now, sequence=SequenceNumbers(epoch=1, inbound=9, outbound=3))
    eod.hear(message("A", 2, "98=0|108=30|"))
    assert eod.said() == ["5 3 58=MsgSeqNum too low, expecting 9 but received 2"]
    assert "expecting 9 but received 2" in eod.session.closed
    assert eod.sequence.inbound == 9
    assert not eod.session.logged_on


def test_a_logon_with_reset_begins_a_new_epoch_at_1_in_both_directions(now: Now) -> None:
    eod = Party("EOD", "ACME", now, sequence=SequenceNumbers(epoch=4, inbound=900, outbound=70))
    eod.hear(message("A", 1, "98=0|108=30|141=Y|"))
    assert eod.said() == ["A 1 108=30 141=Y"]
    assert eod.sequence == SequenceNumbers(epoch=5, inbound=2, outbound=2)


def test_the_epoch_grows_with_every_reset_and_never_without_one(now: Now) -> None:
    eod, epochs = Party("EOD", "ACME", now), []
    for body in ("98=0|108=30|141=Y|", "98=0|108=30|141=Y|", "98=0|108=30|141=N|", "98=0|108=30|"):
        eod.connect()
        eod.hear(message("A", 1 if "141=Y" in body else eod.sequence.inbound, body))
        epochs.append(eod.sequence.epoch)
    assert epochs == [2, 3, 3, 3]


def test_both_sides_of_a_reset_agree_on_the_numbers(now: Now) -> None:
    acme = Party("ACME", "EOD", now, initiator=True, sequence=SequenceNumbers(epoch=1, inbound=50, outbound=60))
    eod = Party("EOD", "ACME", now, sequence=SequenceNumbers(epoch=1, inbound=70, outbound=20))
    acme.session.logon(reset=True)
    _pump(acme, eod)
    assert acme.sequence == eod.sequence == SequenceNumbers(epoch=2, inbound=2, outbound=2)
    acme.say("after")
    _pump(acme, eod)
    assert eod.got == ["after"]


def test_a_reset_in_the_midst_of_a_session_begins_a_new_epoch_and_the_session_goes_on(eod: Party) -> None:
    """As some do at the end of their day without hanging up."""
    eod.hear(note(2) + note(4))
    eod.answers()
    logon = message("A", 1, "98=0|108=20|141=Y|")
    eod.hear(logon)
    assert eod.said() == ["A 1 108=20 141=Y"]
    assert eod.sequence == SequenceNumbers(epoch=2, inbound=2, outbound=2)
    assert (eod.session.closed, eod.session.logged_on, eod.session.heartbeat_s) == ("", True, 20)
    assert eod.aside == [note(4), logon], "what was held is on record: it will not be sent again"
    eod.hear(note(2))
    assert eod.got == ["2", "2"]


@pytest.mark.parametrize(
    ("number", "body"), [(2, "98=0|108=30|141=Y|"), (2, "98=0|108=30|"), (1, "43=Y|98=0|108=30|141=Y|")]
)
def test_a_logon_in_the_midst_of_a_session_that_does_not_begin_at_1_resets_nothing(
    eod: Party, number: int, body: str
) -> None:
    """A replayed one must not start the numbers over."""
    eod.hear(message("A", number, body))
    assert eod.sequence == SequenceNumbers(epoch=1, inbound=number + 1 if number == 2 else 2, outbound=2)
    assert (eod.said(), eod.session.closed) == ([], "")


def test_both_sides_of_a_reset_in_the_midst_agree_on_the_numbers(now: Now) -> None:
    acme = Party("ACME", "EOD", now, initiator=True)
    eod = Party("EOD", "ACME", now)
    acme.session.logon()
    _pump(acme, eod)
    acme.say("before")
    _pump(acme, eod)
    acme.session.logon(reset=True)
    _pump(acme, eod)
    assert acme.sequence == eod.sequence == SequenceNumbers(epoch=2, inbound=2, outbound=2)
    acme.say("after")
    _pump(acme, eod)
    assert eod.got == ["before", "after"]


def test_an_initiator_answers_a_reset_that_the_acceptor_begins(now: Now) -> None:
    acme = Party("ACME", "EOD", now, initiator=True, heartbeat_s=5)
    acme.session.logon()
    acme.hear(message("A", 1, "98=0|108=5|", sender="EOD", target="ACME"))
    acme.answers()
    acme.hear(message("A", 1, "98=0|108=5|141=Y|", sender="EOD", target="ACME"))
    assert acme.said() == ["A 1 108=5 141=Y"]
    assert acme.sequence == SequenceNumbers(epoch=2, inbound=2, outbound=2)


@pytest.mark.parametrize("kind", ["0", "1", "2", "4", "8", "B"])
def test_anything_before_the_logon_ends_the_connection_and_is_kept(acceptor: Party, kind: str) -> None:
    raw = message(kind, 1, "58=x|")
    acceptor.hear(raw)
    assert acceptor.session.closed == "the first message must be a Logon(A)"
    assert acceptor.said() == [], "nobody is told who tries doors"
    assert acceptor.aside == [raw]
    assert (acceptor.got, acceptor.sequence.inbound) == ([], 1)


@pytest.mark.parametrize(("sender", "target"), [("MALLORY", "EOD"), ("ACME", "OTHER"), ("EOD", "ACME"), ("", "EOD")])
def test_a_message_of_another_comp_id_ends_the_connection_and_moves_nothing(
    eod: Party, sender: str, target: str
) -> None:
    raw = message("B", 2, "58=x|", sender=sender, target=target)
    eod.hear(raw)
    assert "SenderCompID(49) or TargetCompID(56)" in eod.session.closed
    assert (eod.got, eod.aside, eod.sequence.inbound) == ([], [raw], 2)


@pytest.mark.parametrize(
    "number", ["", "x", "1x", "-2", "+2", " 2", "2 ", "1_0", "2.0", "9" * 19, "9" * 5_000], ids=lambda n: n[:20] or "-"
)
def test_a_msg_seq_num_that_is_no_number_ends_the_connection_and_moves_nothing(eod: Party, number: str) -> None:
    """Twenty digits fit no column; five thousand do not even convert."""
    raw = message("B", number, "58=x|")
    eod.hear(raw)
    assert "MsgSeqNum(34)" in eod.session.closed
    assert (eod.got, eod.aside, eod.sequence.inbound) == ([], [raw], 2)


def test_a_message_without_msg_seq_num_ends_the_connection(eod: Party) -> None:
    raw = message("B", 2, "58=x|")
    without = parsed(raw)
    del without.fields[b"34"]
    eod.session.received(raw, without, START_NS)
    assert "MsgSeqNum(34)" in eod.session.closed


# --- in turn ------------------------------------------------------------------------------------------------


def test_application_messages_are_delivered_in_their_turn_with_their_receive_time(eod: Party, now: Now) -> None:
    raw = note(2)
    now.pass_s(3)
    eod.session.received(raw, parsed(raw), now())
    (delivered,) = eod.session.delivered
    assert (delivered.msg_seq_num, delivered.frame, delivered.received_at_ns) == (2, raw, START_NS + 3_000_000_000)


@pytest.mark.parametrize(
    "raw", [message("0", 2), message("1", 2, "112=t|"), message("2", 2, "7=1|16=0|"), message("3", 2, "45=1|58=no|")]
)
def test_session_messages_in_their_turn_are_kept_aside_and_not_delivered(eod: Party, raw: bytes) -> None:
    eod.hear(raw)
    assert (eod.got, eod.aside, eod.sequence.inbound) == ([], [raw], 3)


@pytest.mark.parametrize(("body", "answer"), [("112=abc|", "0 2 112=abc"), ("", "0 2 112=")])
def test_a_test_request_is_answered_by_a_heartbeat_with_its_id(eod: Party, body: str, answer: str) -> None:
    eod.hear(message("1", 2, body))
    assert eod.said() == [answer]


def test_a_heartbeat_and_a_reject_are_not_answered(eod: Party) -> None:
    eod.hear(message("0", 2))
    eod.hear(message("3", 3, "45=1|58=never mind|"))
    assert eod.said() == []


# --- too low ------------------------------------------------------------------------------------------------


def test_a_possible_duplicate_is_kept_aside_and_not_delivered_again(eod: Party) -> None:
    eod.hear(note(2))
    eod.hear(note(2, dup=True))
    assert (eod.got, eod.aside, eod.session.closed) == (["2"], [note(2, dup=True)], "")


@pytest.mark.parametrize("flag", ["", "43=N|", "43=y|"])
def test_a_number_too_low_without_poss_dup_flag_ends_the_connection(eod: Party, flag: str) -> None:
    eod.hear(note(2))
    eod.hear(message("B", 2, f"{flag}58=other|"))
    assert eod.got == ["2"]
    assert eod.said() == ["5 2 58=MsgSeqNum too low, expecting 3 but received 2"]
    assert eod.session.closed


# --- gaps ---------------------------------------------------------------------------------------------------


def test_a_gap_is_asked_for_once_and_filled_in_order(eod: Party) -> None:
    for number in (4, 5, 6):
        eod.hear(note(number))
    assert eod.said() == ["2 2 7=2 16=3"]
    assert (eod.got, eod.session.held) == ([], 3)
    eod.hear(note(2, dup=True))
    assert eod.got == ["2"]
    eod.hear(note(3, dup=True))
    assert eod.got == ["2", "3", "4", "5", "6"]
    assert (eod.session.held, eod.sequence.inbound) == (0, 7)
    assert eod.said() == []


def test_what_could_not_be_held_is_asked_for_when_the_gap_is_filled(
    eod: Party, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nothing more comes."""
    monkeypatch.setattr(session_module, "MAX_HELD", 2)
    for number in (3, 4, 5, 6):
        eod.hear(note(number))
    eod.hear(note(2, dup=True))
    assert (eod.got, eod.session.held) == (["2", "3", "4"], 0)
    eod.said()
    now.pass_s(RETRY_RESEND_S)
    eod.session.tick()
    assert eod.said() == ["2 3 7=5 16=6"]
    for number in (5, 6):
        eod.hear(note(number, dup=True))
    now.pass_s(RETRY_RESEND_S)
    eod.session.tick()
    assert (eod.got[3:], eod.said(), eod.session.stuck_at) == (["5", "6"], [], 0)


def test_when_the_numbers_end_what_is_held_is_taken(eod: Party) -> None:
    for number in (3, 5, 6):
        eod.hear(note(number))
    eod.session.take_held()
    assert (eod.session.held, eod.sequence.inbound) == (0, 7)
    assert [parsed(one.frame).fields[b"34"] for one in eod.session.delivered] == [b"3", b"5", b"6"]


def test_no_two_sessions_have_one_name() -> None:
    ids = (b"A", b"A/B", b"A->B", b"FIX.4.2:A", b"A%2FB", b"B")
    named = {
        name_of(version, sender, target, sub): (version, sender, target, sub)
        for version in (b"FIX.4.2", b"FIX.4.4") for sender in ids for target in ids for sub in (b"", *ids)
    }  # fmt: skip
    assert len(named) == 2 * len(ids) ** 2 * (len(ids) + 1)
    assert name_of(b"FIX.4.4", b"BROKER-1", b"EOD") == "BROKER-1->EOD"
    assert name_of(b"FIX.4.2", b"A/B", b"EOD", b"D") == "FIX.4.2:A%2FB/D->EOD"


def test_several_gaps_are_asked_for_each_by_itself(eod: Party) -> None:
    for number in (4, 7, 8, 10):
        eod.hear(note(number))
    assert eod.said() == ["2 2 7=2 16=3", "2 3 7=5 16=6", "2 4 7=9 16=9"]
    for number in (5, 6, 2, 3):
        eod.hear(note(number, dup=True))
    assert eod.got == ["2", "3", "4", "5", "6", "7", "8"]
    eod.hear(note(9, dup=True))
    assert eod.got[-2:] == ["9", "10"]


def test_a_message_that_comes_twice_while_it_is_held_is_kept_aside_once(eod: Party) -> None:
    eod.hear(note(3))
    eod.hear(note(3, dup=True))
    assert eod.aside == [note(3, dup=True)]
    eod.hear(note(2, dup=True))
    assert eod.got == ["2", "3"]


def test_what_the_receive_time_was_survives_the_wait_behind_a_gap(eod: Party, now: Now) -> None:
    """Latency is measured from it: a message held for five seconds was received before them."""
    held, missing = note(3), note(2, dup=True)
    eod.session.received(held, parsed(held), START_NS)
    now.pass_s(5)
    eod.session.received(missing, parsed(missing), now())
    assert [d.received_at_ns for d in eod.session.delivered] == [START_NS + 5_000_000_000, START_NS]


def test_a_gap_that_does_not_move_is_asked_for_again_after_a_while(eod: Party, now: Now) -> None:
    eod.hear(note(5))
    assert eod.said() == ["2 2 7=2 16=4"]
    now.pass_s(RETRY_RESEND_S - 0.1)
    eod.session.tick()
    assert eod.said() == []
    eod.hear(note(2, dup=True))
    now.pass_s(RETRY_RESEND_S - 0.1)
    eod.session.tick()
    assert eod.said() == []
    now.pass_s(0.2)
    eod.session.tick()
    assert eod.said() == ["2 3 7=3 16=4"]
    eod.session.tick()
    assert eod.said() == []


def test_a_gap_that_never_moves_is_asked_for_so_often_and_no_more(eod: Party, now: Now) -> None:
    """Each try may bring the same garbled bytes again: both sides would pay for that for ever."""
    eod.hear(note(5))
    asked = []
    for _ in range(100):
        now.pass_s(RETRY_RESEND_S)
        eod.hear(message("0", 6, "43=Y|"))
        eod.session.tick()
        asked += [fields for fields in eod.answers() if fields[b"35"] == b"2"]
    assert [(fields[b"7"], fields[b"16"]) for fields in asked] == [(b"2", b"4"), *[(b"2", b"4")] * MAX_ASKS]
    assert (eod.session.stuck_at, eod.session.held, eod.session.closed) == (2, 2, "")


def test_a_session_that_was_stuck_goes_on_as_soon_as_anything_moves(eod: Party, now: Now) -> None:
    eod.hear(note(5))
    for _ in range(MAX_ASKS):
        now.pass_s(RETRY_RESEND_S)
        eod.session.tick()
    assert eod.session.stuck_at == 2
    eod.hear(note(2, dup=True))
    assert eod.session.stuck_at == 0
    now.pass_s(RETRY_RESEND_S)
    eod.answers()
    eod.session.tick()
    assert eod.said() == ["2 11 7=3 16=4"]
    eod.hear(reset_to(3, 5, fill=True, dup=True))
    assert (eod.got, eod.session.held) == (["2", "5"], 0)


def test_what_goes_beyond_the_limit_of_held_messages_is_set_aside_and_asked_for_again(
    eod: Party, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MAX_HELD", 3)
    for number in range(3, 9):
        eod.hear(note(number))
    assert eod.session.held == 3
    assert eod.aside == [note(6), note(7), note(8)]
    eod.answers()
    eod.hear(note(2, dup=True))
    assert eod.got == ["2", "3", "4", "5"]
    eod.hear(message("0", 9))
    now.pass_s(RETRY_RESEND_S)
    eod.session.tick()
    assert eod.said() == ["2 3 7=6 16=8"]
    for number in (6, 7, 8):
        eod.hear(note(number, dup=True))
    assert eod.got == [str(number) for number in range(2, 9)]
    assert eod.sequence.inbound == 10


def test_held_messages_are_given_up_in_order_when_the_connection_ends(eod: Party) -> None:
    for number in (9, 5, 7):
        eod.hear(note(number))
    assert eod.session.abandon_held() == [note(5), note(7), note(9)]
    assert eod.session.abandon_held() == []
    assert eod.sequence.inbound == 2


def test_a_logout_behind_a_gap_waits_for_its_turn(eod: Party) -> None:
    eod.hear(message("5", 4))
    assert (eod.session.closed, eod.said()) == ("", ["2 2 7=2 16=3"])
    eod.hear(note(2, dup=True))
    eod.hear(note(3, dup=True))
    assert eod.got == ["2", "3"]
    assert eod.session.closed == "the counterparty has logged out"


# --- resends ------------------------------------------------------------------------------------------------


@pytest.fixture
def talkative(now: Now) -> Party:
    """A party that sent: 1 Logon, 2 and 3 application, 4 and 5 heartbeats, 6 application, 7 heartbeat."""
    party = Party("EOD", "ACME", now)
    party.hear(message("A", 1, "98=0|108=30|"))
    party.say("two")
    party.say("three")
    party.session.send(b"0")
    party.session.send(b"0")
    party.say("six")
    party.session.send(b"0")
    party.answers()
    return party


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("7=1|16=7|", ["4 1 36=2 43=Y 123=Y", "B 2 43=Y 58=two", "B 3 43=Y 58=three", "4 4 36=6 43=Y 123=Y",
                       "B 6 43=Y 58=six", "4 7 36=8 43=Y 123=Y"]),
        ("7=1|16=0|", ["4 1 36=2 43=Y 123=Y", "B 2 43=Y 58=two", "B 3 43=Y 58=three", "4 4 36=6 43=Y 123=Y",
                       "B 6 43=Y 58=six", "4 7 36=8 43=Y 123=Y"]),
        ("7=2|16=3|", ["B 2 43=Y 58=two", "B 3 43=Y 58=three"]),
        ("7=3|16=3|", ["B 3 43=Y 58=three"]),
        ("7=4|16=5|", ["4 4 36=6 43=Y 123=Y"]),
        ("7=3|16=4|", ["B 3 43=Y 58=three", "4 4 36=5 43=Y 123=Y"]),
        ("7=5|16=6|", ["4 5 36=6 43=Y 123=Y", "B 6 43=Y 58=six"]),
        ("7=6|16=999999|", ["B 6 43=Y 58=six", "4 7 36=8 43=Y 123=Y"]),
        ("7=8|16=0|", []),
        ("7=0|16=3|", ["4 1 36=2 43=Y 123=Y", "B 2 43=Y 58=two", "B 3 43=Y 58=three"]),
    ],
)  # fmt: skip
def test_a_resend_request_is_answered_with_what_was_sent_and_gap_fills_between(
    talkative: Party, asked: str, answer: list[str]
) -> None:
    """A gap fill stands in the place of the first number that it fills, and names the one that follows."""
    before = talkative.sequence.outbound
    talkative.hear(message("2", 2, asked))
    assert talkative.said() == answer
    assert talkative.sequence.outbound == before, "a resend takes no new number"


@pytest.mark.parametrize("asked", ["7=1|", "16=2|", "7=x|16=2|", "7=1|16=|", "7=-1|16=0|", f"7=1|16={'9' * 5000}|"])
def test_a_resend_request_without_two_numbers_is_rejected(talkative: Party, asked: str) -> None:
    talkative.hear(message("2", 2, asked))
    (reject,) = talkative.said()
    assert reject.startswith("3 8 ")
    assert "371=7 373=5 45=2" in reject
    assert "BeginSeqNo(7) and EndSeqNo(16)" in reject
    assert not talkative.session.closed


def test_a_resend_request_ahead_of_its_turn_is_answered_at_once_and_only_once(talkative: Party) -> None:
    """Both sides may be missing something at once: each must answer before it has got what it asked for."""
    talkative.hear(message("2", 3, "7=6|16=6|"))
    assert talkative.said() == ["B 6 43=Y 58=six", "2 8 7=2 16=2"]
    talkative.hear(note(2, dup=True))
    assert talkative.said() == []
    assert talkative.sequence.inbound == 4


# --- SequenceReset ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "inbound", "rejected"),
    [
        (reset_to(2, 10, fill=True), 10, False),
        (reset_to(2, 3, fill=True), 3, False),
        (reset_to(2, 2, fill=True), 3, True),
        (reset_to(2, 1, fill=True), 3, True),
        (reset_to(2, "x", fill=True), 3, True),
        (reset_to(2, "", fill=True), 3, True),
        (reset_to(2, "9" * 19, fill=True), 3, True),
        (reset_to(2, "9" * 5_000, fill=True), 3, True),
        (reset_to(2, 10, fill=False), 10, False),
        (reset_to(77, 10, fill=False), 10, False),
        (reset_to(1, 10, fill=False), 10, False),
        (reset_to(2, 2, fill=False), 2, False),
        (reset_to(2, 1, fill=False), 2, True),
        (reset_to(2, "x", fill=False), 2, True),
        (reset_to(2, "9" * 19, fill=False), 2, True),
        (reset_to(2, "9" * 5_000, fill=False), 2, True),
        (message("4", 2, "36=10|"), 10, False),
        (message("4", 2, "123=Y|"), 3, True),
    ],
)
def test_a_sequence_reset_moves_forward_only(eod: Party, raw: bytes, inbound: int, rejected: bool) -> None:  # noqa: FBT001
    """Both modes; a NewSeqNo(36) that is no number, too low or beyond 18 digits is rejected and named."""
    eod.hear(raw)
    said = eod.said()
    assert eod.sequence.inbound == inbound
    assert (["371=36" in answer for answer in said] == [True]) is rejected
    assert rejected or said == []
    assert eod.aside == [raw]
    assert not eod.session.closed


def test_a_gap_fill_releases_what_was_held_behind_it(eod: Party) -> None:
    eod.hear(note(5))
    eod.hear(reset_to(2, 5, fill=True, dup=True))
    assert eod.got == ["5"]
    assert eod.sequence.inbound == 6


def test_a_gap_fill_over_what_is_held_takes_it(eod: Party) -> None:
    """The counterparty says that it has nothing to send again up to 7; 4 to 6 have come, and are ours already."""
    eod.hear(note(2))
    for number in (4, 5, 6):
        eod.hear(note(number))
    fill = reset_to(3, 7, fill=True, dup=True)
    eod.hear(fill)
    eod.hear(note(7))
    assert eod.got == ["2", "4", "5", "6", "7"]
    assert (eod.aside, eod.sequence.inbound, eod.session.held) == ([fill], 8, 0)


def test_a_gap_fill_that_is_held_is_taken_with_what_it_reaches_over(eod: Party) -> None:
    inner = reset_to(5, 9, fill=True)
    for raw in (note(4), inner, note(8), note(10)):
        eod.hear(raw)
    outer = reset_to(2, 7, fill=True, dup=True)
    eod.hear(outer)
    assert eod.got == ["4", "8"]
    assert (eod.aside, eod.sequence.inbound, eod.session.held) == ([outer, inner], 9, 1)
    eod.hear(note(9))
    assert eod.got == ["4", "8", "9", "10"]


@pytest.mark.parametrize("fill", [True, False])
def test_behind_a_held_logout_nothing_is_taken(eod: Party, fill: bool) -> None:  # noqa: FBT001
    for raw in (note(4), message("5", 5), note(6), note(9)):
        eod.hear(raw)
    reset = reset_to(2 if fill else 11, 9, fill=fill, dup=fill)
    eod.hear(reset)
    assert eod.got == ["4"]
    assert "logged out" in eod.session.closed
    assert eod.session.abandon_held() == [note(6), note(9)], "kept on record when the connection ends"


def test_a_gap_fill_ahead_of_its_turn_waits(eod: Party) -> None:
    eod.hear(reset_to(4, 9, fill=True))
    assert (eod.sequence.inbound, eod.said()) == (2, ["2 2 7=2 16=3"])
    eod.hear(note(2, dup=True))
    eod.hear(note(3, dup=True))
    assert (eod.got, eod.sequence.inbound) == (["2", "3"], 9)


def test_a_reset_jumps_over_a_gap_and_releases_what_was_held_from_there(eod: Party) -> None:
    for number in (6, 8, 9):
        eod.hear(note(number))
    reset = reset_to(10, 8, fill=False)
    eod.hear(reset)
    assert eod.got == ["6", "8", "9"], "a held message below the new number has come: nobody will send it again"
    assert eod.aside == [reset]
    assert eod.sequence.inbound == 10


@pytest.mark.parametrize("fill", [True, False])
def test_a_gap_behind_a_sequence_reset_is_asked_for_from_there(eod: Party, fill: bool) -> None:  # noqa: FBT001
    """Not from before it: those numbers are settled."""
    eod.hear(reset_to(2, 10, fill=fill))
    eod.hear(note(12))
    assert eod.said() == ["2 2 7=10 16=11"]


# --- rejects and logout -------------------------------------------------------------------------------------


def test_a_reject_names_the_message_the_tag_and_the_reason(eod: Party) -> None:
    eod.session.reject(parsed(message("8", 7)), Problem(Reason.REQUIRED_TAG_MISSING, b"31", "LastPx(31) is missing"))
    (fields,) = eod.answers()
    assert {tag: fields[tag] for tag in (b"35", b"45", b"371", b"372", b"373", b"58")} == {
        b"35": b"3", b"45": b"7", b"371": b"31", b"372": b"8", b"373": b"1",
        b"58": b"Required tag missing: LastPx(31) is missing",
    }  # fmt: skip


def test_a_text_that_holds_a_separator_or_strange_letters_cannot_break_the_reject(eod: Party) -> None:
    eod.session.reject(parsed(message("8", 7)), Problem(Reason.OUT_OF_RANGE, b"17", "bad\x0110=000\x01€"))
    (fields,) = eod.answers()
    assert fields[b"58"] == "Value is incorrect (out of range) for this tag: bad|10=000|€".encode()


def test_a_message_that_cannot_be_read_is_rejected_in_its_turn_and_takes_its_number(eod: Party) -> None:
    """So the counterparty is wrong once, and not for ever."""
    bad = message("8", 3, "32=1|32=2|")
    eod.hear(bad)
    assert (eod.refused, eod.said()) == ([], ["2 2 7=2 16=2"]), "not before its turn"
    eod.hear(note(2, dup=True) + note(4))
    assert eod.got == ["2", "4"]
    assert [(refused.msg_seq_num, refused.frame) for refused in eod.refused] == [(3, bad)]
    assert eod.refused[0].problem == (Reason.APPEARS_TWICE, b"32", "LastQty(32) appears more than once")
    assert eod.said() == ["3 3 371=32 373=13 45=3 58=Tag appears more than once: LastQty(32) appears more than once"]
    assert (eod.session.closed, eod.sequence.inbound) == ("", 5)


@pytest.mark.parametrize(("version", "reason"), [("FIX.4.4", b"13"), ("FIX.4.2", None)])
def test_a_reason_that_the_version_does_not_have_is_not_named(now: Now, version: str, reason: bytes | None) -> None:
    session = Session(
        begin_string=version.encode(), sender=b"EOD", target=b"ACME", sequence=SequenceNumbers(), now_ns=now
    )
    session.reject(parsed(message("8", 7, version=version)), Problem(Reason.APPEARS_TWICE, b"32", "x"))
    assert parsed(session.outbox[0]).fields.get(b"373") == reason


def test_an_answer_goes_back_the_way_that_the_message_came(eod: Party) -> None:
    head = "50=DESK|115=FUND|116=PM|144=NY|128=VENUE|129=BOOK|145=LDN|57=OPS|142=ONE|143=TWO|"
    eod.session.unsupported(parsed(message("B", 2, head + "58=x|")))
    (fields,) = eod.answers()
    tags = (b"50", b"57", b"115", b"116", b"128", b"129", b"142", b"143", b"144", b"145")
    assert [fields[tag] for tag in tags] == [
        b"OPS", b"DESK", b"VENUE", b"BOOK", b"FUND", b"PM", b"TWO", b"ONE", b"LDN", b"NY",
    ]  # fmt: skip
    assert {tag: fields[tag] for tag in (b"35", b"45", b"58", b"372", b"380")} == {
        b"35": b"j", b"45": b"2", b"58": b"Unsupported Message Type", b"372": b"B", b"380": b"3",
    }  # fmt: skip


def test_what_wraps_another_protocol_is_set_aside_and_not_answered(eod: Party) -> None:
    """The table of a wrapper that holds a frame and fields without "=": it is one data field to the dictionary."""
    inner = "<RTRF>8=FIX.4.2|9=40|35=8|55=ES|31=208700|32=1|10=000|</RTRF>"
    wrapper = message("n", 2, f"212={len(inner)}|213={inner}|")
    eod.hear(wrapper + note(3))
    assert (eod.got, eod.aside, eod.refused, eod.said()) == (["3"], [wrapper], [], [])


def test_a_logout_is_answered_and_ends_the_connection(eod: Party) -> None:
    eod.hear(message("5", 2, "58=bye|"))
    assert eod.said() == ["5 2"]
    assert eod.session.closed == "the counterparty has logged out: bye"


def test_the_answer_to_our_logout_is_not_answered_again(eod: Party) -> None:
    eod.session.logout("ingestion is stopping")
    eod.session.logout("ingestion is stopping")
    assert eod.said() == ["5 2 58=ingestion is stopping"]
    eod.hear(message("5", 2))
    assert eod.said() == []
    assert eod.session.closed


def test_messages_that_arrive_after_our_logout_are_still_delivered(eod: Party) -> None:
    """The counterparty may have sent them before it read the Logout."""
    eod.session.logout("stopping")
    eod.hear(note(2))
    assert eod.got == ["2"]


# --- time ---------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_sent_after_an_interval_of_our_own_silence(eod: Party, now: Now) -> None:
    now.pass_s(29.9)
    eod.session.tick()
    assert eod.said() == []
    now.pass_s(0.1)
    eod.session.tick()
    assert eod.said() == ["0 2"]
    now.pass_s(1)
    eod.session.tick()
    assert eod.said() == []


def test_silence_of_the_other_side_is_tested_once_and_then_ends_the_connection(eod: Party, now: Now) -> None:
    kinds = []
    while not eod.session.closed and now() < START_NS + 200 * 10**9:
        now.pass_s(1)
        eod.session.tick()
        kinds += [(round((now() - START_NS) / 1e9), fields[b"35"]) for fields in eod.answers()]
    assert [at for at in kinds if at[1] == b"1"] == [(36, b"1")]
    assert not eod.session.stuck_at
    assert round((now() - START_NS) / 1e9) == 72
    assert "not even an answer to a TestRequest" in eod.session.closed


def test_anything_heard_ends_the_suspicion(eod: Party, now: Now) -> None:
    now.pass_s(36)
    eod.session.tick()
    eod.answers()
    eod.hear(message("0", 2, "112=x|"))
    now.pass_s(35)
    eod.session.tick()
    assert [fields[b"35"] for fields in eod.answers()] == [b"0"]
    assert not eod.session.closed


def test_a_heartbeat_interval_of_nought_means_no_heartbeats_and_no_suspicion(acceptor: Party, now: Now) -> None:
    acceptor.hear(message("A", 1, "98=0|108=0|"))
    acceptor.answers()
    now.pass_s(10_000)
    acceptor.session.tick()
    assert (acceptor.said(), acceptor.session.closed) == ([], "")


def test_nothing_ticks_before_the_logon(acceptor: Party, now: Now) -> None:
    now.pass_s(10_000)
    acceptor.session.tick()
    assert (acceptor.said(), acceptor.session.closed) == ([], "")


# --- whatever comes -----------------------------------------------------------------------------------------

_TAGS = ["7", "16", "34", "36", "43", "49", "56", "108", "112", "123", "141"]
_VALUES = st.sampled_from(
    ["", "0", "1", "2", "3", "9", "Y", "N", "-1", "x", "ACME", "EOD", "\u00e9", "9" * 18, "9" * 30, "9" * 5_000]
)


@given(
    logged_on=st.booleans(),
    messages=st.lists(
        st.tuples(
            st.sampled_from([*"A012345", "8", "B", "", "ZZ"]), st.lists(st.tuples(st.sampled_from(_TAGS), _VALUES))
        ),
        max_size=6,
    ),
)
def test_no_fields_whatever_raise_or_lose_a_frame_or_number(
    logged_on: bool,  # noqa: FBT001
    messages: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    """Every received frame is delivered, set aside or held; the numbers stay such as columns and files can hold."""
    eod = Party("EOD", "ACME", Now())
    if logged_on:
        eod.hear(message("A", 1, "98=0|108=30|"))
    expected = list(eod.aside)
    session: Session = eod.session
    out: list[bytes] = []
    for kind, changes in messages:
        number = eod.sequence.inbound
        raw = message(kind, number, "".join(f"{tag}={value}|" for tag, value in changes))
        if session.closed:
            break
        session.received(raw, parsed(raw), START_NS)
        session.tick()
        expected.append(raw)
        out += [d.frame for d in session.delivered] + [r.frame for r in session.refused] + session.aside
        session.delivered.clear()
        session.refused.clear()
        session.aside.clear()
    kept = [*eod.aside, *(refused.frame for refused in eod.refused), *out, *session.abandon_held()]
    assert sorted(kept) == sorted(expected)
    assert 1 <= eod.sequence.inbound <= 10**18
    assert all(parsed(raw).fields[b"34"].isdigit() for raw in session.outbox)


def _pump(*parties: Party) -> None:
    """Carry everything across until both are quiet."""
    while any(party.session.outbox for party in parties):
        for party in parties:
            (other,) = [p for p in parties if p is not party]
            out, party.session.outbox = party.session.outbox, []
            for raw in out:
                other.hear(raw)


# --- what the owner takes itself ----------------------------------------------------------------------------


def test_messages_that_the_owner_has_dealt_with_count_as_received(eod: Party, now: Now) -> None:
    """The session asks for the gap behind them, and for nothing that they were."""
    eod.session.took(3, now())
    assert eod.sequence == SequenceNumbers(epoch=1, inbound=5, outbound=2)
    eod.hear(note(7))
    assert eod.said() == ["2 2 7=5 16=6"]
    eod.hear(note(5, dup=True) + note(6, dup=True))
    assert (eod.got, eod.sequence.inbound, eod.session.held) == (["5", "6", "7"], 8, 0)


def test_messages_that_the_owner_has_dealt_with_end_a_silence(eod: Party, now: Now) -> None:
    now.pass_s(40)
    eod.session.tick()
    assert eod.said()[-1].startswith("1 ")
    eod.session.took(1, now())
    now.pass_s(35)
    eod.session.tick()
    assert not eod.session.closed
    now.pass_s(2)
    eod.session.tick()
    assert eod.said()[-1].startswith("1 ")
