"""What a counterparty might send, as steps that say how each message differs from a plain one.

A stream is a function of its steps, so that Hypothesis can shrink it and a seed can repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from eod_workers.fix.frames import frame

SOH = b"\x01"
_SENDING_TIME = b"20260102-21:00:00.000"


class Edit(NamedTuple):
    """A change of one field before the frame is closed: `set`, `drop`, `twice` (again at the end) or `first`."""

    what: str
    tag: bytes
    value: bytes


class Damage(NamedTuple):
    """A change of bytes at a thousandth of the message's length. `mended`: length and checksum are right all the same."""

    what: str
    at: int
    value: bytes
    mended: bool


class Step(NamedTuple):
    """One message. `ahead` is how far its MsgSeqNum(34) is beyond the next."""

    kind: str
    ahead: int = 0
    edits: tuple[Edit, ...] = ()
    damage: tuple[Damage, ...] = ()


Fields = list[tuple[bytes, bytes]]
_TRADE: Fields = [
    (b"37", b"O1"), (b"17", b"?"), (b"150", b"F"), (b"39", b"2"), (b"1", b"ACC1"), (b"453", b"1"), (b"448", b"T001"),
    (b"447", b"D"), (b"452", b"12"), (b"55", b"IBM"), (b"54", b"1"), (b"38", b"900"), (b"44", b"77.7"), (b"32", b"100"),
    (b"31", b"12.5"), (b"151", b"0"), (b"14", b"100"), (b"6", b"12.5"), (b"60", b"20260102-21:00:00.123"),
    (b"6061", b"VWAP"),
]  # fmt: skip


def _report(**changes: bytes) -> Fields:
    """The usual report with fields changed, and those put in front that it does not have."""
    given = {name[1:].encode(): value for name, value in changes.items()}
    known = {tag for tag, _ in _TRADE}
    return [(tag, value) for tag, value in given.items() if tag not in known] + [
        (tag, given.get(tag, value)) for tag, value in _TRADE
    ]


KINDS: dict[str, tuple[bytes, Fields]] = {
    "trade": (b"8", _TRADE),
    "sell": (b"8", _report(t54=b"5", t55=b"AIG", t448=b"T002", t32=b"0.00000001", t31=b"0")),
    "old": (b"8", _report(t20=b"0", t150=b"2")),
    "new": (b"8", _report(t150=b"0")),
    "dated": (b"8", _report(t75=b"20251231")),
    "listed": (b"8", _report(t207=b"XNYS", t167=b"CS")),
    "option": (b"8", _report(t167=b"OPT", t200=b"20260116", t201=b"1", t202=b"150")),
    "summary": (b"8", _report(t442=b"3")),
    "another day": (b"8", _report(t60=b"20260103-05:00:00")),
    "without its time": (b"8", [field for field in _TRADE if field[0] != b"60"]),
    "canceled": (b"8", _report(t150=b"4")),
    "bust": (b"8", _report(t150=b"H", t19=b"X1")),
    "correction": (b"8", _report(t20=b"2", t19=b"X1")),
    "text": (b"B", [(b"148", b"news")]),
    "logon": (b"A", [(b"98", b"0"), (b"108", b"30")]),
    "reset": (b"A", [(b"98", b"0"), (b"108", b"30"), (b"141", b"Y")]),
    "heartbeat": (b"0", []),
    "test": (b"1", [(b"112", b"are you there")]),
    "resend": (b"2", [(b"7", b"1"), (b"16", b"0")]),
    "reject": (b"3", [(b"45", b"1")]),
    "logout": (b"5", []),
}
"""MsgType(35) and the fields behind the header. `fill` sends what is missing; `skip` fills it with a SequenceReset."""


@dataclass
class _Sender:
    version: bytes
    name: bytes = b"ACME"
    next: int = 1
    missing: list[int] = field(default_factory=list)

    def message(self, number: int, kind: bytes, fields: Fields, step: Step) -> bytes:
        body = [(b"35", kind), (b"49", self.name), (b"56", b"EOD"), (b"34", b"%d" % number), (b"52", _SENDING_TIME)]
        body += [(tag, b"X%d" % number if value == b"?" else value) for tag, value in fields]
        for edit in step.edits:
            body = _edited(body, edit)
        text = b"".join(tag + b"=" + value + SOH for tag, value in body)
        for damage in step.damage:
            if damage.mended:
                text = _damaged(text, damage)
        raw = frame(self.version, text)
        for damage in step.damage:
            if not damage.mended:
                raw = _damaged(raw, damage)
        return raw

    def send(self, step: Step) -> bytes:
        if step.kind in {"fill", "skip"}:
            missing, self.missing = self.missing, []
            if step.kind == "fill":
                flag = [(b"43", b"Y")]
                return b"".join(self.message(number, b"8", flag + _TRADE, step) for number in missing)
            return b"".join(
                self.message(number, b"4", [(b"43", b"Y"), (b"123", b"Y"), (b"36", b"%d" % (number + 1))], step)
                for number in missing
            )
        number = max(self.next + step.ahead, 0)
        self.missing += range(self.next, number)
        self.next = max(self.next, number + 1)
        return self.message(number, *KINDS[step.kind], step)


