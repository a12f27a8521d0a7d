"""TLS and token of a stage's ports, from its settings; what becomes of changed files is logged."""

from __future__ import annotations

import structlog
from eod_contract.bearer import Token
from eod_contract.tls import Tls
from eod_contract.watched import Reread

from eod_workers.runtime.variables import PREFIX, Variables

logger = structlog.get_logger()


def tls_of(settings: Variables, port: str) -> Tls:
    """TLS of the port `fix` or `http`.

    `settings` has `{port}_tls_cert_file`, `{port}_tls_key_file`, and perhaps `{port}_tls_ca_file`.

    Raises:
        ValueError: a file cannot be read, holds no certificate or key, or is named without the other.
    """
    fields = {part: f"{port}_tls_{part}_file" for part in ("cert", "key", "ca")}
    known = {part: name for part, name in fields.items() if name in type(settings).model_fields}
    files = {part: str(getattr(settings, name)) for part, name in known.items()}
    return Tls(
        files, {part: _variable(name) for part, name in known.items()}, lambda reread: _log(f"{port}.tls", reread)
    )


def token_of(file: str) -> Token:
    """The token of the HTTP port; nobody needs one where no file is named.

    Raises:
        ValueError: the file cannot be read, or holds no token.
    """
    return Token(file, _variable("http_token_file"), lambda reread: _log("http.token", reread))


def _variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def _log(event: str, reread: Reread) -> None:
    if reread.error:
        logger.error(event, error=reread.error, why=reread.meanwhile)
    else:
        logger.info(event, file=reread.file)
