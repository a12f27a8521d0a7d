"""What all models of the API share: how a field is written, and how a check becomes CEL."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

DNS_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
TOPIC_NAME = r"^[a-zA-Z0-9._-]+$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_PORT = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-5][0-9]{3})"  # up to 65999: what is exact is told by who connects
BOOTSTRAP = rf"^[^\s,:/]+:{_PORT}(,[^\s,:/]+:{_PORT})*$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
FOLDER = r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"
TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
AWS_REGION = r"^[a-z]{2}(-[a-z]+)+-[0-9]+$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
IN_WORDS = {
    DNS_LABEL: "a-z, 0-9 and `-`, a letter first",
    TOPIC_NAME: "letters, digits, `.`, `_` and `-`",
    DNS_SUBDOMAIN: "a-z, 0-9, `-` and `.`",
    BOOTSTRAP: "`host:port`, several with commas",
    LABEL_KEY: "a label's key, such as `topology.kubernetes.io/zone`",
    FOLDER: "an absolute path of letters, digits, `.`, `_` and `-`, no part of which begins with a dot",
    AWS_REGION: "a region of AWS, such as `eu-west-1`",
    TIME_OF_DAY: "a time of day, `HH:MM`",
    QUANTITY: "a quantity, such as `500m` or `512Mi`",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and `_`, no digit first",
}
"""Patterns, for people; one that is not here is shown as it is."""


def rule(expression: str, message: str, **more: str) -> dict[str, Any]:
    """One check of the API server, in CEL."""
    return {"rule": expression, "message": message, **more}


def rules(*checks: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Additions to a generated schema."""
    return {"x-kubernetes-validations": list(checks), **extra}


class Model(BaseModel):
    """A part of the resource: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)
