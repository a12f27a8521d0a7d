"""Which partition a key belongs to: the one partitioner that every client of the log uses.

Kafka's own default for keyed records (`toPositive(murmur2(key)) % partitions`, murmur2 of
org.apache.kafka.common.utils.Utils), so that Java producers and ours agree. `tests/unit/trades/test_partitioner.py`
holds golden vectors.
"""

from __future__ import annotations

from functools import lru_cache

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_WORD = 4


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 hash, as an unsigned integer."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    full = length - length % _WORD
    for i in range(0, full, _WORD):
        k = int.from_bytes(data[i : i + _WORD], "little") * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    if full < length:
        h ^= int.from_bytes(data[full:], "little")
        h = h * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition, 0 ≤ p < `partitions`, of records with this key (a symbol, or a session on `sessions.raw`)."""
    return (murmur2(key.encode()) & _POSITIVE) % partitions
