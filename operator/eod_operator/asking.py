"""Asks pods why they are not ready: `/readyz` says it in a sentence, of which the kubelet keeps the status alone."""

from __future__ import annotations

import aiohttp
from eod_contract.kinds import HTTP_PORT

_WITHIN_S = 1.0
_MOST_BYTES = 2048


class Asker:
    """Asks pods at their own addresses, which a NetworkPolicy may forbid: then nothing is learned, and nothing lost.

    Args:
        port: where they serve their probes.
    """

    def __init__(self, port: int = HTTP_PORT) -> None:
        self._port = port

    async def __call__(self, address: str) -> str:
        """What the pod at an IP address says; "" when it is ready, does not answer in a second, or not as a stage does.

        A pod runs whatever image the spec names: no more than a short text is read, and nobody is followed elsewhere.
        """
        host = f"[{address}]" if ":" in address else address
        limit = aiohttp.ClientTimeout(total=_WITHIN_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"http://{host}:{self._port}/readyz", allow_redirects=False) as answer,
            ):
                if answer.status != 503:  # noqa: PLR2004 - HTTP's own number: Service Unavailable
                    return ""
                body = b""
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) >= _MOST_BYTES:
                        break
                return _printable(body[:_MOST_BYTES])
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return ""


def _printable(body: bytes) -> str:
    """One line of text, whatever came."""
    words = body.decode(errors="replace").split()
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(words))
