"""Free loopback ports that stay free while a server is down.

Ports come from below the kernel's ephemeral range. Inside that range an outgoing connection may take the port of a
server that was just killed, and a client that keeps reconnecting to a dead server can even connect to itself.
A race with another process remains, between our test bind and the server's own: `Server.start` then tries others.
"""

import random
import socket
from collections.abc import Mapping

_FIRST, _LAST = 20_000, 29_999  # below 30000, where Kubernetes' NodePorts begin
_ATTEMPTS = 1_000
_handed_out: set[int] = set()
_random = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a free port that this process has not handed out before.

    Raises:
        OSError: none of a thousand random ports is free.
    """
    for _ in range(_ATTEMPTS):
        port = _random.randint(_FIRST, _LAST)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST} on 127.0.0.1")


def pick(preferred: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name: the preferred one where it is not 0 and free, else any free one."""
    return {name: port if port and is_free(port) else free_port() for name, port in preferred.items()}
