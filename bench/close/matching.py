"""Which trade became visible when: publications that count a position's trades, matched to the trades sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from close.flow import Flow

Key = tuple[str, str]
"""(trader, symbol)."""

Seen = tuple[float, Key, int]
"""When, in nanoseconds of any clock; whose position; how many trades were in it."""


class BadReply(Exception):
    """Bytes that are not what Redis sends to a subscriber; the message shows them."""


def messages(reads: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """(when, payload) of each message in what a subscriber to patterns has read (RESP 2: arrays of bulk strings).

    A message that came in several reads is visible with the last of them.

    Raises:
        BadReply: the bytes are not arrays of bulk strings or integers, or an error of the server.
    """
    rest = b""
    for at_ns, data in reads:
        buffer, position = rest + data, 0
        while (found := _array(buffer, position)) is not None:
            parts, position = found
            if parts[0] == b"pmessage":
                yield at_ns, parts[3]
        rest = buffer[position:]


def _array(buffer: bytes, start: int) -> tuple[list[bytes], int] | None:
    """The array that begins here and where it ends; None if it is not whole yet."""
    head = _line(buffer, start)
    if head is None:
        return None
    line, position = head
    if line[:1] != b"*":
        raise BadReply(f"Redis said {line[:80]!r} to a subscriber")
    parts = []
    for _ in range(int(line[1:])):
        if (head := _line(buffer, position)) is None:
            return None
        line, position = head
        if line[:1] == b":":
            parts.append(line[1:])
            continue
        if line[:1] != b"$":
            raise BadReply(f"Redis put {line[:80]!r} into an array")
        end = position + int(line[1:])
        if len(buffer) < end + 2:
            return None
        parts.append(buffer[position:end])
        position = end + 2
    return parts, position


def _line(buffer: bytes, start: int) -> tuple[bytes, int] | None:
    end = buffer.find(b"\r\n", start)
    return None if end < 0 else (buffer[start:end], end + 2)


def visible_at(flow: Flow, seen: Iterable[Seen], before: dict[Key, int]) -> NDArray[np.float64]:
    """When each execution was first in a publication; NaN if never.

    The n-th execution of a position is in every publication of that position that counts at least n trades.

    Args:
        flow: what was sent, in the order in which each position's trades were sent.
        seen: publications in the order of their times.
        before: trades that each position had before the flow.
    """
    waiting: dict[Key, list[int]] = {}
    for row, (trader, symbol) in enumerate(zip(flow.trader.tolist(), flow.symbol.tolist(), strict=True)):
        waiting.setdefault((flow.traders[trader], flow.symbols[symbol]), []).append(row)
    reached = dict.fromkeys(waiting, 0)
    out = np.full(len(flow), np.nan)
    for at, key, trades in seen:
        rows = waiting.get(key)
        if rows is None:
            continue
        now = min(trades - before.get(key, 0), len(rows))
        if now > reached[key]:
            out[rows[reached[key] : now]] = at
            reached[key] = now
    return out


def intended(start: float, trades: int, per_s: float) -> NDArray[np.float64]:
    """When each execution was meant to be sent, in nanoseconds: evenly, whatever the sender managed."""
    return start + np.arange(trades) * (1e9 / per_s)


def spread(flow: Flow, lengths: Sequence[int]) -> NDArray[np.int64]:
    """Bytes of each session among the first n executions, for n = 0 … all: `[n, session]`."""
    sizes = np.zeros((len(flow) + 1, flow.shape.sessions), np.int64)
    sizes[np.arange(1, len(flow) + 1), flow.session] = lengths
    return np.cumsum(sizes, axis=0)
