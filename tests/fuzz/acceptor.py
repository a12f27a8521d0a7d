"""Mutated, truncated, interleaved and endless byte streams against a live acceptor, beside a session that behaves.

A round plays some connections at once, then looks: the acceptor lives, the session that behaves has got everything
through and was answered, no trade came of a frame that is not sound, every byte that was read is on the log once, and
what waits in a buffer was bounded all the while.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from eod_workers.archive.segments import received_frames
from eod_workers.fix.frames import MAX_FRAME_BYTES
from eod_workers.ingestion.connection import Connection
from eod_workers.letters import decode_letter
from eod_workers.trades.codec import decode_trades
from support.fix_messages import message, trade_body
from support.fix_wire import Wire, listening
from support.patience import limited
from support.stage_world import StageWorld

from fuzz.agreement import Disagreement, check_sound
from fuzz.streams import Step, random_cuts, random_step, stream

CONNECTIONS = 12
FILLS = 200
READ_BYTES = 256 * 1024
"""What one read of a socket brings at most."""
GROWTH_KIB = 256 * 1024
"""By how much this process may become larger from the third round on."""


_MANY_PIECES = (
    b"8=FIX.4.4\x019=500000\x01", b"8=FIX.4.4\x019=60000\x0135=8\x01", b"8=FIX", b"8=FIX.4.4\x019=", b"\x0110=000\x01",
)  # fmt: skip
"""What, without end, is one piece of garbage behind the other: each a dead letter."""


class Run(NamedTuple):
    """What a run has seen."""

    rounds: int
    connections: int
    received_bytes: int
    trades: int
    letters: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.rounds:,} rounds of {CONNECTIONS} connections and one that behaves: {self.received_bytes / 1e6:,.1f} MB in "
            f"{self.seconds:,.0f} s, {self.trades:,} trades, {self.letters:,} dead letters; every byte kept once, nobody else noticed"
        )


class _Watch:
    """What came in, and the most that waited in a buffer."""

    def __init__(self) -> None:
        self.received = self.most_pending = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Looks over the shoulder of every connection."""
        original = Connection.data_received

        def data_received(connection: Connection, data: bytes) -> None:
            self.received += len(data)
            original(connection, data)
            self.most_pending = max(self.most_pending, connection._buffer.pending_bytes)

        Connection.data_received = data_received  # type: ignore[method-assign]
        try:
            yield
        finally:
            Connection.data_received = original  # type: ignore[method-assign]


