"""The sender's process, from this side: start it with a flow, let it go, learn when it began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sent:
    """When the first byte was sent, by two clocks, and how long it took until the kernel had the last."""

    mono_ns: int
    wall_ns: int
    took_s: float


class Sender:
    """A process of `close.sender` whose sessions are logged on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self) -> Sent:
        """Sends everything."""
        return Sent(**json.loads(self.say("go")))

    def say(self, word: str = "") -> str:
        """Says a line, if any, and returns the line that comes.

        Raises:
            RuntimeError: the process has ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the sender was started without pipes")
        if word:
            stdin.write(f"{word}\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the sender has ended with code {self._process.wait(10)}: what it said stands above")
        return line

    def finish(self) -> None:
        """Logs out."""
        if self._process.stdin is not None:
            self._process.stdin.write("end\n")
            self._process.stdin.close()
        if self._process.wait(60):
            raise RuntimeError("the sender could not log out")


@contextmanager
def sender(folder: Path, port: int, per_s: float = 0) -> Iterator[Sender]:
    """A sender of the frames in a folder (`close.sender.write_frames`), logged on; logged out afterwards."""
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "close.sender", str(folder), str(port), str(per_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            made = Sender(process)
            made.say()
            yield made
            made.finish()
        finally:
            process.kill()
