"""Programs built from Go modules that are pinned, with their hashes, by a go.mod and go.sum under `sources/`."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from testbed import cache
from testbed.cache import SOURCES, Workshop
from testbed.errors import Missing
from testbed.process import run

_GO_MOD_VERSION = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
_GO_VERSION = re.compile(r"go(\d+)\.(\d+)")
_COMPILE = "-gcflags=all=-dwarf=false"  # what -s -w would throw away: a seventh of the compiler's time
_MEMORY = "2GiB"
"""A compiler's memory, below which it collects no garbage; Go runs one a processor, and few need that much."""

_compiled: ContextVar[Path | None] = ContextVar("compiled", default=None)


def require(module: str) -> None:
    """Check that this machine can build the module of that name under `sources/`.

    Raises:
        Missing: there is no Go, or an older one than the module asks for.
    """
    wanted = _numbers(_GO_MOD_VERSION, (SOURCES / module / "go.mod").read_text())
    remedy = f"install Go {wanted[0]}.{wanted[1]} or newer, with `go` on PATH."
    if shutil.which("go") is None:
        raise Missing(f"no Go to build it with: {remedy}")
    try:
        found = _numbers(_GO_VERSION, run(["go", "version"]))
    except (subprocess.CalledProcessError, ValueError) as error:
        raise Missing(f"`go version` says nothing useful: {remedy}") from error
    if found < wanted:
        raise Missing(f"the Go on PATH is {found[0]}.{found[1]}: {remedy}")


def cached(tool: str, version: str, build: Callable[[Workshop], None], *, module: str, expected_s: float) -> Path:
    """Return the cache's folder of a tool, made by `build` if it is not there: anew when its module's sources change.

    Raises:
        Missing: there is no Go, or an older one than the module asks for.
        BuildFailed: fetching or building failed.
    """
    version = f"{version}-{cache.fingerprint(*sources(module))}"
    if not cache.entry(tool, version).is_dir():
        require(module)
    return cache.cached(tool, version, build, expected_s=expected_s)


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """What one build has compiled, the builds after it may use, until the end of this block: the standard library, for one."""
    with cache.scratch("compiled") as folder:
        token = _compiled.set(folder)
        try:
            yield
        finally:
            _compiled.reset(token)


def build(shop: Workshop, module: str, package: str, binary: str, variables: Mapping[str, str]) -> None:
    """Build `package` of the module into the workshop as `binary`, with Go variables set at link time.

    The compiler's cache is thrown away after the build, or after the block of `compiled_once`: Kubernetes leaves 3 GB
    there. The cache of downloaded modules is the user's (`go env GOMODCACHE`).
    """
    scratch = shop.log.parent
    compiled = _compiled.get() or scratch / "gocache"
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in variables.items())])
    shop.run(
        ["go", "build", "-C", SOURCES / module, "-ldflags", flags, _COMPILE, "-o", shop.folder / binary, package],
        env={
            "CGO_ENABLED": "0",
            "GOCACHE": os.fspath(compiled),
            "GOFLAGS": "-trimpath -buildvcs=false -mod=readonly",
            "GOGC": "off",
            "GOMEMLIMIT": _MEMORY,
            "GOTMPDIR": os.fspath(scratch),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        },
    )


def sources(module: str) -> list[Path]:
    """Return every file that the module's build depends on."""
    return sorted(path for path in (SOURCES / module).rglob("*") if path.is_file())


def folder(module: str, dependency: str) -> Path:
    """Return where Go keeps a dependency of the module, which has been built."""
    told = run(["go", "list", "-C", SOURCES / module, "-m", "-f", "{{.Dir}}", dependency], env={"GOWORK": "off"})
    return Path(told.strip())


def _numbers(pattern: re.Pattern[str], text: str) -> tuple[int, int]:
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"no version in {text!r}")
    return int(match[1]), int(match[2])
