"""TLS of a port of ours: our certificate, and whom we believe, as their files say at the moment."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from eod_workers.runtime.variables import PREFIX, Variables
from eod_workers.runtime.watched import Watched

logger = structlog.get_logger()
_NEEDS = (("cert", "key"), ("key", "cert"), ("ca", "cert"))


class Tls:
    """A context that goes by other files once they have changed, as those of a Secret do when it is renewed.

    A context that has been given one certificate after another may be left with half of a pair, or with two pairs of
    different kinds. So each state of the files is a context of its own, and `context` hands connections over to the
    latest that was whole, at the beginning of their handshakes.
    """

    def __init__(self, settings: Variables, port: str) -> None:
        """Loads the files that the settings name.

        Args:
            settings: with `{port}_tls_cert_file`, `{port}_tls_key_file`, and perhaps `{port}_tls_ca_file`.
            port: `fix` or `http`.

        Raises:
            ValueError: a file cannot be read, holds no certificate or key, or is named without the other.
        """
        self._port, self._event = port, f"{port}.tls"
        names = {part: f"{port}_tls_{part}_file" for part in ("cert", "key", "ca")}
        told = {
            part: str(getattr(settings, name)) for part, name in names.items() if name in type(settings).model_fields
        }
        self._files = {part: Path(file) for part, file in told.items() if file}
        for part, needs in _NEEDS:
            if part in self._files and needs not in self._files:
                raise ValueError(f"{self._name(part)} is set, and {self._name(needs)} is not: TLS needs both")
        self._watched = Watched(*self._files.values())
        self._latest = self.context = self._load() if self._files else None
        if self.context is not None:
            self.context.sni_callback = self._hand_over

    def look_again(self) -> None:
        """Goes by the files as they are now if one has changed. Files that are wrong change nothing."""
        if not self._watched.changed():
            return
        try:
            self._latest = self._load()
        except ValueError as error:
            why = "the certificate that was loaded before goes on"
            logger.error(self._event, error=str(error), why=why)  # noqa: TRY400 - it says where
        else:
            logger.info(self._event, certificate=str(self._files["cert"]))

    def _name(self, part: str) -> str:
        return f"{PREFIX}{self._port.upper()}_TLS_{part.upper()}_FILE"

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._files["cert"], self._files["key"]
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # or OpenSSL asks the terminal
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"{self._name('cert')}={certificate} and {self._name('key')}={key} are no certificate with its key, "
                f"in PEM and without a password: {error}"
            ) from None
        if (authorities := self._files.get("ca")) is None:
            return context
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{self._name('ca')}={authorities} holds no certificates in PEM: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """OpenSSL calls this in every handshake, whether or not the client names a host."""
        if self._latest is not None:
            connection.context = self._latest
