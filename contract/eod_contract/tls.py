"""TLS of a port of ours: our certificate, and whom we believe, as their files say at the moment."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from eod_contract.watched import Reread, Tell, Watched

_NEEDS = (("cert", "key"), ("key", "cert"), ("ca", "cert"))


class Tls:
    """A context that goes by other files once they have changed, as those of a Secret do when it is renewed.

    A context that has been given one certificate after another may be left with half of a pair, or with two pairs of
    different kinds. So each state of the files is a context of its own, and `context` hands connections over to the
    latest that was whole, at the beginning of their handshakes.
    """

    def __init__(self, files: Mapping[str, str], settings: Mapping[str, str], tell: Tell) -> None:
        """Loads the files; without any there is no TLS, and `context` is None.

        Args:
            files: paths of `cert`, `key` and perhaps `ca`, in PEM; "" for none.
            settings: the same → what names it, for messages.
            tell: what came of it whenever one has changed.

        Raises:
            ValueError: a file cannot be read, holds no certificate or key, or is named without the other.
        """
        self._files = {part: Path(file) for part, file in files.items() if file}
        self._settings, self._tell = settings, tell
        for part, needs in _NEEDS:
            if part in self._files and needs not in self._files:
                raise ValueError(f"{settings[part]} is set, and {settings[needs]} is not: TLS needs both")
        self._watched = Watched(*self._files.values())
        self._latest = self.context = self._load() if self._files else None
        if self.context is not None:
            self.context.sni_callback = self._hand_over

    def look_again(self) -> None:
        """Goes by the files as they are now if one has changed. Files that are wrong change nothing."""
        if not self._watched.changed():
            return
        file = str(self._files["cert"])
        try:
            self._latest = self._load()
        except ValueError as error:
            self._tell(Reread(file, str(error), "the certificate that was loaded before goes on"))
        else:
            self._tell(Reread(file))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._files["cert"], self._files["key"]
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # or OpenSSL asks the terminal
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"{self._settings['cert']}={certificate} and {self._settings['key']}={key} are no certificate with its "
                f"key, in PEM and without a password: {error}"
            ) from None
        if (authorities := self._files.get("ca")) is None:
            return context
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{self._settings['ca']}={authorities} holds no certificates in PEM: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """OpenSSL calls this in every handshake, whether or not the client names a host."""
        if self._latest is not None:
            connection.context = self._latest
