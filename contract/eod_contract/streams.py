"""The streams of the log: what they are called, by what their records are spread, and how long they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream, which is a Kafka topic of its name unless a deployment has renamed it.

    Attributes:
        name: of its topic by default.
        key: what a record's key is; records of one key are in one partition, in order.
        kept: how long a record can be read.
        partitioned_as: a stream with as many partitions and the same partitioner, so that one consumer has all of a
            key; "" if there is none.
    """

    name: str
    key: str
    kept: timedelta
    partitioned_as: str = ""

    @property
    def kept_ms(self) -> int:
        """Milliseconds, as Kafka's `retention.ms` wants them."""
        return self.kept // timedelta(milliseconds=1)


TRADES = Stream("trades.raw", key="symbol", kept=timedelta(days=7))
PRICES = Stream("prices.updates", key="symbol", kept=timedelta(days=1), partitioned_as=TRADES.name)
SESSIONS = Stream("sessions.raw", key="session", kept=timedelta(days=7))
LETTERS = Stream("trades.dlq", key="letter id", kept=timedelta(days=30))

STREAMS: Mapping[str, Stream] = MappingProxyType(
    {stream.name: stream for stream in (TRADES, PRICES, SESSIONS, LETTERS)}
)
"""All of them, by name."""
