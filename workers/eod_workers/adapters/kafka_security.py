"""How a client proves to Kafka who it is, and checks whom it talks to: settings in, aiokafka's arguments out.

A certificate is always verified, its host name included: there is no setting that turns this off. Without files of
one's own the system's authorities count. Amazon MSK's IAM is OAUTHBEARER whose token is a request signed with AWS
credentials (AWS's own signer makes it); those come from where AWS's SDK finds them: AWS_*, a web identity, the node.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"]
DEFAULT_MECHANISM: Mechanism = "SCRAM-SHA-512"
FILES = {"ca_file": "ca.crt", "cert_file": "tls.crt", "key_file": "tls.key"}
"""Our files, and what they are called in a folder of EOD_KAFKA_TLS_DIR: as in Kubernetes' Secrets of type tls."""
_IAM = "AWS_MSK_IAM"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What EOD_KAFKA_* say of TLS and credentials.

    Attributes:
        protocol: whether there is TLS, and whether there is SASL.
        mechanism: of SASL; None is `DEFAULT_MECHANISM`.
        username: for PLAIN and SCRAM.
        password: never shown.
        ca_file: PEM of who may sign the brokers' certificates; empty for the system's authorities.
        cert_file: PEM of our own certificate, for brokers that ask for one.
        key_file: PEM of its key.
        aws_region: of the cluster, for AWS_MSK_IAM.
    """

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    aws_region: str = ""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> Mechanism | None:
        """The mechanism that is used; None without SASL."""
        return (self.mechanism or DEFAULT_MECHANISM) if self.protocol.startswith("SASL_") else None

    def problems(self) -> Iterator[str]:
        """A sentence for each half of something, with the variable that mends it; none when all fits together."""
        given = f"EOD_KAFKA_SECURITY_PROTOCOL is {self.protocol}"
        if self.sasl is None:
            if self.mechanism or self.username or self.password:
                named = "EOD_KAFKA_SASL_MECHANISM" if self.mechanism else "EOD_KAFKA_USERNAME or EOD_KAFKA_PASSWORD"
                yield f"{named} is set, but {given}, which logs nobody in: set it to SASL_SSL, or unset the others"
        elif self.sasl == _IAM:
            yield from self._problems_of_iam(given)
        else:
            needed = {"EOD_KAFKA_USERNAME": self.username, "EOD_KAFKA_PASSWORD": self.password}
            missing = [name for name, value in needed.items() if not value]
            if missing:
                yield f"{' and '.join(missing)} not set: {given}, and {self.sasl} logs in with both"
        if self.aws_region and self.sasl != _IAM:
            yield f"EOD_KAFKA_AWS_REGION is set, but only EOD_KAFKA_SASL_MECHANISM={_IAM} has a use for it: unset it"
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            yield (
                f"EOD_KAFKA_CA_FILE, EOD_KAFKA_CERT_FILE or EOD_KAFKA_KEY_FILE is set, but {given}, which is not "
                f"encrypted: set it to {'SASL_SSL' if self.sasl else 'SSL'}, or unset the files"
            )
        if bool(self.cert_file) != bool(self.key_file):
            missing_one = "EOD_KAFKA_KEY_FILE" if self.cert_file else "EOD_KAFKA_CERT_FILE"
            yield f"{missing_one} not set (tls.key and tls.crt in EOD_KAFKA_TLS_DIR): a certificate goes with its key"

    def _problems_of_iam(self, given: str) -> Iterator[str]:
        if not self.tls:
            yield f"{given}, but EOD_KAFKA_SASL_MECHANISM={_IAM} needs SASL_SSL: Amazon MSK takes it over TLS alone"
        if not self.aws_region:
            yield f"EOD_KAFKA_AWS_REGION not set: {_IAM} signs for the region of the cluster, such as eu-west-1"
        if self.username or self.password:
            yield (
                f"EOD_KAFKA_USERNAME or EOD_KAFKA_PASSWORD is set, but {_IAM} takes neither: it signs with the AWS "
                "credentials of the process; unset them, or choose another EOD_KAFKA_SASL_MECHANISM"
            )

    def context(self) -> ssl.SSLContext | None:
        """What TLS is done with; None without TLS.

        Raises:
            ValueError: a file is missing, or holds something else than it should; the message names the variable.
        """
        if not self.tls:
            return None
        for name, file in (("CA", self.ca_file), ("CERT", self.cert_file), ("KEY", self.key_file)):
            if file and not Path(file).is_file():
                raise ValueError(f"EOD_KAFKA_{name}_FILE={file} is no file: give a PEM file")
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"EOD_KAFKA_CA_FILE={self.ca_file} holds no certificate in PEM that can be read ({error}): give the "
                "certificate of the authority that signs the brokers' certificates"
            ) from error
        if self.cert_file:
            try:
                # An empty password, for else OpenSSL would ask the terminal for that of an encrypted key.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"EOD_KAFKA_CERT_FILE={self.cert_file} and EOD_KAFKA_KEY_FILE={self.key_file} are no certificate "
                    f"with its unencrypted key in PEM ({error}): give both, of each other"
                ) from error
        return context

    def arguments(self) -> dict[str, Any]:
        """What every client of aiokafka takes. It reads files.

        Raises:
            ValueError: see `context`.
        """
        told: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.context()}
        if self.sasl == _IAM:
            told |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": MskToken(self.aws_region)}
        elif self.sasl is not None:
            told |= {
                "sasl_mechanism": self.sasl,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return told


class MskToken(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens for Amazon MSK, each signed anew: a connection asks for one when it is made, and it is good for 15 min."""

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
    # AWS's SDK takes a third of a second and 13 MB to import, which those without it need not spend.
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415

    token, _expires_at_ms = MSKAuthTokenProvider.generate_auth_token(region)
    return str(token)
