"""Frames → messages by the dictionary: fields, repeating groups, and the first thing that is wrong.

Two ways of reading. *Lenient* is for those who send us trades: whatever can be understood in one way only is taken,
also fields that the version does not have; what could be understood in two ways is a problem. *Strict* asks for all
that the specification does, as a certification does.

Reasons and their wording: SessionRejectReason(373), FIX 4.4 vol. 2, "Reject".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from eod_workers.fix.dictionary import Dictionary, Field, Members, dictionary
from eod_workers.fix.fields import Fields, parse_timestamp_ns, quoted
from eod_workers.fix.frames import SOH


class Reason(IntEnum):
    """SessionRejectReason(373)."""

    INVALID_TAG_NUMBER = 0
    REQUIRED_TAG_MISSING = 1
    NOT_DEFINED_FOR_TYPE = 2
    UNDEFINED_TAG = 3
    WITHOUT_VALUE = 4
    OUT_OF_RANGE = 5
    BAD_FORMAT = 6
    DECRYPTION = 7
    SIGNATURE = 8
    COMP_ID = 9
    SENDING_TIME = 10
    INVALID_MSG_TYPE = 11
    XML = 12
    APPEARS_TWICE = 13
    OUT_OF_ORDER = 14
    GROUP_OUT_OF_ORDER = 15
    WRONG_COUNT = 16
    DELIMITER_IN_VALUE = 17


WORDING: dict[Reason, str] = {
    Reason.INVALID_TAG_NUMBER: "Invalid tag number",
    Reason.REQUIRED_TAG_MISSING: "Required tag missing",
    Reason.NOT_DEFINED_FOR_TYPE: "Tag not defined for this message type",
    Reason.UNDEFINED_TAG: "Undefined Tag",
    Reason.WITHOUT_VALUE: "Tag specified without a value",
    Reason.OUT_OF_RANGE: "Value is incorrect (out of range) for this tag",
    Reason.BAD_FORMAT: "Incorrect data format for value",
    Reason.DECRYPTION: "Decryption problem",
    Reason.SIGNATURE: "Signature problem",
    Reason.COMP_ID: "CompID problem",
    Reason.SENDING_TIME: "SendingTime accuracy problem",
    Reason.INVALID_MSG_TYPE: "Invalid MsgType",
    Reason.XML: "XML Validation error",
    Reason.APPEARS_TWICE: "Tag appears more than once",
    Reason.OUT_OF_ORDER: "Tag specified out of required order",
    Reason.GROUP_OUT_OF_ORDER: "Repeating group fields out of order",
    Reason.WRONG_COUNT: "Incorrect NumInGroup count for repeating group",
    Reason.DELIMITER_IN_VALUE: 'Non "data" value includes field delimiter (SOH character)',
}
"""The specification's own words for each reason."""


class Problem(NamedTuple):
    """Why a message must be rejected: the reason, the tag at fault (or b""), and a sentence that says more."""

    reason: Reason
    tag: bytes
    detail: str


Token = tuple[bytes, bytes]
"""(tag, value)."""


@dataclass(slots=True)
class Part:
    """One level: its fields, and the entries of its repeating groups under the tags of their counts."""

    fields: Fields = field(default_factory=dict)
    groups: dict[bytes, list[Part]] = field(default_factory=dict)


@dataclass(slots=True)
class Message(Part):
    """A whole message.

    Attributes:
        problem: the first thing that is wrong, or None. Fields are there all the same, as far as they could be read.
        repeated: tags that the dictionary does not know there and that come more than once: the first value counts.
    """

    problem: Problem | None = None
    repeated: frozenset[bytes] = frozenset()


PARTIES = b"453"
_PARTY = frozenset((b"448", b"447", b"452"))
_ONE_PARTY = _PARTY | {PARTIES}
_TAG = re.compile(rb"[1-9]\d{0,8}\Z")
_MAX_DIGITS = 9


def read(frame: bytes, known: Dictionary, *, strict: bool = False) -> Message:
    """The message of a frame that `FrameBuffer` has let through. It never raises: see `Message.problem`."""
    if not strict and (message := read_plain(frame, known)) is not None:
        return message
    return read_by_structure(frame, known, strict=strict)


