"""A small world of the test bed's own: what runs in it reaches no network but its own, and ends when it ends.

`python -m testbed.network COMMAND…` runs the command in new namespaces for the network (loopback is its only interface),
for processes and for mounts. However the command ends, the kernel then kills what it left running, containers included,
and takes away every bridge, rule and mount that was made.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from testbed.debian import program
from testbed.errors import Missing
from testbed.process import run

_ISOLATED = "EOD_ISOLATED_NETWORK"
_NAMESPACE = Path("/proc/self/ns/net")


def isolated() -> bool:
    """Whether this process lives in such a world."""
    return os.environ.get(_ISOLATED) == str(_NAMESPACE.readlink())


def require() -> None:
    """Check that this process may make bridges and rules.

    Raises:
        Missing: it is in a network that others use.
    """
    if not isolated():
        raise Missing("a cluster's bridges and rules are made in a network of their own only: use `make e2e`.")


def main() -> None:
    """Run the command in namespaces of its own, and exit as it does."""
    words = sys.argv[1:]
    if not words:
        sys.exit("usage: python -m testbed.network COMMAND [ARGUMENT…]")
    if words[0] == "--within":
        sys.exit(_first_process(words[1:]))
    if os.geteuid() != 0:
        sys.exit("testbed.network: root is needed to make namespaces: run this as root.")
    unshare = program("unshare", package="util-linux")
    namespaces = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    own = (sys.executable, "-m", "testbed.network", "--within", *words)
    os.execv(unshare, [os.fspath(unshare), *namespaces, "--", *own])  # noqa: S606 - that is its purpose


def _first_process(words: list[str]) -> int:
    """What process 1 of the namespace does: prepares it, starts the command, and buries everybody's orphans."""
    run([program("ip", package="iproute2"), "link", "set", "lo", "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    child = subprocess.Popen(words, env={**os.environ, _ISOLATED: str(_NAMESPACE.readlink())})

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signum)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, pass_on)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    main()
