"""Two sessions over a line that loses, garbles and repeats: everything is delivered once and in order all the same."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from eod_workers.fix.session import SequenceNumbers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amounts import examples
from support.fix_messages import message
from unit.fix.parties import Now, Party

_FATE = st.sampled_from(["ok", "ok", "lost", "garbled", "repeated", "echoed"])
# Few to show a failure with, many to find it with: left alone, Hypothesis draws about five.
FATES = st.lists(_FATE, max_size=10) | st.lists(_FATE, min_size=20, max_size=120)
STEPS = st.sampled_from(["acme", "acme", "acme", "eod", "eod", "carry", "tick", "reconnect"])
_GIVE_UP_S = 600


@dataclass
class Line:
    """A TCP connection that keeps the order but not the bytes. What fate does not say is carried over whole."""

    acme: Party
    eod: Party
    fates: deque[str]
    seen: Counter[str] = field(default_factory=Counter)

    def carry(self) -> None:
        """Bring across what both sides have to say, and their answers, until both are quiet."""
        while self.acme.session.outbox or self.eod.session.outbox:
            for speaker, hearer in ((self.acme, self.eod), (self.eod, self.acme)):
                out, speaker.session.outbox = speaker.session.outbox, []
                for raw in out:
                    if not hearer.session.closed:
                        self._one(speaker, hearer, raw)

    def _one(self, speaker: Party, hearer: Party, raw: bytes) -> None:
        fate = self.fates.popleft() if self.fates else "ok"
        self.seen[fate] += 1
        if fate == "lost":
            return
        if fate == "garbled":
            hearer.hear(raw[:-4] + b"%03d\x01" % ((int(raw[-4:-1]) + 1) % 256))
            return
        hearer.hear(raw)
        if fate == "repeated" and speaker.sent and not hearer.session.closed:
            hearer.hear(speaker.again(max(speaker.sent)))
        elif fate == "echoed" and speaker.sent and not hearer.session.closed:
            hearer.hear(speaker.again(min(speaker.sent)))

    def reconnect(self) -> None:
        """A new connection with the numbers of the one before; what was held ahead of a gap is forgotten."""
        for party in (self.acme, self.eod):
            party.session.abandon_held()
            party.connect()
        self.acme.session.logon()
        self.carry()


def settle(line: Line, now: Now) -> None:
    """Let time go by until nothing is missing any more; a connection that ends is made anew, as counterparties do."""
    quiet_s, started_ns, logon_ns = 0, now(), now()
    while quiet_s < 12:
        now.pass_s(1)
        before = (len(line.acme.got), len(line.eod.got), line.acme.session.held, line.eod.session.held)
        stuck = not line.acme.session.logged_on and now() - logon_ns > 5 * 10**9
        if line.acme.session.closed or line.eod.session.closed or stuck:
            line.reconnect()
            logon_ns = now()
        for party in (line.acme, line.eod):
            party.session.tick()
        line.carry()
        after = (len(line.acme.got), len(line.eod.got), line.acme.session.held, line.eod.session.held)
        calm = not line.fates and before == after and after[2:] == (0, 0) and line.acme.session.logged_on
        quiet_s = quiet_s + 1 if calm else 0
        assert now() - started_ns < _GIVE_UP_S * 10**9, "the sides never come to rest"


@settings(max_examples=examples(300))
@given(
    fates=FATES,
    talk=st.lists(STEPS, max_size=8) | st.lists(STEPS, min_size=15, max_size=40),
)
def test_every_message_is_delivered_once_and_in_order_whatever_the_line_does(fates: list[str], talk: list[str]) -> None:
    now = Now()
    acme = Party("ACME", "EOD", now, initiator=True, heartbeat_s=5)
    eod = Party("EOD", "ACME", now, heartbeat_s=5)
    line = Line(acme, eod, deque())
    line.reconnect()
    line.fates.extend(fates)
    said: dict[str, list[str]] = {"acme": [], "eod": []}
    for number, step in enumerate(talk):
        if step in said:
            speaker = acme if step == "acme" else eod
            if speaker.session.logged_on and not speaker.session.closed:
                said[step].append(f"{step} {number}")
                speaker.say(said[step][-1])
        elif step == "carry":
            line.carry()
        elif step == "tick":
            now.pass_s(1)
            acme.session.tick()
            eod.session.tick()
        else:
            line.carry()
            line.reconnect()
    line.carry()
    settle(line, now)
    assert eod.got == said["acme"]
    assert acme.got == said["eod"]


@settings(max_examples=examples(200))
@given(
    fates=FATES,
    messages=st.integers(1, 60),
)
def test_a_burst_over_a_bad_line_arrives_whole(fates: list[str], messages: int) -> None:
    now = Now()
    acme = Party("ACME", "EOD", now, initiator=True, heartbeat_s=5)
    eod = Party("EOD", "ACME", now, heartbeat_s=5)
    line = Line(acme, eod, deque())
    line.reconnect()
    line.fates.extend(fates)
    said = [f"note {number}" for number in range(messages)]
    for text in said:
        acme.say(text)
    line.carry()
    settle(line, now)
    assert eod.got == said


@given(
    numbers=st.permutations(range(2, 14)).flatmap(
        lambda order: st.lists(st.sampled_from(order), max_size=8).map(lambda extra: [*order, *extra])
    )
)
def test_any_order_of_possible_duplicates_is_delivered_once_in_the_right_order(numbers: list[int]) -> None:
    eod = Party("EOD", "ACME", Now())
    eod.hear(message("A", 1, "98=0|108=30|"))
    for number in numbers:
        eod.hear(message("B", number, f"43=Y|58={number}|"))
    assert eod.got == [str(number) for number in range(2, 14)]
    frames = len(eod.got) + len(eod.aside)
    assert frames == 1 + len(numbers), "each frame is delivered or set aside"


@given(resets=st.lists(st.booleans(), min_size=1, max_size=8))
def test_deliveries_of_one_counterparty_never_repeat_an_epoch_and_number(resets: list[bool]) -> None:
    """(epoch, MsgSeqNum) names a delivery, across connections and resets; within the log it only rises."""
    now, deliveries = Now(), []
    acme = Party("ACME", "EOD", now, initiator=True)
    eod = Party("EOD", "ACME", now)
    line = Line(acme, eod, deque())
    for reset in resets:
        acme.connect()
        eod.connect()
        acme.session.logon(reset=reset)
        line.carry()
        for _ in range(3):
            acme.say("x")
            out, acme.session.outbox = acme.session.outbox, []
            for raw in out:
                eod.hear(raw)
            deliveries.append((eod.sequence.epoch, eod.sequence.inbound - 1))
    assert deliveries == sorted(set(deliveries))
    assert eod.sequence == SequenceNumbers(1 + sum(resets), eod.sequence.inbound, eod.sequence.outbound)
