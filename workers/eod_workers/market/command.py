"""`eod market play`: a played market against an acceptor that runs elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.market.play import Market, Mischief
from eod_workers.market.profile import Profile
from eod_workers.market.tally import write_tally
from eod_workers.market.universe import make_universe, write_reference
from eod_workers.process.bootstrap import make_log, make_state
from eod_workers.process.settings import load_settings
from eod_workers.trades.spread import spread_of


async def play(
    *,
    host: str,
    port: int,
    seconds: float,
    rate: float,
    burst: float,
    seed: int,
    corrupt: float,
    duplicates: float,
    odd: float,
    target: str,
    reference: Path | None,
    tally: Path | None,
    brokers: str,
    reconnect: float,
    say: Callable[[str], None],
) -> int:
    """Plays the session and returns how many distinct executions were sent and received.

    It is a new engine each time: numbers begin at 1, and no ExecID is one of an earlier play. The tally is also written
    when the play ends before its time: what has not arrived then is missing, and is named so. `say` is told of prices
    that could not be sent.

    Raises:
        OSError: nobody listens there.
        LogonRefused: the acceptor refused a Logon.
        ConnectionError: a connection ended before its time.
        TimeoutError: the acceptor has stopped answering.
    """
    settings = load_settings()
    feed: asyncio.Task[None] | None = None
    universe = make_universe(seed)
    if reference is not None:
        write_reference(universe, reference)
    clock = SystemClock()
    market = Market(
        universe,
        Profile(seconds, rate, burst),
        clock,
        network=TcpNetwork(),
        seed=seed,
        mischief=Mischief(corrupt=corrupt, duplicates=duplicates, odd=odd),
        target=target,
        brokers=brokers,
        reconnect_s=reconnect,
        run=format(clock.now_ns() // 1_000_000_000, "x"),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(market.close)
        await market.connect(host, port)
        if settings.kafka_bootstrap:
            log = make_log(settings)
            stack.push_async_callback(log.close)
            spread = None
            if state := make_state(settings):
                stack.push_async_callback(state.close)
                spread = await spread_of(log, state, settings.trades_topic)
            feed = asyncio.create_task(market.feed(log, settings.prices_topic, spread))
            stack.callback(feed.cancel)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        bar = progress.add_task("connected", total=seconds)

        def show() -> None:
            phase = market.profile.phase(market.elapsed_s)
            progress.update(bar, completed=market.elapsed_s, description=f"{phase:<5} {market.sent:>9,} sent")

        async def watch() -> None:
            while True:
                show()
                await asyncio.sleep(0.25)

        watcher = asyncio.create_task(watch())
        stack.callback(watcher.cancel)
        try:
            await market.play()
            show()
            if feed is not None and feed.done() and not feed.cancelled() and (why := feed.exception()) is not None:
                say(f"prices were not sent, or not all: {why}")
        except BaseException:
            market.tally.reconnects += 1  # a connection was lost, or cut: frames may have been on their way
            raise
        finally:
            if tally is not None:
                write_tally(market.tally, tally, again_intact=market.again_intact)
    return market.sent
