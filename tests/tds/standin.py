"""Stands in for SQL Server's image in a cluster: the same port, user, variable and folders (`python -m tds.standin`).

Listens on 1433 of every address for `sa` with MSSQL_SA_PASSWORD, keeps databases in /var/opt/mssql, and speaks TLS with the
certificate in /etc/eod/tls or, as SQL Server signs one itself, with that of its image. What it cannot show stands in README.md.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from tds.server import Server, tls_context

_CERTIFICATES = (Path("/etc/eod/tls"), Path("/usr/share/tds"))
_FOLDER = Path("/var/opt/mssql/data")
_PORT = 1433


def main() -> None:
    """Serve until SIGTERM."""
    password = os.environ.get("MSSQL_SA_PASSWORD")
    if not password:
        sys.exit("MSSQL_SA_PASSWORD is not set: give the password of sa")
    _FOLDER.mkdir(parents=True, exist_ok=True)
    folder = next((one for one in _CERTIFICATES if (one / "tls.crt").exists()), None)
    tls = tls_context(folder / "tls.crt", folder / "tls.key") if folder else None
    ended = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: ended.set())
    with Server(_FOLDER, user="sa", password=password, tls=tls, host="", port=_PORT):
        sys.stdout.write(f"tds stand-in: listening on {_PORT}, {'with' if tls else 'without'} TLS\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
