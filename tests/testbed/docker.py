"""A Docker daemon of the test bed's own, in a network of its own, and what kind needs of it.

Debian's dockerd, not the machine's: another data folder, another socket, no bridge outside of the network that the tests
made (`testbed.network`).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from testbed import network
from testbed.cache import SOURCES
from testbed.debian import program
from testbed.errors import CommandFailed
from testbed.process import run
from testbed.server import NotYet, Server

_RUNC = SOURCES / "docker" / "runc-unprivileged"
_CLIENT = Path("/usr/bin/docker")  # Debian's, of the daemon's own age; another may stand before it on PATH


class Docker(Server):
    """One daemon; its containers end with it."""

    key: ClassVar[str] = "docker"
    title: ClassVar[str] = "Docker"
    default_ports: ClassVar[Mapping[str, int]] = {}
    fetch_s: ClassVar[float] = 15

    @classmethod
    def fetch(cls) -> Path:
        """The daemon, from Debian."""
        program("iptables", package="iptables")
        return program("dockerd", package="docker.io")

    @property
    def environment(self) -> Mapping[str, str]:
        """DOCKER_HOST."""
        return {"DOCKER_HOST": f"unix://{self._socket}"}

    @property
    def version(self) -> str:
        """What the daemon says."""
        return self("version", "--format={{.Server.Version}}").strip()

    def __call__(self, *args: str | Path) -> str:
        """Run docker and return what it printed.

        Raises:
            CommandFailed: it exited with an error, which the message holds.
        """
        try:
            return run([_CLIENT, *args], env={**self.environment, "DOCKER_BUILDKIT": "0"})
        except subprocess.CalledProcessError as error:
            said = f"{error.stdout.strip()[-3000:]}\n{error.stderr.strip()}"
            raise CommandFailed(f"docker {' '.join(map(str, args))}: {said}") from error

    def import_root(self, root: Path, name: str, changes: Sequence[str] = ()) -> None:
        """Make an image of the tar of a root file system."""
        self("import", *(word for change in changes for word in ("--change", change)), root, name)

    @property
    def _socket(self) -> Path:
        return self._short / "docker.sock"

    def __init__(self, home: Path, *, tethered: bool = True, prefer_default_ports: bool = False) -> None:
        super().__init__(home, tethered=tethered, prefer_default_ports=prefer_default_ports)
        self._short = Path(tempfile.mkdtemp(prefix="eod-docker-"))  # the names of sockets are short

    def stop(self) -> None:
        """End every container, then the daemon, and let go of what they held."""
        if self.alive and (containers := self("ps", "--quiet").split()):
            self("kill", *containers)
        super().stop()
        self._let_go()

    def kill(self) -> None:
        """Kill -9 the daemon; containers of it end as it ends."""
        super().kill()
        self._let_go()

    def discard(self) -> None:
        """Kill the daemon and delete its data."""
        super().discard()
        shutil.rmtree(self._short, ignore_errors=True)

    def _prepare(self, programs: Path) -> None:
        del programs
        network.require()

    def _launch(self, programs: Path) -> None:
        runtime = self.home / "runc-unprivileged"
        shutil.copy2(_RUNC, runtime)
        runtime.chmod(0o755)
        self._spawn(
            "dockerd",
            [
                programs,
                f"--data-root={self.data}",
                f"--exec-root={self._short / 'exec'}",
                f"--host=unix://{self._socket}",
                f"--pidfile={self._short / 'pid'}",
                "--log-level=warn",
                "--oom-score-adjust=0",
                f"--add-runtime=unprivileged={runtime}",
                "--default-runtime=unprivileged",
                "--storage-driver=overlay2",
            ],
            env={"PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"},
        )
        self._await(self._require_up)

    def _require_up(self) -> None:
        try:
            self("info")
        except CommandFailed as error:
            raise NotYet(str(error)) from error

    def _let_go(self) -> None:
        """Unmount what a killed daemon leaves mounted under our folders."""
        ours = (f"{self.home}/", f"{self._short}/")
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(ours)), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
