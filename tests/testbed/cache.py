"""The cache of fetched and built tools: `${EOD_TESTBED_CACHE:-~/.cache/eod-testbed}/<tool>-<version>/`.

An entry appears by one rename, complete or not at all, so a build that was killed half-way leaves nothing that looks
finished. A lock file per tool makes a second process wait for the first instead of building the same thing twice.
Once an entry is there, nothing here needs a network.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from testbed.errors import BuildFailed
from testbed.process import Process, tail
from testbed.progress import Progress, say

_POLL_S = 0.1
_LOCK_POLL_S = 0.5
_STOP_S = 2.0
_FINGERPRINT_LENGTH = 8

SOURCES = Path(__file__).with_name("sources")


class Workshop:
    """What a build gets: a temporary folder that will become the cache entry, and a way to run commands in view."""

    def __init__(self, folder: Path, progress: Progress, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.progress = progress

    def run(self, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Run one build command to its end, with its output in the log and the progress ticking.

        Raises:
            BuildFailed: it exited with an error.
        """
        process = Process.spawn("build", argv, log=self.log, env=env or {}, tethered=True)
        try:
            while (code := process.exit_code) is None:
                self.progress.tick()
                time.sleep(_POLL_S)
        finally:
            process.stop(_STOP_S)  # after Ctrl-C the compilers must not go on
        if code != 0:
            raise BuildFailed(f"{' '.join(str(word) for word in argv)} exited with {code}\n{tail(self.log)}")


def root() -> Path:
    """Return the cache's folder, made if need be."""
    chosen = os.environ.get("EOD_TESTBED_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "eod-testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def entry(tool: str, version: str) -> Path:
    """Return where a tool of that version is, or will be."""
    return root() / f"{tool}-{version}"


def fingerprint(*files: Path) -> str:
    """Return a short hash of the sources that a tool is built from: when they change, so does its version."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:_FINGERPRINT_LENGTH]


def cached(tool: str, version: str, build: Callable[[Workshop], None], *, expected_s: float) -> Path:
    """Return the cache entry of a tool, built first by `build` if it is not there yet.

    Raises:
        BuildFailed: it is not there and cannot be built.
    """
    home = entry(tool, version)
    if home.is_dir():
        return home
    with exclusive(tool):
        if home.is_dir():  # another process built it while we waited
            return home
        progress = Progress(f"{tool} {version}: fetching and building into {root()}", expected_s)
        prefix = f".building-{tool}@"
        for abandoned in root().glob(f"{prefix}*"):  # by a process that was killed: we hold the lock
            _remove(abandoned)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=root(), ignore_cleanup_errors=True) as scratch:
            folder = Path(scratch, "entry")
            folder.mkdir()
            build(Workshop(folder, progress, Path(scratch, "build.log")))
            folder.rename(home)
        progress.done()
    return home


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock of that name against other processes; the kernel lets it go if we die."""
    with root().joinpath(f".{name}.lock").open("w") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say(f"{name}: another process is fetching it; waiting")
                waiting = True
                time.sleep(_LOCK_POLL_S)
        yield


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Lend a folder beside the entries, and delete it; one that a killed process left goes when the next is lent."""
    with exclusive(name):
        for left in root().glob(f".{name}@*"):
            with contextlib.suppress(BlockingIOError, FileNotFoundError), _held(left):
                _remove(left)
        folder = Path(tempfile.mkdtemp(prefix=f".{name}@", dir=root()))
        holding = contextlib.ExitStack()
        holding.enter_context(_held(folder))
    with holding:
        try:
            yield folder
        finally:
            _remove(folder)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; BlockingIOError: another process does."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
