"""What a counterparty's certificate says it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """What a verified certificate is called: its common name, and its DNS, URI and e-mail alternatives."""
    if not certificate:
        return frozenset()
    subject = {value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"}
    return frozenset(subject | {value for _, value in certificate.get("subjectAltName", ())})