def read_plain(frame: bytes, known: Dictionary) -> Message | None:
    """The same, the quick way: for messages whose fields each come once, with no group but one party; else None."""
    pairs = frame[:-1].split(SOH)
    try:
        fields: Fields = dict([pair.split(b"=", 1) for pair in pairs])
    except ValueError:
        return None
    if len(fields) != len(pairs):
        return None
    msg_type = fields.get(b"35", b"")
    if not msg_type:
        return None
    parties = _party_tags(known, msg_type)
    tags = fields.keys()
    if not structural(known, msg_type).isdisjoint(tags):
        return None
    if not tags <= known.fields.keys() and not _are_tags(tag for tag in tags if tag not in known.fields):
        return None
    if parties.isdisjoint(tags):
        return Message(fields)
    if fields.get(PARTIES) != b"1":
        return None
    order = list(fields)
    begin = order.index(PARTIES) + 1
    party = order[begin : begin + len(parties.intersection(tags)) - 1]
    if party[:1] != [b"448"] or not _PARTY.issuperset(party):
        return None
    return Message(fields, {PARTIES: [Part({tag: fields.pop(tag) for tag in party})]})


def read_by_structure(frame: bytes, known: Dictionary, *, strict: bool = False) -> Message:
    """The same, token by token."""
    found, problem = tokens(frame, known)
    reader = _Reader(found, known, strict=strict)
    message = reader.message()
    message.problem = problem or reader.problem
    if not strict and message.problem is None and not message.fields.get(b"35"):
        message.problem = Problem(Reason.WITHOUT_VALUE, b"35", "MsgType(35) has no value: nobody can tell what it is")
    if strict:
        message.problem = _unknown(message, known) or message.problem or _invalid(found, message, known)
    return message


def tokens(frame: bytes, known: Dictionary) -> tuple[list[Token], Problem | None]:
    """Tags and values in order; what a length field announces is one value, whatever it holds."""
    found: list[Token] = []
    problem: Problem | None = None
    position, size, last = 0, len(frame), b""
    data_tag, data_length = b"", 0
    while position < size:
        end = frame.find(SOH, position)
        end = size if end < 0 else end
        equals = frame.find(b"=", position, end)
        if equals < 0:
            problem = problem or _stray(frame[position:end], last)
            position = end + 1
            continue
        tag = frame[position:equals]
        if data_tag and tag == data_tag:
            announced = equals + 1 + data_length
            if data_length >= 0 and frame[announced : announced + 1] == SOH:
                end = announced
            else:
                problem = problem or Problem(
                    Reason.OUT_OF_RANGE, last, f"{_named(known, last)} does not lead to the end of {_named(known, tag)}"
                )
        elif data_tag and data_length:
            problem = problem or Problem(
                Reason.REQUIRED_TAG_MISSING, data_tag, f"{_named(known, data_tag)} is not behind its length"
            )
        elif tag in known.data:
            length = known.data[tag]
            problem = problem or Problem(
                Reason.REQUIRED_TAG_MISSING, length, f"{_named(known, length)} is not in front of {_named(known, tag)}"
            )
        value = frame[equals + 1 : end]
        if not _TAG.match(tag):
            problem = problem or Problem(Reason.INVALID_TAG_NUMBER, tag, f"{quoted(tag)} is no tag")
        data_tag = b""
        if tag in known.lengths:
            if value.isdigit() and len(value) <= _MAX_DIGITS:
                data_tag, data_length = known.lengths[tag], int(value)
            else:
                problem = problem or Problem(
                    Reason.BAD_FORMAT, tag, f"{_named(known, tag)}={quoted(value)} is no length"
                )
                data_tag, data_length = known.lengths[tag], -1
        found.append((tag, value))
        position, last = end + 1, tag
    return found, problem


def _stray(text: bytes, last: bytes) -> Problem:
    detail = f"field {quoted(text)} has no '=': only a data field may hold the separator"
    return Problem(Reason.DELIMITER_IN_VALUE, last, detail)


def _named(known: Dictionary, tag: bytes) -> str:
    there = known.fields.get(tag)
    return f"{there.name}({tag.decode('latin-1')})" if there else f"tag {tag[:32].decode('latin-1')}"


def _are_tags(texts: Iterable[bytes]) -> bool:
    return all(map(_TAG.match, texts))


@cache
def _lenient_parties() -> Members:
    """NoPartyIDs(453): some send it in FIX 4.2, too, which does not have it."""
    return dictionary(b"FIX.4.4").messages[b"8"].body.groups[PARTIES]


def _level(known: Dictionary, msg_type: bytes, *, strict: bool) -> Members:
    """What a message is read by."""
    level = known.level(msg_type)
    if strict or PARTIES in level.groups or msg_type not in known.messages:
        return level
    return _with_parties(known, msg_type)


@cache
def _with_parties(known: Dictionary, msg_type: bytes) -> Members:
    level = known.level(msg_type)
    return Members((*level.order, PARTIES), level.required, {**level.groups, PARTIES: _lenient_parties()})


def structural(known: Dictionary, msg_type: bytes) -> frozenset[bytes]:
    """Tags that the quick way leaves alone: of groups, apart from those of parties, of data and of its lengths."""
    return _structural(known, msg_type if msg_type in known.messages else b"")


