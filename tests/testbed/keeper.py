"""One server of a name for all processes of a test run: whoever runs them keeps the servers, they ask for them.

The keeper starts a server when the first process asks for it, and hands all others the same one: a copy of the
`Server`, with its addresses, credentials and logs. It ends them all when the run ends, or dies: they are tethered to it.
Nobody else may stop or restart them; a test that has to starts one of its own.
"""

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TypeVar

from testbed.server import Server

AnyServer = TypeVar("AnyServer", bound=Server)
_Name = tuple[type[Server], str]


class Keeper:
    """Starts servers and answers on a socket, until it is closed.

    Args:
        folder: exists; the servers' data is below it.
        started: is told of each server that was started.

    Attributes:
        door: what `ask` wants to know: the socket's name, which is no file's, and the key to it.
    """

    def __init__(self, folder: Path, started: Callable[[Server], object] = lambda _server: None) -> None:
        self.door = f"\0eod-keeper-{secrets.token_hex(8)}", secrets.token_bytes(16)
        self._folder = folder
        self._started = started
        self._kept: dict[_Name, Server | Exception] = {}
        self._locks: dict[_Name, threading.Lock] = {}
        self._lock = threading.Lock()
        self._listener = Listener(self.door[0], "AF_UNIX", backlog=64, authkey=self.door[1])
        self._closed = False
        self._listening = threading.Thread(target=self._listen, name="keeper", daemon=True)
        self._listening.start()

    def server(self, kind: type[AnyServer], name: str = "") -> AnyServer:
        """The one of this kind and name, started if need be; what its start raised is raised each time.

        Raises:
            Missing: this machine cannot have it.
            BuildFailed: fetching or building it failed.
            StartFailed: it did not become usable.
        """
        with self._lock:
            lock = self._locks.setdefault((kind, name), threading.Lock())
        with lock:
            if (kind, name) not in self._kept:
                self._kept[kind, name] = self._start(kind, name)
            kept = self._kept[kind, name]
        if isinstance(kept, Exception):
            raise kept
        assert isinstance(kept, kind)
        return kept

    def close(self) -> None:
        """End all servers and delete their data; who asks afterwards finds nobody."""
        self._closed = True
        path, key = self.door
        with suppress(OSError, EOFError):  # it has seen by itself that it is to end
            Client(path, "AF_UNIX", authkey=key).close()  # wakes the thread that listens
        self._listening.join()
        with self._lock:
            locks = [*self._locks.values()]
        for lock in locks:  # a server that is being started ends after it
            lock.acquire()
        for kept in self._kept.values():
            if isinstance(kept, Server):
                kept.discard()

    def _start(self, kind: type[Server], name: str) -> Server | Exception:
        home = self._folder / f"{kind.__name__.lower()}{name and '-'}{name}"
        home.mkdir()
        server = kind(home)
        try:
            server.start()
        except Exception as error:  # noqa: BLE001  it is for whoever asks
            return error
        self._started(server)
        return server

    def _listen(self) -> None:
        while not self._closed:
            try:
                asking = self._listener.accept()
            except (AuthenticationError, OSError, EOFError):  # a stranger, or one who is gone
                continue
            threading.Thread(target=self._answer, args=[asking], name="keeper's answer", daemon=True).start()
        self._listener.close()

    def _answer(self, asking: Connection) -> None:
        with suppress(OSError, EOFError), asking:  # whoever asked may be gone
            kind, name = asking.recv()
            try:
                answer: Server | Exception = self.server(kind, name)
            except Exception as error:  # noqa: BLE001  it is for who asked
                answer = error
            asking.send(answer)


def ask(door: tuple[str, bytes], kind: type[AnyServer], name: str = "") -> AnyServer:
    """The keeper's server of this kind and name.

    Raises:
        Missing: this machine cannot have it.
        BuildFailed: fetching or building it failed.
        StartFailed: it did not become usable.
    """
    path, key = door
    with Client(path, "AF_UNIX", authkey=key) as keeper:
        keeper.send((kind, name))
        answer = keeper.recv()
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, kind)
    return answer
