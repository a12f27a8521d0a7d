"""Asks pods why they are not ready: `/readyz` says it in a sentence, of which the kubelet keeps the status alone."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from eod_contract.kinds import HTTP_PORT

from eod_operator.api.http import Http

_WITHIN_S = 1.0
_MOST_BYTES = 2048
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Door:
    """How the port of a pipeline's pods is asked.

    Attributes:
        tls: whether it speaks TLS.
        certificate: that they must show, in PEM, perhaps with those between it and its authority.
        token: that they want; empty for none.
    """

    tls: bool = False
    certificate: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def scheme(self) -> str:
        """Of their addresses."""
        return "https" if self.tls else "http"

    def context(self) -> ssl.SSLContext | bool:
        """What TLS is done with.

        It is verified that the pod has the key of that very certificate, and that the certificate is still valid. Its
        names are not: pods are asked by their addresses, which no certificate names. Its authority is not, either: who
        may write the Secret decides. So nobody else is given the token.

        Raises:
            ValueError: there is no certificate in PEM.
        """
        if not self.tls:
            return True  # aiohttp's own, which is not used
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # The first alone: whoever else has a certificate of the authority behind it is not one of our pods.
        found = _CERTIFICATE.search(self.certificate)
        context.load_verify_locations(cadata=found.group() if found else "")
        return context


Ask = Callable[[str, Door], Awaitable[str]]
"""Why the pod with an address says that it is not ready; "" when it is, or says nothing."""


def door_of(http: Http | None, secrets: Mapping[str, Mapping[str, str]]) -> Door:
    """How to ask the pods of a pipeline, by the texts of its Secrets; what is not among these is left out."""
    if http is None:
        return Door()
    certificate = secrets.get(http.tls.secret_ref.name, {}).get("tls.crt", "") if http.tls is not None else ""
    place = http.token.secret_key_ref if http.token is not None else None
    token = secrets.get(place.name, {}).get(place.key, "") if place is not None else ""
    return Door(http.tls is not None, certificate, token.strip())


class Asker:
    """Asks pods at their own addresses, which a NetworkPolicy may forbid: then nothing is learned, and nothing lost.

    Args:
        port: where they serve their probes.
    """

    def __init__(self, port: int = HTTP_PORT) -> None:
        self._port = port

    async def __call__(self, address: str, door: Door) -> str:
        """What the pod at an IP address says; "" when it is ready, does not answer in a second, or not as a stage does.

        A pod runs whatever image the spec names: no more than a short text is read, and nobody is followed elsewhere.
        """
        host = f"[{address}]" if ":" in address else address
        url = f"{door.scheme}://{host}:{self._port}/readyz"
        limit = aiohttp.ClientTimeout(total=_WITHIN_S)
        try:
            headers = {"Authorization": f"Bearer {door.token}"} if door.token else {}
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(url, headers=headers, ssl=door.context(), allow_redirects=False) as answer,
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
