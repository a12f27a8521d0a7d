"""What a side has sent, kept so that it can be sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.writing import NOTHING_MORE, compose


class _Sent(NamedTuple):
    msg_type: bytes
    sending_time: bytes
    body: bytes
    more: Mapping[int, bytes]


class SentMessages:
    """The application messages of one session since its numbers began. Session messages are not sent again."""

    def __init__(self, begin_string: bytes, sender: bytes, target: bytes, now_ns: Callable[[], int]) -> None:
        """BeginString(8), SenderCompID(49) and TargetCompID(56) of all of them."""
        self._begin_string = begin_string
        self._sender = sender
        self._target = target
        self._now_ns = now_ns
        self._sent: dict[int, _Sent] = {}

    def keep(
        self, number: int, msg_type: bytes, body: bytes, raw: bytes, more: Mapping[int, bytes] = NOTHING_MORE
    ) -> None:
        """Keeps a message. `raw` is its frame, `more` what its header says besides."""
        start = raw.index(b"\x0152=") + 4
        self._sent[number] = _Sent(msg_type, raw[start : raw.index(b"\x01", start)], body, more)

    def forget(self) -> None:
        """The numbers begin again."""
        self._sent.clear()

    def again(self, number: int) -> bytes:
        """The frame of a kept message as a possible duplicate, sent now.

        Raises:
            KeyError: none is kept under this number.
        """
        sent = self._sent[number]
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
        for number in range(first, last + 1):
            if number in self._sent:
                yield number, self.again(number)
