"""Certificates of a throw-away cluster, made with the openssl program: one authority and what it signs."""

import base64
from pathlib import Path

from testbed.debian import program
from testbed.process import run

_DAYS = "3650"


class Authority:
    """A certificate authority in a folder, with `ca.crt` and `ca.key`; keys are on the P-256 curve."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._openssl = program("openssl", package="openssl")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.certificate = folder / "ca.crt"
        self.key = self.new_key("ca")
        usage = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._run(
            "req",
            "-x509",
            "-new",
            "-key",
            self.key,
            "-days",
            _DAYS,
            "-subj",
            f"/CN={name}",
            "-out",
            self.certificate,
            *usage,
        )

    def new_key(self, name: str) -> Path:
        """Make the private key `name`.key."""
        key = self._folder / f"{name}.key"
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        return key

    def public_key(self, key: Path) -> Path:
        """Write the public half of a private key beside it."""
        public = key.with_suffix(".pub")
        self._run("ec", "-in", key, "-pubout", "-out", public)
        return public

    def issue(self, name: str, subject: str, *, server_names: str = "") -> tuple[Path, Path]:
        """Make and sign `name`.crt: of a server under these names (`DNS:…,IP:…`), or else of a client.

        Returns:
            The certificate and its key.
        """
        key, certificate = self.new_key(name), self._folder / f"{name}.crt"
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        lines = ["keyUsage=digitalSignature", f"extendedKeyUsage={'serverAuth' if server_names else 'clientAuth'}"]
        extensions.write_text("\n".join([*lines, f"subjectAltName={server_names}"] if server_names else lines))
        self._run("req", "-new", "-key", key, "-subj", subject, "-out", request)
        self._run(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", _DAYS, "-extfile", extensions, "-out", certificate),
        )
        return certificate, key

    def bundle(self, name: str, certificate: Path, key: Path) -> Path:
        """Write `name`.pem with a key in PKCS #8 and its certificate: what a Java server reads as a PEM key store."""
        bundle, plain = self._folder / f"{name}.pem", self._folder / f"{name}.pk8"
        self._run("pkcs8", "-topk8", "-nocrypt", "-in", key, "-out", plain)
        bundle.touch(mode=0o600)
        bundle.write_text(plain.read_text() + certificate.read_text())
        return bundle

    def _run(self, *words: str | Path) -> None:
        run([self._openssl, *words])


def embed(file: Path) -> str:
    """Return a file as the base64 text that a kubeconfig embeds."""
    return base64.b64encode(file.read_bytes()).decode()
