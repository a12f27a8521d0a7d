"""What a test may do to a server: a fault waits for a statement, and strikes before or after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tds.tokens import Said

_REMEMBERED = 10_000
LOGIN, BULK_LOAD = "LOGIN", "BULK LOAD"
"""Names under which logins and the rows of a bulk load can be struck, as if they were statements."""
DEADLOCK = Said(1205, "Transaction was deadlocked with another process and has been chosen as the victim.", 13, 51)


class Cut(Exception):
    """The connection is to be lost now, without another byte."""


class Pause(Exception):
    """The answer is to be late."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Fail(Exception):
    """The statement is to fail."""

    def __init__(self, said: Said) -> None:
        super().__init__(said.text)
        self.said = said


@dataclass(slots=True)
class _Fault:
    beginning: str
    strike: Exception | Callable[[], None]
    after: bool
    skip: int
    times: int


class Faults:
    """The faults of one server; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Fault] = []
        self.statements: deque[str] = deque(maxlen=_REMEMBERED)
        """What the server was asked to do, the latest last."""

    def at(
        self,
        beginning: str,
        strike: Exception | Callable[[], None],
        *,
        after: bool = False,
        skip: int = 0,
        times: int = 1,
    ) -> None:
        """Strike when a statement that begins so is about to run (or has just run).

        Args:
            beginning: of the statement, in capitals and with single spaces.
            strike: `Cut()`, `Pause(seconds)`, `Fail(said)`, or something to call.
            after: strike once it has run; nothing of it has been answered.
            skip: let so many pass first.
            times: strike so often.
        """
        with self._lock:
            self._waiting.append(_Fault(beginning, strike, after, skip, times))

    def clear(self) -> None:
        """Forget the faults that still wait."""
        with self._lock:
            self._waiting.clear()

    def meet(self, statement: str, *, after: bool = False) -> None:
        """Called by a session around each statement.

        Raises:
            Cut: see there.
            Pause: see there.
            Fail: see there.
        """
        text = " ".join(statement.split())
        if not after:
            self.statements.append(text)
        strike = self._due(text.upper(), after)
        if isinstance(strike, Exception):
            raise strike
        if strike is not None:
            strike()

    def _due(self, text: str, after: bool) -> Exception | Callable[[], None] | None:  # noqa: FBT001 - a field
        with self._lock:
            for fault in self._waiting:
                if fault.after != after or not text.startswith(fault.beginning):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
                return fault.strike
        return None
