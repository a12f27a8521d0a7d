"""Programs out of Debian packages, installed on the way where that is possible: as root, with apt-get.

A package's own system service stays down (policy-rc.d): the test bed starts processes of its own.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from testbed import cache
from testbed.errors import Missing
from testbed.progress import Progress

_POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d(8), deb-systemd-invoke(1p): exit 101 forbids starting services
_EXPECTED_S = 15


def program(name: str, package: str) -> Path:
    """Return the path of a program, having installed its Debian package if need be.

    Raises:
        Missing: it is not on PATH and this is not root on a Debian-like machine.
        BuildFailed: apt-get failed.
    """
    if found := shutil.which(name):
        return Path(found)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"no {name} on PATH: install it, on Debian with `apt-get install {package}`.")
    with cache.exclusive("apt"):
        if shutil.which(name) is None:
            _install(package)
    if found := shutil.which(name):
        return Path(found)
    raise Missing(f"the Debian package {package} brought no {name}: install {name} by hand, on PATH.")


def _install(package: str) -> None:
    progress = Progress(f"{package}: apt-get update && apt-get install --no-install-recommends {package}", _EXPECTED_S)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    log = cache.root() / f".apt-{package}.log"
    log.unlink(missing_ok=True)
    shop = cache.Workshop(cache.root(), progress, log)
    with _services_stay_down():
        shop.run(["apt-get", "-q", "update"], env)
        shop.run(["apt-get", "-q", "install", "-y", "--no-install-recommends", package], env)
    log.unlink()
    progress.done()


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():  # somebody else's policy: leave it
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