def _edited(body: Fields, edit: Edit) -> Fields:
    if edit.what == "drop":
        return [field for field in body if field[0] != edit.tag]
    if edit.what == "twice":
        return [*body, (edit.tag, edit.value)]
    if edit.what == "first":
        return [(edit.tag, edit.value), *body]
    if any(tag == edit.tag for tag, _ in body):
        return [(tag, edit.value if tag == edit.tag else value) for tag, value in body]
    return [*body, (edit.tag, edit.value)]


def _damaged(text: bytes, damage: Damage) -> bytes:
    at = len(text) * damage.at // 1_000
    if damage.what == "cut":
        return text[:at] + text[at + max(len(damage.value), 1) :]
    if damage.what == "end":
        return text[:at]
    if damage.what == "insert":
        return text[:at] + damage.value + text[at:]
    return text[:at] + damage.value + text[at + len(damage.value) :]


def stream(steps: list[Step], version: bytes = b"FIX.4.4", name: bytes = b"ACME") -> bytes:
    """The bytes of the steps, one after the other, as a counterparty of that name writes them."""
    sender = _Sender(version, name)
    return b"".join(map(sender.send, steps))


# --- at random ----------------------------------------------------------------------------------------------

ODD_KINDS = (*KINDS, "fill", "skip")
TAGS = (
    b"1", b"17", b"19", b"20", b"31", b"32", b"34", b"35", b"43", b"49", b"52", b"54", b"55", b"56", b"60", b"75",
    b"98", b"108", b"122", b"150", b"167", b"207", b"442", b"448",
    b"447", b"452", b"6061", b"58", b"8", b"9", b"10", b"", b"017", b"abc", b"123456",
)  # fmt: skip
VALUES = (
    b"", b"0", b"1", b"2", b"12", b"F", b"H", b"G", b"4", b"8", b"Y", b"N", b"7.5", b"-1", b"-0", b"1e5", b".", b"100.",
    b"92233720368.54775807", b"92233720368.54775808", b"100000000000", b"0.000000001", b"1.2000000000", b"9" * 19,
    b"20260102-21:00:60.999999999", b"20260230-12:00:00", b"19691231-23:59:59", b"22620101-00:00:00", b"20240229-00:00:00",
    b"20260103-21:00:00", b"20260103-21:00:00.001", b"20260101-21:00:00", b"20260101-20:59:59.999", b"19700101-00:00:00",
    b"20160102-21:00:00", b"20160102-20:59:59.999", b"20300102-21:00:00", b"3600", b"3601",
    b"x" * 64, b"x" * 65, b"a=b", b"\xe9", b"\0", b" ", b" IBM", b"IBM ", b"8=FIX.4.4", b"10=000", b"T" * 300,
)  # fmt: skip
BYTES = (
    b"\x01", b"=", b"\0", b"\xff", b"8=FIX", b"\x018=FIX.4.4\x019=5\x01", b"\x0110=000\x01", b"9=", b"0", b"35=8\x01",
    b"8=FIX.4.4\x019=99999\x01", b"garbage", b"\x01\x01", b"12345678901234567890",
)  # fmt: skip
EDITS = ("set", "set", "drop", "twice", "first")
DAMAGES = ("put", "insert", "cut", "end")


def random_step(random: Random, odd: float) -> Step:
    """A plain trade, sometimes what was missing, or, with the probability `odd`, anything."""
    if random.random() >= odd:
        return Step(random.choice(("trade", "trade", "sell", "old"))) if random.random() < 0.9 else Step("fill")
    ahead = random.choice((0, 0, 0, 0, 0, 1, 1, 2, 5, -1, -3))
    edits, damage = [], []
    if ahead < 0 and random.random() < 0.9:
        edits.append(Edit("set", b"43", b"Y"))
    if random.random() < 0.5:
        edits += [
            Edit(random.choice(EDITS), random.choice(TAGS), random.choice(VALUES))
            for _ in range(random.choice((1, 1, 2, 4)))
        ]
    if random.random() < 0.3:
        value = random.choice((*BYTES, random.randbytes(random.choice((1, 1, 3)))))
        damage.append(Damage(random.choice(DAMAGES), random.randrange(1_001), value, random.random() < 0.6))
    kind = random.choice(("trade", "old", *ODD_KINDS))
    if kind in {"logout", "reset"} and random.random() < 0.8:
        kind = "trade"
    return Step(kind, ahead, tuple(edits), tuple(damage))


def random_cuts(random: Random, size: int) -> list[int]:
    """Where reads end."""
    if random.random() < 0.2:
        return [size]
    most = random.choice((3, 40, 400, 4_000))
    ends, at = [], 0
    while at < size:
        at = min(size, at + random.randint(1, most))
        ends.append(at)
    return ends
