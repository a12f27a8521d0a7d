"""Root file systems out of Debian packages, for images that no registry has to be asked for: mmdebstrap(1).

The packages come from wherever this machine's own apt is configured to get them.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed.cache import Workshop
from testbed.debian import program
from testbed.errors import Missing
from testbed.process import run

_FIELDS = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
_BALLAST = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")


def require() -> None:
    """Check that root file systems can be made here.

    Raises:
        Missing: this is not root on a Debian-like machine.
    """
    if os.geteuid() != 0:
        raise Missing("root is needed to make root file systems and to run containers: run this as root.")
    program("mmdebstrap", package="mmdebstrap")


def make(shop: Workshop, folder: Path, packages: Sequence[str], *, configured: bool) -> None:
    """Make the root file system of `packages` and what they need in `folder`.

    Args:
        shop: the build that wants it.
        folder: made by the call.
        packages: of Debian.
        configured: True makes an essential Debian in which the packages' scripts have run; False unpacks the packages and
            nothing else: no shell, no dpkg, unless they are among them.

    Raises:
        BuildFailed: mmdebstrap failed, for want of the network say.
    """
    sources = shop.log.with_name("sources.list")
    sources.write_text("".join(f"deb {source}\n" for source in _sources()))
    kind = ["--variant=essential"] if configured else ["--variant=extract"]
    without = [f"--dpkgopt=path-exclude={path}" for path in _BALLAST] if configured else []
    shop.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--format=directory", *kind, *without),
            f"--include={','.join(packages)}",
            *('--aptopt=Acquire::Languages "none"', "--skip=check/qemu"),
            *(_suite(), folder, sources),
        ],
        {"TMPDIR": os.fspath(shop.log.parent)},
    )
    if not configured:
        for path in _BALLAST:
            run(["rm", "-rf", folder / path.removeprefix("/").removesuffix("/*")])
        run(["ldconfig", "-r", folder])


def _sources() -> list[str]:
    """Each Debian source of this machine's apt, as in sources.list(5), without its `deb`."""
    told = run(["apt-get", "indextargets", "--format", f"$(ORIGIN)|{_FIELDS}", "Created-By: Packages"])
    found = sorted({line.removeprefix("Debian|") for line in told.splitlines() if line.startswith("Debian|")})
    if not found:
        raise Missing("apt knows no Debian packages: run `apt-get update`, on Debian 12 or newer.")
    return found


def _suite() -> str:
    try:
        return run(["sh", "-c", '. /etc/os-release && printf %s "$VERSION_CODENAME"'])
    except subprocess.CalledProcessError as error:
        raise Missing("/etc/os-release does not say which Debian this is.") from error
