"""What became visible and when: a subscriber of Redis for ours, a topic read afterwards for the peer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol
from urllib.parse import urlsplit

from close import topics
from close.account import Standing
from close.built import built
from close.matching import Key, Seen, messages
from close.servers import Servers

_READ_BYTES: Final = 1 << 20
_QUIET_S: Final = 1.0
_POLL_S: Final = 0.2
_E8: Final = 10**8
_E16: Final = 10**16


class View(Protocol):
    """What became visible of a side since `forget`, by a clock of its own."""

    def now_ns(self) -> int:
        """The time by its clock."""
        ...

    @property
    def last_ns(self) -> int:
        """When something became visible last; 0 if nothing has."""
        ...

    def moved(self) -> object:
        """Something cheap that changes as long as more becomes visible."""
        ...

    def forget(self) -> None:
        """Begins anew; positions stay."""
        ...

    def positions(self) -> dict[Key, Standing]:
        """The positions that stand now."""
        ...

    def seen(self) -> Iterable[Seen]:
        """Positions in the order in which they became visible."""
        ...


class Subscriber:
    """Everything published to `pnl-updates:*`, with the time at which it was read. Nothing is parsed meanwhile."""

    def __init__(self, made: Servers) -> None:
        parts = urlsplit(made.redis.url)
        self._made = made
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0))
        self._socket.sendall(f"AUTH {parts.password}\r\nPSUBSCRIBE pnl-updates:*\r\n".encode())
        if not self._socket.recv(64).startswith(b"+OK"):
            raise RuntimeError("Redis does not take the password of its own configuration")
        self._reads: list[tuple[int, bytes]] = []
        self._hung_up = False
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)
        self._thread.start()

    def now_ns(self) -> int:
        """The monotonic clock, the same in all processes."""
        return time.monotonic_ns()

    def moved(self) -> int:
        """When something was read last."""
        return self.last_ns

    def positions(self) -> dict[Key, Standing]:
        """Those that stand in Redis."""
        return stored(self._made)

    def _run(self) -> None:
        while data := self._socket.recv(_READ_BYTES):
            self._reads.append((time.monotonic_ns(), data))
        self._hung_up = True

    @property
    def last_ns(self) -> int:
        """When something was read last, by the monotonic clock; 0 if nothing ever was.

        Raises:
            RuntimeError: Redis has hung up, as it does on a subscriber that reads too slowly.
        """
        if self._hung_up:
            raise RuntimeError("Redis has hung up on the subscriber: what was published since then was not seen")
        return self._reads[-1][0] if self._reads else 0

    def close(self) -> None:
        """Hangs up."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def forget(self) -> None:
        """Begins anew."""
        self._reads.clear()

    def seen(self) -> Iterator[Seen]:
        """Positions in the order in which they became visible."""
        for at_ns, payload in messages(_without_greeting(self._reads)):
            update = json.loads(payload)
            for symbol, position in update["positions"].items():
                yield at_ns, (update["trader"], symbol), position["trades"]


def _without_greeting(reads: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The reads from the first array on: the answer to PSUBSCRIBE may be the first of them."""
    for number, (at_ns, data) in enumerate(reads):
        yield at_ns, data if number or data[:1] == b"*" else data[data.find(b"*") :]


@contextmanager
def subscriber(made: Servers) -> Iterator[Subscriber]:
    """A subscriber that hangs up afterwards."""
    subscribed = Subscriber(made)
    try:
        yield subscribed
    finally:
        subscribed.close()


def exact(text: str, unit: int) -> int:
    """Decimal text as an integer of that unit."""
    whole, _, part = text.removeprefix("-").partition(".")
    places = len(str(unit)) - 1
    value = int(whole) * unit + int(part.ljust(places, "0") or "0")
    return -value if text.startswith("-") else value


def stored(made: Servers) -> dict[Key, Standing]:
    """The positions that stand in Redis."""
    found = {}
    with made.client() as client:
        for key in client.scan_iter("positions:*", count=10_000):
            for symbol, payload in client.hgetall(key).items():
                said = json.loads(payload)
                found[key.decode().partition(":")[2], symbol.decode()] = Standing(
                    exact(said["quantity"], _E8),
                    exact(said["cost"], _E16),
                    exact(said["realized"], _E16),
                    said["trades"],
                )
    return found


class Stream:
    """What the peer has written to its topic of positions, with the broker's times. Read when all is quiet."""

    def __init__(self, made: Servers, topic: str) -> None:
        self._made = made
        self._topic = topic
        self._holding = built().envelopes.Holding
        self._next: topics.Ends = {}
        self._seen: list[Seen] = []
        self._positions: dict[Key, Standing] = {}
        self.last_ns = 0

    def now_ns(self) -> int:
        """The wall clock, which is the broker's."""
        return time.time_ns()

    def moved(self) -> topics.Ends:
        """How much there is."""
        return self._made.ends(self._topic)

    def forget(self) -> None:
        """Drops what was seen so far; the positions stay."""
        self._seen.clear()
        self.last_ns = 0

    def positions(self) -> dict[Key, Standing]:
        """The last of each on the topic; takes in what has come since the last time."""
        until = self.moved()
        asyncio.run(self._read(until))
        self._next = until
        return self._positions

    def seen(self) -> list[Seen]:
        """Positions in the order in which the broker had them."""
        return sorted(self._seen, key=lambda one: one[0])

    async def _read(self, until: topics.Ends) -> None:
        async for timestamp_ms, key, value in topics.read(self._made.kafka.bootstrap, self._topic, self._next, until):
            holding = self._holding.FromString(value)
            trader, _, symbol = (key or b"").decode().partition("/")
            self._positions[trader, symbol] = Standing(
                holding.quantity_e8,
                int.from_bytes(holding.cost_e16, "big", signed=True),
                int.from_bytes(holding.realized_e16, "big", signed=True),
                holding.trades,
            )
            at_ns = timestamp_ms * 1_000_000
            self.last_ns = max(self.last_ns, at_ns)
            self._seen.append((at_ns, (trader, symbol), holding.trades))


def until_right(look: Callable[[], object], difference: Callable[[], str], patience_s: float = 60.0) -> None:
    """Returns once all is quiet and nothing differs.

    Args:
        look: something cheap that changes while there is progress.
        difference: what is not yet as it must be, or ""; asked whenever `look` has stood still for a second.
        patience_s: how long without progress.

    Raises:
        RuntimeError: something differs, and nothing has moved for `patience_s`.
    """
    before, moved_at = look(), time.monotonic()
    asked_at = 0.0
    while True:
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        if (now := look()) != before:
            before, moved_at, asked_at = now, now_s, 0.0
        elif now_s - moved_at >= _QUIET_S and now_s - asked_at >= _QUIET_S:
            wrong = difference()
            if not wrong:
                return
            if now_s - moved_at > patience_s:
                raise RuntimeError(f"no time is worth reporting: {wrong}")
            asked_at = time.monotonic()
