"""What a side has sent, kept so that it can be sent again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.writing import NOTHING_MORE, compose

_BYTES = "latin-1"  # every byte is a character of it, and comes back


class Sent(NamedTuple):
    """A message that was sent: MsgType(35), SendingTime(52), the body, and what its header says besides, by tag."""

    msg_type: bytes
    sending_time: bytes
    body: bytes
    more: Mapping[int, bytes]

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return sum(map(len, (self.msg_type, self.sending_time, self.body, *self.more.values()))) + _OVERHEAD


_OVERHEAD = 40


class Kept:
    """The messages that a session has sent in one epoch of its numbers, by MsgSeqNum: all, or the latest of them.

    `changes` counts the additions, for whoever saves them.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        """Beyond `max_bytes` the oldest are forgotten, whole messages at a time."""
        self.messages: dict[int, Sent] = {}
        self.changes = 0
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, number: int, sent: Sent) -> None:
        """Keeps one more."""
        self.changes += 1
        self.messages[number] = sent
        if self._max_bytes is None:
            return
        self._bytes += sent.size
        while self._bytes > self._max_bytes:
            self._bytes -= self.messages.pop(next(iter(self.messages))).size

    def forget(self) -> None:
        """The numbers begin again. Nobody need save that: what is stored is of another epoch."""
        self.messages.clear()
        self._bytes = 0

    def encode(self, epoch: int) -> bytes:
        """All of them as they are stored, with the epoch of their numbers."""
        rows = [
            [
                number,
                *(part.decode(_BYTES) for part in sent[:3]),
                {tag: at.decode(_BYTES) for tag, at in sent[3].items()},
            ]
            for number, sent in self.messages.items()
        ]
        return json.dumps({"epoch": epoch, "sent": rows}).encode()

    @classmethod
    def decode(cls, value: bytes, epoch: int, max_bytes: int | None = None) -> Kept:
        """What `encode` was given; nothing if the numbers have begun again since.

        Raises:
            ValueError: the value is something else.
        """
        kept = cls(max_bytes)
        stored = json.loads(value)
        try:
            if stored["epoch"] == epoch:
                for number, msg_type, sending_time, body, more in stored["sent"]:
                    header = {int(tag): text.encode(_BYTES) for tag, text in more.items()}
                    sent = Sent(msg_type.encode(_BYTES), sending_time.encode(_BYTES), body.encode(_BYTES), header)
                    kept.add(number, sent)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"these are no sent messages: {error!r}") from error
        kept.changes = 0
        return kept


class SentMessages:
    """The messages of one session that are sent again when they are asked for."""

    def __init__(
        self, begin_string: bytes, sender: bytes, target: bytes, now_ns: Callable[[], int], kept: Kept | None = None
    ) -> None:
        """BeginString(8), SenderCompID(49) and TargetCompID(56) of all of them; `kept` are those there are already."""
        self.kept = Kept() if kept is None else kept
        self._begin_string = begin_string
        self._sender = sender
        self._target = target
        self._now_ns = now_ns

    def keep(
        self, number: int, msg_type: bytes, body: bytes, raw: bytes, more: Mapping[int, bytes] = NOTHING_MORE
    ) -> None:
        """Keeps a message. `raw` is its frame, `more` what its header says besides."""
        start = raw.index(b"\x0152=") + 4
        self.kept.add(number, Sent(msg_type, raw[start : raw.index(b"\x01", start)], body, more))

    def forget(self) -> None:
        """The numbers begin again."""
        self.kept.forget()

    def again(self, number: int) -> bytes:
        """The frame of a kept message as a possible duplicate, sent now.

        Raises:
            KeyError: none is kept under this number.
        """
        sent = self.kept.messages[number]
        return compose(
            self._begin_string,
            sent.msg_type,
            sender=self._sender,
            target=self._target,
            number=number,
            sending_time=format_timestamp(self._now_ns()),
            original_time=sent.sending_time,
            body=sent.body,
            more=sent.more,
        )

    def between(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Those from `first` to `last`, both included, as (MsgSeqNum, frame)."""
        for number in sorted(self.kept.messages):
            if first <= number <= last:
                yield number, self.again(number)
