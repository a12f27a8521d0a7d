"""Compiles every `.pyx` below workers/eod_workers while the distribution is built.

For an editable install the libraries go beside their sources, else into the same packages of the wheel. The kernel is
the hot path in C. Everything works without it, only slower, so a machine without a compiler installs all the same and
is told what it misses. A compiler that is there and fails is an error: nobody wants to be slow and not know it.

With EOD_KERNEL_CACHE=folder what was compiled is kept there, under all that it was made of and with, and taken again.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "eod_workers"
MEND = "on Debian: apt-get install gcc python3-dev, then 'make setup'"
_FLAGS = ["-O3", "-g0"]  # never -march=native: an image is built on one machine and runs on others
_PROBE = "#include <Python.h>\nint eod_probe(void) { return PY_MAJOR_VERSION; }\n"


class KernelHook(BuildHookInterface[Any]):
    """What hatchling calls before it collects the files."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, unless this cannot be done here; `version` is "editable" for an editable install."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        if version == "editable":
            for stale in (root / "workers" / PACKAGE).rglob("*.so"):
                stale.unlink()  # of a source that has gone, or of another Python
        why = missing()
        if why:
            self.app.display_warning(f"eod is installed without its kernel, and is slower: {why}")
            return
        built = root / "workers" if version == "editable" else root / "build/kernel/lib"
        libraries = made(root, built)
        if version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update({str(file): file.relative_to(built).as_posix() for file in libraries})


def missing() -> str:
    """Why the kernel cannot be compiled here, and how to mend it; "" if it can."""
    if os.environ.get("EOD_NO_KERNEL", "") not in {"", "0"}:
        return "EOD_NO_KERNEL is set: unset it, then 'make setup'"
    compiler = _compiler()
    look = ["-fsyntax-only", "-x", "c", "-I", sysconfig.get_path("include"), "-"]
    try:
        subprocess.run([*compiler, *look], input=_PROBE, check=True, capture_output=True, text=True)  # noqa: S603 - CC
    except (OSError, subprocess.CalledProcessError):
        return f"{compiler[0]} is no C compiler that finds Python.h and the headers of libc: {MEND}"
    return ""


def made(root: Path, built: Path) -> list[Path]:
    """The libraries, in the package folders below `built`: as they were compiled before, if that is known, or now."""
    cache = os.environ.get("EOD_KERNEL_CACHE", "")
    if not cache:
        return compile_kernel(root, built)
    entry = Path(cache, _made_of(root))
    if not entry.is_dir():
        libraries = compile_kernel(root, built)
        entry.parent.mkdir(parents=True, exist_ok=True)
        kept = Path(tempfile.mkdtemp(dir=entry.parent))
        for library in libraries:
            place = kept / library.relative_to(built)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, place)
        try:
            kept.rename(entry)  # whole, or not at all
        except OSError:  # somebody else was quicker
            shutil.rmtree(kept)
        return libraries
    shutil.copytree(entry, built, dirs_exist_ok=True)
    return [built / library.relative_to(entry) for library in sorted(entry.rglob("*.so"))]


def _made_of(root: Path) -> str:
    """A fingerprint of sources and their places, flags, Python, Cython and compiler."""
    sources = sorted([root / "hatch_build.py", *_below(root, "*.pyx", "*.pxd", "*.h")])
    compiler = _compiler()
    said = subprocess.run([*compiler, "--version"], check=True, capture_output=True)  # noqa: S603 - CC
    words = [*compiler, *(os.environ.get(name, "") for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS"))]
    words += [sysconfig.get_config_var("EXT_SUFFIX"), sys.version, version_of("cython")]
    digest = hashlib.sha256(said.stdout + "\n".join(words).encode())
    for source in sources:
        place = source.relative_to(root).as_posix()
        digest.update(f"{place} {hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:24]


def _below(root: Path, *patterns: str) -> list[Path]:
    """The sources of ours whose names are like one of these."""
    return sorted(found for pattern in patterns for found in (root / "workers" / PACKAGE).rglob(pattern))


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def compile_kernel(root: Path, built: Path) -> list[Path]:
    """Compiles every kernel source below `root` into the package folders below `built`; the libraries made."""
    from Cython.Build import cythonize  # noqa: PLC0415 - only who compiles has it
    from setuptools import Distribution, Extension  # noqa: PLC0415 - the same
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - the same

    here = Path.cwd()
    os.chdir(root)  # Cython names the C files by paths relative to where it runs
    try:
        sources = {
            ".".join(source.relative_to("workers").with_suffix("").parts): str(source)
            for source in _below(Path(), "*.pyx")
        }
        depends = ["hatch_build.py", *map(str, _below(Path(), "*.h"))]
        extensions = [
            Extension(name, [source], extra_compile_args=_FLAGS, depends=depends) for name, source in sources.items()
        ]
        distribution = Distribution(
            {"ext_modules": cythonize(extensions, build_dir="build/kernel", include_path=["workers"], quiet=True)}
        )
        command = build_ext(distribution)
        command.build_lib = str(built)
        command.parallel = os.cpu_count()
        command.build_temp = f"build/kernel/{sys.implementation.cache_tag}"
        command.ensure_finalized()
        command.run()
        return [Path(root, command.get_ext_fullpath(name)) for name in sources]
    finally:
        os.chdir(here)
