# cython: language_level=3, boundscheck=False, wraparound=False
"""CheckSum(10) and Kafka's murmur2 in C, to be held against their twins in `fix/frames.py` and `trades/partitioner.py`."""


def checksum(const unsigned char[::1] data not None):
    """CheckSum(10) of the bytes."""
    return checksum_of(&data[0], data.shape[0]) if data.shape[0] else 0


def murmur2(const unsigned char[::1] data not None):
    """Kafka's 32-bit murmur2 hash, as an unsigned integer."""
    return murmur2_of(&data[0] if data.shape[0] else NULL, data.shape[0])
