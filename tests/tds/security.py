"""Databases, logins, users and grants: who may log in to what. Rights are recorded, and not enforced."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from tds.script import Refused

_NAME = r"\[(?P<name>[^\]]+)\]"
_DATABASE = re.compile(rf"CREATE\s+DATABASE\s+{_NAME}", re.IGNORECASE)
_LOGIN = re.compile(
    rf"(?P<verb>CREATE|ALTER)\s+LOGIN\s+{_NAME}\s+WITH\s+PASSWORD\s*=\s*N'(?P<password>(?:[^']|'')*)'", re.IGNORECASE
)
_USER = re.compile(rf"CREATE\s+USER\s+{_NAME}\s+FOR\s+LOGIN\s+\[(?P<login>[^\]]+)\]", re.IGNORECASE)
_GRANT = re.compile(rf"GRANT\s+(?P<rights>\w+(?:\s*,\s*\w+)*)\s+ON\s+(?P<table>[\w.]+)\s+TO\s+{_NAME}", re.IGNORECASE)
_RIGHTS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})


@dataclass(frozen=True, slots=True)
class MakeDatabase:
    """CREATE DATABASE."""

    name: str


@dataclass(frozen=True, slots=True)
class SetLogin:
    """CREATE LOGIN, or ALTER LOGIN when it must exist already."""

    name: str
    password: str
    exists: bool


@dataclass(frozen=True, slots=True)
class MakeUser:
    """CREATE USER."""

    name: str
    login: str


@dataclass(frozen=True, slots=True)
class Grant:
    """GRANT."""

    name: str
    table: str
    rights: tuple[str, ...]


def act(statement: str) -> MakeDatabase | SetLogin | MakeUser | Grant | None:
    """What a statement does to databases and people; None if it does something else.

    Raises:
        Refused: it grants what this server does not know.
    """
    if found := _DATABASE.fullmatch(statement):
        return MakeDatabase(found["name"])
    if found := _LOGIN.fullmatch(statement):
        return SetLogin(found["name"], found["password"].replace("''", "'"), found["verb"].upper() == "ALTER")
    if found := _USER.fullmatch(statement):
        return MakeUser(found["name"], found["login"])
    if found := _GRANT.fullmatch(statement):
        rights = tuple(one.strip().upper() for one in found["rights"].split(","))
        if set(rights) - _RIGHTS:
            raise Refused(102, f"this test server does not know the right {sorted(set(rights) - _RIGHTS)}", severity=15)
        return Grant(found["name"], found["table"], rights)
    return None


class Logins:
    """The logins of a server besides its administrator, in a file of its folder; passwords as hashes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "logins.json"
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Whether there is such a login."""
        return name.lower() in self._read()

    def admits(self, name: str, password: str) -> bool:
        """Whether that is its password."""
        return self._read().get(name.lower()) == _hashed(password)

    def set(self, login: SetLogin) -> None:
        """Make it, or give it another password.

        Raises:
            Refused: it is there already, or it is not.
        """
        with self._lock:
            known = self._read()
            if login.exists and login.name.lower() not in known:
                raise Refused(15151, f"Cannot alter the login '{login.name}', because it does not exist.")
            if not login.exists and login.name.lower() in known:
                raise Refused(15025, f"The server principal '{login.name}' already exists.")
            known[login.name.lower()] = _hashed(login.password)
            self._file.write_text(json.dumps(known), encoding="utf-8")

    def _read(self) -> dict[str, str]:
        return dict(json.loads(self._file.read_text(encoding="utf-8"))) if self._file.exists() else {}


def _hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
