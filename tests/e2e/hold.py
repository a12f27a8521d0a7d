"""`python -m testbed.network …/python -m e2e.hold FOLDER`: keeps the cluster of the end-to-end tests up, to look around in."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from e2e.world import ClusterWorld


def main() -> None:
    """Bring the cluster up, say how to get in, and wait for a signal."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    with ClusterWorld.up(folder) as world:
        sys.stdout.write(f"export KUBECONFIG={world.kind.kubeconfig} HELM={world.helm_program.fetch() / 'helm'}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
