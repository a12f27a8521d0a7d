"""How the C library keeps memory: a long-running process with a few busy minutes gives back what those minutes took."""

from __future__ import annotations

import asyncio
import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BYTES = 128 * 1024


_EVERY_S = 60.0


async def keep_thrifty() -> None:
    """Give back once a minute what has become free between what is still in use."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        trim = None
    while True:
        await asyncio.sleep(_EVERY_S)
        if trim is not None:
            trim(0)


def be_thrifty() -> None:
    """Use one arena, return what is free at its top, keep large blocks out of it; only GNU's C library is told.

    By default each thread gets an arena of its own, and a thousand pipelines' worth of JSON stays in each; and once a
    large block was freed, others of its size come from the heap, where they leave holes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
