"""The server: who may log in to which database, and a thread for each connection."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tds.encryption import Plain
from tds.engine import Engine
from tds.faults import Cut, Faults
from tds.packets import (
    Closed,
    Malformed,
)
from tds.requests import (
    Login,
)
from tds.script import Refused
from tds.security import Logins, SetLogin
from tds.session import Session

_STOP_WITHIN_S = 10.0
_BACKLOG = 64
_DATABASE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server needs for TLS: at most version 1.2, as the handshake inside of PRELOGIN cannot do more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class Server:
    """A server on a port; use it as a context manager.

    Args:
        folder: keeps one file a database; a server on the same folder has the same data.
        user: its administrator, who may log in to every database.
        password: with what.
        tls: a server's context; without it, connections cannot be encrypted.
        host: the address to listen on.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str,
        password: str,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.folder, self.user, self.password = folder, user, password
        self.tls = tls
        self.logins_known = Logins(folder)
        self.faults = Faults()
        self.host = host
        self.port = port
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._locks: dict[tuple[Path, str], object] = {}
        self._sessions: dict[threading.Thread, socket.socket] = {}
        self.logins = 0
        """How many clients have told us a password."""
        self.encrypted_logins = 0
        """How many of them under TLS."""

    def __enter__(self) -> Self:
        """Start listening."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def connections(self) -> int:
        """How many there are now."""
        with self._lock:
            return len(self._sessions)

    def create_database(self, name: str) -> None:
        """Make a database, if it does not exist yet."""
        if not _DATABASE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a database here")
        self.file_of(name).touch()

    def has_login(self, name: str) -> bool:
        """Whether somebody may log in by that name."""
        return name.lower() == self.user.lower() or self.logins_known.has(name)

    def set_login(self, login: SetLogin) -> None:
        """Make a login, or give it another password."""
        self.logins_known.set(login)

    def has_database(self, name: str) -> bool:
        """Whether there is one."""
        return bool(_DATABASE_NAME.fullmatch(name)) and self.file_of(name).exists()

    def lock(self, path: Path, resource: str, owner: object) -> bool:
        """Give a session an application lock of a database; False if another has it."""
        with self._lock:
            return self._locks.setdefault((path, resource), owner) is owner

    def unlock(self, path: Path, resource: str | None, owner: object) -> None:
        """Take one back, or all that the session has."""
        with self._lock:
            for key in [key for key, has in self._locks.items() if has is owner]:
                if key[0] == path and resource in {None, key[1]}:
                    del self._locks[key]

    def start(self) -> None:
        """Listen, on the same port as before if it was started before."""
        self._listener = socket.create_server((self.host, self.port), backlog=_BACKLOG)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), name="tds listener", daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and lose those that there are; their transactions are undone."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.kill_connections()
        with self._lock:
            threads = list(self._sessions)
        for thread in threads:
            thread.join(_STOP_WITHIN_S)

    def kill_connections(self) -> None:
        """Lose every connection now."""
        with self._lock:
            connections = list(self._sessions.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def engine(self, database: str, wait: Callable[[float], bool] = _slept) -> Engine:
        """A session without a client, to look around with."""
        return Engine(self.file_of(database), self.faults, wait, self)

    def open(self, login: Login, session: Session) -> Engine:
        """Admit a client.

        Raises:
            Refused: not with this password, not to this database.
        """
        admin = (login.user, login.password) == (self.user, self.password)
        if not admin and not self.logins_known.admits(login.user, login.password):
            raise Refused(18456, f"Login failed for user '{login.user}'.", severity=14)
        database = login.database or "master"
        if database != "master" and not self.has_database(database):
            raise Refused(
                4060, f'Cannot open database "{database}" requested by the login. The login failed.', severity=11
            )
        engine = self.engine(database, session.wait)
        if not admin and database != "master" and not engine.has_user(login.user):
            engine.close()
            text = f'The server principal "{login.user}" is not able to access the database "{database}".'
            raise Refused(916, text, severity=14)
        return engine

    def file_of(self, database: str) -> Path:
        """The SQLite file that is a database."""
        return self.folder / f"{database.lower()}.sqlite"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # stopped
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), name="tds session", daemon=True)
            with self._lock:
                self._sessions[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        session = Session(self, Plain(connection))
        try:
            session.run()
        except (Closed, Malformed, Cut, OSError, ValueError):  # the client has gone, or is no client, or a fault struck
            pass
        finally:
            session.close()
            with self._lock:
                del self._sessions[threading.current_thread()]
            connection.close()