@cache
def _structural(known: Dictionary, msg_type: bytes) -> frozenset[bytes]:
    level = _level(known, msg_type, strict=False)
    grouped = frozenset(level.groups).union(*(group.everywhere for group in level.groups.values()))
    return (grouped | known.lengths.keys() | known.data.keys()) - (_party_tags(known, msg_type) & _ONE_PARTY)


@cache
def _all_party_tags() -> frozenset[bytes]:
    return frozenset((PARTIES,)) | _lenient_parties().everywhere


def _party_tags(known: Dictionary, msg_type: bytes) -> frozenset[bytes]:
    """The tags of parties in a message that may have them, which is any that is known."""
    return _all_party_tags() if msg_type in known.messages else frozenset()


def repeating(known: Dictionary, msg_type: bytes) -> frozenset[bytes]:
    """The tags that may come more than once in a message: those inside its groups."""
    level = _level(known, msg_type, strict=False)
    return level.everywhere - level.tags


class _Reader:
    """Puts tokens where they belong."""

    def __init__(self, found: list[Token], known: Dictionary, *, strict: bool) -> None:
        self.problem: Problem | None = None
        self._found = found
        self._known = known
        self._strict = strict
        self._level = _level(known, dict(reversed(found)).get(b"35", b""), strict=strict)
        self._message = Message()
        self._repeated: set[bytes] = set()
        self._strays: list[Token] = []

    def message(self) -> Message:
        """The message. `problem` is set if there is any."""
        message, level = self._message, self._level
        at = 0
        while at < len(self._found):
            tag, value = self._found[at]
            if tag in level.groups and tag not in message.fields:
                at = self._group(at, level.groups[tag], message)
                continue
            if tag in _PARTY and tag not in level.tags and not self._strict and PARTIES in level.groups:
                self._strays.append((tag, value))
            else:
                self._put(tag, value)
            at += 1
        if self._strays:
            self._take_strays()
        message.repeated = frozenset(self._repeated)
        return message

    def _wrong(self, reason: Reason, tag: bytes, detail: str) -> None:
        if self.problem is None:
            self.problem = Problem(reason, tag, f"{_named(self._known, tag)} {detail}")

    def _put(self, tag: bytes, value: bytes) -> None:
        """A field of the message itself."""
        fields = self._message.fields
        if self._strict and tag not in self._level.tags and tag in self._level.everywhere:
            self._wrong(Reason.NOT_DEFINED_FOR_TYPE, tag, "stands outside its group")
        if tag not in fields:
            fields[tag] = value
        elif self._strict or tag in self._level.tags:
            self._wrong(Reason.APPEARS_TWICE, tag, "appears more than once")
        else:
            self._repeated.add(tag)

    def _group(self, at: int, members: Members, into: Part) -> int:
        """Reads the group whose count stands at `at`; returns where what follows it begins."""
        count_tag, count = self._found[at]
        group = _named(self._known, count_tag)
        into.fields[count_tag] = count
        entries = into.groups[count_tag] = []
        first, place = b"", -1
        at += 1
        while at < len(self._found):
            tag, value = self._found[at]
            if tag not in members.tags:
                if not entries or tag in self._level.everywhere:
                    break
                self._put(tag, value)  # which tells nothing about the group
                at += 1
                continue
            if not entries or tag == first:
                first, place = tag, -1
                if self._strict and tag != members.order[0]:
                    self._wrong(Reason.GROUP_OUT_OF_ORDER, tag, f"does not begin an entry of {group}")
                entries.append(Part())
            entry = entries[-1]
            if tag in entry.fields:
                self._wrong(Reason.APPEARS_TWICE, tag, f"appears more than once in an entry of {group}")
                at += 1
                continue
            if self._strict:
                if members.order.index(tag) < place:
                    self._wrong(Reason.GROUP_OUT_OF_ORDER, tag, f"is out of order in {group}")
                place = members.order.index(tag)
            if tag in members.groups:
                at = self._group(at, members.groups[tag], entry)
            else:
                entry.fields[tag] = value
                at += 1
        if not count.isdigit() or len(count) > _MAX_DIGITS:
            self._wrong(Reason.BAD_FORMAT, count_tag, f"is no number: {quoted(count)}")
        elif int(count) != len(entries):
            self._wrong(Reason.WRONG_COUNT, count_tag, f"announces {int(count)} entries, and there are {len(entries)}")
        return at

    def _take_strays(self) -> None:
        """Parties outside their group: taken as one if it is not there, since nothing else can be meant."""
        if PARTIES in self._message.groups:
            self._wrong(Reason.WRONG_COUNT, PARTIES, "does not count all parties: some stand elsewhere")
            return
        entries: list[Part] = []
        for tag, value in self._strays:
            if tag == b"448" or not entries:
                entries.append(Part())
            if tag in entries[-1].fields:
                self._wrong(Reason.APPEARS_TWICE, tag, "appears more than once for a party")
            entries[-1].fields.setdefault(tag, value)
        self._message.groups[PARTIES] = entries


