"""What a deployed worker is told, through environment variables that begin with ``EOD_``."""

from __future__ import annotations

from typing import Annotated, Literal

from eod_contract.streams import LETTERS, PRICES, SESSIONS, TRADES
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from eod_workers.adapters.kafka_security import Mechanism, Protocol
from eod_workers.runtime.stages import StageOptions


class Settings(BaseSettings):
    """Every field is an environment variable: `kafka_bootstrap` is EOD_KAFKA_BOOTSTRAP."""

    model_config = SettingsConfigDict(env_prefix="EOD_", extra="ignore")

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
    redis_url: SecretStr = Field(
        SecretStr(""), description="State store, redis://[:password@]host:port/db; rediss:// for TLS."
    )
    redis_ca_file: str = Field(
        "", description="PEM file of who may sign its certificate, with rediss://; without it the system's authorities."
    )
    regulatory_url: SecretStr = Field(SecretStr(""), description="Regulatory store: sqlite:///path/to/file.")
    sqlserver_host: str = Field(
        "", description="Regulatory store in SQL Server, instead of EOD_REGULATORY_URL: its host."
    )
    sqlserver_port: int = Field(1433, ge=1, le=65_535, description="Its port.")
    sqlserver_database: str = Field("", description="Its database, which has the schema of 'eod regulatory schema'.")
    sqlserver_user: str = Field("", description="A SQL Server login with the rights that docs/sqlserver.md lists.")
    sqlserver_password: SecretStr = Field(SecretStr(""), description="Its password.")
    sqlserver_encryption: Literal["require", "request", "off"] = Field(
        "require", description="TLS: require refuses a server without, request takes what it offers, off wants none."
    )
    sqlserver_ca_file: str = Field(
        "", description="PEM file of who may sign the server's certificate; without it any certificate is taken."
    )
    archive_url: str = Field("", description="Archive: file:///folder or s3://bucket/prefix.")
    s3_endpoint: str = Field("", description="S3 endpoint, when it is not AWS. Credentials come from AWS_*.")
    stage_name: str = Field("", description="Name in logs and traces; the kind's by default.")
    topics: Annotated[tuple[str, ...], NoDecode] = Field((), description="Topics to consume; the kind's by default.")
    group: str = Field("", description="Consumer group; the kind's by default.")
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
    http_host: str = Field("0.0.0.0", description="Where /livez, /readyz and /metrics listen.")  # noqa: S104 - a pod
    http_port: int = Field(8080, ge=0, le=65_535, description="Their port; 0 takes a free one.")
    log_level: str = Field("info", description="debug, info, warning or error.")
    trades_topic: str = TRADES.name
    prices_topic: str = PRICES.name
    letters_topic: str = LETTERS.name
    sessions_topic: str = SESSIONS.name
    fix_host: str = Field("0.0.0.0", description="Where the FIX acceptor listens.")  # noqa: S104 - a pod
    fix_port: int = Field(9876, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    fix_comp_id: str = Field("EOD", description="Our CompID.")
    fix_counterparties: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), description="Comma-separated SenderCompIDs that may log on; empty admits any."
    )
    linger_ms: float = Field(4.0, ge=0, le=100, description="How long ingestion collects trades for a record.")
    publish_interval_ms: float = Field(100.0, ge=0, description="Least time between two P&L updates of a trader.")
    snapshot_interval_s: float = Field(
        5.0, gt=0, description="The least time between two snapshots of a P&L partition."
    )
    flush_rows: int = Field(5_000, ge=1, description="Rows that make a regulatory batch.")
    flush_interval_s: float = Field(5.0, gt=0, description="Longest that rows or archive bytes wait.")
    segment_bytes: int = Field(4 << 20, ge=1, description="Bytes that make an archive segment.")
    reference_file: str = Field("", description="YAML reference data of the regulatory stage.")

    @field_validator("topics", "fix_counterparties", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Lists are comma-separated."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    def options(self) -> StageOptions:
        """The part that stages see."""
        return StageOptions(
            topics=self.topics,
            group=self.group,
            trades_topic=self.trades_topic,
            prices_topic=self.prices_topic,
            letters_topic=self.letters_topic,
            sessions_topic=self.sessions_topic,
            fix_host=self.fix_host,
            fix_port=self.fix_port,
            fix_comp_id=self.fix_comp_id,
            fix_counterparties=self.fix_counterparties,
            linger_s=self.linger_ms / 1_000,
            publish_interval_s=self.publish_interval_ms / 1_000,
            snapshot_interval_s=self.snapshot_interval_s,
            flush_rows=self.flush_rows,
            flush_interval_s=self.flush_interval_s,
            segment_bytes=self.segment_bytes,
            reference_file=self.reference_file,
        )


class SettingsError(Exception):
    """The environment cannot be understood; the message names the variables."""


def load_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        SettingsError: a variable has an impossible value.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"EOD_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(lines)) from None
