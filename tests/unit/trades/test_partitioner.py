"""One partitioner for every client of the log: golden vectors that a Java producer agrees with."""

from __future__ import annotations

import pytest
from eod_workers.trades.partitioner import murmur2, partition_of
from hypothesis import given
from hypothesis import strategies as st

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
KAFKA_VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]
# Symbol → partition of 12. Changing one of these moves every position of the symbol to another worker.
PARTITIONS_OF_12 = {
    "IBM": 11,
    "AAPL": 9,
    "MSFT": 6,
    "A": 10,
    "BRK.B": 3,
    "SPY": 11,
    "TSLA": 11,
    "GOOG": 9,
    "": 9,
    "ÄÖÜ": 2,
    "ACME->EOD": 11,
    "ES  Z6": 3,
    "T": 7,
    "BF/B": 3,
}


@pytest.mark.parametrize(("data", "signed"), KAFKA_VECTORS)
def test_murmur2_is_the_hash_of_kafka(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


@pytest.mark.parametrize(("symbol", "partition"), PARTITIONS_OF_12.items())
def test_a_symbol_stays_on_its_partition_for_ever(symbol: str, partition: int) -> None:
    assert partition_of(symbol, 12) == partition


@given(data=st.binary(max_size=40))
def test_murmur2_is_a_function_of_all_bytes_within_32_bits(data: bytes) -> None:
    assert 0 <= murmur2(data) < 2**32
    assert murmur2(data) == murmur2(bytes(data))


@given(key=st.text(max_size=12), partitions=st.integers(1, 64))
def test_a_partition_is_always_one_of_those_there_are(key: str, partitions: int) -> None:
    """The sign bit is cut off, as toPositive does: Java's % of a negative hash would be negative."""
    assert partition_of(key, partitions) in range(partitions)
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def test_symbols_are_spread_over_every_partition() -> None:
    seen = {partition_of(f"{a}{b}{c}", 12) for a in "ABCD" for b in "EFGH" for c in "IJKL"}
    assert seen == set(range(12))
