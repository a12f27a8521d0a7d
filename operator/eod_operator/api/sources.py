"""Where a pipeline's data and settings come from: Kafka, its topics, ConfigMaps and Secrets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from eod_operator.api.model import AWS_REGION, BOOTSTRAP, FOLDER, TOPIC_NAME, Model, rule, rules

RESERVED_ENV = (
    *("EOD_KAFKA_BOOTSTRAP", "EOD_KAFKA_SECURITY_PROTOCOL", "EOD_KAFKA_SASL_MECHANISM", "EOD_KAFKA_USERNAME"),
    *("EOD_KAFKA_PASSWORD", "EOD_KAFKA_TLS_DIR", "EOD_KAFKA_CA_FILE", "EOD_KAFKA_CERT_FILE", "EOD_KAFKA_KEY_FILE"),
    *("EOD_KAFKA_AWS_REGION", "EOD_STAGE_NAME", "EOD_TOPICS", "EOD_GROUP", "EOD_JOIN_BEAT_S", "EOD_HTTP_PORT"),
    *("EOD_HTTP_HOST", "EOD_FIX_HOST", "EOD_HTTP_TLS_CERT_FILE", "EOD_HTTP_TLS_KEY_FILE", "EOD_HTTP_TOKEN_FILE"),
)
"""The operator's own to say in every container, whether it does or not: half a login from elsewhere helps nobody."""
KAFKA_FILES = "/etc/eod/kafka"
"""Where the PEM files of Kafka's Secret are in the pods."""
HTTP_FILES = "/etc/eod/http"
"""Where the certificate and the token of the stages' own port are."""
RESERVED_PATHS = ("/tmp", "/venv", KAFKA_FILES, HTTP_FILES)  # noqa: S108 - a pod's, on which the operator mounts something itself
"""Where nothing else may be mounted: what the operator mounts, and where the image keeps its programs."""
MSK_IAM = "AWS_MSK_IAM"
_SASL = "['SASL_PLAINTEXT', 'SASL_SSL']"
_IS_IAM = f"(has(self.mechanism) && self.mechanism == '{MSK_IAM}')"


class Named(Model):
    """A reference to an object of the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the object, in the pipeline's namespace.")


class KafkaSecurity(Model):
    """How the brokers are talked to."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!(self.protocol in {_SASL}) || has(self.secretRef) || {_IS_IAM}",
                "SASL_PLAINTEXT and SASL_SSL need secretRef, a Secret with the keys username and password; only "
                f"mechanism {MSK_IAM} does without",
                fieldPath=".protocol",
            ),
            rule(
                "self.protocol != 'PLAINTEXT' || !has(self.secretRef)",
                "protocol PLAINTEXT has no use for secretRef, since it neither logs in nor checks a certificate: "
                "choose SASL_SSL or SSL, or remove secretRef",
                fieldPath=".protocol",
            ),
            rule(
                f"!has(self.mechanism) || self.protocol in {_SASL}",
                "mechanism goes with protocol SASL_SSL or SASL_PLAINTEXT: choose one of them, or remove mechanism",
                fieldPath=".mechanism",
            ),
            rule(
                f"!{_IS_IAM} || (self.protocol == 'SASL_SSL' && has(self.awsRegion))",
                f"mechanism {MSK_IAM} needs protocol SASL_SSL and awsRegion, the region of the Amazon MSK cluster",
                fieldPath=".mechanism",
            ),
            rule(
                f"!has(self.awsRegion) || {_IS_IAM}",
                f"awsRegion goes with mechanism {MSK_IAM} alone: remove it, or choose that mechanism",
                fieldPath=".awsRegion",
            ),
        )
    )

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        description="SSL is TLS, SASL_SSL is TLS and a login. Certificates are always verified, with the host's name."
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"] | None = Field(
        default=None,
        description="How stages and operator log in; by default SCRAM-SHA-512. With AWS_MSK_IAM each uses the AWS "
        "credentials of its own ServiceAccount.",
    )
    secret_ref: Named | None = Field(
        default=None,
        description="A Secret with any of the keys username and password (of PLAIN and SCRAM), ca.crt (who may sign "
        "the brokers' certificates; without it the authorities that the image knows), tls.crt and tls.key (our own "
        "certificate, where brokers ask for one).",
    )
    aws_region: str | None = Field(
        default=None,
        pattern=AWS_REGION,
        max_length=32,
        description="Region of the Amazon MSK cluster, for AWS_MSK_IAM, such as eu-west-1.",
    )

    @property
    def sasl(self) -> str | None:
        """The mechanism that is used; None without a login."""
        return (self.mechanism or "SCRAM-SHA-512") if self.protocol.startswith("SASL_") else None

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def login(self) -> bool:
        """Whether username and password are needed."""
        return self.sasl not in {None, MSK_IAM}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.login and self.secret_ref is None:
            raise ValueError("SASL_PLAINTEXT and SASL_SSL need secretRef, a Secret with the keys username and password")
        if self.protocol == "PLAINTEXT" and self.secret_ref is not None:
            raise ValueError("protocol PLAINTEXT has no use for secretRef: choose SASL_SSL or SSL, or remove secretRef")
        if self.mechanism is not None and self.sasl is None:
            raise ValueError("mechanism goes with protocol SASL_SSL or SASL_PLAINTEXT: choose one of them")
        if self.mechanism == MSK_IAM and not (self.protocol == "SASL_SSL" and self.aws_region):
            raise ValueError(f"mechanism {MSK_IAM} needs protocol SASL_SSL and awsRegion")
        if self.aws_region is not None and self.mechanism != MSK_IAM:
            raise ValueError(f"awsRegion goes with mechanism {MSK_IAM} alone: remove it")
        return self


