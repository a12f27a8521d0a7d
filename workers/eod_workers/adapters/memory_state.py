"""A state store in this process's memory, which behaves as Redis does where the port is silent.

A key holds one kind of thing: a value, a versioned value or a hash. `put` and `delete` do not mind which; other calls
raise TypeError for a key of another kind. Subscribers that do not keep up are cut off, as Redis does.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from eod_workers.ports import StateWrites, Subscription, Taken, Unavailable

MAX_WAITING_BYTES = 32 * 1024 * 1024  # as Redis' client-output-buffer-limit for pubsub
MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Versioned:
    """What a key holds that is stored by version."""

    version: int
    value: bytes


class MemorySubscription:
    """Messages published since it began, kept until they are read, up to `MAX_WAITING_BYTES`."""

    def __init__(self, pattern: str, subscriptions: dict[MemorySubscription, None]) -> None:
        self._matches = _glob(pattern).fullmatch
        self._subscriptions = subscriptions
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._overrun = False
        self._closed = False
        self._news = asyncio.Event()

    def offer(self, channel: str, message: bytes) -> bool:
        """Takes a message if its channel matches, and says whether it does."""
        if self._overrun or self._matches(channel) is None:
            return False
        self._waiting.append((channel, message))
        self._waiting_bytes += len(message)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._overrun = True
            self._waiting.clear()
        self._news.set()
        return True

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """The messages, in the order published."""
        while not self._closed:
            if self._overrun:
                raise Unavailable(
                    f"the subscriber left more than {MAX_WAITING_BYTES} bytes unread and was cut off: "
                    "subscribe again, then read the state"
                )
            if self._waiting:
                channel, message = self._waiting.popleft()
                self._waiting_bytes -= len(message)
                yield channel, message
            else:
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        """Ends the iteration."""
        self._closed = True
        self._subscriptions.pop(self, None)
        self._news.set()


class MemoryState:
    """Keyed state that lives as long as this object."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes | Versioned | dict[str, bytes]] = {}
        self._subscriptions: dict[MemorySubscription, None] = {}

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""
        entry = self._entries.get(key)
        if entry is None or isinstance(entry, bytes):
            return entry
        raise _wrong_kind(key, "a value")

    async def put(self, key: str, value: bytes) -> None:
        """Sets the value."""
        self._entries[key] = bytes(value)

    async def put_if_newer(self, key: str, version: int, value: bytes) -> bool:
        """Sets value and version unless a higher version is stored."""
        check_version(version)
        stored = await self.get_versioned(key)
        if stored is not None and stored[0] > version:
            return False
        self._entries[key] = Versioned(version, bytes(value))
        return True

    async def get_versioned(self, key: str) -> tuple[int, bytes] | None:
        """What `put_if_newer` stored last, as (version, value), or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if isinstance(entry, Versioned):
            return entry.version, entry.value
        raise _wrong_kind(key, "a versioned value")

    async def take_over(self, key: str, at_least: int) -> Taken:
        """Raises the version, to `at_least` or one above the stored; the value stays."""
        check_version(at_least)
        stored = await self.get_versioned(key)
        previous, value = stored or (0, b"")
        version = max(at_least, previous + 1) if stored else at_least
        check_version(version)
        self._entries[key] = Versioned(version, value)
        return Taken(version, previous, value)

    async def put_if_absent(self, key: str, value: bytes) -> bool:
        """Sets the value if the key does not exist; True if it was set."""
        if key in self._entries:
            return False
        self._entries[key] = bytes(value)
        return True

    async def delete(self, key: str) -> None:
        """Removes the key, whatever it holds."""
        self._entries.pop(key, None)

    async def hash_get_all(self, key: str) -> dict[str, bytes]:
        """Field → value; empty if the key does not exist."""
        return dict(self._hash(key))

    async def hash_get(self, key: str, field: str) -> bytes | None:
        """The value of one field, or None."""
        return self._hash(key).get(field)

    async def hash_fields(self, key: str) -> list[str]:
        """The fields, sorted; empty if the key does not exist."""
        return sorted(self._hash(key))

    async def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        return sorted(key for key in self._entries if key.startswith(prefix))

    async def write(self, writes: StateWrites) -> None:
        """Applies the fields, all or none, then publishes."""
        for key in (*writes.fields, *writes.gone):
            self._hash(key)  # every refusal comes before the first change
        for key, fields in writes.fields.items():
            if fields:
                self._entries[key] = {**self._hash(key), **fields}
        for key, names in writes.gone.items():
            gone = set(names)
            left = {field: value for field, value in self._hash(key).items() if field not in gone}
            if left:
                self._entries[key] = left
            else:
                self._entries.pop(key, None)
        for channel, message in writes.publications:
            await self.publish(channel, message)

    async def publish(self, channel: str, message: bytes) -> int:
        """Publishes one message; returns how many subscriptions took it."""
        return sum([subscription.offer(channel, message) for subscription in tuple(self._subscriptions)])

    async def subscribe(self, pattern: str) -> Subscription:
        """Listens to the channels that match a glob pattern."""
        subscription = MemorySubscription(pattern, self._subscriptions)
        self._subscriptions[subscription] = None
        return subscription

    async def close(self) -> None:
        """Ends every subscription."""
        for subscription in tuple(self._subscriptions):
            await subscription.close()

    def _hash(self, key: str) -> dict[str, bytes]:
        entry = self._entries.get(key)
        if entry is None:
            return {}
        if isinstance(entry, dict):
            return entry
        raise _wrong_kind(key, "a hash")


def check_version(version: int) -> None:
    """Refuses a version that some adapter could not compare exactly."""
    if not 0 <= version <= MAX_VERSION:
        raise ValueError(f"version {version} is not between 0 and {MAX_VERSION}")


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(literal) for literal in pattern.split("*")), re.DOTALL)


def _wrong_kind(key: str, wanted: str) -> TypeError:
    return TypeError(f"{key} does not hold {wanted}: the key is in use for something else")
