"""The benchmarks' modules, which lie outside of every package that tests can import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_BENCH = Path(__file__).resolve().parents[3] / "bench"


@contextmanager
def loaded(package: str, *names: str) -> Iterator[Any]:
    """Something that has modules of one benchmark as attributes. A process that is started meanwhile finds them, too."""
    sys.path.insert(0, str(_BENCH))
    before = set(sys.modules)
    try:
        holder = ModuleType("bench")
        for name in names:
            setattr(holder, name, importlib.import_module(f"{package}.{name}"))
        yield holder
    finally:
        sys.path.remove(str(_BENCH))
        packages = {folder.name for folder in _BENCH.iterdir() if folder.is_dir()}
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in packages:
                del sys.modules[name]
