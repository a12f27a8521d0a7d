"""Runs the demo: stores, stages, market, scaler and screen in one process, then the reconciliation."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from eod_contract.scaling import Signals, StagePolicy
from eod_contract.streams import STREAMS
from eod_operator.scaling import ExplicitCalendar, History, burst_window, decide
from rich.console import Console
from rich.live import Live

from eod_workers.adapters.embedded import PortsIn, embedded
from eod_workers.demo.reconcile import Reconciliation, reconcile
from eod_workers.demo.view import Screen, StageLine, render, result_table
from eod_workers.fix.initiator import LogonRefused
from eod_workers.ingestion.stage import Ingestion
from eod_workers.market.play import Market, Mischief
from eod_workers.market.profile import Profile
from eod_workers.market.universe import make_universe, write_reference
from eod_workers.pnl.published import Key, Published, updates
from eod_workers.ports import Clock, TopicSpec
from eod_workers.process.fleet import Fleet
from eod_workers.runtime.stages import Ports, Stage, load_stages
from eod_workers.runtime.variables import TopicNames

PARTITIONS = 12
DRAIN_TIMEOUT_S = 60.0
_LISTEN_S = 10.0
_SCALE_S = 0.5
_SCREEN_S = 0.25
_DRAINED_S = 0.1
_HEARD_S = 0.05
"""What was published last has been heard by then."""
_TOP_TRADERS = 6
# Replicas are sized as the operator would size pods; the lag is in records of the log.
_POLICIES = {
    "ingestion": StagePolicy(1, 1),
    "flash-pnl": StagePolicy(1, 12, 6, lag_per_replica=400, stabilization_s=4),
    "regulatory": StagePolicy(1, 12, 4, lag_per_replica=2_000, stabilization_s=4),
    "archive": StagePolicy(1, 4, 2, lag_per_replica=2_000, stabilization_s=4),
    "dead-letters": StagePolicy(1, 2, 1, lag_per_replica=2_000, stabilization_s=4),
}
_DEFAULT_POLICY = StagePolicy(1, 2, 1, lag_per_replica=2_000, stabilization_s=4)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line can say."""

    seconds: float = 60.0
    rate: float = 500.0
    burst: float = 10_000.0
    seed: int = 1
    corrupt: float = 0.001
    duplicates: float = 0.01
    busts: float = 0.002
    unknown: float = 0.001
    odd: float = 0.003
    data_dir: Path | None = None


