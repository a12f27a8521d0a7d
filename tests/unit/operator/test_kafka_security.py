"""What a spec and its Secret come to, what connections are made with, and what a refused connection means."""

from __future__ import annotations

import base64
import re
import ssl
from asyncio import IncompleteReadError
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors
from eod_operator.api.sources import KafkaSecurity
from eod_operator.conditions import Problem
from eod_operator.kafka.client import KafkaReader
from eod_operator.kafka.errors import KafkaUnreachableError, turned_away
from eod_operator.kafka.security import CredentialsError, Endpoint, MskToken, Security, decoded, security_of
from testbed.tls import Authority

SECRET = {"username": "eod", "password": "hunter2", "ca.crt": "CA", "tls.crt": "CERT", "tls.key": "KEY", "other": "x"}
REF = {"secretRef": {"name": "kafka-client"}}
IAM = {"protocol": "SASL_SSL", "mechanism": "AWS_MSK_IAM", "awsRegion": "eu-west-1"}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Texts of an authority, a certificate and its key, and of a key that is another's."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "somebody")
    certificate, key = authority.issue("tls", "/CN=eod")
    files = {"ca": authority.certificate, "certificate": certificate, "key": key, "other": authority.new_key("other")}
    return {name: file.read_text() for name, file in files.items()}


@pytest.mark.parametrize(
    ("wished", "expected"),
    [
        (None, Security()),
        ({"protocol": "PLAINTEXT"}, Security("PLAINTEXT")),
        ({"protocol": "SSL"}, Security("SSL")),
        ({"protocol": "SSL", **REF}, Security("SSL", authority="CA", certificate="CERT", key="KEY")),
        ({"protocol": "SASL_SSL", **REF}, Security("SASL_SSL", "SCRAM-SHA-512", "eod", "hunter2", "CA", "CERT", "KEY")),
        ({"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", **REF}, Security("SASL_PLAINTEXT", "PLAIN", "eod", "hunter2")),
        ({**IAM, **REF}, Security("SASL_SSL", "AWS_MSK_IAM", "", "", "CA", "CERT", "KEY", "eu-west-1")),
    ],
)  # fmt: skip
def test_of_a_secret_what_the_protocol_needs_is_used(wished: dict[str, Any] | None, expected: Security) -> None:
    spec = None if wished is None else KafkaSecurity.model_validate(wished)
    assert security_of(spec, SECRET if wished is not None and "secretRef" in wished else None) == expected


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_a_secret_that_is_not_to_be_had_is_a_problem_and_never_no_credentials(protocol: str) -> None:
    """Also when nothing in it is needed: without its authority another one would be believed."""
    found = security_of(KafkaSecurity.model_validate({"protocol": protocol, **REF}), None)
    assert isinstance(found, Problem)
    assert found.reason == "CredentialsMissing"
    assert "kafka-client" in found.message


def test_a_secret_is_decoded_and_what_is_no_text_left_out() -> None:
    coded = {"a": base64.b64encode(b"text\n").decode(), "b": base64.b64encode(b"\xff\xfe").decode(), "c": "%"}
    assert decoded(coded) == {"a": "text\n"}


def test_credentials_do_not_show() -> None:
    security = Security("SASL_SSL", "PLAIN", "eod", "hunter2", "CA-TEXT", "CERT-TEXT", "KEY-TEXT")
    shown = f"{security!r} {Endpoint('kafka:9092', security)!r} {Endpoint('kafka:9092', security)}"
    assert not [word for word in ("hunter2", "CA-TEXT", "CERT-TEXT", "KEY-TEXT") if word in shown]


def test_equal_credentials_make_equal_endpoints() -> None:
    one, same, other = (Endpoint("k:1", Security("SASL_SSL", "PLAIN", "eod", word)) for word in ("a", "a", "b"))
    assert (one == same, hash(one) == hash(same), one == other) == (True, True, False)


def test_tls_is_done_with_what_the_secret_holds_and_on_no_disk(pem: dict[str, str]) -> None:
    security = Security("SSL", authority=pem["ca"], certificate=pem["certificate"], key=pem["key"])
    context = security.context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "somebody"),),)
    assert security.arguments().keys() == {"security_protocol", "ssl_context"}


