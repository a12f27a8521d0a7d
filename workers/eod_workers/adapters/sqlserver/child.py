"""The process of the driver: takes calls from standard input, one at a time, and answers each.

It ends when its input does, so at once when its parent dies; a transaction that was not committed is then undone by
the server.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any, BinaryIO

from eod_workers.adapters.sqlserver.frames import SIZE, packed, unpacked
from eod_workers.adapters.sqlserver.writer import Writer
from eod_workers.ports import StaleEpoch, Unavailable

_FRAMES_WAITING = 64
_TOLD = (StaleEpoch, Unavailable, PermissionError, ValueError, RuntimeError)
"""Errors that the parent raises again by name."""


def _read(pipe: BinaryIO, frames: queue.Queue[Any]) -> None:
    """Runs beside the calls, so that the end of the parent is noticed in the middle of one."""
    while len(head := pipe.read(SIZE.size)) == SIZE.size:
        (size,) = SIZE.unpack(head)
        data = pipe.read(size)
        if len(data) < size:
            break
        frames.put(unpacked(data))
    os._exit(0)


def _served(writer: Writer, call: str, args: tuple[Any, ...], frames: queue.Queue[Any]) -> Any:
    if call == "store":
        group, claims, *counts = args
        trades, exceptions = ([row for _ in range(count) for row in frames.get()] for count in counts)
        return writer.store(group, trades, exceptions, claims)
    return getattr(writer, call)(*args)


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not come between answers
    os.environ.pop("TDSDUMP", None)  # it would write the password to a file
    frames: queue.Queue[Any] = queue.Queue(_FRAMES_WAITING)
    threading.Thread(target=_read, args=(sys.stdin.buffer, frames), name="parent", daemon=True).start()
    address, options = frames.get()
    writer: Writer | None = None
    while True:
        call, args = frames.get()
        try:
            writer = writer or Writer(address, **options)
            answer = ("", _served(writer, call, args, frames))
        except _TOLD as error:
            name = next(kind.__name__ for kind in _TOLD if isinstance(error, kind))
            answer = (name, str(error))
        answers.write(packed(answer))
        answers.flush()


if __name__ == "__main__":
    main()