class Kafka(Model):
    """Where the log is."""

    bootstrap_servers: str = Field(
        pattern=BOOTSTRAP,
        max_length=1024,
        description="Kafka brokers to start from, as host:port or host:port,host:port.",
        examples=["kafka:9092"],
    )
    security: KafkaSecurity | None = Field(
        default=None, description="TLS and credentials, of the stages and of the operator; by default neither."
    )


class Topic(Model):
    """What a topic shall be like; topics that are not listed are only checked for existence."""

    name: str = Field(pattern=TOPIC_NAME, min_length=1, max_length=249, description="Name of the topic.")
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Partitions that it shall have. Another number is reported and never changed: "
        "keys would move to other partitions.",
    )
    retention_hours: int | None = Field(
        default=None,
        ge=1,
        le=87_600,
        description="Hours that it shall keep records. Another number is reported and never changed.",
    )
    replication_factor: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="Copies of each record, for a topic to be created; by default the broker's.",
    )
    create: bool = Field(
        default=False, description="Create the topic when it does not exist. An existing topic is never altered."
    )

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.create || has(self.partitions)",
                "a topic to be created needs partitions: the count can never be lowered, so it is not guessed",
                fieldPath=".create",
            ),
        )
    )

    @model_validator(mode="after")
    def _creatable(self) -> Self:
        if self.create and self.partitions is None:
            raise ValueError("a topic to be created needs partitions: the count can never be lowered")
        return self


class KeyOf(Named):
    """A reference to one key of a Secret or ConfigMap."""

    key: str = Field(min_length=1, max_length=253, description="Key within the object.")


class EnvSource(Model):
    """Where a variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "valueFrom takes exactly one of secretKeyRef and configMapKeyRef",
            )
        )
    )

    secret_key_ref: KeyOf | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyOf | None = Field(default=None, description="A key of a ConfigMap.")


class EnvVar(Model):
    """One environment variable of every stage."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.value) != has(self.valueFrom)",
                "a variable takes exactly one of value and valueFrom",
            ),
            rule(
                f"!(self.name in [{', '.join(map(repr, RESERVED_ENV))}])",
                f"the operator itself sets {', '.join(RESERVED_ENV)}: choose another name",
                fieldPath=".name",
            ),
        )
    )

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Name of the variable.")
    value: str | None = Field(default=None, max_length=4096, description="Its value, written out.")
    value_from: EnvSource | None = Field(default=None, description="Its value, from a Secret or ConfigMap.")


class MountedFiles(Model):
    """A ConfigMap or Secret whose keys are files."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.secretRef) != has(self.configMapRef)",
                "files takes exactly one of secretRef and configMapRef",
            ),
            rule(
                f"!{list(RESERVED_PATHS)!r}.exists(p, (p + '/').startsWith(self.mountPath + '/') "
                "|| self.mountPath.startsWith(p + '/'))",
                f"mountPath must not be, hold or lie below {', '.join(RESERVED_PATHS)}, where the operator or the "
                "image keeps files of its own: choose another folder, such as /etc/eod/reference",
                fieldPath=".mountPath",
            ),
        )
    )

    mount_path: str = Field(
        pattern=FOLDER,
        max_length=256,
        description="Folder in which the files appear, read-only; what the image has there is hidden.",
    )
    config_map_ref: Named | None = Field(default=None, description="A ConfigMap: each key is a file of that name.")
    secret_ref: Named | None = Field(default=None, description="A Secret: each key is a file of that name.")
    reread: bool = Field(
        default=False, description="The stages read the files again by themselves: a changed one rolls no pods."
    )

    @model_validator(mode="after")
    def _elsewhere(self) -> Self:
        if any(_overlap(self.mount_path, path) for path in RESERVED_PATHS):
            raise ValueError(
                f"mountPath must not be, hold or lie below {', '.join(RESERVED_PATHS)}: choose another folder"
            )
        return self


def _overlap(one: str, other: str) -> bool:
    """Whether two folders are the same, or one lies in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


class Config(Model):
    """What the workers need to know besides Kafka: addresses and credentials of their stores."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.files) || self.files.all(a, self.files.all(b, a.mountPath == b.mountPath || "
                "!b.mountPath.startsWith(a.mountPath + '/')))",
                "no mountPath may lie below another: nothing can be mounted into a read-only folder",
                fieldPath=".files",
            )
        )
    )

    config_map_ref: Named | None = Field(
        default=None, description="A ConfigMap whose keys become environment variables of every stage."
    )
    secret_ref: Named | None = Field(
        default=None, description="A Secret whose keys become environment variables of every stage."
    )
    env: Annotated[
        tuple[EnvVar, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), max_length=64, description="Single environment variables of every stage.")
    files: Annotated[
        tuple[MountedFiles, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["mountPath"]}),
    ] = Field(
        default=(),
        max_length=16,
        description="Files of every stage: reference data, authorities of stores. A change rolls the stages.",
    )

    @model_validator(mode="after")
    def _beside_each_other(self) -> Self:
        paths = [one.mount_path for one in self.files]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"files: the mountPath {path!r} is given {paths.count(path)} times")
            if any(other.startswith(f"{path}/") for other in paths):
                raise ValueError("files: no mountPath may lie below another")
        return self
