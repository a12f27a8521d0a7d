"""TLS for counterparties: our certificate, whom we believe, and what a counterparty's certificate says it is."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from eod_workers.ingestion.settings import IngestionSettings

logger = structlog.get_logger()
_SETTINGS = ("fix_tls_cert_file", "fix_tls_key_file", "fix_tls_ca_file")


class Tls:
    """A context whose certificate is loaded again when its files change, as those of a Secret do when it is renewed."""

    def __init__(self, settings: IngestionSettings) -> None:
        """Loads the files that the settings name.

        Raises:
            ValueError: a file cannot be read, holds no certificate or key, or is named without the other.
        """
        self._files = {name: Path(told) for name in _SETTINGS if (told := getattr(settings, name))}
        for name, needs in (_SETTINGS[:2], _SETTINGS[1::-1], (_SETTINGS[2], _SETTINGS[0])):
            if name in self._files and needs not in self._files:
                raise ValueError(f"EOD_{name.upper()} is set, and EOD_{needs.upper()} is not: TLS needs both")
        self.context: ssl.SSLContext | None = None
        self._stamp = self._seen()
        if self._files:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._load(self.context)

    def look_again(self) -> None:
        """Loads the files again if one has changed. Files that are wrong change nothing."""
        if self.context is None or (stamp := self._seen()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._load(self.context)
        except ValueError as error:
            logger.error("fix.tls", error=str(error), why="the certificate that was loaded before goes on")  # noqa: TRY400 - it says where
        else:
            logger.info("fix.tls", certificate=str(self._files[_SETTINGS[0]]))

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = (self._files[name] for name in _SETTINGS[:2])
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # or OpenSSL asks the terminal
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"EOD_FIX_TLS_CERT_FILE={certificate} and EOD_FIX_TLS_KEY_FILE={key} are no certificate with its key, "
                f"in PEM and without a password: {error}"
            ) from None
        authorities = self._files.get(_SETTINGS[2])
        if authorities is None:
            return
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"EOD_FIX_TLS_CA_FILE={authorities} holds no certificates in PEM: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED

    def _seen(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for file in self._files.values():
            try:
                found = file.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamps)


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """What a verified certificate is called: its common name, and its DNS, URI and e-mail alternatives."""
    if not certificate:
        return frozenset()
    subject = {value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"}
    return frozenset(subject | {value for _, value in certificate.get("subjectAltName", ())})
