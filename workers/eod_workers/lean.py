"""Imports that take less along: a worker is started when it is needed, and most of a start is imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """What is imported inside meets these modules as if they were not installed, and does without them.

    That is for libraries that look for others and use them if they are there. A module that has been imported already
    costs nothing more, and is left to them.
    """
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # which is how an import is told that there is none
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
