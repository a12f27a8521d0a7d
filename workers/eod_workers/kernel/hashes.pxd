# The two sums that every kernel module needs, for `cimport`. They touch no Python object.
from libc.stdint cimport uint8_t, uint32_t


cdef inline uint32_t murmur2_of(const uint8_t* data, size_t length) noexcept nogil:
    """Kafka's 32-bit murmur2: `trades/partitioner.py` has the source."""
    cdef uint32_t h = <uint32_t> 0x9747B28C ^ <uint32_t> length
    cdef uint32_t k
    cdef size_t i = 0
    while i + 4 <= length:
        k = (
            data[i]
            | (<uint32_t> data[i + 1] << 8)
            | (<uint32_t> data[i + 2] << 16)
            | (<uint32_t> data[i + 3] << 24)
        )
        k = k * <uint32_t> 0x5BD1E995
        k ^= k >> 24
        h = (h * <uint32_t> 0x5BD1E995) ^ (k * <uint32_t> 0x5BD1E995)
        i += 4
    if i < length:
        if length - i == 3:
            h ^= <uint32_t> data[i + 2] << 16
        if length - i >= 2:
            h ^= <uint32_t> data[i + 1] << 8
        h ^= data[i]
        h = h * <uint32_t> 0x5BD1E995
    h ^= h >> 13
    h = h * <uint32_t> 0x5BD1E995
    return h ^ (h >> 15)


cdef inline uint32_t checksum_of(const uint8_t* data, size_t length) noexcept nogil:
    """CheckSum(10): the sum of all bytes, modulo 256. The compiler makes vectors of this loop."""
    cdef uint32_t total = 0
    cdef size_t i
    for i in range(length):
        total += data[i]
    return total & 0xFF
