"""A test server that is killed at a statement: `sqlserver_dying.py FOLDER PORT before|after STATEMENT`.

It prints its port once it serves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.regulatory_stores import PASSWORD, USER
from tds.server import Server


def main() -> None:
    """Serve until the statement comes, or the input ends."""
    folder, port, when, statement = sys.argv[1:]
    with Server(Path(folder), user=USER, password=PASSWORD, port=int(port)) as server:
        server.faults.at(statement, lambda: os.kill(os.getpid(), signal.SIGKILL), after=when == "after")
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


main()
