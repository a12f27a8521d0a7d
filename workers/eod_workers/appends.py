"""Waiting for the log to take what was sent to it, by whoever can say why it does not, and try again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eod_workers.ports import Appended, Producer, Unavailable, nobody_leads

_LOOK_S = 1.0


async def acknowledged(producer: Producer, sent: Sequence[asyncio.Future[Appended]]) -> list[Appended]:
    """Where the log has put records; a producer by itself waits for leaders for as long as it takes.

    Args:
        producer: that they were sent by; to be closed after an error.
        sent: what its `send` returned.

    Raises:
        Unavailable: the log did not take one, or nobody leads the partition of one.
    """
    waiting = asyncio.gather(*sent)
    try:
        while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
            if without := producer.leaderless():
                raise Unavailable(nobody_leads(without))
        return await waiting
    finally:
        waiting.cancel()
