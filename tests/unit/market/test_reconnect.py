"""A market whose connections are lost goes on: everything sent arrives, and the tally says that frames may be missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.fix.frames import FrameBuffer
from eod_workers.fix.initiator import Initiator
from eod_workers.fix.session import SequenceNumbers, Session
from eod_workers.market.command import play
from eod_workers.market.play import Market
from eod_workers.market.profile import Profile
from eod_workers.market.tally import read_tally
from eod_workers.market.universe import make_universe
from support.fix_messages import parsed


class Acceptor:
    """Keeps the numbers of each session, and cuts every connection now and then."""

    def __init__(self, cut_after: int, deaf: int = 0) -> None:
        """The first `deaf` connections after a cut are accepted and not answered, as by a proxy before a pod that is gone."""
        self.deaf = deaf
        self.received: set[tuple[bytes, bytes]] = set()
        self.connections = 0
        self._cut_after = cut_after
        self._sequences: dict[bytes, SequenceNumbers] = {}
        self._clock = SystemClock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.deaf and self.connections > 2:
            self.deaf -= 1
            await reader.read()
            writer.close()
            return
        frames, session, taken = FrameBuffer(), None, 0
        while data := await reader.read(4096):
            for raw in frames.feed(data):
                assert isinstance(raw, bytes)
                message = parsed(raw)
                if session is None:
                    sender = message.fields[b"49"]
                    session = Session(
                        begin_string=b"FIX.4.4",
                        sender=b"EOD",
                        target=sender,
                        sequence=self._sequences.setdefault(sender, SequenceNumbers()),
                        now_ns=self._clock.now_ns,
                        heartbeat_s=30,
                    )
                session.received(raw, message, self._clock.now_ns())
                for delivered in session.delivered:
                    self.received.add((sender, delivered.message.fields[b"17"]))
                    taken += 1
                session.delivered.clear()
                session.aside.clear()
            if session is not None:
                writer.write(b"".join(session.outbox))
                session.outbox.clear()
            if taken >= self._cut_after and self.connections <= 6:
                break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(acceptor: Acceptor, market: Market) -> AsyncIterator[asyncio.Server]:
    server = await asyncio.start_server(acceptor.serve, "127.0.0.1", 0)
    await market.connect("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        server.close()
        await market.close()
        await asyncio.sleep(0.05)  # the acceptor's ends see that theirs are gone


def two_lines() -> Market:
    """A short session over two connections that are made anew."""
    return Market(
        make_universe(1),
        Profile(1.5, 100, 400),
        SystemClock(),
        network=TcpNetwork(),
        seed=1,
        lines=2,
        brokers="LINE",
        reconnect_s=10,
    )


@pytest.mark.parametrize("cut_after", [1, 40, 100_000])
async def test_what_was_sent_arrives_over_as_many_connections_as_it_takes(cut_after: int) -> None:
    acceptor = Acceptor(cut_after)
    market = two_lines()
    async with connected(acceptor, market):
        await market.play()
    sent = {(session.split("->")[0].encode(), exec_id.encode()) for session, _, exec_id in market.tally.executions}
    assert acceptor.received == sent
    assert len(sent) > 100
    assert market.tally.reconnects == acceptor.connections - 2
    assert bool(market.tally.reconnects) == (cut_after < 100_000)


async def test_without_leave_to_reconnect_a_lost_connection_ends_the_market() -> None:
    market = Market(make_universe(1), Profile(2, 100, 200), SystemClock(), network=TcpNetwork(), seed=1, lines=1)
    async with connected(Acceptor(1), market):
        with pytest.raises(ConnectionError, match="BROKER1->EOD"):
            await market.play()


def told_of(server: asyncio.Server) -> dict[str, Any]:
    """What `play` is told of a short market at an acceptor."""
    return {
        "host": "127.0.0.1",
        "port": server.sockets[0].getsockname()[1],
        "seconds": 2,
        "rate": 200,
        "burst": 400,
        "seed": 1,
        "corrupt": 0,
        "duplicates": 0,
        "odd": 0,
        "target": "EOD",
        "reference": None,
        "brokers": "B",
        "reconnect": 0,
    }


async def test_how_far_it_is_stands_where_no_result_does(capsys: pytest.CaptureFixture[str]) -> None:
    """`eod market play --json | jq` is told nothing but the result."""
    server = await asyncio.start_server(Acceptor(100_000).serve, "127.0.0.1", 0)
    sent = await play(**told_of(server), tally=None, say=pytest.fail)
    server.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{sent:,} sent" in shown.err


async def test_prices_that_could_not_be_sent_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever plays to a pipeline would look for the marks of its positions there."""
    monkeypatch.setenv("EOD_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    said: list[str] = []
    server = await asyncio.start_server(Acceptor(100_000).serve, "127.0.0.1", 0)
    assert await play(**told_of(server), tally=None, say=said.append) > 100
    server.close()
    (told,) = said
    assert told.startswith("prices were not sent, or not all: connecting to 127.0.0.1:1: ")


async def test_what_was_sent_before_the_connection_was_lost_is_in_the_tally(tmp_path: Path) -> None:
    acceptor, file = Acceptor(40), tmp_path / "tally.jsonl"
    server = await asyncio.start_server(acceptor.serve, "127.0.0.1", 0)
    with pytest.raises(ConnectionError, match="closed by the acceptor"):
        await play(**told_of(server), tally=file, say=pytest.fail)
    server.close()
    tally, _ = read_tally(file)
    sent = {(session.split("->")[0].encode(), exec_id.encode()) for session, _, exec_id in tally.executions}
    assert len(acceptor.received) >= 40
    assert acceptor.received <= sent
    assert tally.reconnects == 1


async def test_when_nobody_answers_any_more_it_says_so() -> None:
    market = Market(
        make_universe(1), Profile(3, 100, 200), SystemClock(), network=TcpNetwork(), seed=1, lines=1, reconnect_s=0.5
    )
    async with connected(Acceptor(1), market) as server:
        server.close()
        with pytest.raises(ConnectionError, match=r"no new connection in 0\.5 s"):
            await market.play()


async def test_a_connection_that_nobody_answers_does_not_spoil_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old socket's end is told late, and is not the new one's."""
    connect = Initiator.connect

    async def impatient(self: Initiator, host: str, port: int, **how: bool) -> None:
        await connect(self, host, port, timeout_s=0.2, **how)

    monkeypatch.setattr(Initiator, "connect", impatient)
    acceptor = Acceptor(40, deaf=3)
    market = Market(
        make_universe(1), Profile(1.5, 100, 400), SystemClock(), network=TcpNetwork(), seed=1, lines=2, reconnect_s=10
    )
    async with connected(acceptor, market):
        await market.play()
    assert acceptor.deaf == 0
    assert {exec_id for _, exec_id in acceptor.received} == {name.encode() for _, _, name in market.tally.executions}


async def test_a_line_that_is_lost_while_another_is_made_anew_is_made_anew_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the pods behind an entrance are drained one after the other."""
    connect, lines, cuts = Initiator.connect, dict[str, Initiator](), 3

    async def connect_and_lose_the_first(self: Initiator, host: str, port: int, **how: bool) -> None:
        nonlocal cuts
        again = self.name in lines
        lines[self.name] = self
        await connect(self, host, port, **how)
        if again and cuts and self.name == "LINE2->EOD":
            cuts -= 1
            await lines["LINE1->EOD"].close()

    monkeypatch.setattr(Initiator, "connect", connect_and_lose_the_first)
    acceptor = Acceptor(20)
    market = two_lines()
    async with connected(acceptor, market):
        await market.play()
    assert cuts < 3
    assert {exec_id for _, exec_id in acceptor.received} == {name.encode() for _, _, name in market.tally.executions}
