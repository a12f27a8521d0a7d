"""Serves until its standard input ends: `python -m tds FOLDER USER DATABASE…`, the password in TDS_PASSWORD.

It prints its port first, which is a free one unless TDS_PORT names another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tds.server import Server


def main() -> None:
    """Serve databases of a folder to a process that is not a test."""
    folder, user, *databases = sys.argv[1:]
    port = int(os.environ.get("TDS_PORT", "0"))
    with Server(Path(folder), user=user, password=os.environ["TDS_PASSWORD"], port=port) as server:
        for database in databases:
            server.create_database(database)
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