@dataclass(slots=True)
class DemoResult:
    """How it went."""

    reconciliation: Reconciliation
    latency_ms: dict[str, float]
    peak_per_s: float
    seconds: float
    problems: list[str] = field(default_factory=list)
    replicas_seen: dict[str, list[int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing differs and nothing failed."""
        return not self.reconciliation.mismatches and not self.problems

    def as_json(self) -> dict[str, object]:
        """The table and what goes with it."""
        numbers: dict[str, object] = dict(self.reconciliation.numbers())
        numbers |= {
            "expected": self.reconciliation.expected,
            "named_mismatches": self.reconciliation.named,
            "problems": self.problems,
            "pnl_latency_ms": self.latency_ms,
            "peak_trades_per_s": round(self.peak_per_s),
            "seconds": round(self.seconds, 1),
            "replicas_seen": self.replicas_seen,
        }
        return numbers


class Demo:
    """One run."""

    def __init__(
        self,
        options: DemoOptions,
        console: Console,
        stages: dict[str, Stage] | None = None,
        open_ports: PortsIn = embedded,
    ) -> None:
        """`stages` replaces the registered ones, and `open_ports` what they run on (tests sabotage both)."""
        self.fleets: dict[str, Fleet] = {}
        self._options = options
        self._console = console
        self._stages = stages or load_stages()
        self._open_ports = open_ports
        self._topics = TopicNames()
        self._profile = Profile(options.seconds, options.rate, options.burst)
        self._latencies_ms: list[float] = []
        self._heard: dict[Key, Published] = {}
        self._screen = Screen(seconds=options.seconds)
        self._histories: dict[str, History] = {}
        self._problems: list[str] = []
        self._seen: dict[str, list[int]] = {}
        self._peak = 0.0

    async def run(self) -> DemoResult:
        """Plays, drains, reconciles."""
        options = self._options
        async with AsyncExitStack() as stack:
            if options.data_dir is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eod-demo-")))
            else:
                folder = options.data_dir / time.strftime("%Y%m%dT%H%M%S")
                folder.mkdir(parents=True)
            ports = await stack.enter_async_context(self._open_ports(folder))
            ports.published = self._published
            await ports.log.ensure_topics(TopicSpec(name, PARTITIONS) for name in STREAMS)
            self.fleets = self._fleets(ports, folder)
            listener = asyncio.create_task(self._listen(ports))
            stack.callback(listener.cancel)
            started = ports.clock.monotonic()
            market = await self._play(stack, ports)
            self._check_failures()
            await ports.clock.sleep(_HEARD_S)
            result = await reconcile(
                market.tally,
                again_intact=market.again_intact,
                regulatory=ports.regulatory,
                archive=ports.archive,
                state=ports.state,
                log=ports.log,
                topics=self._topics,
                heard=self._heard,
            )
            return DemoResult(
                result,
                _percentiles(self._latencies_ms),
                self._peak,
                ports.clock.monotonic() - started,
                self._problems,
                self._seen,
            )

    def _fleets(self, ports: Ports, folder: Path) -> dict[str, Fleet]:
        reference = folder / "reference.yaml"
        write_reference(make_universe(self._options.seed), reference)
        told: Mapping[str, object] = {
            "fix_host": "127.0.0.1",
            "fix_port": 0,
            "fix_admit_anybody": True,
            "flush_interval_s": 1.0,
            "reference_file": str(reference),
        }
        return {name: Fleet(stage, ports, told) for name, stage in self._stages.items()}

    def _published(self, received_at_ns: Sequence[int], published_at_ns: int) -> None:
        self._latencies_ms.extend((published_at_ns - at) / 1e6 for at in received_at_ns)

    async def _listen(self, ports: Ports) -> None:
        """A trader's screen: remembers the last update of each position, as subscribers see it."""
        async for update in updates(ports.state):
            for symbol, position in update.positions.items():
                self._heard[update.trader, symbol] = position

    # --- playing --------------------------------------------------------------------------------------------

    async def _play(self, stack: AsyncExitStack, ports: Ports) -> Market:
        """Plays and drains; when it is interrupted, the stack ends what runs before it closes the ports."""
        for fleet in self.fleets.values():
            stack.push_async_callback(fleet.abandon)
            await fleet.scale(1)
        options = self._options
        market = Market(
            make_universe(options.seed),
            self._profile,
            ports.clock,
            network=ports.network,
            seed=options.seed,
            mischief=Mischief(options.corrupt, options.duplicates, options.busts, options.unknown, options.odd),
        )
        stack.push_async_callback(market.close)
        try:
            await market.connect("127.0.0.1", await self._port(self.fleets["ingestion"]))
            await self._play_on_screen(market, ports)
        except (OSError, LogonRefused) as error:
            self._problems.append(f"the market could not log on: {error!r}")
        for fleet in self.fleets.values():
            await fleet.stop()
        return market

    async def _port(self, fleet: Fleet) -> int:
        """Where ingestion listens.

        Raises:
            ConnectionError: its worker has failed.
            TimeoutError: it does not listen.
        """
        try:
            async with asyncio.timeout(_LISTEN_S):
                return await fleet.unless_failed(cast("Ingestion", fleet.services[0]).listening())
        except TimeoutError:
            raise
        except Exception as error:
            raise ConnectionError("ingestion does not listen") from error

    async def _play_on_screen(self, market: Market, ports: Ports) -> None:
        """The session, with the scaler beside it and the live view on top."""
        calendar = ExplicitCalendar.of((ports.clock.now_ns() / 1e9 + self._profile.close_s,))
        background = [
            asyncio.create_task(self._scale(ports, calendar)),
            asyncio.create_task(self._watch(market, ports.clock)),
        ]
        with Live(render(self._screen), console=self._console, auto_refresh=False, transient=True) as live:
            background.append(asyncio.create_task(self._draw(live, ports.clock)))
            try:
                await self._session(market, ports)
            except (ConnectionError, TimeoutError) as error:
                self._problems.append(f"the market could not finish: {error!r}")
            finally:
                for task in background:
                    task.cancel()
                for task in background:
                    with suppress(asyncio.CancelledError):
                        await task

    async def _session(self, market: Market, ports: Ports) -> None:
        feed = asyncio.create_task(market.feed(ports.log, self._topics.prices_topic))
        try:
            await market.play()
            await asyncio.wait_for(feed, 10)
            self._screen.phase = "drain"
            await asyncio.wait_for(self._drained(ports), DRAIN_TIMEOUT_S)
        finally:
            feed.cancel()

    async def _drained(self, ports: Ports) -> None:
        """Returns once every stage has consumed and committed all that is on the log, dead letters included."""
        while not any(fleet.failure for fleet in self.fleets.values()):
            lags = [sum(await fleet.lag()) for fleet in self.fleets.values()]
            if not any(lags):
                return
            await ports.clock.sleep(_DRAINED_S)

    def _check_failures(self) -> None:
        for name, fleet in self.fleets.items():
            if fleet.failure is not None:
                self._problems.append(f"a worker of {name} failed: {fleet.failure!r}")

    # --- scaling and showing --------------------------------------------------------------------------------

    async def _scale(self, ports: Ports, calendar: ExplicitCalendar) -> None:
        lead_s = self._profile.seconds * 0.08
        duration_s = self._profile.burst_end_s - self._profile.close_s
        while True:
            now = ports.clock.now_ns() / 1e9
            window = burst_window(calendar, now, lead_s=lead_s, duration_s=duration_s)
            for name, fleet in self.fleets.items():
                lag = await fleet.lag() if fleet.kind.reads else None
                decision = decide(
                    _POLICIES.get(name, _DEFAULT_POLICY),
                    Signals(lag=lag, partitions=PARTITIONS if lag is not None else None),
                    window,
                    self._histories.get(name, History()),
                    current=fleet.size,
                    now_s=now,
                )
                self._histories[name] = decision.history
                line = self._line(name)
                line.lag = sum(lag or ())
                line.desired, line.reason = decision.replicas, decision.reason
                if decision.replicas != fleet.size:
                    await fleet.scale(decision.replicas)
                line.replicas = fleet.size
                seen = self._seen.setdefault(name, [])
                if not seen or seen[-1] != fleet.size:
                    seen.append(fleet.size)
            await ports.clock.sleep(_SCALE_S)

    def _line(self, name: str) -> StageLine:
        for line in self._screen.stages:
            if line.name == name:
                return line
        self._screen.stages.append(StageLine(name))
        return self._screen.stages[-1]

    async def _watch(self, market: Market, clock: Clock) -> None:
        """Keeps the screen's numbers current, four times a second."""
        before = dict.fromkeys(self.fleets, 0.0)
        sent, then = 0, clock.monotonic()
        while True:
            await clock.sleep(_SCREEN_S)
            now = clock.monotonic()
            screen = self._screen
            screen.elapsed_s, screen.sent = market.elapsed_s, market.sent
            if screen.phase != "drain":
                screen.phase = self._profile.phase(market.elapsed_s)
            screen.rate_per_s = (market.sent - sent) / (now - then)
            self._peak = max(self._peak, screen.rate_per_s)
            screen.rates.append(screen.rate_per_s)
            for name, fleet in self.fleets.items():
                processed = fleet.processed
                self._line(name).rate_per_s = (processed - before[name]) / (now - then)
                before[name] = processed
            sent, then = market.sent, now
            recent = sorted(self._latencies_ms[-5_000:])
            if recent:
                screen.latency_ms = (recent[len(recent) // 2], recent[len(recent) * 99 // 100])
            totals: dict[str, float] = {}
            for (trader, _), position in self._heard.items():
                totals[trader] = totals.get(trader, 0.0) + (position.total_e16 or 0) / 1e16
            screen.traders = sorted(totals.items(), key=lambda item: -abs(item[1]))[:_TOP_TRADERS]

    async def _draw(self, live: Live, clock: Clock) -> None:
        while True:
            live.update(render(self._screen), refresh=True)
            await clock.sleep(_SCREEN_S)


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {name: round(ordered[int(len(ordered) * share)], 1) for name, share in (("p50", 0.50), ("p99", 0.99))}


def show(result: DemoResult, console: Console) -> None:
    """Prints the final table and what went wrong, if anything."""
    console.print(result_table(result.reconciliation, result.latency_ms, result.seconds))
    peaks = ", ".join(f"{name} {max(seen)}" for name, seen in result.replicas_seen.items())
    console.print(f"peak {result.peak_per_s:,.0f} trades/s · most replicas: {peaks}")
    for problem in (*result.problems, *result.reconciliation.named):
        console.print(f"[red]✗[/red] {problem}")
    verdict = "[bold green]mismatches 0[/bold green]: everything sent is where it belongs, once"
    console.print(verdict if result.ok else f"[bold red]mismatches {result.reconciliation.mismatches}[/bold red]")
