"""QuickFIX, the original engine in C++, with its Python module from PyPI: it is compiled, which takes minutes, and kept."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from testbed import cache
from testbed.debian import program

_VERSION = "1.16.0"
_PEER = Path(__file__).with_name("quickfix_peer.py")


class QuickFix:
    """The module, in a folder of its own."""

    key: ClassVar[str] = "quickfix"
    title: ClassVar[str] = "QuickFIX"

    def __init__(self, home: Path) -> None:
        """`home` is what `fetch` has returned."""
        self.home = home

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of the module, compiled first if need be.

        Raises:
            Missing: there is no compiler.
            BuildFailed: fetching or compiling failed.
        """
        version = f"{_VERSION}-{sys.implementation.cache_tag}"
        if not cache.entry(cls.key, version).is_dir():
            program("g++", package="g++")
        return cache.cached(cls.key, version, _build, expected_s=400)

    @property
    def version(self) -> str:
        """Of the module."""
        return _VERSION

    def command(self, *words: object) -> list[str]:
        """Return the command line that runs `quickfix_peer.py` with these words."""
        return [sys.executable, str(_PEER), str(self.home / "module"), *map(str, words)]


def _build(shop: cache.Workshop) -> None:
    """With pip of a virtual environment of its own; unoptimized, for it is to be right and not fast."""
    scratch = shop.log.parent / "environment"
    shop.run([sys.executable, "-m", "venv", scratch])
    flags = {"CFLAGS": "-O0 -g0 -w", "MAKEFLAGS": f"-j{os.cpu_count()}"}
    pip: list[str | Path] = [scratch / "bin/python", "-m", "pip", "--disable-pip-version-check", "install"]
    shop.run([*pip, "setuptools", "wheel"])
    target = shop.folder / "module"
    shop.run([*pip, "--no-build-isolation", "--no-deps", "--target", target, f"quickfix=={_VERSION}"], flags)
