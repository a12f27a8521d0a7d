"""What every real server of the test bed can do: be fetched, started, stopped, killed and started again."""

import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from testbed import ports
from testbed.errors import StartFailed
from testbed.process import Process, tail

_POLL_S = 0.05
_PORT_ATTEMPTS = 3
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)


class NotYet(Exception):
    """The server answers, but is not usable yet."""


class Server(ABC):
    """One real server on 127.0.0.1 with everything it writes under `home`.

    Its methods block (a Kafka restart takes seconds): an async test that must go on meanwhile calls
    `await asyncio.to_thread(server.restart)`. `with Redis(folder) as redis:` starts it and stops it.

    Attributes:
        home: the folder of its configuration, data and logs.
        ports: its ports by name, chosen at the first start and kept ever after.
        startup_s: seconds from `start()` to usable, of the latest start, without fetching.
    """

    key: ClassVar[str]  # its name on the command line and in `Process` names
    title: ClassVar[str]  # its name for humans
    default_ports: ClassVar[Mapping[str, int]]  # of `python -m testbed up`
    fetch_s: ClassVar[float]  # about how long the first fetch takes
    ready_within_s: ClassVar[float] = 60.0
    patience_s: ClassVar[float] = 10.0  # between SIGTERM and SIGKILL

    def __init__(self, home: Path, *, tethered: bool = True, prefer_default_ports: bool = False) -> None:
        self.home = home.absolute()
        self.startup_s = 0.0
        self.ports: dict[str, int] = {}
        self.processes: list[Process] = []
        self._tethered = tethered
        self._preferred = self.default_ports if prefer_default_ports else dict.fromkeys(self.default_ports, 0)
        self._has_run = False

    @classmethod
    @abstractmethod
    def fetch(cls) -> Path:
        """Return where its programs are, fetched and built first if need be.

        Raises:
            Missing: this machine cannot have the server.
            BuildFailed: fetching or building failed.
        """

    @property
    @abstractmethod
    def version(self) -> str:
        """The version that the running server itself reports."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """The environment variables that lead a client here."""

    @abstractmethod
    def _prepare(self, programs: Path) -> None:
        """Write configuration and credentials for the chosen ports; keep data that is there."""

    @abstractmethod
    def _launch(self, programs: Path) -> None:
        """Start the processes and return once the server is usable."""

    @property
    def logs(self) -> Path:
        """The folder of its log files, one a process."""
        return self.home / "logs"

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.home / "data"

    @property
    def alive(self) -> bool:
        """Whether all of its processes run."""
        return bool(self.processes) and all(process.alive for process in self.processes)

    def start(self) -> Self:
        """Start the server and wait until it is really usable; data of an earlier run is still there.

        A server that already runs is left as it is; one that runs in part is killed first.

        Raises:
            Missing: this machine cannot have the server.
            StartFailed: it did not become usable; its processes are gone again.
        """
        if self.alive:
            return self
        self.kill()
        return self._start_from(self.fetch())

    def stop(self) -> None:
        """End the server in good order, the process started last first; kill what will not end."""
        for process in reversed(self.processes):
            process.stop(self.patience_s)
        self.processes = []

    def kill(self) -> None:
        """Kill -9 all of its processes at once, as a crash would."""
        for process in reversed(self.processes):
            process.kill()
        self.processes = []

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same ports with the same data."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Kill the server and delete its data; the logs stay."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_from(self, programs: Path) -> Self:
        begun = time.monotonic()
        for folder in (self.logs, self.data):
            folder.mkdir(parents=True, exist_ok=True)
        attempts = 1 if self._has_run else _PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                self._start_once(programs)
            except BaseException as error:
                self.kill()
                if attempt < attempts and isinstance(error, StartFailed) and _PORT_TAKEN.search(str(error)):
                    self.ports = {}
                    continue
                raise
            break
        self._has_run = True
        self.startup_s = time.monotonic() - begun
        return self

    def _start_once(self, programs: Path) -> None:
        if not self.ports:
            self.ports = ports.pick(self._preferred)
        self._prepare(programs)
        self._launch(programs)

    def _spawn(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        log = self.logs / f"{name}.log"
        if log.exists():  # so that a version, or an error, read from the log is of this start
            log.replace(log.with_suffix(".previous.log"))
        self.processes.append(Process.spawn(name, argv, log=log, env=env or {}, tethered=self._tethered))

    def _await(self, probe: Callable[[], object], *not_yet: type[Exception]) -> None:
        """Repeat `probe` until it raises none of the errors that mean "not yet".

        Raises:
            StartFailed: a process ended, or `ready_within_s` passed.
        """
        expected: tuple[type[Exception], ...] = (NotYet, *not_yet)
        deadline = time.monotonic() + self.ready_within_s
        while True:
            for process in self.processes:
                if not process.alive:
                    raise StartFailed(f"{process.name} ended while starting\n{tail(self.logs / f'{process.name}.log')}")
            try:
                probe()
            except expected as error:
                if time.monotonic() > deadline:
                    tails = "\n".join(tail(self.logs / f"{process.name}.log") for process in self.processes)
                    raise StartFailed(
                        f"{self.title} not usable after {self.ready_within_s} s: {error}\n{tails}"
                    ) from error
                time.sleep(_POLL_S)
            else:
                return
