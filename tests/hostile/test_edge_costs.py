"""Hostile bytes are as cheap as good ones, and whoever behaves is served meanwhile.

Memory is asserted; time only beside good traffic of the same process. Every test says what it has measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from support.fix_messages import message, report, trade_body
from support.fix_wire import Wire
from support.patience import limited

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS = 50
RATIO = 5
"""What hostile bytes may cost, by as many good ones."""
_FLOOR_S = 0.05
"""Less processor time than this is not told apart."""

Start = Callable[..., Any]


def say(what: str, **numbers: Any) -> None:
    """Print what was measured."""
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()
    )
    print(f"{what}: {shown}")  # noqa: T201 - `make hostile` shows it


async def logged_on(port: int, sender: str) -> Wire:
    wire = await Wire.to(port)
    await wire.write(message("A", 1, "98=0|108=30|", sender=sender))
    await wire.hear(b"A")
    return wire


async def pour(port: int, data: bytes, sender: str | None = None) -> None:
    """Write it all, whatever the other side makes of it."""
    wire = await Wire.to(port) if sender is None else await logged_on(port, sender)
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), 256 * KIB):
            await wire.write(data[at : at + 256 * KIB])
    if sender is None:
        with contextlib.suppress(TimeoutError):
            await wire.closed()
    else:
        await asyncio.sleep(0.2)
    await wire.close()


async def settled(edge: Any) -> dict[str, Any]:
    """Wait until it has nothing to do, and tell what was used."""
    total: dict[str, Any] = {"peak_mib": 0.0, "stop_s": 0.0, "cpu_s": 0.0}
    async with limited(120):
        while True:
            await asyncio.sleep(0.3)
            used = await edge.used()
            total = {
                **used,
                "peak_mib": max(total["peak_mib"], used["peak_mib"]),
                "stop_s": max(total["stop_s"], used["stop_s"]),
                "cpu_s": total["cpu_s"] + used["cpu_s"],
            }
            if used["cpu_s"] < 0.1:
                return total


async def good(edge: Any, size: int, senders: Iterable[str] = ("GOOD",)) -> dict[str, Any]:
    """What so many bytes of fills cost, from each of these."""
    await settled(edge)
    streams = {}
    for sender in senders:
        fills, number = [], 2
        while sum(map(len, fills[:1])) * len(fills) < size:
            fills.append(message("8", number, trade_body(f"{sender}{number}"), sender=sender))
            number += 1
        streams[sender] = b"".join(fills)
    await asyncio.gather(*(pour(edge.port, data, sender) for sender, data in streams.items()))
    return await settled(edge)


GARBAGE = {
    "beginnings": b"8=FIX" * 52_000,
    "ends": b"\x0110=000\x01" * 29_000,
    "lengths": b"8=FIX.4.4\x019=65000\x01" * 14_500,
    "headers": b"8=FIX.4.4\x019=65000\x0135=8\x01" * 11_000,
    "wrong checksums": (report(2, "X")[:-4] + b"999\x01") * 1_000,
    "numbered": b"".join(b"8=FIX%06d" % number for number in range(24_000)),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_of_a_session_costs_no_more_than_good_frames(edge: Start, what: str) -> None:
    data = GARBAGE[what] * 4
    async with edge() as running:
        usual = await good(running, len(data))
        await pour(running.port, data, "BAD")
        used = await settled(running)
    say(
        what,
        bytes=len(data),
        cpu_s=used["cpu_s"],
        good_cpu_s=usual["cpu_s"],
        stop_s=used["stop_s"],
        good_stop_s=usual["stop_s"],
    )
    assert used["cpu_s"] <= RATIO * max(usual["cpu_s"], _FLOOR_S)
    assert used["stop_s"] <= RATIO * max(usual["stop_s"], _FLOOR_S)
    assert used["peak_mib"] - usual["peak_mib"] < 64


async def test_a_first_message_with_a_long_name_and_garbage_behind_it(edge: Start) -> None:
    data = message("0", 1, sender="C" * 30_000) + b"8=FIX" * 6_800
    async with edge() as running:
        usual = await good(running, 10 * len(data))
        await asyncio.gather(*(pour(running.port, data) for _ in range(10)))
        used = await settled(running)
    say("long name", peak_mib=used["peak_mib"], before=usual["peak_mib"], stop_s=used["stop_s"], cpu_s=used["cpu_s"])
    assert used["peak_mib"] - usual["peak_mib"] < 64
    assert used["stop_s"] <= RATIO * max(usual["stop_s"], _FLOOR_S)
    assert used.get("trades.dlq value bytes", 0) < 2 * len(data)


async def test_garbage_before_a_logon_fills_no_store(edge: Start) -> None:
    data = b"".join(b"8=FIX%06d" % number for number in range(15_000))
    async with edge() as running:
        await asyncio.gather(*(pour(running.port, data) for _ in range(CONNECTIONS)))
        for _ in range(10):
            await asyncio.gather(*(pour(running.port, data) for _ in range(20)))
        used = await settled(running)
    say(
        "strangers",
        sent=250 * len(data),
        letters=used.get("trades.dlq", 0),
        letter_bytes=used.get("trades.dlq value bytes", 0),
    )
    assert used.get("trades.dlq", 0) <= 250
    assert used["peak_mib"] < 512


@pytest.mark.parametrize("size", [26, 60_000])
async def test_a_log_that_stalls_costs_the_memory_that_it_may(edge: Start, size: int) -> None:
    """Also with small letters, each of which takes much more than its bytes; and with connections that are new."""
    bad = (b"8=FIX.4.4\x019=3\x0135=8\x0110=999\x01" + message("0", 1, "43=Y|122=20260105-21:00:00|")) * 40_000
    if size > 26:
        bad = message("8", 2, trade_body("X") + "58=" + "x" * size + "|") * 60
    async with edge() as running:
        before = await settled(running)
        await running.used("stall")
        for wave in range(3):
            tasks = [
                asyncio.create_task(pour(running.port, bad.replace(b"ACME", b"S%d%02d" % (wave, n)), f"S{wave}{n:02}"))
                for n in range(8)
            ]
            await asyncio.wait(tasks, timeout=3)
            for task in tasks:
                task.cancel()
        used = await running.used()
    say("stalled log", peak_mib=used["peak_mib"], before=before["peak_mib"])
    assert used["peak_mib"] - before["peak_mib"] < 200


async def test_silent_sockets_keep_nobody_out(edge: Start) -> None:
    async with edge(fix_max_connections=200) as running:
        silent = [await Wire.to(running.port) for _ in range(600)]
        await running.used()
        begun = time.perf_counter()
        wire = await logged_on(running.port, "GOOD")
        took_s = time.perf_counter() - begun
        await wire.write(message("8", 2, trade_body("G2"), sender="GOOD"), message("1", 3, "112=x|", sender="GOOD"))
        await wire.hear(b"0")
        used = await settled(running)
        for one in silent:
            await one.close()
    say(
        "silent sockets",
        logon_s=took_s,
        cpu_s=used["cpu_s"],
        peak_mib=used["peak_mib"],
        connections=used["connections"],
    )
    assert used["trades"] == 1
    assert used["ready"]
    assert used["connections"] <= 200


async def test_sessions_that_were_there_once_cost_nothing(edge: Start) -> None:
    """What a fill costs does not depend on who has been here before."""
    async with edge() as running:
        first = await good(running, 500 * KIB, ["FIRST"])
        for number in range(0, 1_500, 50):
            await asyncio.gather(*(_once(running.port, f"ONCE{one}") for one in range(number, number + 50)))
        again = await good(running, 500 * KIB, ["AGAIN"])
    say("sessions that were there once", before_cpu_s=first["cpu_s"], after_cpu_s=again["cpu_s"])
    assert again["cpu_s"] <= RATIO * max(first["cpu_s"], _FLOOR_S)


async def _once(port: int, sender: str) -> None:
    wire = await logged_on(port, sender)
    await wire.write(message("5", 2, sender=sender))
    await wire.closed()
    await wire.close()


@pytest.mark.parametrize("kind", ["1", "2"])
async def test_who_asks_and_does_not_read_is_not_answered_without_end(edge: Start, kind: str) -> None:
    body, count = (f"112={'x' * 2_000}|", 100_000) if kind == "1" else ("7=1|16=0|", 20_000)
    async with edge() as running:
        before = await settled(running)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4_096)
        writer.write(message("A", 1, "98=0|108=30|", sender="DEAF"))
        asks = b"".join(message(kind, number, body, sender="DEAF") for number in range(2, count))
        with contextlib.suppress(TimeoutError, ConnectionError):
            writer.write(asks)
            await asyncio.wait_for(writer.drain(), 15)
        used = await running.used()
        assert reader is not None
        async with limited(30):  # a heartbeat; it is refused for as long as the other sends
            while True:
                wire = await Wire.to(running.port)
                await wire.write(message("A", count, "98=0|108=30|", sender="DEAF"))
                while not wire.of(b"A") and not wire.of(b"5"):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
                if wire.of(b"A"):
                    break
                await wire.close()
        writer.transport.abort()
    say("answers that are not read", peak_mib=used["peak_mib"], before=before["peak_mib"])
    assert used["peak_mib"] - before["peak_mib"] < 64


async def test_a_gap_with_long_fills_behind_it(edge: Start) -> None:
    """They take what memory they may, and all are booked when the gap is closed."""
    count, long = 2_500, "58=" + "x" * 60_000 + "|"
    fills = {number: message("8", number, trade_body(f"G{number}") + long, sender="GAP") for number in range(2, count)}
    async with edge() as running:
        before = await settled(running)
        wire = await logged_on(running.port, "GAP")
        for number in range(3, count):
            await wire.write(fills[number])
        used = await settled(running)
        answered = 0
        async with limited(90):
            while (await running.used()).get("trades", 0) < count - 2:
                asked = wire.of(b"2")[answered:]
                answered += len(asked)
                for one in asked:
                    for number in range(int(one[b"7"]), int(one[b"16"]) + 1):
                        head = f"43=Y|122=20260102-20:59:00|{trade_body(f'G{number}')}{long}"
                        await wire.write(message("8", number, head, sender="GAP"))
                await asyncio.sleep(0.05)
    say("a gap", sent_mib=sum(map(len, fills.values())) / MIB, peak_mib=used["peak_mib"], before=before["peak_mib"])
    assert used["peak_mib"] - before["peak_mib"] < 200


def named(sender: str, numbers: Iterable[int], size: int) -> bytes:
    """Fills each with a symbol, a trader, a strategy and an account of its own, so many bytes long."""
    fills = []
    for number in numbers:
        body = trade_body(f"{sender}{number}")
        for tag, value in (("55", "IBM"), ("448", "T001"), ("6061", "VWAP"), ("1", "ACC1")):
            assert f"{tag}={value}|" in body
            body = body.replace(f"{tag}={value}|", f"{tag}={f'{tag}.{number}.'.ljust(size, 'n')}|")
        fills.append(message("8", number, body, sender=sender))
    return b"".join(fills)


@pytest.mark.parametrize(("size", "count"), [(120, 20_000), (14_000, 1_000)])
async def test_names_that_never_come_again_leave_nothing_behind(edge: Start, size: int, count: int) -> None:
    """Those that are as long as they may be are kept in caches with a limit; longer ones are refused."""
    async with edge() as running:
        before = await settled(running)
        wire = await logged_on(running.port, "NAMES")
        used = []
        for part in range(3):
            await wire.write(named("NAMES", range(2 + part * count, 2 + (part + 1) * count), size))
            used.append(await settled(running))
        await wire.close()
    say(
        f"names of {size} bytes",
        fills=3 * count,
        before_mib=before["peak_mib"],
        peak_mib=[round(one["peak_mib"], 1) for one in used],
        trades=used[-1].get("trades", 0),
    )
    assert used[-1].get("trades", 0) == (3 * count if size < 128 else 0)
    assert used[-1]["peak_mib"] - used[0]["peak_mib"] < 32
    assert used[-1]["peak_mib"] - before["peak_mib"] < 128


ATTACKS = {
    "nothing": (None, b""),
    "silence": (None, b""),
    "another protocol": (None, b"GET / HTTP/1.1\r\n" * 16_000),
    "a long name": (None, message("0", 1, sender="C" * 30_000) + b"8=FIX" * 40_000),
    **{f"{name} of a session": ("BAD", data * 2) for name, data in GARBAGE.items()},
    "long names of a session": ("BAD", named("BAD", range(2, 40), 14_000)),
    "new names of a session": ("BAD", named("BAD", range(2, 3_000), 120)),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_neighbour_is_served(edge: Start, attack: str) -> None:
    """From fifty connections at once, and again and again: below 512 MiB, and not one trade of the neighbour lost."""
    sender, data = ATTACKS[attack]
    ended = asyncio.Event()

    async def attacker(port: int, number: int) -> None:
        while not ended.is_set() and attack != "nothing":
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(pour(port, data, sender and f"{sender}{number}"), 5)

    async with edge() as running:
        quiet = await _latencies(running.port, "QUIET", 100)
        attackers = [asyncio.create_task(attacker(running.port, number)) for number in range(CONNECTIONS)]
        beside = await _latencies(running.port, "BESIDE", 300)
        ended.set()
        await asyncio.wait(attackers, timeout=10)
        for one in attackers:
            one.cancel()
        used = await settled(running)
    p99, quiet_p99 = sorted(beside)[-3], max(quiet)
    say(attack, p99_ms=p99 * 1e3, quiet_p99_ms=quiet_p99 * 1e3, peak_mib=used["peak_mib"], stop_s=used["stop_s"])
    assert used["peak_mib"] < 512
    assert used["trades"] >= 400


async def _latencies(port: int, sender: str, count: int) -> list[float]:
    """How long a fill and a TestRequest behind it take to be answered, every 10 ms."""
    wire = await logged_on(port, sender)
    took = []
    for number in range(count):
        begun = time.perf_counter()
        fill = message("8", 2 + 2 * number, trade_body(f"{sender}{number}"), sender=sender)
        await wire.write(fill, message("1", 3 + 2 * number, "112=x|", sender=sender))
        while len(wire.of(b"0")) <= number:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.0005)
        took.append(time.perf_counter() - begun)
        await asyncio.sleep(0.01)
    await wire.close()
    return took