def hostile(random: Random, name: bytes) -> bytes:
    """The bytes of one connection."""
    version = random.choice((b"FIX.4.4", b"FIX.4.4", b"FIX.4.2"))
    steps = [
        Step("logon"),
        *(random_step(random, random.choice((0.1, 0.5, 1.0))) for _ in range(random.choice((3, 40, 200)))),
    ]
    data = stream(steps, version, name)
    kind = random.choice(("mutated", "truncated", "interleaved", "endless", "as it is"))
    if kind == "mutated":
        found = bytearray(data)
        for _ in range(random.choice((1, 10, 300))):
            found[random.randrange(len(found))] = random.choice((1, 0, 0x3D, random.randrange(256)))
        return bytes(found)
    if kind == "truncated":
        return data[: random.randrange(1, len(data))]
    if kind == "interleaved":
        other = stream([Step("logon"), *(random_step(random, 0.3) for _ in range(40))], version, name)
        size = random.choice((1, 7, 100))
        pieces = range(0, max(len(data), len(other)), size)
        return b"".join(data[at : at + size] + other[at : at + size] for at in pieces)
    if kind == "endless":
        head = data[: random.randrange(len(data))] if random.random() < 0.5 else b""
        if random.random() < 0.5:  # as good as one piece
            return head + random.choice((b"x", b"\x01", b"9=9", b"=")) * random.choice((10_000, 500_000))
        unit = random.choice(_MANY_PIECES)
        return head + unit * (random.choice((1_000, 60_000)) // len(unit))
    return data


async def _attack(port: int, data: bytes, random: Random) -> None:
    """Writes it all, whatever the other side thinks of it."""
    wire = await Wire.to(port)
    at = 0
    with contextlib.suppress(ConnectionError):
        for end in random_cuts(random, len(data)) if len(data) < 100_000 else range(65_536, len(data) + 65_536, 65_536):
            await wire.write(data[at:end])
            at = end
            if random.random() < 0.02:
                await asyncio.sleep(0)
        if random.random() < 0.5:
            await asyncio.sleep(0.05)
    await wire.close()


async def _behave(port: int) -> set[str]:
    """A session that does all as it should; its ExecIDs."""
    wire = await Wire.to(port)
    await wire.write(message("A", 1, "98=0|108=30|", sender="GOOD"))
    await wire.hear(b"A")
    sent = set()
    for number in range(2, FILLS + 2):
        sent.add(f"G{number}")
        await wire.write(message("8", number, trade_body(f"G{number}"), sender="GOOD"))
        if number % 20 == 0:
            await asyncio.sleep(0)
    await wire.write(message("1", FILLS + 2, "112=done|", sender="GOOD"))
    async with limited(30):
        await wire.hear(b"0")
    if wire.of(b"3") or wire.of(b"5"):
        raise Disagreement(f"the session that behaves was told {wire.heard!r}")
    await wire.close()
    return sent


async def round_of(seed: str, watch: _Watch) -> tuple[int, int]:
    """Plays one round; how many trades and letters came of it.

    Raises:
        Disagreement: the acceptor did what it must not.
    """
    random = Random(seed)
    attacks = [
        hostile(random, b"H%d" % (number % (CONNECTIONS - 3))) for number in range(CONNECTIONS)
    ]  # some share one
    with tempfile.TemporaryDirectory() as folder:
        world = await StageWorld(Path(folder)).open()
        worker, port = await listening(world)
        before = watch.received
        tasks = [asyncio.create_task(_attack(port, data, Random(f"{seed}.{n}"))) for n, data in enumerate(attacks)]
        good = await _behave(port)
        async with limited(60):
            await asyncio.gather(*tasks)
            while worker.service._admission.connections:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        if worker.task.done():
            raise Disagreement("the acceptor has ended")
        await worker.stop()
        frames, letters, kept = [], [], 0
        booked = set()
        for topic in ("trades.raw", "sessions.raw", "trades.dlq"):
            for record in await world.records(topic):
                kept += sum(
                    map(len, received_frames(record, sessions_topic="sessions.raw", letters_topic="trades.dlq"))
                )
                if topic == "trades.raw":
                    for trade in decode_trades(record.value):
                        frames.append(trade.frame)
                        if trade.session == "GOOD->EOD":
                            booked.add(trade.exec_id)
                elif topic == "trades.dlq":
                    letters.append(decode_letter(record.value))
        await world.close()
    Wire.made.clear()
    check_sound(frames)
    if booked != good:
        raise Disagreement(f"of the session that behaves {len(good - booked)} trades are missing")
    if kept != watch.received - before:
        raise Disagreement(f"{watch.received - before} bytes were read, {kept} are kept")
    if not all(letter.detail for letter in letters):
        raise Disagreement("a dead letter does not say why")
    if watch.most_pending > MAX_FRAME_BYTES + READ_BYTES:
        raise Disagreement(f"{watch.most_pending:,} bytes waited in one buffer")
    return len(frames), len(letters)


def run(seconds: float, seed: int) -> Run:
    """Plays rounds for so long, at least one.

    Raises:
        Disagreement: with the seed of the round that shows it, or because this process has grown.
    """
    began = time.monotonic()
    watch = _Watch()
    rounds = trades = letters = settled_kib = 0
    with watch.watching():
        while not rounds or time.monotonic() - began < seconds:
            try:
                more_trades, more_letters = asyncio.run(round_of(f"{seed}.{rounds}", watch))
            except Exception as error:
                raise Disagreement(f"round {seed}.{rounds} (fuzz.acceptor.round_of repeats it): {error!r}") from error
            rounds, trades, letters = rounds + 1, trades + more_trades, letters + more_letters
            gc.collect()
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            settled_kib = settled_kib if rounds > 3 else grown_kib
            if grown_kib - settled_kib > GROWTH_KIB:
                raise Disagreement(
                    f"this process has grown by {(grown_kib - settled_kib) // 1024} MiB in {rounds} rounds"
                )
    return Run(rounds, rounds * CONNECTIONS, watch.received, trades, letters, time.monotonic() - began)
