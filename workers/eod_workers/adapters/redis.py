"""The state store on Redis.

A versioned value is a hash of two fields, and its version is kept as digits of fixed width: Lua's numbers are doubles
and would confuse versions beyond 2⁵³, such as nanoseconds. Nothing is retried here; `Unavailable` leaves that to the
caller, who knows what it means. Positions must not be evicted: another policy than `noeviction` is warned of.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import structlog

from eod_workers.adapters.memory_state import MAX_VERSION, check_version
from eod_workers.adapters.redis_look import RedisSeen, look
from eod_workers.lean import without
from eod_workers.ports import StateWrites, Subscription, Taken, Unavailable

with without("opentelemetry.sdk.metrics"):  # which redis would count its commands with, if it were told to
    from redis import exceptions
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.client import PubSub
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.connection import HiredisRespSerializer

DEFAULT_TIMEOUT_S = 2.0
_QUIET_S = 5.0  # a subscription without messages asks the server whether it is there
_SCAN_COUNT = 1_000
_VERSION_DIGITS = 19
_RESP2 = 2
_PORT = 6379
_SUBSCRIBED = "psubscribe"
_MESSAGE = "pmessage"
_GLOB_SPECIAL = re.compile(r"[\\?\[\]^]")

_PUT_IF_NEWER = """
local stored = redis.call('HGET', KEYS[1], 'version')
if stored and stored > ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'value', ARGV[2])
return 1
"""

# The version that follows the stored one is counted in two halves, each of which a double holds exactly.
_TAKE_OVER = """
local stored = redis.call('HGET', KEYS[1], 'version')
local version = ARGV[1]
if stored and stored >= version then
    if stored == ARGV[2] then return {stored, stored, ''} end
    local high, low = tonumber(string.sub(stored, 1, 10)), tonumber(string.sub(stored, 11)) + 1
    if low == 1000000000 then high, low = high + 1, 0 end
    version = string.format('%010.0f%09.0f', high, low)
end
redis.call('HSET', KEYS[1], 'version', version)
redis.call('HSETNX', KEYS[1], 'value', '')
return {version, stored or '0', redis.call('HGET', KEYS[1], 'value')}
"""

# A transaction has an answer for each command, and reading them cost the client more than all else.
# ARGV: of how many of the keys fields are set (they go from the others), how many fields each key has, the fields (with
# their values, where they are set), channels with their messages. Lua's stack is small.
_WRITE = """
local at, set = #KEYS + 2, tonumber(ARGV[1])
for number, key in ipairs(KEYS) do
    local command, each = 'HSET', 2
    if number > set then command, each = 'HDEL', 1 end
    local last = at + each * tonumber(ARGV[number + 1]) - 1
    while at <= last do
        local to = math.min(at + 1999, last)
        redis.call(command, key, unpack(ARGV, at, to))
        at = to + 1
    end
end
for number = at, #ARGV, 2 do redis.call('PUBLISH', ARGV[number], ARGV[number + 1]) end
"""

_log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")


def _packing(connection_class: type[Any]) -> type[Any]:
    """The same kind of connection, which packs its commands in C, as redis-py's own does that is not asynchronous."""
    return type(f"Packing{connection_class.__name__}", (connection_class,), {"pack_command": _pack})


def _pack(_connection: object, *arguments: Any) -> list[bytes]:
    packed: list[bytes] = HiredisRespSerializer().pack(*arguments)
    return packed


