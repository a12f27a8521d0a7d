"""Messages → frames, with the header as engines of the QuickFIX family write it: 8, 9, 35, then ascending tags."""

from __future__ import annotations

from collections.abc import Mapping

from eod_workers.fix.frames import frame

NOTHING_MORE: Mapping[int, bytes] = {}


def compose(
    begin_string: bytes,
    msg_type: bytes,
    *,
    sender: bytes,
    target: bytes,
    number: int,
    sending_time: bytes,
    body: bytes = b"",
    original_time: bytes = b"",
    more: Mapping[int, bytes] = NOTHING_MORE,
) -> bytes:
    """The frame of a message.

    Args:
        begin_string: BeginString(8).
        msg_type: MsgType(35).
        sender: SenderCompID(49).
        target: TargetCompID(56).
        number: MsgSeqNum(34).
        sending_time: SendingTime(52).
        body: the fields behind the header, each with SOH.
        original_time: OrigSendingTime(122), which makes it a possible duplicate (PossDupFlag(43)=Y).
        more: other fields of the header, by tag.
    """
    if more:
        known = {34: b"%d" % number, 49: sender, 52: sending_time, 56: target}
        if original_time:
            known |= {43: b"Y", 122: original_time}
        fields = b"".join(b"%d=%b\x01" % field for field in sorted({**more, **known}.items()))
        return frame(begin_string, b"35=%b\x01%b%b" % (msg_type, fields, body))
    if original_time:
        head = b"35=%b\x0134=%d\x0143=Y\x0149=%b\x0152=%b\x0156=%b\x01122=%b\x01%b"
        return frame(begin_string, head % (msg_type, number, sender, sending_time, target, original_time, body))
    head = b"35=%b\x0134=%d\x0149=%b\x0152=%b\x0156=%b\x01%b"
    return frame(begin_string, head % (msg_type, number, sender, sending_time, target, body))
