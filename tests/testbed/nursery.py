"""Processes of this project's own commands, forked from one that has loaded their modules already.

Each is a process like any other: with a session, an environment and a log of its own, killed as others are. What it is
spared is the imports, which are most of what a test on real stages costs a processor. Some tests start the real
programs all the same, so that their beginning is tested, too.

`Nursery.start` asks over a socket; the nursery, a single-threaded process, forks, and tells of each child how it ended.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.process import SPAWNER, Process, begun, tail

LOADED = {
    "eod": ("eod_workers.cli", "main"),
    "eod_operator": ("eod_operator.cli", "app"),
}
"""What may be started, and the module and function that it is."""
_ALSO = (
    *("eod_workers.cli.commands", "eod_workers.process.bootstrap", "eod_workers.process.settings"),
    *("eod_workers.adapters.redis", "eod_workers.adapters.s3", "eod_workers.adapters.sqlite"),
    *("eod_operator.service", "kopf", "kubernetes.client"),
)
_LOOK_S = 0.02
_READY_S = 120.0
_PR_SET_PDEATHSIG = 1


class Child(Process):
    """A command that the nursery has forked."""

    def __init__(self, name: str, pid: int, nursery: "Nursery") -> None:
        super().__init__(name, pid, -1)
        self._nursery = nursery

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal as subprocess has it; None while it runs."""
        return self._nursery.code_of(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.exit_code is None


class Nursery:
    """The one that forks; it ends with this process. Threads may share it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._codes: dict[int, int] = {}
        ours, theirs = socket.socketpair()
        self._socket, self._lines = ours, ours.makefile("rwb", buffering=0)
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            command = [sys.executable, "-m", "testbed.nursery", str(theirs.fileno()), str(os.getpid())]
            with log.open("ab") as output:
                self._popen = SPAWNER.submit(
                    subprocess.Popen,
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                    start_new_session=True,
                ).result()
        self._read(_READY_S)  # that it is ready

    def start(
        self, program: str, words: Sequence[str], *, log: Path, env: Mapping[str, str], errors: Path | None = None
    ) -> Child:
        """Start `program` with `env` added to our environment, its output appended to `log`, its errors too or to `errors`."""
        begun.append(log)
        request = {
            "program": program,
            "words": list(words),
            "log": str(log),
            "errors": str(errors or log),
            "env": {**os.environ, **env},
        }
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while "pid" not in (answer := self._read(_READY_S)):
                pass
        return Child(program, answer["pid"], self)

    def code_of(self, pid: int) -> int | None:
        """How a child has ended."""
        with self._lock:
            while pid not in self._codes and select.select([self._socket], [], [], 0)[0]:
                self._read(1)
            return self._codes.get(pid)

    def close(self) -> None:
        """End it, and with it whatever of its children still runs."""
        self._lines.close()
        self._socket.close()
        self._popen.kill()
        self._popen.wait()

    def _read(self, within_s: float) -> dict[str, Any]:
        self._socket.settimeout(within_s)
        line = self._lines.readline()
        if not line:
            raise RuntimeError(f"the nursery has ended\n{tail(self.log)}")
        told: dict[str, Any] = json.loads(line)
        if "ended" in told:
            self._codes[told["ended"]] = told["code"]
        return told


@functools.cache
def nursery() -> Nursery:
    """The one of this Python process."""
    folder = tempfile.TemporaryDirectory(prefix="eod-nursery-")
    made = Nursery(Path(folder.name, "nursery.log"))
    atexit.register(folder.cleanup)
    atexit.register(made.close)
    return made


# --- the other side -----------------------------------------------------------------------------------------


def main(file: int, parent: int) -> None:
    """Load, then fork for whoever asks until the other end of the socket is gone."""
    _die_with(parent)
    door = socket.socket(fileno=file)
    door.set_inheritable(False)
    for module in [*(module for module, _ in LOADED.values()), *_ALSO]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    door.sendall(b"{}\n")
    children: set[int] = set()
    waiting = b""
    while True:
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                _tell(door, ended=pid, code=os.waitstatus_to_exitcode(status))
        if not select.select([door], [], [], _LOOK_S if children else None)[0]:
            continue
        some = door.recv(1 << 16)
        if not some:
            return
        waiting += some
        while b"\n" in waiting:
            line, _, waiting = waiting.partition(b"\n")
            pid = os.fork()
            if pid == 0:
                door.close()
                _become(json.loads(line))
            children.add(pid)
            _tell(door, pid=pid)


def _tell(door: socket.socket, **what: int) -> None:
    door.sendall(json.dumps(what).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    """In the child: be the command, and end with its exit code."""
    code = 1
    try:
        os.setsid()
        _die_with(os.getppid())
        _redirect(os.devnull, os.O_RDONLY, 0)
        _redirect(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1)
        _redirect(request["errors"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 2)
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        if "KUBECONFIG" in os.environ:  # which this module has looked up when it was loaded
            looked_up: Any = importlib.import_module("kubernetes.config.kube_config")
            looked_up.KUBE_CONFIG_DEFAULT_LOCATION = os.environ["KUBECONFIG"]
        sys.argv = [request["program"], *request["words"]]
        module, function = LOADED[request["program"]]
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if isinstance(ending.code, str):
            sys.stderr.write(f"{ending.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(path: str, flags: int, number: int) -> None:
    file = os.open(path, flags, 0o644)
    os.dup2(file, number)
    os.close(file)


def _die_with(parent: int) -> None:
    """End when the parent does (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
