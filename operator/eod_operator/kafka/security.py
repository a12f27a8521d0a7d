"""TLS and credentials of one Kafka, in memory: from a Secret's contents to what connections are made with.

Two pipelines share a look at a Kafka only if their credentials are the same, so the address and these make its key.
Nothing is written to a disk, and nothing of it shows in a log or a message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

from eod_operator.api.sources import MSK_IAM, KafkaSecurity
from eod_operator.conditions import Problem

KEYS = frozenset({"username", "password", "ca.crt", "tls.crt", "tls.key"})
"""Of a Secret of Kafka's."""


class CredentialsError(Exception):
    """What the Secret holds cannot be used; the message says which key, and what it should hold."""


@dataclass(frozen=True, slots=True)
class Security:
    """What a connection needs besides an address; texts in PEM.

    Attributes:
        protocol: of Kafka: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: how to log in; empty for no login.
        username: for PLAIN and SCRAM.
        password: likewise.
        authority: who may sign the brokers' certificates; empty for those that the image knows.
        certificate: our own; empty for none.
        key: of that.
        region: of an Amazon MSK cluster.
    """

    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    authority: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    region: str = ""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    def context(self) -> ssl.SSLContext | None:
        """What TLS is done with, host names verified; None without TLS.

        Raises:
            CredentialsError: a text is no PEM, or half of a pair is missing.
        """
        if not self.tls:
            return None
        if bool(self.certificate) != bool(self.key):
            there, missing = ("tls.crt", "tls.key") if self.certificate else ("tls.key", "tls.crt")
            raise CredentialsError(f"it has {there} and not {missing}: a certificate goes with its key")
        try:
            context = ssl.create_default_context(cadata=self.authority or None)
        except (OSError, ValueError) as error:
            raise CredentialsError("its ca.crt is no certificate in PEM") from error
        if self.certificate:
            _identify(context, f"{self.key}\n{self.certificate}")
        return context

    def arguments(self) -> dict[str, Any]:
        """What clients and connections of aiokafka take.

        Raises:
            CredentialsError: see `context`.
        """
        told: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.context()}
        if self.mechanism == MSK_IAM:
            told |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": MskToken(self.region)}
        elif self.mechanism:
            told |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return told


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Kafka as somebody in particular: what a shared look is known by."""

    address: str
    security: Security = Security()

    def __str__(self) -> str:
        return self.address


def security_of(wished: KafkaSecurity | None, secret: Mapping[str, str] | None) -> Security | Problem:
    """What a spec and the contents of its Secret (None when they are not to be had) come to, or what is missing."""
    if wished is None:
        return Security()
    contents = secret or {}
    if wished.secret_ref is not None:
        name = wished.secret_ref.name
        needed = ("username", "password") if wished.login else ()
        missing = [key for key in needed if not contents.get(key)]
        if secret is None or missing:
            what = "is missing or cannot be read" if secret is None else f"has no key {' and no key '.join(missing)}"
            return Problem(
                "CredentialsMissing",
                f"Kafka is not asked, because its Secret {name} (spec.kafka.security.secretRef) {what}: create or "
                "complete it; replicas are held until then",
            )
    login, tls = wished.login, wished.tls
    return Security(
        protocol=wished.protocol,
        mechanism=wished.sasl or "",
        username=contents.get("username", "") if login else "",
        password=contents.get("password", "") if login else "",
        authority=contents.get("ca.crt", "") if tls else "",
        certificate=contents.get("tls.crt", "") if tls else "",
        key=contents.get("tls.key", "") if tls else "",
        region=wished.aws_region or "",
    )


def decoded(data: Mapping[str, str]) -> dict[str, str]:
    """Contents of a Secret as text; what is no text is left out, as it is none of Kafka's."""
    texts = {}
    for key, value in data.items():
        try:
            texts[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return texts


class MskToken(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens for Amazon MSK, signed with the AWS credentials of the operator's pod; each connection asks for one."""

    def __init__(self, region: str) -> None:
        self._region = region

    async def token(self) -> str:
        """A token; finding AWS credentials may take requests, so it is made beside the event loop.

        Raises:
            AuthenticationFailedError: there are no AWS credentials, or they cannot be had.
        """
        try:
            return await asyncio.to_thread(_signed, self._region)
        except Exception as error:  # whatever AWS's SDK raises; without credentials, an AttributeError of the signer's
            said = "there are none" if isinstance(error, AttributeError) else str(error)
            raise AuthenticationFailedError(f"no token from AWS credentials: {said}") from error


def _signed(region: str) -> str:
    # AWS's SDK takes a third of a second and 13 MB to import, which an operator without it need not spend.
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415

    token, _expires_at_ms = MSKAuthTokenProvider.generate_auth_token(region)
    return str(token)


def _identify(context: ssl.SSLContext, pem: str) -> None:
    """Show a certificate. OpenSSL reads it from a file alone, so it is given one that is on no disk."""
    file = os.memfd_create("kafka")
    try:
        os.write(file, pem.encode())
        # An empty password, for else OpenSSL would ask a terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{file}", password="")
    except (OSError, ValueError) as error:
        raise CredentialsError("its tls.crt and tls.key are no certificate with its unencrypted key in PEM") from error
    finally:
        os.close(file)
