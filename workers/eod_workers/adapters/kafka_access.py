"""How one Kafka is reached, and why it is not: a client that cannot connect says only that it could not.

aiokafka logs why a connection failed and raises "unable to bootstrap", or tries again for ever. So after a failure we
make one connection of our own, as it would, and what becomes of it is the reason that people are told.

A question is asked again after a while: aiokafka would ask for a partition's leader as fast as it is told that there is
none. A look at a topic creates none: aiokafka leaves that to the broker, which by Kafka's defaults makes one, of a
single partition, of whatever somebody asks for. All of its clients are told otherwise here.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka.admin.client
import aiokafka.client
from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.metadata import MetadataRequest

from eod_workers.adapters.kafka_errors import translated
from eod_workers.adapters.kafka_security import KafkaSecurity
from eod_workers.ports import Unavailable

_ASK_WITHIN_S = 3.0
_TLS_ALERT = 0x15
"""First byte of a TLS alert (RFC 8446, section 5.1): what a TLS server answers to plain text."""
_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


class Look(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
    """A question about topics after which there are as many as before (KIP-204)."""

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


for _asking in (aiokafka.client, aiokafka.admin.client):
    _asking.MetadataRequest = Look


_ask_now = aiokafka.client.AIOKafkaClient.force_metadata_update
_ASK_AGAIN_S = 0.1
"""As Java's clients wait (retry.backoff.ms)."""


def _ask(client: Any) -> asyncio.Future[bool]:
    """Has a client ask anew what there is in the cluster, but not as fast as it is answered.

    While a partition has no leader, aiokafka's fetcher and its sender ask for one with each answer that names none.
    """
    loop = asyncio.get_running_loop()
    due = getattr(client, "_eod_asked_at", -_ASK_AGAIN_S) + _ASK_AGAIN_S
    if loop.time() >= due:
        client._eod_asked_at = loop.time()  # noqa: SLF001
        now: asyncio.Future[bool] = _ask_now(client)
        return now
    waiting: asyncio.Future[bool] | None = getattr(client, "_eod_asking", None)
    if waiting is None:
        waiting = client._eod_asking = loop.create_future()  # noqa: SLF001
        loop.call_at(due, _ask_for, client, waiting)
    return asyncio.shield(waiting)


def _ask_for(client: Any, waiting: asyncio.Future[bool]) -> None:
    client._eod_asking = None  # noqa: SLF001
    client._eod_asked_at = asyncio.get_running_loop().time()  # noqa: SLF001
    _ask_now(client).add_done_callback(lambda asked: waiting.set_result(not asked.cancelled() and asked.result()))


aiokafka.client.AIOKafkaClient.force_metadata_update = _ask


class KafkaAccess:
    """Address, TLS and credentials of one Kafka. Files are read once, here.

    Args:
        bootstrap: `host:port[,host:port…]` of brokers.
        security: TLS and credentials.
        client_id: shown in the broker's logs and metrics.

    Raises:
        ValueError: a file of `security` cannot be used.
    """

    def __init__(self, bootstrap: str, security: KafkaSecurity, client_id: str) -> None:
        self.bootstrap = bootstrap
        self._security = security
        self._client_id = client_id
        self._credentials = security.arguments()

    def arguments(self) -> dict[str, Any]:
        """What every client of aiokafka is made with."""
        return {"bootstrap_servers": self.bootstrap, "client_id": self._client_id, **self._credentials}

    @asynccontextmanager
    async def reaching(self, doing: str) -> AsyncIterator[None]:
        """`translated`, with the reason when no connection could be made."""
        try:
            with translated(doing):
                yield
        except Unavailable as error:
            cause = error.__cause__
            if not isinstance(cause, errors.KafkaError) or isinstance(cause, errors.BrokerResponseError):
                raise  # it answered, or was silent: asking again would take as long and say no more
            why = await self._why_not()
            if why is None:
                raise
            raise Unavailable(f"{doing}: {why}") from error

    async def _why_not(self) -> str | None:
        """Why the first broker that answers does not let us in; None when that is not known, or it does."""
        for host, port, _family in collect_hosts(self.bootstrap):
            connection = AIOKafkaConnection(
                host,
                port,
                client_id=self._client_id,
                request_timeout_ms=round(_ASK_WITHIN_S * 1_000),
                **self._credentials,
            )
            try:
                async with asyncio.timeout(_ASK_WITHIN_S):
                    await connection.connect()
                    await connection.send(Look([]))
            except (errors.KafkaError, OSError, TimeoutError) as error:
                why = explained(error, self._security, f"{host}:{port}")
                if why is not None:
                    return why
            finally:
                connection.close()
        return None