def test_each_mechanism_has_its_arguments() -> None:
    login = {"sasl_plain_username": "eod", "sasl_plain_password": "hunter2"}
    made = Security("SASL_PLAINTEXT", "SCRAM-SHA-256", "eod", "hunter2").arguments()
    assert made == {
        "security_protocol": "SASL_PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": "SCRAM-SHA-256",
        **login,
    }
    iam = Security("SASL_SSL", "AWS_MSK_IAM", region="eu-west-1").arguments()
    assert iam["sasl_mechanism"] == "OAUTHBEARER"
    assert isinstance(iam["sasl_oauth_token_provider"], MskToken)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"authority": "words"}, r"its ca\.crt is no certificate in PEM"),
        ({"certificate": "{certificate}"}, r"it has tls\.crt and not tls\.key"),
        ({"key": "{key}"}, r"it has tls\.key and not tls\.crt"),
        ({"certificate": "words", "key": "words"}, r"its tls\.crt and tls\.key are no certificate"),
        ({"certificate": "{certificate}", "key": "{other}"}, r"its tls\.crt and tls\.key are no certificate"),
    ],
)
async def test_files_that_cannot_be_used_are_told_with_their_keys(
    pem: dict[str, str], fields: dict[str, str], sentence: str
) -> None:
    security = Security("SSL", **{name: text.format(**pem) for name, text in fields.items()})
    with pytest.raises(CredentialsError, match=sentence):
        security.context()
    reader = KafkaReader(Endpoint("127.0.0.1:1", security))
    with pytest.raises(KafkaUnreachableError, match=f"the Secret of spec.kafka.security.secretRef: {sentence}") as told:
        await reader.read({"trades"}, {})
    assert told.value.reason == "CredentialsInvalid"


async def test_a_token_for_msk_is_a_signed_request_to_connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its shape; no MSK can be had here."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    token = await MskToken("eu-west-1").token()
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert url.startswith("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&")
    assert "X-Amz-Signature=" in url
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(errors.AuthenticationFailedError, match="there are none"):
        await MskToken("eu-west-1").token()


def unverified(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "whatever OpenSSL says"
    return error


def closed(cause: BaseException) -> errors.KafkaConnectionError:
    error = errors.KafkaConnectionError("Connection at k:1 closed")
    error.__cause__ = cause
    return error


SCRAM = Security("SASL_SSL", "SCRAM-SHA-512", "eod", "hunter2")
MEANINGS: list[tuple[Security, BaseException, str | None, str]] = [
    (SCRAM, errors.SaslAuthenticationFailed("no such user."), "AuthenticationFailed", "k:1: no such user: correct username and password in the Secret"),
    (SCRAM, errors.UnsupportedSaslMechanismError(object()), "AuthenticationFailed", "does not offer SCRAM-SHA-512: set spec.kafka.security.mechanism"),
    (SCRAM, errors.IllegalSaslStateError(object()), "ProtocolMismatch", "logs nobody in, and spec.kafka.security.protocol is SASL_SSL"),
    (SCRAM, unverified(20), "CertificateUntrusted", "TLS verification failed: .* under ca.crt into the Secret"),
    (SCRAM, unverified(62), "CertificateUntrusted", "name the brokers in spec.kafka.bootstrapServers"),
    (SCRAM, unverified(64), "CertificateUntrusted", "name the brokers in spec.kafka.bootstrapServers"),
    (SCRAM, ConnectionResetError(), "ProtocolMismatch", "it may not speak TLS"),
    (Security("SSL"), closed(ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")), "AuthenticationFailed", "as tls.crt and tls.key"),
    (Security("SSL"), ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_CERTIFICATE]"), "AuthenticationFailed", "as tls.crt and tls.key"),
    (Security("SSL"), closed(IncompleteReadError(b"", 4)), "ProtocolMismatch", "it may want a login, and spec.kafka.security.protocol is SSL"),
    (Security(), closed(IncompleteReadError(b"abc", 0x15030300)), "ProtocolMismatch", "speaks TLS, and spec.kafka.security.protocol is PLAINTEXT"),
    (Security("SASL_SSL", "AWS_MSK_IAM"), errors.AuthenticationFailedError("no token"), "AuthenticationFailed", "no token: give the operator's ServiceAccount an AWS role"),
    (SCRAM, ConnectionRefusedError(111, "refused"), None, ""),
    (SCRAM, TimeoutError(), None, ""),
    (Security(), ConnectionResetError(), None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("security", "error", "reason", "sentence"), MEANINGS)
def test_what_a_refused_connection_means(
    security: Security, error: BaseException, reason: str | None, sentence: str
) -> None:
    problem = turned_away(Endpoint("k:1", security), "k:1", error)
    if reason is None:
        assert problem is None
        return
    assert problem is not None
    assert problem.reason == reason
    assert re.search(sentence, problem.message), problem.message
    assert "k:1" in problem.message
    assert problem.message.endswith("replicas are held until then")
    assert "hunter2" not in problem.message
