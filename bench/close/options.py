"""What a run is told, and the bars that ours is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from close.flow import Shape

BARS: Mapping[str, float] = MappingProxyType(
    {
        "fix": 1_000_000.0,  # frames/s of a core
        "fallback": 50_000.0,  # the same without the kernel
        "ingest_ratio": 5.0,  # in trades a CPU second
        "pnl_ratio": 5.0,  # the same
        "close": 500_000.0,  # trades/s
        "close_ratio": 10.0,
        "p99_ms": 10.0,  # at 10,000 trades/s, publishing every millisecond
        "half_p99_ms": 100.0,  # at half of the most, publishing every millisecond
        "rebuild_s": 10.0,  # 5,000,000 trades
        "remark_ms": 250.0,  # a price on 1,000,000 positions
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes of a run.

    Attributes:
        trades: of one measured run.
        blast: trades of one blast of `close`, and the fewest of `scaling`.
        runs: measured runs after one that warms up.
        warm_s: for which the servers of `close` are warmed up at the least, in the time of the blasts themselves.
        seconds: that each open-loop latency is measured for.
        rebuild: trades of a cold start.
        positions: that one price values anew.
        threads: of Kafka Streams.
        intervals_ms: that flash P&L publishes at; the blasts of `close` are measured at the first.
        shape: who trades what.
        bars: by name.
    """

    trades: int = 500_000
    blast: int = 1_000_000
    runs: int = 5
    warm_s: float = 20.0
    seconds: float = 10.0
    rebuild: int = 5_000_000
    positions: int = 1_000_000
    threads: int = 2
    intervals_ms: Sequence[int] = (100, 1)
    shape: Shape = field(default_factory=Shape)
    bars: Mapping[str, float] = field(default_factory=lambda: BARS)


QUICK = Options(
    trades=10_000, blast=10_000, runs=1, warm_s=0.0, seconds=1.0, rebuild=20_000, positions=2_000, intervals_ms=(1,)
)
"""Shows that everything works, in under three minutes."""