def explained(error: BaseException, security: KafkaSecurity, address: str) -> str | None:
    """What a failed connection means, with the variable that mends it; None when it says nothing of security."""
    cause = error.__cause__
    protocol = f"EOD_KAFKA_SECURITY_PROTOCOL={security.protocol}"
    match error:
        case ssl.SSLCertVerificationError():
            return _unverified(error, address)
        case errors.UnsupportedSaslMechanismError():
            return (
                f"authentication failed: {address} does not offer {security.sasl}; set EOD_KAFKA_SASL_MECHANISM to "
                "what it offers"
            )
        case errors.IllegalSaslStateError():
            return f"authentication failed: {address} logs nobody in; {protocol} must be one without SASL_"
        case errors.SaslAuthenticationFailed() | errors.AuthenticationFailedError():
            return f"authentication failed at {address} ({_said(error)}): {_remedy(security)}"
        case ssl.SSLError() | errors.KafkaConnectionError() if "ALERT" in f"{error} {cause}":
            return (
                f"{address} ends the TLS handshake ({_alert(error)}): it may want a certificate, or another one; set "
                "EOD_KAFKA_CERT_FILE and EOD_KAFKA_KEY_FILE to one that its authority has signed"
            )
        case errors.KafkaConnectionError() if isinstance(cause, IncompleteReadError):
            if not security.tls and (cause.expected or 0) >> 24 == _TLS_ALERT:
                return f"{address} speaks TLS, and {protocol}: set it to SASL_SSL or SSL"
            return None if security.sasl else f"{address} hangs up: it may want a login, and {protocol} has none"
        case ssl.SSLError() | ConnectionResetError() | EOFError() if security.tls:
            return f"{address} hangs up during the TLS handshake: it may not speak TLS, and {protocol}"
    return None


def _alert(error: BaseException) -> str:
    """OpenSSL's word for what the server said; with TLS 1.3 it comes after the handshake, and so as a cause."""
    told = error if isinstance(error, ssl.SSLError) else error.__cause__
    return str(getattr(told, "reason", told)).lower().replace("_", " ")


def _unverified(error: ssl.SSLCertVerificationError, address: str) -> str:
    told = f"TLS verification failed: the certificate of {address} is not trusted ({error.verify_message})"
    if error.verify_code in _OTHER_NAME:
        return f"{told}: name the brokers in EOD_KAFKA_BOOTSTRAP as their certificates do"
    return f"{told}: set EOD_KAFKA_CA_FILE to a PEM file of the authority that signed it"


def _remedy(security: KafkaSecurity) -> str:
    if security.sasl == "AWS_MSK_IAM":
        return (
            "give the process AWS credentials whose policy allows kafka-cluster:Connect on this cluster, and check "
            "EOD_KAFKA_AWS_REGION"
        )
    return "mend EOD_KAFKA_USERNAME and EOD_KAFKA_PASSWORD, or EOD_KAFKA_SASL_MECHANISM under which the broker has them"


def _said(error: BaseException) -> str:
    """The broker's own words, without aiokafka's number and name before them."""
    return str(error.args[0]).rstrip(".") if error.args and error.args[0] else type(error).__name__
