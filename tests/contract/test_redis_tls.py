"""Redis behind TLS: the authority that is named is believed, no other, and the remedy is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from eod_workers.adapters.redis import RedisState
from eod_workers.ports import Unavailable
from support.patience import limit_s
from testbed.redis import Redis
from testbed.tls import Authority

_TLS = """
port 0
tls-port {port}
tls-cert-file {folder}/redis.crt
tls-key-file {folder}/redis.key
tls-ca-cert-file {folder}/ca.crt
tls-auth-clients no
"""


class TlsRedis(Redis):
    """The same server, which speaks TLS and nothing else."""

    @property
    def ca_file(self) -> Path:
        return self.home / "tls" / "ca.crt"

    @property
    def url(self) -> str:
        return f"rediss://:{self.password}@localhost:{self.ports['redis']}/0"

    def _prepare(self, programs: Path) -> None:
        super()._prepare(programs)
        if not self.ca_file.exists():
            Authority(self.ca_file.parent, "eod test bed's Redis").issue(
                "redis", "/CN=redis", server_names="DNS:localhost"
            )
        with (self.home / "redis.conf").open("a") as file:
            file.write(_TLS.format(port=self.ports["redis"], folder=self.ca_file.parent))

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, ssl_ca_certs=str(self.ca_file))


@pytest.fixture(scope="module")
def server(redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    del redis_server  # asked for so that this machine's lack of a Redis is told in one place
    with TlsRedis(tmp_path_factory.mktemp("redis-tls")) as own:
        yield own
    own.discard()


async def test_a_store_behind_tls_works_with_the_authority_that_is_named(server: TlsRedis) -> None:
    store = RedisState(server.url, ca_file=str(server.ca_file), timeout_s=limit_s(10))
    await store.put("k", b"v")
    assert await store.get("k") == b"v"
    subscription = await store.subscribe("*")
    await subscription.close()
    await store.close()


@pytest.mark.parametrize("spoil", ["no authority", "another authority", "another name"])
async def test_a_certificate_that_does_not_fit_is_told_with_the_variable(
    server: TlsRedis, tmp_path: Path, spoil: str
) -> None:
    other = Authority(tmp_path, "somebody else").certificate
    ca_file = {"no authority": "", "another authority": str(other)}.get(spoil, str(server.ca_file))
    url = server.url.replace("localhost", "127.0.0.1") if spoil == "another name" else server.url
    store = RedisState(url, ca_file=ca_file, timeout_s=limit_s(10))
    with pytest.raises(Unavailable, match=r"TLS verification failed: .* set EOD_REDIS_CA_FILE") as refusal:
        await store.get("k")
    assert server.password not in str(refusal.value)
    await store.close()


async def test_plain_text_to_tls_is_unavailable(server: TlsRedis) -> None:
    store = RedisState(server.url.replace("rediss://", "redis://"))
    with pytest.raises(Unavailable):
        await store.get("k")
    await store.close()
