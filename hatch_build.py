"""Compiles workers/eod_workers/kernel/*.pyx while the distribution is built.

For an editable install the libraries go beside their sources, else into the wheel. The kernel is the hot path in C.
Everything works without it, only slower, so a machine without a compiler installs all the same and is told what it
misses. A compiler that is there and fails is an error: nobody wants to be slow and not know it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNEL = "eod_workers/kernel"
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
            for stale in (root / "workers" / KERNEL).glob("*.so"):
                stale.unlink()  # of a source that has gone, or of another Python
        why = missing()
        if why:
            self.app.display_warning(f"eod is installed without its kernel, and is slower: {why}")
            return
        built = root / "workers" if version == "editable" else root / "build/kernel/lib"
        libraries = compile_kernel(root, built)
        if version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update({str(file): f"{KERNEL}/{file.name}" for file in libraries})


def missing() -> str:
    """Why the kernel cannot be compiled here, and how to mend it; "" if it can."""
    if os.environ.get("EOD_NO_KERNEL", "") not in {"", "0"}:
        return "EOD_NO_KERNEL is set: unset it, then 'make setup'"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    look = ["-fsyntax-only", "-x", "c", "-I", sysconfig.get_path("include"), "-"]
    try:
        subprocess.run([*compiler, *look], input=_PROBE, check=True, capture_output=True, text=True)  # noqa: S603 - CC
    except (OSError, subprocess.CalledProcessError):
        return f"{compiler[0]} is no C compiler that finds Python.h and the headers of libc: {MEND}"
    return ""


def compile_kernel(root: Path, built: Path) -> list[Path]:
    """Compiles every kernel source below `root` into the package folders below `built`; the libraries made."""
    from Cython.Build import cythonize  # noqa: PLC0415 - only who compiles has it
    from setuptools import Distribution, Extension  # noqa: PLC0415 - the same
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - the same

    package = KERNEL.replace("/", ".")
    here = Path.cwd()
    os.chdir(root)  # Cython names the C files by paths relative to where it runs
    try:
        sources = sorted(Path("workers", KERNEL).glob("*.pyx"))
        depends = ["hatch_build.py", *map(str, Path("workers", KERNEL).glob("c/*.h"))]
        extensions = [
            Extension(f"{package}.{one.stem}", [str(one)], extra_compile_args=_FLAGS, depends=depends)
            for one in sources
        ]
        distribution = Distribution(
            {"ext_modules": cythonize(extensions, build_dir="build/kernel", include_path=["workers"], quiet=True)}
        )
        command = build_ext(distribution)
        command.build_lib = str(built)
        command.build_temp = f"build/kernel/{sys.implementation.cache_tag}"
        command.ensure_finalized()
        command.run()
        return [Path(root, command.get_ext_fullpath(f"{package}.{one.stem}")) for one in sources]
    finally:
        os.chdir(here)