class RedisState:
    """See `ports.StateStore`. A key of another kind than the call wants raises TypeError.

    Args:
        url: `redis://[user]:password@host:port/db`; `rediss://` for TLS, with certificate and host name verified.
        ca_file: PEM of who may sign the server's certificate; empty for the system's authorities.
        timeout_s: limit of connecting and of every answer.
    """

    def __init__(self, url: str, *, ca_file: str = "", timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        tls: dict[str, Any] = {"ssl_ca_certs": ca_file} if ca_file else {}  # a plain connection takes no such argument
        pool = ConnectionPool.from_url(
            url,
            **tls,
            protocol=_RESP2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        pool.connection_class = _packing(pool.connection_class)
        self._redis: Any = Redis.from_pool(pool)
        told = pool.connection_kwargs
        self._where = (
            f"{told['host']}:{told.get('port', _PORT)}" if "host" in told else str(told.get("path", "localhost"))
        )
        self._put_if_newer = self._redis.register_script(_PUT_IF_NEWER)
        self._take_over = self._redis.register_script(_TAKE_OVER)
        self._write = self._redis.register_script(_WRITE)
        self._timeout_s = timeout_s
        self._subscriptions: set[RedisSubscription] = set()
        self._policy_seen = False
        self._closed = False

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""
        value: bytes | None = await self._ask(partial(self._redis.get, key))
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Sets the value."""
        await self._ask(partial(self._redis.set, key, value))

    async def put_if_newer(self, key: str, version: int, value: bytes) -> bool:
        """Sets value and version unless a higher version is stored."""
        check_version(version)
        return bool(await self._ask(partial(self._put_if_newer, keys=[key], args=[_digits(version), value])))

    async def get_versioned(self, key: str) -> tuple[int, bytes] | None:
        """What `put_if_newer` stored last, as (version, value), or None."""
        version, value = await self._ask(partial(self._redis.hmget, key, ["version", "value"]))
        return None if version is None else (int(version), value)

    async def take_over(self, key: str, at_least: int) -> Taken:
        """Raises the version, to `at_least` or one above the stored; the value stays."""
        check_version(at_least)
        args = [_digits(at_least), _digits(MAX_VERSION)]
        version, previous, value = await self._ask(partial(self._take_over, keys=[key], args=args))
        if version == previous:
            check_version(int(version) + 1)
        return Taken(int(version), int(previous), value)

    async def put_if_absent(self, key: str, value: bytes) -> bool:
        """Sets the value if the key does not exist; True if it was set."""
        return bool(await self._ask(partial(self._redis.set, key, value, nx=True)))

    async def delete(self, key: str) -> None:
        """Removes the key, whatever it holds."""
        await self._ask(partial(self._redis.delete, key))

    async def hash_get_all(self, key: str) -> dict[str, bytes]:
        """Field → value; empty if the key does not exist."""
        fields = await self._ask(partial(self._redis.hgetall, key))
        return {field.decode(): value for field, value in fields.items()}

    async def hash_get(self, key: str, field: str) -> bytes | None:
        """The value of one field, or None."""
        value: bytes | None = await self._ask(partial(self._redis.hget, key, field))
        return value

    async def hash_fields(self, key: str) -> list[str]:
        """The fields, sorted; empty if the key does not exist."""
        return sorted(field.decode() for field in await self._ask(partial(self._redis.hkeys, key)))

    async def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted. It walks the whole database."""
        return await self._ask(partial(self._scan, prefix))

    async def write(self, writes: StateWrites) -> None:
        """Applies the fields, then publishes, in one script: nobody sees half of it."""
        hashes = {key: fields for key, fields in writes.fields.items() if fields}
        gone = {key: fields for key, fields in writes.gone.items() if fields}
        if not hashes and not gone and not writes.publications:
            return
        args: list[str | bytes | int] = [len(hashes)]
        args.extend(len(fields) for fields in (*hashes.values(), *gone.values()))
        for fields in hashes.values():
            args.extend(chain.from_iterable(fields.items()))
        args.extend(chain.from_iterable(gone.values()))
        args.extend(chain.from_iterable(writes.publications))
        await self._ask(partial(self._write, keys=[*hashes, *gone], args=args))

    async def publish(self, channel: str, message: bytes) -> int:
        """Publishes one message; returns how many subscriptions this server gave it to."""
        return int(await self._ask(partial(self._redis.publish, channel, message)))

    async def subscribe(self, pattern: str) -> Subscription:
        """Listens to the channels that match a glob pattern; messages published from now on are received."""
        pubsub = self._redis.pubsub()
        subscription = RedisSubscription(pubsub, self._subscriptions.discard)
        try:
            await self._ask(partial(subscription.begin, pattern, self._timeout_s))
        except BaseException:
            await pubsub.aclose()
            raise
        self._subscriptions.add(subscription)
        return subscription

    async def look(self) -> RedisSeen:
        """What the server is like."""
        return await self._ask(partial(look, self._redis))

    async def close(self) -> None:
        """Ends every subscription and closes the connections."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        await self._redis.aclose()

    async def _scan(self, prefix: str) -> list[str]:
        pattern = f"{_literally(prefix).replace('*', chr(92) + '*')}*"
        return sorted({key.decode() async for key in self._redis.scan_iter(match=pattern, count=_SCAN_COUNT)})

    async def _ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._closed:
            raise RuntimeError("this store is closed")
        try:
            if not self._policy_seen:
                await self._look_at_policy()
            return await call()
        except exceptions.RedisError as error:
            raise _translation(error, self._where) from error

    async def _look_at_policy(self) -> None:
        try:
            policy = (await self._redis.config_get("maxmemory-policy")).get("maxmemory-policy")
        except exceptions.ResponseError:
            policy = None  # hosted servers refuse CONFIG
        self._policy_seen = True
        if policy not in {None, "noeviction"}:
            _log.warning("redis may evict positions", maxmemory_policy=policy, remedy="set maxmemory-policy noeviction")


class RedisSubscription:
    """Messages of one connection; see `ports.Subscription`.

    A connection that breaks is not mended silently, because messages are lost with it: the iteration raises
    `Unavailable`. Whoever needs more subscribes again and then reads the state.
    """

    def __init__(self, pubsub: PubSub, forget: Callable[[RedisSubscription], None]) -> None:
        self._pubsub: Any = pubsub
        self._forget = forget
        self._closed = False

    async def begin(self, pattern: str, timeout_s: float) -> None:
        """Subscribes, and returns when the server has confirmed."""
        await self._pubsub.psubscribe(_literally(pattern))
        answer = await self._pubsub.get_message(timeout=timeout_s)
        if answer is None or answer["type"] != _SUBSCRIBED:
            raise exceptions.ConnectionError(f"no confirmation of the subscription to {pattern}: {answer}")

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """The messages, in the order published on each channel."""
        asked = False
        while not self._closed:
            try:
                message = await self._pubsub.get_message(timeout=_QUIET_S)
                if message is None and asked:
                    raise exceptions.ConnectionError(f"no answer for {_QUIET_S} s")
                asked = message is None
                if asked:
                    await self._pubsub.ping()
            except (exceptions.RedisError, OSError, RuntimeError) as error:
                if self._closed:
                    return
                raise Unavailable(f"the subscription broke, messages may be lost: {error}") from error
            if message is not None and message["type"] == _MESSAGE:
                yield message["channel"].decode(), message["data"]

    async def close(self) -> None:
        """Ends the iteration."""
        self._closed = True
        self._forget(self)
        await self._pubsub.aclose()


def _digits(version: int) -> str:
    """Of fixed width, so that texts compare as the numbers do."""
    return f"{version:0{_VERSION_DIGITS}}"


def _literally(pattern: str) -> str:
    """Only `*` is special in our patterns."""
    return _GLOB_SPECIAL.sub(lambda found: "\\" + found[0], pattern)


_NOT_ALLOWED = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)
_TRY_AGAIN = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)
_UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"
_TRY_AGAIN_WORDS = ("LOADING", "MASTERDOWN", "READONLY", "OOM", "BUSY", "MISCONF", "NOREPLICAS", "EXECABORT")


def _translation(error: exceptions.RedisError, where: str) -> Exception:
    if isinstance(error, _NOT_ALLOWED):
        return PermissionError(f"redis refuses: {error} (the password and the user are in EOD_REDIS_URL)")
    if _UNVERIFIED in str(error):
        return Unavailable(
            f"redis: TLS verification failed: {error}; set EOD_REDIS_CA_FILE to a PEM file of the authority that "
            "signed the server's certificate, and name the host in EOD_REDIS_URL as the certificate does"
        )
    if isinstance(error, _TRY_AGAIN) or str(error).startswith(_TRY_AGAIN_WORDS):
        whose = "redis" if where in str(error) else f"redis at {where}"
        if isinstance(error, exceptions.OutOfMemoryError):
            return Unavailable(f"{whose} is full: {error}. Give it more memory (maxmemory); nothing is lost meanwhile")
        return Unavailable(f"{whose}: {error} (its address is in EOD_REDIS_URL)")
    if "WRONGTYPE" in str(error):
        return TypeError(f"the key is in use for something else: {error}")
    return RuntimeError(f"redis: {error}")
