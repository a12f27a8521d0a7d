"""How the port of a stage's probes and metrics is protected."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from eod_operator.api.model import DNS_SUBDOMAIN, Model, rule, rules
from eod_operator.api.sources import KeyOf, Named

_NEITHER = (
    "http takes tls, token or both: an empty one protects nothing. Name a Secret in tls.secretRef or "
    "token.secretKeyRef, or remove http"
)


class HttpTls(Model):
    """A certificate of the stages' port."""

    secret_ref: Named = Field(
        description="A Secret with the keys tls.crt and tls.key, such as cert-manager makes: the certificate that the "
        "stages show, and its unencrypted key. It may change: no pod is rolled.",
    )
    server_name: str | None = Field(
        default=None,
        pattern=DNS_SUBDOMAIN,
        min_length=1,
        max_length=253,
        description="A name in the certificate, by which Prometheus verifies it: it scrapes pods by their addresses.",
    )


class HttpToken(Model):
    """A token that who scrapes gives."""

    secret_key_ref: KeyOf = Field(
        description="The key of a Secret that holds the token: 16 printable characters or more, without blanks. It may "
        "change: no pod is rolled.",
    )


class Http(Model):
    """Who may read what the stages say of themselves; the kubelet's probes may in any case ask whether they work."""

    model_config = ConfigDict(json_schema_extra=rules(rule("has(self.tls) || has(self.token)", _NEITHER)))

    tls: HttpTls | None = Field(default=None, description="TLS, also for the kubelet's probes; by default plain HTTP.")
    token: HttpToken | None = Field(
        default=None,
        description="A token without which /metrics is refused and /readyz says no reasons; by default everybody is "
        "told. Without tls it goes over the network in the clear.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.tls is None and self.token is None:
            raise ValueError(_NEITHER)
        return self
