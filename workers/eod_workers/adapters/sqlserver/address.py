"""Where the server is and who we are to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encryption = Literal["require", "request", "off"]


@dataclass(frozen=True, slots=True)
class Address:
    """One database of one server.

    Attributes:
        host: name or address; with `ca_file`, the certificate must be for it.
        port: TCP port.
        database: it exists, with the schema in it.
        user: a SQL Server login.
        password: never shown.
        encryption: require refuses a server without TLS, request takes what it offers, off wants none.
        ca_file: PEM file of the authorities that may sign the server's certificate; empty trusts any certificate.
    """

    host: str
    database: str
    user: str
    password: str = field(repr=False)
    port: int = 1433
    encryption: Encryption = "require"
    ca_file: str = ""

    def __str__(self) -> str:
        return f"SQL Server {self.host}:{self.port}/{self.database}"