# --- strict -------------------------------------------------------------------------------------------------


def _unknown(message: Message, known: Dictionary) -> Problem | None:
    """A message of a type that there is not: nobody can tell what else is wrong with it."""
    msg_type = message.fields.get(b"35", b"")
    if msg_type in known.messages:
        return None
    return Problem(Reason.INVALID_MSG_TYPE, b"", f"MsgType(35)={quoted(msg_type)} is not in {known.source}")


def _invalid(found: list[Token], message: Message, known: Dictionary) -> Problem | None:
    """The first thing that the specification does not allow."""
    level = known.level(message.fields.get(b"35", b""))
    return (
        _misplaced(found, known)
        or _missing(message, level, known)
        or next((wrong for tag, value in found if (wrong := _wrong(tag, value, level, known))), None)
    )


def _misplaced(found: list[Token], known: Dictionary) -> Problem | None:
    """Header, body and trailer stand in this order."""
    header, trailer = known.header.everywhere, known.trailer.everywhere
    place = 0
    for tag, _ in found:
        here = 0 if tag in header else 2 if tag in trailer else 1
        if here < place:
            return Problem(Reason.OUT_OF_ORDER, tag, f"{_named(known, tag)} is out of order")
        place = here
    return None


def _missing(part: Part, members: Members, known: Dictionary) -> Problem | None:
    for tag in members.required:
        if tag not in part.fields:
            return Problem(Reason.REQUIRED_TAG_MISSING, tag, f"{_named(known, tag)} is missing")
    for tag, entries in part.groups.items():
        for entry in entries:
            if wrong := _missing(entry, members.groups[tag], known):
                return wrong
    return None


def _wrong(tag: bytes, value: bytes, level: Members, known: Dictionary) -> Problem | None:
    """What is wrong with one field by itself."""
    there, name = known.fields.get(tag), _named(known, tag)
    if there is None:
        return Problem(Reason.INVALID_TAG_NUMBER, tag, f"{name} is not in {known.source}")
    if tag not in level.everywhere:
        return Problem(Reason.NOT_DEFINED_FOR_TYPE, tag, f"{name} is not a field of this message")
    if not value:
        return Problem(Reason.WITHOUT_VALUE, tag, f"{name} has no value")
    if not _FORMATS.get(there.type, _anything)(value):
        return Problem(Reason.BAD_FORMAT, tag, f"{name}={quoted(value)} is not of type {there.type}")
    if there.values and not _is_one_of(value, there):
        return Problem(Reason.OUT_OF_RANGE, tag, f"{name}={quoted(value)} is not one of its values")
    return None


def _is_one_of(value: bytes, there: Field) -> bool:
    values = value.split(b" ") if there.type in {"MULTIPLEVALUESTRING", "MULTIPLESTRINGVALUE"} else [value]
    return all(one in there.values for one in values)


def _anything(_value: bytes) -> bool:
    return True


def _timestamp(value: bytes) -> bool:
    try:
        parse_timestamp_ns(value)
    except ValueError:
        return False
    return True


def _date(value: bytes) -> bool:
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return False
    return len(value) == _DATE_BYTES and value.isdigit()


def _time(value: bytes) -> bool:
    return _timestamp(b"20000101-" + value)


def _month(value: bytes) -> bool:
    """A MonthYear: YYYYMM, YYYYMMDD or YYYYMMw1 to w5."""
    return _date(value) or (_MONTH.match(value) is not None and _date(value[:6] + b"01"))


_DATE_BYTES = 8
_INT = re.compile(rb"-?\d{1,18}\Z")
_FLOAT = re.compile(rb"-?(\d+\.?\d*|\.\d+)\Z")
_MONTH = re.compile(rb"\d{6}(w[1-5])?\Z")
_FORMATS = {
    **dict.fromkeys(("INT", "LENGTH", "NUMINGROUP", "SEQNUM", "DAYOFMONTH"), lambda value: bool(_INT.match(value))),
    **dict.fromkeys(
        ("FLOAT", "PRICE", "PRICEOFFSET", "QTY", "AMT", "PERCENTAGE"), lambda value: bool(_FLOAT.match(value))
    ),
    "CHAR": lambda value: len(value) == 1,
    "BOOLEAN": lambda value: value in {b"Y", b"N"},
    "UTCTIMESTAMP": _timestamp,
    "UTCTIMEONLY": _time,
    "UTCDATE": _date,
    "UTCDATEONLY": _date,
    "LOCALMKTDATE": _date,
    "MONTHYEAR": _month,
}
"""Type of the specification → whether a value is of it; others hold any text."""
