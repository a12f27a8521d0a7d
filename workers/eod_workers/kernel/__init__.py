"""The hot path in C: what makes a fast machine out of a correct one, and is never needed.

A compiled module stands beside its twin in pure Python, which owns the meaning, and is called after it:
`pnl/ledger_kernel.pyx` beside `pnl/ledger.py`. So it is in the layer of its twin, and imports what that one may import.
Tests hold the two against each other. Here is what all of them share, and knows nothing else of ours: the switch, the
sums, and the C in `c/`. Whoever wants a compiled module asks `available` first, and takes the twin otherwise. Nothing
is loaded before somebody asks. `hatch_build.py` compiles every `.pyx` when the distribution is installed.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

SWITCH = "EOD_KERNEL"
"""The environment variable: `off` turns the kernel off; with `on`, or without it, a kernel that is there is used."""
_SETTINGS = {"": True, "on": True, "off": False}


def available() -> bool:
    """Whether the kernel is built for this Python, and not turned off."""
    return not why_not()


@cache
def why_not() -> str:
    """Why the kernel is not used, and how that is mended; "" if it is. Asked once a process.

    Raises:
        ValueError: EOD_KERNEL is neither `on` nor `off`.
    """
    said = os.environ.get(SWITCH, "")
    if said not in _SETTINGS:
        raise ValueError(f"{SWITCH}={said[:32]!r} is neither 'on' nor 'off'")
    if not _SETTINGS[said]:
        return f"{SWITCH}=off turns it off"
    try:
        import_module("eod_workers.kernel.hashes")
    except ImportError as error:
        return f"it is not built for this Python ({error}): apt-get install gcc python3-dev, then 'make setup'"
    return ""
