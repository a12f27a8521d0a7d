"""The promises of `ports.Network`, in memory and by TCP."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.ports import Network
from support.patience import soon

HOST = "127.0.0.1"
LARGE = 32 << 20
"""More than the buffers of any connection hold."""


class End(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.keep_open = keep_open
        self.transport: asyncio.Transport
        self.made = False
        self.heard = bytearray()
        self.pieces = 0
        self.eof = False
        self.lost: list[Exception | None] = []
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.made = True

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.pieces += 1

    def eof_received(self) -> bool:
        self.eof = True
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False


@pytest.fixture(params=[MemoryNetwork, TcpNetwork])
def network(request: pytest.FixtureRequest) -> Network:
    make: Callable[[], Network] = request.param
    return make()


@asynccontextmanager
async def connected(network: Network, *, keep_open: bool = False) -> AsyncIterator[tuple[End, End]]:
    """Two ends of a connection: who has connected, and who was listening; `keep_open` when it hears the end."""
    accepted: list[End] = []

    def accept() -> End:
        accepted.append(End(keep_open=keep_open))
        return accepted[-1]

    listener = await network.listen(accept, HOST, 0)
    ours = End()
    try:
        await network.connect(lambda: ours, HOST, listener.port)
        assert ours.made
        await soon(lambda: accepted and accepted[0].made, "the other end")
        yield ours, accepted[0]
    finally:
        listener.close()
        for end in (ours, *accepted):
            if not end.lost:
                end.transport.abort()
        await soon(lambda: all(end.lost for end in (ours, *accepted)), "both ends have heard of the end")


async def test_bytes_arrive_in_order_both_ways(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        for number in range(100):
            ours.transport.write(b"<%d>" % number)
        theirs.transport.write(b"hello")
        assert not theirs.heard, "nothing is handed over while it is being written"
        whole = b"".join(b"<%d>" % number for number in range(100))
        await soon(lambda: len(theirs.heard) >= len(whole) and len(ours.heard) >= 5, "all has come")
        assert (bytes(theirs.heard), bytes(ours.heard)) == (whole, b"hello")


async def test_closing_sends_what_was_written_and_both_ends_hear_of_it_once(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        ours.transport.write(b"the last words")
        ours.transport.close()
        assert ours.transport.is_closing()
        assert not ours.lost, "nobody is told while it still closes"
        ours.transport.write(b"too late")
        await soon(lambda: ours.lost and theirs.lost, "the end")
        assert (bytes(theirs.heard), theirs.eof) == (b"the last words", True)
        assert (ours.lost, theirs.lost, ours.eof) == ([None], [None], False)


async def test_who_has_no_more_to_say_still_hears(network: Network) -> None:
    async with connected(network, keep_open=True) as (ours, theirs):
        assert ours.transport.can_write_eof()
        ours.transport.write(b"the last words")
        ours.transport.write_eof()
        await soon(lambda: theirs.eof, "the end of what it hears")
        theirs.transport.write(b"and an answer")
        await soon(lambda: len(ours.heard) == 13, "the answer")
        with pytest.raises(RuntimeError, match="write_eof"):
            ours.transport.write(b"more")
        assert (bytes(theirs.heard), ours.lost, theirs.lost) == (b"the last words", [], [])
        theirs.transport.close()
        await soon(lambda: ours.lost and theirs.lost, "the end")


async def test_more_than_fits_is_closed_only_when_it_is_read(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()
        ours.transport.write(bytes(LARGE))
        ours.transport.close()
        await asyncio.sleep(0.05)
        assert not ours.lost
        theirs.transport.resume_reading()
        await soon(lambda: ours.lost and theirs.lost, "the end")
        assert (len(theirs.heard), ours.lost, theirs.lost) == (LARGE, [None], [None])


async def test_who_does_not_read_makes_the_other_pause_its_writing(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()
        assert not theirs.transport.is_reading()
        sent = 0
        while not ours.paused:
            ours.transport.write(bytes(1 << 16))
            sent += 1 << 16
            assert sent < LARGE
            await asyncio.sleep(0)
        assert ours.transport.get_write_buffer_size() > 0
        assert not theirs.heard
        theirs.transport.resume_reading()
        await soon(lambda: len(theirs.heard) == sent, "all has come")
        await soon(lambda: not ours.paused, "it may write again")
        assert theirs.pieces > 1


async def test_what_had_come_before_reading_was_paused_comes_after_it(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()
        ours.transport.write(b"kept")
        ours.transport.close()
        await soon(lambda: ours.lost, "what fits is sent")
        assert not theirs.heard
        assert not theirs.lost, "who does not read does not hear of the end"
        theirs.transport.resume_reading()
        await soon(lambda: theirs.lost, "the end")
        assert bytes(theirs.heard) == b"kept"


async def test_aborting_ends_it_whatever_waits(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()
        ours.transport.write(bytes(LARGE))
        ours.transport.abort()
        await soon(lambda: ours.lost, "the end, here")
        theirs.transport.resume_reading()
        await soon(lambda: theirs.lost, "the end, there")
        assert len(theirs.heard) < LARGE


async def test_who_writes_to_an_end_that_is_gone_loses_its_own(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()  # hears nothing of the end
        ours.transport.abort()
        await soon(lambda: ours.lost, "the end, here")

        def lost() -> bool:
            theirs.transport.write(b"are you there?")
            return bool(theirs.lost)

        await soon(lost, "the end, there")
        assert isinstance(theirs.lost[0], ConnectionError)


async def test_an_end_with_unsent_bytes_is_lost_with_the_other(network: Network) -> None:
    async with connected(network) as (ours, theirs):
        theirs.transport.pause_reading()
        ours.transport.pause_reading()
        theirs.transport.write(bytes(LARGE))
        theirs.transport.close()
        await asyncio.sleep(0)
        ours.transport.abort()
        await soon(lambda: theirs.lost, "nobody will ever read it")
        assert isinstance(theirs.lost[0], ConnectionError), "it is told that not all was sent"
        assert (ours.lost, ours.heard) == ([None], b"")


async def test_nobody_is_let_in_where_nobody_listens(network: Network) -> None:
    listener = await network.listen(End, HOST, 0)
    port = listener.port
    with pytest.raises(OSError) as refused:
        await network.listen(End, HOST, port)
    assert refused.value.errno == errno.EADDRINUSE
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(End, HOST, port)
    again = await network.listen(End, HOST, port)
    assert again.port == port
    listener.close()
    end = End()
    await network.connect(lambda: end, HOST, port)
    end.transport.abort()
    await soon(lambda: end.lost, "the end")
    again.close()


async def test_connections_outlive_the_listener(network: Network) -> None:
    accepted: list[End] = []
    listener = await network.listen(lambda: accepted.append(End()) or accepted[-1], HOST, 0)  # type: ignore[func-returns-value]
    ours = End()
    await network.connect(lambda: ours, HOST, listener.port)
    await soon(lambda: accepted and accepted[0].made, "the other end")
    listener.close()
    ours.transport.write(b"still here")
    await soon(lambda: bytes(accepted[0].heard) == b"still here", "bytes after the listener's end")
    assert (ours.lost, accepted[0].lost, len(accepted)) == ([], [], 1)
    ours.transport.close()
    await soon(lambda: accepted[0].lost and ours.lost, "the end")
    assert (ours.lost, accepted[0].lost) == ([None], [None])
