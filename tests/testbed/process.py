"""One operating-system process of a server: started, watched, ended by its id, never by its name.

A *tethered* process is killed by the kernel when this Python process ends, however it ends. An untethered one
outlives it (`python -m testbed up`), and another command finds it again by its id and birth time.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

_TETHER = Path(__file__).with_name("tethered.py")
_POLL_S = 0.02
_KILL_WAIT_S = 10.0
_TAIL_LINES = 30

begun: list[Path] = []
"""The log of every process that this Python process has started, in order: a test that fails shows the end of its own."""

# PR_SET_PDEATHSIG is about the forking *thread*: this one ends only with the interpreter, whichever thread asks.
SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-spawner")


class Process:
    """A child of ours, or one that an earlier command left running, in a process group of its own."""

    def __init__(self, name: str, pid: int, birth: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.name = name
        self.pid = pid
        self.birth = birth
        self._popen = popen

    @classmethod
    def spawn(cls, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str], tethered: bool) -> Self:
        """Start `argv` with `env` added to our environment and its output appended to `log`."""
        command = [os.fspath(word) for word in argv]
        if tethered:
            command = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command]
        begun.append(log)
        with log.open("ab") as output:
            popen = SPAWNER.submit(
                subprocess.Popen[bytes],
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            ).result()
        return cls(name, popen.pid, _birth(popen.pid), popen)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which this one is no child of."""
        return {**self.__dict__, "_popen": None}

    @property
    def exit_code(self) -> int | None:
        """The exit code of an ended child of ours; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    @property
    def alive(self) -> bool:
        """Whether the process runs; a zombie does not, and neither does another process with the same id."""
        if self._popen is not None:
            return self._popen.poll() is None
        return _birth(self.pid) == self.birth != 0

    def send_signal(self, number: signal.Signals) -> None:
        """Send the process itself a signal, without waiting."""
        os.kill(self.pid, number)

    def stop(self, patience_s: float) -> None:
        """Ask the process group to end (SIGTERM), and kill what is left of it after `patience_s`."""
        if self.alive:
            self._signal(signal.SIGTERM)
            self._wait(patience_s)
        self.kill()

    def kill(self) -> None:
        """Kill -9 the process group and wait until the process is gone."""
        if not self.alive:
            return
        self._signal(signal.SIGKILL)
        self._wait(_KILL_WAIT_S)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def _wait(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while self.alive and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    """Run a short command to its end and return its standard output.

    Raises:
        subprocess.CalledProcessError: the command failed; `stderr` holds what it printed.
    """
    return subprocess.run(
        [os.fspath(word) for word in argv],
        env={**os.environ, **(env or {})},
        input=stdin or "",
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log file, under its name."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"--- the end of {log}\n" + "\n".join(text.splitlines()[-lines:])


def _birth(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 for one that is gone or a zombie (proc(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
