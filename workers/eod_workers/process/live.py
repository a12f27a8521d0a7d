"""For development only: a process that drains and begins anew when its code changes (EOD_LIVE_PATH).

Pods have a read-only file system, so changed files cannot be put where the code is. They are put into a folder that
may be written to, such as /tmp/live, which PYTHONPATH names as well. At first the folder is empty. Python takes a
package from one place only, so the whole of it is copied there; files that are there already, because they have
changed, are left as they are. From the next start on the code comes from the folder alone.

A change is acted on when it has been complete for one look and can be compiled: a typing error ends no process. Then
the process is told to drain, as by SIGTERM, and, when it has, it executes itself again, under the same number.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import eod_contract
import structlog

logger = structlog.get_logger()

VARIABLE = "EOD_LIVE_PATH"
"""Folder that is watched; without it nothing here does anything."""
LOOK_S = 1.0
"""Seconds between two looks."""

Files = Mapping[str, tuple[int, int]]
"""Path below the folder → time of its last change in ns, and its size in bytes."""


def look(folder: Path) -> Files:
    """All files below a folder, but for compiled code and what disappears while it is looked at."""
    found: dict[str, tuple[int, int]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(place, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found[str(path.relative_to(folder))] = status.st_mtime_ns, status.st_size
    return found


def changed(running: Files, before: Files, now: Files) -> set[str]:
    """What differs from the running code; nothing while files are still arriving."""
    if before != now:
        return set()
    return {name for name in running.keys() | now.keys() if running.get(name) != now.get(name)}


def broken(folder: Path, names: set[str]) -> str:
    """Why code cannot be compiled, with its place; empty if all of it can."""
    for name in sorted(names):
        path = folder / name
        if path.suffix != ".py" or not path.exists():
            continue
        try:
            compile(path.read_bytes(), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return f"{name}: {error}"
    return ""


def fill(folder: Path, packages: Mapping[str, Path]) -> Files:
    """Copy whole packages into the folder; returns the files there that are the package's own, and not newer ones."""
    own: dict[str, tuple[int, int]] = {}
    for package, source in packages.items():
        # What makes a package of the folder comes last, so that one that was copied half is never taken for it.
        for name in sorted(look(source), key=lambda name: name == "__init__.py"):
            target = folder / package / name
            content = (source / name).read_bytes()
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with target.open("xb") as file:  # never over a file that has come in the meantime
                    file.write(content)
                    file.flush()
                    status = os.fstat(file.fileno())  # of what was written here, and not of what may replace it
            except FileExistsError:
                status = target.stat()
                if target.read_bytes() != content:
                    continue
            own[f"{package}/{name}"] = status.st_mtime_ns, status.st_size
    return own


def installed() -> dict[str, Path]:
    """The packages of commands and stages, and what they agree on, with the folders that Python takes them from."""
    points = [*entry_points(group="eod.commands"), *entry_points(group="eod.stages")]
    found = {}
    for package in sorted({point.module.partition(".")[0] for point in points} | {eod_contract.__name__}):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            found[package] = Path(spec.origin).parent
    return found


def listening() -> bool:
    """Whether SIGTERM is handled: before that a process dies of it, or, as the first of a container, ignores it."""
    return signal.getsignal(signal.SIGTERM) not in {signal.SIG_DFL, signal.SIG_IGN, None}


@dataclass
class Watch:
    """Looks at a folder until its code has changed.

    Attributes:
        folder: what is looked at.
        packages: what belongs there, and where it comes from.
        running: the files that the process has begun with.
        drain: tells the process to drain.
        seen: set when a change has been acted on.
    """

    folder: Path
    packages: Mapping[str, Path]
    running: Files
    drain: Callable[[], None]
    seen: threading.Event = field(default_factory=threading.Event)
    _refused: str = ""

    def until_changed(self, ended: threading.Event, listening: Callable[[], bool], look_s: float = LOOK_S) -> None:
        """Look again and again, from when the process can be told, until it has been or `ended` is set."""
        while not listening():
            if ended.wait(look_s):
                return
        elsewhere = {name: path for name, path in self.packages.items() if not path.is_relative_to(self.folder)}
        begun = {name: status for name, status in self.running.items() if name.partition("/")[0] not in elsewhere}
        self.running = {**begun, **fill(self.folder, elsewhere)}
        before = look(self.folder)
        logger.info("live.watching", folder=str(self.folder))
        while not ended.wait(look_s):
            now = look(self.folder)
            names = changed(self.running, before, now)
            before = now
            if names and self._sound(names):
                logger.info("live.changed", files=sorted(names))
                self.seen.set()
                self.drain()
                return

    def _sound(self, names: set[str]) -> bool:
        problem = broken(self.folder, names)
        if problem and problem != self._refused:
            logger.error("live.broken", why=problem, help="the old code runs on; mend the file")
        self._refused = problem
        return not problem


def again() -> None:
    """Execute this process anew, as it was begun."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


@contextmanager
def restarting(folder: str | None, *, look_s: float = LOOK_S) -> Iterator[None]:
    """Watch the folder, if one is named, while the block runs a service; begin anew when it has drained for a change.

    Raises:
        SystemExit: PYTHONPATH does not name the folder.
    """
    if not folder:
        yield
        return
    path = Path(folder)
    if path.resolve() not in {Path(place).resolve() for place in sys.path if place}:
        sys.exit(f"eod: {VARIABLE}={folder} is not on PYTHONPATH, so code from there would never run: set both alike")
    ended = threading.Event()
    watch = Watch(path, installed(), look(path), lambda: os.kill(os.getpid(), signal.SIGTERM))
    thread = threading.Thread(target=watch.until_changed, args=(ended, listening, look_s), name="live", daemon=True)
    thread.start()
    try:
        yield
    except SystemExit as drained:
        if drained.code or not watch.seen.is_set():
            raise
    finally:
        ended.set()
    if watch.seen.is_set():
        again()
