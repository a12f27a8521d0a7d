"""What a process is told of the servers it works with and of itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from eod_workers.adapters.kafka_security import Mechanism, Protocol
from eod_workers.runtime.stages import load_stages
from eod_workers.runtime.variables import (
    SettingsError,
    TopicNames,
    Variables,
    names_of,
    read,
    refuse_slips,
    strangers,
)

__all__ = ["ADMIN_PREFIX", "ELSEWHERE", "Admin", "Settings", "SettingsError", "load_settings", "refuse_strange"]


LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lambda value: str(value).lower())]


ADMIN_PREFIX = "EOD_SQLSERVER_ADMIN_"
ELSEWHERE = frozenset({"EOD_KERNEL", "EOD_NO_KERNEL", "EOD_KERNEL_CACHE", "EOD_CACHE", "EOD_LIVE_PATH"})
"""Variables that are read where no model is: by the kernel, by its build, and by the live update."""


class KafkaAccess(Variables):
    """Where the log is, and how it is talked to."""

    kafka_bootstrap: str = Field("", description="Kafka as host:port[,host:port].")
    kafka_security_protocol: Protocol = Field(
        "PLAINTEXT", description="How its brokers are talked to: SSL is TLS, SASL_SSL is TLS and a login."
    )
    kafka_sasl_mechanism: Mechanism | None = Field(
        None, description="How we log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (the default) or AWS_MSK_IAM."
    )
    kafka_username: str = Field("", description="Who logs in, by PLAIN or SCRAM.")
    kafka_password: SecretStr = Field(SecretStr(""), description="The password.")
    kafka_ca_file: str = Field(
        "", description="PEM file of who may sign the brokers' certificates; without it the system's authorities."
    )
    kafka_cert_file: str = Field("", description="PEM file of our certificate, for brokers that ask for one.")
    kafka_key_file: str = Field("", description="PEM file of its key, not encrypted.")
    kafka_tls_dir: str = Field(
        "", description="Folder for those three: of ca.crt, tls.crt and tls.key in it, those that are there are used."
    )
    kafka_aws_region: str = Field("", description="Region of the Amazon MSK cluster, for AWS_MSK_IAM.")
    session_timeout_s: float = Field(
        10.0, ge=1, le=300, description="A worker that is silent for so long loses its partitions to the others."
    )
    join_beat_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="A worker joins others of its group when the time of day is a multiple of so many seconds, so that "
        "those started together stop the group once; 0 is at once.",
    )


class StateAccess(Variables):
    """Where the state store is."""

    redis_url: SecretStr = Field(
        SecretStr(""), description="State store, redis://[:password@]host:port/db; rediss:// for TLS."
    )
    redis_ca_file: str = Field(
        "", description="PEM file of who may sign its certificate, with rediss://; without it the system's authorities."
    )


class RegulatoryAccess(Variables):
    """Where the regulatory store is."""

    regulatory_url: SecretStr = Field(SecretStr(""), description="Regulatory store: sqlite:///path/to/file.")
    sqlserver_host: str = Field(
        "", description="Regulatory store in SQL Server, instead of EOD_REGULATORY_URL: its host."
    )
    sqlserver_port: int = Field(1433, ge=1, le=65_535, description="Its port.")
    sqlserver_database: str = Field("", description="Its database, which has the schema of 'eod db migrate'.")
    sqlserver_user: str = Field("", description="A SQL Server login with the rights that docs/sqlserver.md lists.")
    sqlserver_password: SecretStr = Field(SecretStr(""), description="Its password.")
    sqlserver_encryption: Literal["require", "request", "off"] = Field(
        "require", description="TLS: require refuses a server without, request takes what it offers, off wants none."
    )
    sqlserver_ca_file: str = Field(
        "", description="PEM file of who may sign the server's certificate; without it any certificate is taken."
    )


class ArchiveAccess(Variables):
    """Where the archive is."""

    archive_url: str = Field("", description="Archive: file:///folder or s3://bucket/prefix.")
    s3_endpoint: str = Field("", description="S3 endpoint, when it is not AWS. Credentials come from AWS_*.")


class Process(Variables):
    """What every process can be told of itself."""

    stage_name: str = Field("", description="Name in logs and traces; the kind's by default.")
    http_host: str = Field(
        "127.0.0.1", description="Where /livez, /readyz and /metrics listen; in a container all addresses."
    )
    http_port: int = Field(8080, ge=0, le=65_535, description="Their port; 0 takes a free one.")
    http_tls_cert_file: str = Field(
        "", description="Certificate of that port, with those between it and its authority, as PEM; empty: no TLS."
    )
    http_tls_key_file: str = Field("", description="Its private key, as PEM, not encrypted.")
    http_token_file: str = Field(
        "",
        description="File of a token without which (Authorization: Bearer) /metrics is refused, and /readyz says no "
        "reasons; wants TLS, or a network that nobody else reads. All three files are read again when they change.",
    )
    log_level: LogLevel = Field("info", description="The least that is logged.")


class Settings(KafkaAccess, StateAccess, RegulatoryAccess, ArchiveAccess, Process, TopicNames):
    """What any process is told; what is a stage's own stands in its folder."""


class Admin(Variables):
    """Who may make databases and logins; no worker is told."""

    user: str = Field("", description="A login that may make databases and logins.")
    password: SecretStr = Field(SecretStr(""), description="Its password.")


def load_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        SettingsError: a variable has an impossible value, or is the slip of one.
    """
    settings = read(Settings)
    refuse_strange()
    return settings


def refuse_strange(*own: type[Variables]) -> list[str]:
    """Looks for variables that are no settings, as `variables.refuse_slips`; returns those near to none.

    Args:
        own: what is read beside `Settings`. Other stages are loaded only to know whether a variable is theirs.

    Raises:
        SettingsError: a variable is the slip of one.
    """
    known = ELSEWHERE | names_of(Settings) | names_of(Admin, ADMIN_PREFIX)
    known = known.union(*map(names_of, own))
    if strangers(known):
        known = known.union(*(names_of(stage.settings) for stage in load_stages().values()))
    return refuse_slips(known)
