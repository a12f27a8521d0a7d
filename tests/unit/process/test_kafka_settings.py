"""What a deployment says of TLS and credentials for Kafka and Redis: what clients get, and what is refused at once."""

from __future__ import annotations

import base64
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiokafka.errors import AuthenticationFailedError
from eod_workers.adapters.kafka_security import MskToken
from eod_workers.process.bootstrap import make_kafka_security, make_log, make_state
from eod_workers.process.settings import SettingsError, load_settings
from testbed.tls import Authority

LOGIN = {"EOD_KAFKA_USERNAME": "eod", "EOD_KAFKA_PASSWORD": "hunter2"}
IAM = {"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "EOD_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"}
REGION = {"EOD_KAFKA_AWS_REGION": "eu-west-1"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No EOD_ or AWS_ variable of this machine reaches a test."""
    for name in [name for name in os.environ if name.startswith(("EOD_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EOD_KAFKA_BOOTSTRAP", "kafka.example:9092")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a mounted Secret has it: ca.crt, tls.crt, tls.key; and a key of somebody else's."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "somebody")
    authority.issue("tls", "/CN=eod")
    authority.new_key("other")
    (folder / "words").write_text("no certificate\n")
    return folder


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], files: Path | None = None) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(files=files))


# --- what clients get -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ({}, {"security_protocol": "PLAINTEXT", "ssl_context": None}),
        ({"EOD_KAFKA_SECURITY_PROTOCOL": "SSL"}, {"security_protocol": "SSL"}),
        ({"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", **LOGIN},
         {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "eod", "sasl_plain_password": "hunter2"}),
        ({"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "EOD_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256", **LOGIN},
         {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "eod", "sasl_plain_password": "hunter2", "ssl_context": None}),
        ({"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "EOD_KAFKA_SASL_MECHANISM": "PLAIN", **LOGIN},
         {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "eod", "sasl_plain_password": "hunter2"}),
        ({**IAM, **REGION}, {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}),
    ],
    ids=["nothing", "TLS", "SCRAM by default", "SCRAM without TLS", "PLAIN", "IAM"],
)  # fmt: skip
def test_settings_become_the_clients_arguments(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], arguments: dict[str, Any]
) -> None:
    given(monkeypatch, variables)
    made = make_kafka_security(load_settings()).arguments()
    context, provider = made.pop("ssl_context"), made.pop("sasl_oauth_token_provider", None)
    assert made == {name: value for name, value in arguments.items() if name != "ssl_context"}
    assert (context is None) == ("ssl_context" in arguments)
    assert isinstance(provider, MskToken) == (made.get("sasl_mechanism") == "OAUTHBEARER")
    if context is not None:
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_an_authority_of_ones_own_takes_the_place_of_the_systems(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    given(monkeypatch, {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_CA_FILE": "{files}/ca.crt"}, files)
    context = make_kafka_security(load_settings()).context()
    assert context is not None
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "somebody"),),)


def test_of_a_folder_the_files_that_are_there_are_used(
    monkeypatch: pytest.MonkeyPatch, files: Path, tmp_path: Path
) -> None:
    """As the operator mounts a Secret, of which nobody knows beforehand what is in it. A file that is named wins."""
    given(monkeypatch, {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_TLS_DIR": str(tmp_path)})
    none = make_kafka_security(load_settings())
    assert (none.ca_file, none.cert_file, none.key_file) == ("", "", "")
    given(monkeypatch, {"EOD_KAFKA_TLS_DIR": "{files}", "EOD_KAFKA_CA_FILE": "{files}/tls.crt"}, files)
    some = make_kafka_security(load_settings())
    assert [some.ca_file, some.cert_file, some.key_file] == [f"{files}/tls.crt", f"{files}/tls.crt", f"{files}/tls.key"]
    assert some.context() is not None


def test_the_password_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", **LOGIN})
    settings = load_settings()
    assert "hunter2" not in f"{settings!r} {make_kafka_security(settings)!r}"


# --- what is refused ------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("a protocol that is none", {"EOD_KAFKA_SECURITY_PROTOCOL": "TLS"}, "EOD_KAFKA_SECURITY_PROTOCOL: Input should be"),
    ("a mechanism that is none", {"EOD_KAFKA_SASL_MECHANISM": "GSSAPI"}, "EOD_KAFKA_SASL_MECHANISM: Input should be"),
    ("a login without credentials", {"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "EOD_KAFKA_USERNAME and EOD_KAFKA_PASSWORD not set"),
    ("a login without a password", {"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "EOD_KAFKA_USERNAME": "eod"}, "EOD_KAFKA_PASSWORD not set"),
    ("credentials that nobody asks for", LOGIN, "EOD_KAFKA_USERNAME or EOD_KAFKA_PASSWORD is set, but EOD_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
    ("a mechanism without a login", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_SASL_MECHANISM": "PLAIN"}, "EOD_KAFKA_SASL_MECHANISM is set, but EOD_KAFKA_SECURITY_PROTOCOL is SSL"),
    ("files without TLS", {"EOD_KAFKA_CA_FILE": "{files}/ca.crt"}, "which is not encrypted: set it to SSL"),
    ("files without TLS, with a login", {"EOD_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "EOD_KAFKA_CA_FILE": "{files}/ca.crt", **LOGIN}, "which is not encrypted: set it to SASL_SSL"),
    ("a certificate without its key", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_CERT_FILE": "{files}/tls.crt"}, "EOD_KAFKA_KEY_FILE not set"),
    ("a key without its certificate", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_KEY_FILE": "{files}/tls.key"}, "EOD_KAFKA_CERT_FILE not set"),
    ("IAM without a region", IAM, "EOD_KAFKA_AWS_REGION not set"),
    ("IAM without TLS", {**IAM, **REGION, "EOD_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "needs SASL_SSL"),
    ("IAM with a password", {**IAM, **REGION, **LOGIN}, "AWS_MSK_IAM takes neither"),
    ("a region without IAM", REGION, "EOD_KAFKA_AWS_REGION is set, but only EOD_KAFKA_SASL_MECHANISM=AWS_MSK_IAM"),
    ("a folder that is none", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_TLS_DIR": "{files}/nowhere"}, "EOD_KAFKA_TLS_DIR={files}/nowhere is no folder"),
    ("a CA file that is not there", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_CA_FILE": "{files}/nothing"}, "EOD_KAFKA_CA_FILE={files}/nothing is no file"),
    ("a CA file of words", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_CA_FILE": "{files}/words"}, "EOD_KAFKA_CA_FILE={files}/words holds no certificate in PEM"),
    ("a key of another certificate", {"EOD_KAFKA_SECURITY_PROTOCOL": "SSL", "EOD_KAFKA_CERT_FILE": "{files}/tls.crt", "EOD_KAFKA_KEY_FILE": "{files}/other.key"}, "EOD_KAFKA_KEY_FILE={files}/other.key are no certificate with its unencrypted key"),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_half_of_something_is_refused_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, files: Path, variables: dict[str, str], sentence: str
) -> None:
    given(monkeypatch, variables, files)
    with pytest.raises(SettingsError) as refusal:
        make_log(load_settings())
    assert sentence.format(files=files) in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "ca_file", "sentence"),
    [
        ("redis://:hunter2@r:1/0", "{files}/ca.crt", "EOD_REDIS_URL is not encrypted: begin it with rediss://"),
        ("rediss://:hunter2@r:1/0", "{files}/nothing", "EOD_REDIS_CA_FILE={files}/nothing is no file"),
    ],
)
def test_an_authority_that_redis_has_no_use_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, files: Path, url: str, ca_file: str, sentence: str
) -> None:
    given(monkeypatch, {"EOD_REDIS_URL": url, "EOD_REDIS_CA_FILE": ca_file}, files)
    with pytest.raises(SettingsError) as refusal:
        make_state(load_settings())
    assert sentence.format(files=files) in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


# --- tokens for Amazon MSK ------------------------------------------------------------------------


async def test_a_token_for_msk_is_a_signed_request_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shape, by which MSK knows it; no MSK can be had here. The secret is not in it, and it ends in 15 minutes."""
    given(
        monkeypatch, {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_SESSION_TOKEN": "st"}
    )
    token = await MskToken("eu-west-1").token()
    assert not token.endswith("=")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert "s3cret" not in url
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "kafka.eu-west-1.amazonaws.com", "/")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    date = query["X-Amz-Date"][:8]
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Credential"] == f"AKIDEXAMPLE/{date}/eu-west-1/kafka-cluster/aws4_request"
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "900")
    assert query["X-Amz-Security-Token"] == "st"
    assert len(query["X-Amz-Signature"]) == 64


async def test_without_aws_credentials_there_is_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error that clients of Kafka know, so that it is told and tried again."""
    given(monkeypatch, {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)})
    with pytest.raises(AuthenticationFailedError, match="no token from AWS credentials: there are none"):
        await MskToken("eu-west-1").token()
