"""What a stage says at its HTTP port, to whoever has started it: asked by the TLS and the token of its own settings."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

_WITHIN_S = 5.0


class Probes:
    """The port of a stage that was started with `environment` added to ours."""

    def __init__(self, port: int, environment: Mapping[str, str]) -> None:
        told = {**os.environ, **environment}
        self._certificate = told.get("EOD_HTTP_TLS_CERT_FILE", "")
        self._token_file = told.get("EOD_HTTP_TOKEN_FILE", "")
        self.address = f"{'https' if self._certificate else 'http'}://127.0.0.1:{port}"

    def why_not_ready(self) -> str:
        """What /readyz says; "" once the stage works."""
        try:
            self._read("/readyz")
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode().strip()
        except OSError as error:
            return f"it does not answer: {error}"
        return ""

    def metrics(self) -> str:
        """What /metrics says."""
        return self._read("/metrics")

    def _read(self, path: str) -> str:
        request = urllib.request.Request(self.address + path)  # noqa: S310 - http or https
        if self._token_file:
            request.add_header("Authorization", f"Bearer {Path(self._token_file).read_text(encoding='utf-8').strip()}")
        tls = self._pinned() if self._certificate else None
        with urllib.request.urlopen(request, timeout=_WITHIN_S, context=tls) as answer:  # noqa: S310 - http or https
            return str(answer.read(), "utf-8")

    def _pinned(self) -> ssl.SSLContext:
        """Believes in that one certificate, which need not be for this address."""
        context = ssl.create_default_context(cafile=self._certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context
