"""Free loopback ports that stay free while a server is down.

Ports come from below the kernel's ephemeral range. Inside that range an outgoing connection may take the port of a
server that was just killed, and a client that keeps reconnecting to a dead server can even connect to itself.
A race with another process remains, between our test bind and the server's own: `Server.start` then tries others. Test
processes that run beside each other draw from ranges of their own: what one has drawn and not bound yet is no other's.
"""

import os
import random
import socket
from collections.abc import Mapping

_FIRST, _LAST = 10_000, 29_999  # below 30000, where Kubernetes' NodePorts begin
_RANGES = 9
"""One of a process by itself, and one each of pytest's workers."""
_WORKER = "PYTEST_XDIST_WORKER"
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


def own_range(worker: str) -> range:
    """The ports of one of pytest's workers (`gw0`, `gw1`, …), or of a process by itself (empty)."""
    size = (_LAST - _FIRST + 1) // _RANGES
    number = int(worker.removeprefix("gw")) % (_RANGES - 1) + 1 if worker else 0
    return range(_FIRST + number * size, _FIRST + (number + 1) * size)


def free_port() -> int:
    """Return a free port that this process has not handed out before, as long as there are any.

    Raises:
        OSError: none of a thousand random ports is free.
    """
    ours = own_range(os.environ.get(_WORKER, ""))
    for attempt in range(2 * _ATTEMPTS):
        port = _random.choice(ours)
        if (port not in _handed_out or attempt >= _ATTEMPTS) and is_free(port):
            _handed_out.add(port)
            return port
    raise OSError(f"no free port between {ours[0]} and {ours[-1]} on 127.0.0.1")


def pick(preferred: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name: the preferred one where it is not 0 and free, else any free one."""
    return {name: port if port and is_free(port) else free_port() for name, port in preferred.items()}
