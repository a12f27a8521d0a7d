"""The bearer token that a port for probes and metrics may ask for (RFC 6750)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

from eod_contract.watched import Reread, Tell, Watched

_LEAST, _MOST = 16, 4096
"""Characters of a token: fewer can be guessed, more do not fit a request's headers."""
_MOST_BYTES = _MOST + 2
"""Of the file: an end of line may follow."""
_ADVICE = f"give a file of {_LEAST} to {_MOST} printable ASCII characters without blanks (`openssl rand -hex 32`)"


class Token:
    """What a file holds at the moment; nobody needs it where no file is named. It is never logged."""

    def __init__(self, file: str, setting: str, tell: Tell) -> None:
        """Reads the file.

        Args:
            file: its path; "" for none.
            setting: what names it, for messages.
            tell: what came of it whenever it has changed.

        Raises:
            ValueError: it cannot be read, or holds no token.
        """
        self._file, self._setting, self._tell = Path(file), setting, tell
        self._watched = Watched(*([self._file] if file else []))
        self._token = self._read() if file else None

    def look_again(self) -> None:
        """Reads the file again if it has changed. One that is wrong changes nothing."""
        if not self._watched.changed():
            return
        try:
            self._token = self._read()
        except ValueError as error:
            self._tell(Reread(str(self._file), str(error), "the token that was read before goes on"))
        else:
            self._tell(Reread(str(self._file)))

    def is_given(self, authorizations: Sequence[bytes]) -> bool:
        """Whether a request whose Authorization headers have these values gives it, or nobody needs to."""
        if self._token is None:
            return True
        if len(authorizations) != 1:
            return False
        scheme, _, given = authorizations[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(b" "), self._token)

    def _read(self) -> bytes:
        named = f"{self._setting}={self._file}"
        try:
            with self._file.open("rb") as opened:
                content = opened.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ValueError(f"{named} cannot be read: {error.strerror}: {_ADVICE}") from None
        token = content.strip()
        printable = token.isascii() and token.decode().isprintable() and b" " not in token
        if not printable or not _LEAST <= len(token) <= _MOST or len(content) > _MOST_BYTES:
            raise ValueError(f"{named} holds no token: {_ADVICE}")
        return token
