"""A real Redis: Debian's redis-server, with a password, and with every acknowledged write on disk."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from testbed.debian import program
from testbed.server import Server

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {data}
daemonize no
# An acknowledged write survives kill -9.
appendonly yes
appendfsync always
save ""
# Never give up a position to make room for another.
maxmemory-policy noeviction
"""
_TIMEOUT_S = 2.0


class Redis(Server):
    """One Redis server.

    Attributes:
        password: generated, of the default user.
    """

    key: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis"
    default_ports: ClassVar[Mapping[str, int]] = {"redis": 16379}
    fetch_s: ClassVar[float] = 15
    ready_within_s: ClassVar[float] = 20

    def __init__(self, home: Path, *, tethered: bool = True, prefer_default_ports: bool = False) -> None:
        super().__init__(home, tethered=tethered, prefer_default_ports=prefer_default_ports)
        self.password = secrets.token_hex(16)

    @classmethod
    def fetch(cls) -> Path:
        """The folder of redis-server, out of the Debian package."""
        return program("redis-server", package="redis-server").parent

    @property
    def url(self) -> str:
        """Its address with the password: `redis://:…@127.0.0.1:port/0`."""
        return f"redis://:{self.password}@127.0.0.1:{self.ports['redis']}/0"

    @property
    def version(self) -> str:
        """What INFO says."""
        with self._client() as client:
            return str(client.info("server")["redis_version"])

    @property
    def environment(self) -> Mapping[str, str]:
        """EOD_REDIS_URL, with the password."""
        return {"EOD_REDIS_URL": self.url}

    def _prepare(self, programs: Path) -> None:
        del programs
        config = self.home / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(_CONFIG.format(port=self.ports["redis"], password=self.password, data=self.data))

    def _launch(self, programs: Path) -> None:
        self._spawn("redis", [programs / "redis-server", self.home / "redis.conf"])
        with self._client() as client:
            self._await(client.ping, redis.ConnectionError, redis.TimeoutError)

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
