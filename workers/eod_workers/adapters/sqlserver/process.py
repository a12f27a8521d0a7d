"""The parent's side of the driver's process: starts it, sends it one call at a time, kills it when it does not answer.

A killed process is no answer: what it was doing may have been done or not. The store's calls may be repeated, so the
caller sees `Unavailable`, calls again, and the next process finds what is there.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable
from typing import Any

import structlog

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.frames import SIZE, packed, unpacked
from eod_workers.ports import StaleEpoch, Unavailable

logger = structlog.get_logger()
_PROGRAM = "eod_workers.adapters.sqlserver.child"
_LEAVE_WITHIN_S = 5.0
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (StaleEpoch, Unavailable, PermissionError, ValueError, RuntimeError)
}


class DriverProcess:
    """Calls in a process that is started at the first one, and again after each that has ended.

    Args:
        address: of the server.
        login_within_s: how long connecting may take.
        answer_within_s: how long the server may be silent within a call.
        call_within_s: a call that takes longer is given up, and the process with it.
    """

    def __init__(self, address: Address, *, login_within_s: int, answer_within_s: int, call_within_s: float) -> None:
        self._address = address
        self._options = {"login_within_s": login_within_s, "answer_within_s": answer_within_s}
        self._call_within_s = call_within_s
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def call(self, name: str, *args: object, frames: Iterable[bytes] = ()) -> Any:
        """Makes one call and returns its answer; calls wait for each other.

        Raises:
            RuntimeError: it is closed.
            Unavailable: no answer came.
            Exception: what the call raised; see `child`.
        """
        async with self._turn:
            if self._closed:
                raise RuntimeError("this store is closed")
            try:
                async with asyncio.timeout(self._call_within_s):
                    error, answer = await self._exchange(packed((name, args)), frames)
            except TimeoutError:
                await self._kill()
                raise Unavailable(f"{self._address}: no answer within {self._call_within_s:g} s") from None
            except (OSError, asyncio.IncompleteReadError) as broken:
                process, self._process = self._process, None
                code = await _left(process) if process is not None else None
                logger.warning("sqlserver.driver_died", exit_code=code, call=name)
                if code is not None and code > 0:  # not killed: it failed, and would again
                    raise RuntimeError(f"{self._address}: the driver's process failed; its output says why") from broken
                raise Unavailable(f"{self._address}: the driver's process has died (exit code {code})") from broken
            except BaseException:
                await self._kill()  # cancelled: the answer that is still to come must not meet the next call
                raise
        if error:
            raise _ERRORS[error](answer)
        return answer

    async def close(self) -> None:
        """Ends the process after the call under way."""
        async with self._turn:
            self._closed = True
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
            process.stdin.close()
            await _left(process)

    async def _exchange(self, head: bytes, frames: Iterable[bytes]) -> tuple[str, Any]:
        process = await self._running()
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - for mypy: they are pipes
        stdin.write(head)
        for frame in frames:
            stdin.write(frame)
            await stdin.drain()
            await asyncio.sleep(0)  # others may run between two pieces of a batch
        await stdin.drain()
        (size,) = SIZE.unpack(await stdout.readexactly(SIZE.size))
        error, answer = unpacked(await stdout.readexactly(size))
        return error, answer

    async def _running(self) -> Process:
        if self._process is not None and self._process.returncode is not None:
            await self._kill()
        if self._process is None:
            # A session of its own: a Ctrl-C in a terminal is for the parent, which drains with the driver's help.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", _PROGRAM, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
            self._process.stdin.write(packed((self._address, self._options)))
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)


async def _left(process: Process) -> int | None:
    """How a process ended that has ended or is about to; one that is not gets killed.

    It is not killed at once: that would ask for its exit code in passing and lose it.
    """
    try:
        async with asyncio.timeout(_LEAVE_WITHIN_S):
            await process.wait()
    except TimeoutError:
        pass
    await _end(process)
    return process.returncode


async def _end(process: Process) -> None:
    """Kills it if it runs, and reads its pipe to the end, which gives everything back."""
    if process.returncode is None:
        process.kill()
    await process.communicate()
