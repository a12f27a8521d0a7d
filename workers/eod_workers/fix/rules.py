"""How much a session asks of the other side: of every message, and of the Logon(A) that begins it."""

from __future__ import annotations

from dataclasses import dataclass

from eod_workers.fix.fields import Fields, format_timestamp, parse_timestamp_ns, quoted, text_of
from eod_workers.fix.reading import Message, Problem, Reason

MAX_HEARTBEAT_S = 3_600
"""The longest HeartBtInt(108): whoever has gone must be missed in the same trading session."""
MAX_ACCURACY_S = 366 * 86_400
"""The most that SendingTime(52) can be told to be off; who wants more does not look at it."""

_MAX_DIGITS = 18  # a number of more fits no column, and int() refuses very long texts in its own words
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """How much is asked of the other side.

    Attributes:
        strict: what the specification forbids is rejected, ResendRequests are open-ended, and what the specification
            leaves open is done as the QuickFIX family does it, since certifications want it so: a Logout is answered
            whatever its MsgSeqNum, a ResendRequest also under a number that is too low, and who does not answer a
            TestRequest is sent no Heartbeat. Otherwise whatever can be meant in one way only is taken, and exactly what
            is missing is asked for.
        accuracy_s: how far SendingTime(52) may be from our clock; None does not look at it.
        logout_s: how long the answer to our Logout(5) may take.
    """

    strict: bool = False
    accuracy_s: int | None = None
    logout_s: float = 10

    @property
    def accuracy_ns(self) -> int:
        """How far SendingTime(52) may be from our clock, in nanoseconds; 0 does not look at it."""
        return (self.accuracy_s or 0) * _NS

    def why_no_logon(self, message: Message, received_at_ns: int) -> str:
        """Why a Logon(A) is refused although it is one, or "": FIX 4.4 vol. 2, "Logon"."""
        if message.problem is not None:
            return message.problem.detail
        fields = message.fields
        why = _why_not_encrypted(fields) or self._why_no_heartbeat(fields)
        if why or self.strict:  # who is strict says nothing to whoever has another time
            return why
        wrong = self.without_time(fields) or self.wrong_time(fields, received_at_ns)
        return wrong.detail if wrong is not None else ""

    def wrong_time(self, fields: Fields, received_at_ns: int) -> Problem | None:
        """What is wrong with SendingTime(52) of a message: FIX 4.4 vol. 2, "SendingTime accuracy problem"."""
        if self.accuracy_s is None or (text := fields.get(b"52")) is None:
            return None
        try:
            sent_ns = parse_timestamp_ns(text)
        except ValueError as error:
            if self.strict:
                return None  # the dictionary has more to say about it
            return Problem(Reason.SENDING_TIME, b"52", f"SendingTime(52): {error}")
        if abs(received_at_ns - sent_ns) <= self.accuracy_ns:
            return None
        detail = (
            f"SendingTime(52)={text_of(text)} is more than {self.accuracy_s:,} s "
            f"{'behind' if sent_ns < received_at_ns else 'ahead of'} our clock, which says "
            f"{format_timestamp(received_at_ns).decode()} UTC: set yours right"
        )
        return Problem(Reason.SENDING_TIME, b"52", detail)

    def without_time(self, fields: Fields) -> Problem | None:
        """What is wrong with a message that has no SendingTime(52), where that is looked at."""
        if self.accuracy_s is None or b"52" in fields:
            return None
        return Problem(Reason.REQUIRED_TAG_MISSING, b"52", "SendingTime(52) is missing: every message has one")

    def _why_no_heartbeat(self, fields: Fields) -> str:
        text = fields.get(b"108")
        if text is None:
            return (
                "" if self.strict else "HeartBtInt(108) is missing: a Logon(A) says it in seconds, 0 for no heartbeats"
            )
        if text.startswith(b"-"):
            return "HeartBtInt(108) must not be negative"
        if (seconds := number_of(fields, b"108")) is None:
            return f"HeartBtInt(108)={quoted(text)} is no number of seconds"
        if seconds > MAX_HEARTBEAT_S:
            return (
                f"HeartBtInt(108)={seconds} is too long: at most {MAX_HEARTBEAT_S:,} s are taken, 0 for no heartbeats"
            )
        return ""


LENIENT = Rules()
"""For those who send us trades."""
STRICT = Rules(strict=True, accuracy_s=120, logout_s=2)
"""For conformance runs."""


def number_of(fields: Fields, tag: bytes) -> int | None:
    """The value of a field that must be a whole number: digits alone, which int() would not insist on."""
    text = fields.get(tag, b"")
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None


def _why_not_encrypted(fields: Fields) -> str:
    """Why EncryptMethod(98) is none that is spoken here, or ""."""
    text = fields.get(b"98")
    if text is None:
        return "EncryptMethod(98) is missing: only 0, none, is supported"
    if not text or text.strip(b"0"):
        return f"EncryptMethod(98)={text_of(text)[:16]}: only 0, none, is supported"
    return ""
