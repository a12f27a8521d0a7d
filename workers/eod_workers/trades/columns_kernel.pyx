# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Trades in columns, without a Python object each: rows in C arrays, written as `TradeBatch` in one go.

The twin of `trades/columns.py`. A row holds numbers and the indexes of its names; each name (session, symbol, trader …) is
kept once, with the partition that it means as a symbol. What a drain leaves behind is bounded: names and large
buffers are let go of. protos/eod/v1/trades.proto has the meaning of every field that is written here.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

import os

from eod_workers.kernel.hashes cimport murmur2_of

from eod_workers.layouts import TRADE_BATCH

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* One step of wyhash: a 64 x 64 -> 128 bit product folded. A secret seed keeps others from choosing collisions. */
    static inline uint64_t eod_mix(uint64_t a, uint64_t b) {
        __uint128_t product = (__uint128_t)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline uint64_t eod_hash(const uint8_t* text, size_t size, uint64_t seed) {
        uint64_t h = seed ^ eod_mix(size ^ 0xa0761d6478bd642fULL, seed), word;
        while (size >= 8) {
            memcpy(&word, text, 8);
            h = eod_mix(word ^ seed, h ^ 0xe7037ed1a0b428dbULL);
            text += 8; size -= 8;
        }
        word = 0;
        memcpy(&word, text, size);
        return eod_mix(word ^ seed, h ^ 0x8ebc6af09c88c6e3ULL);
    }
    static inline size_t eod_varint(uint8_t* at, uint64_t value) {
        size_t n = 0;
        while (value >= 0x80) { at[n++] = (uint8_t)(value | 0x80); value >>= 7; }
        at[n++] = (uint8_t)value;
        return n;
    }
    static inline size_t eod_varint_bytes(uint64_t value) {
        return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
    }
    static inline uint64_t eod_zigzag(int64_t value) {
        return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    }
    static inline void eod_fixed64(uint8_t* at, uint64_t value) {
        for (int i = 0; i < 8; i++) at[i] = (uint8_t)(value >> (8 * i));
    }
    """
    uint64_t eod_hash(const uint8_t* text, size_t size, uint64_t seed) noexcept nogil
    size_t eod_varint(uint8_t* at, uint64_t value) noexcept nogil
    size_t eod_varint_bytes(uint64_t value) noexcept nogil
    uint64_t eod_zigzag(int64_t value) noexcept nogil
    void eod_fixed64(uint8_t* at, uint64_t value) noexcept nogil

cdef enum:
    MAX_ROWS = 500  # of a record: MAX_TRADES_A_RECORD of trades/columns.py
    MAX_FRAME_BYTES = 512 * 1024  # the same
    MAX_NAMES = 65536  # kept from one drain to the next
    MAX_TEXT_BYTES = 4 << 20  # of those names
    KEEP_BYTES = 1 << 20  # a buffer that has become larger is freed by a drain
    ROW_BYTES = 140  # more than a row's numbers and indexes, and the lengths of its texts, take on the wire
    NAME_BYTES = 6  # tag and length of a name
    HEAD_BYTES = 256  # tags and lengths of all columns

# Tags of protos/eod/v1/trades.proto: field number << 3 | wire type.
cdef enum:
    VARINT = 0
    LENGTH = 2
    BYTE = 0
    COLUMN_SESSION = 0
    COLUMN_SYMBOL = 1
    COLUMN_TRADER = 2
    COLUMN_STRATEGY = 3
    COLUMN_ACCOUNT = 4


cdef int _room(Bytes* buffer, size_t more) noexcept nogil:
    """Makes room for so many more bytes; -1 if there is no memory."""
    cdef size_t room = buffer.room
    cdef uint8_t* data
    if buffer.size + more <= room:
        return 0
    room = max(2 * room, buffer.size + more, <size_t> 4096)
    data = <uint8_t*> realloc(buffer.data, room)
    if data == NULL:
        return -1
    buffer.data, buffer.room = data, room
    return 0


cdef inline void _put(Bytes* buffer, const uint8_t* data, size_t size) noexcept nogil:
    """Appends, to a buffer with room."""
    if size:
        memcpy(buffer.data + buffer.size, data, size)
        buffer.size += size


cdef inline void _put_varint(Bytes* buffer, uint64_t value) noexcept nogil:
    buffer.size += eod_varint(buffer.data + buffer.size, value)


cdef void _put_text(Bytes* buffer, uint32_t field, const uint8_t* text, size_t size) noexcept nogil:
    _put_varint(buffer, (field << 3) | LENGTH)
    _put_varint(buffer, size)
    _put(buffer, text, size)


cdef void _put_varints(Bytes* buffer, uint32_t field, const uint64_t* values, size_t count) noexcept nogil:
    """A packed column of varints."""
    cdef size_t size = 0
    cdef size_t i
    for i in range(count):
        size += eod_varint_bytes(values[i])
    _put_varint(buffer, (field << 3) | LENGTH)
    _put_varint(buffer, size)
    for i in range(count):
        _put_varint(buffer, values[i])


cdef void _put_times(Bytes* buffer, uint32_t field, const uint64_t* values, size_t count) noexcept nogil:
    """A packed column of fixed 64-bit numbers."""
    cdef size_t i
    _put_varint(buffer, (field << 3) | LENGTH)
    _put_varint(buffer, 8 * count)
    for i in range(count):
        eod_fixed64(buffer.data + buffer.size, values[i])
        buffer.size += 8


cdef void _let_go(Bytes* buffer) noexcept nogil:
    """Empties; what has become large is freed."""
    buffer.size = 0
    if buffer.room > KEEP_BYTES:
        free(buffer.data)
        buffer.data, buffer.room = NULL, 0


cdef class TradeColumns:
    """Trades of all partitions of `trades.raw` between two cuts of the writer.

    Reports of the symbols in `apart` are no plain executions: more is known of them than they say.
    """

    def __cinit__(self, int partitions, apart=()):
        if partitions < 1:
            raise ValueError(f"{partitions} partitions: a topic has at least one")
        self.partitions = partitions
        self._version = TRADE_BATCH.version
        self._seed = int.from_bytes(os.urandom(8), "little") | 1
        self._partitions = <Partition*> calloc(partitions, sizeof(Partition))
        self._names_room = 1024
        self._names = <Name*> malloc(self._names_room * sizeof(Name))
        self._slots_mask = 4 * self._names_room - 1
        self._slots = <uint32_t*> malloc((self._slots_mask + 1) * sizeof(uint32_t))
        if self._partitions == NULL or self._names == NULL or self._slots == NULL:
            raise MemoryError
        self.apart = tuple([symbol.encode() for symbol in apart])
        self._forget_names()
        self._set_apart()

    def __dealloc__(self):
        cdef int i
        if self._partitions != NULL:
            for i in range(self.partitions):
                free(self._partitions[i].rows)
                free(self._partitions[i].frames.data)
                free(self._partitions[i].ids.data)
        free(self._partitions)
        free(self._names)
        free(self._slots)
        free(self._texts.data)
        free(self._out.data)

    def add(self, trade not None):
        """Adds a trade that the pure path has read.

        Raises:
            ValueError: it was redriven, which a record says as a whole; it does not come from a session.
            OverflowError: a number does not fit its column.
        """
        cdef Row row
        session, row.epoch, row.msg_seq_num, exec_id, exec_ref, row.action, row.side = trade[:7]
        symbol, trader, strategy, account = trade[7:11]
        row.last_qty_e8, row.last_px_e8, row.transact_time_ns, row.received_at_ns, frame, redrive_of = trade[11:17]
        row.trade_date, row.time_source, row.multiplier_e8 = trade[17:]
        if redrive_of:
            raise ValueError(f"ExecID {exec_id} was redriven from {redrive_of}: it does not come from a session")
        row.session = self._name_of(session)
        row.symbol = self._name_of(symbol)
        row.trader = self._name_of(trader)
        row.strategy = self._name_of(strategy)
        row.account = self._name_of(account)
        cdef bytes exec_id_text = exec_id.encode()
        cdef bytes exec_ref_text = exec_ref.encode()
        cdef bytes raw = frame
        row.exec_id_bytes = len(exec_id_text)
        row.exec_ref_bytes = len(exec_ref_text)
        row.frame_bytes = len(raw)
        if self.append(&row, raw, exec_id_text, exec_ref_text) < 0:
            raise MemoryError

    def _name_of(self, str text not None):
        cdef bytes raw = text.encode()
        cdef int64_t index = self.name(raw, len(raw))
        if index < 0:
            raise MemoryError
        return index

    def drain(self):
        """All trades as (partition, rows, `TradeBatch`), in order within a partition; none are left."""
        cdef list out = []
        cdef int number
        cdef size_t begin, end, total, frames_at
        cdef bint pair, full
        cdef Partition* one
        for number in range(self.partitions):
            one = &self._partitions[number]
            begin = frames_at = total = 0
            for end in range(one.count):
                # Two rows with one frame stay together.
                pair = one.rows[end].frame_bytes and end + 1 < one.count and not one.rows[end + 1].frame_bytes
                full = end - begin == MAX_ROWS or (pair and end - begin == MAX_ROWS - 1)
                if full or (end > begin and total + one.rows[end].frame_bytes > MAX_FRAME_BYTES):
                    out.append((number, end - begin, self._record(one, begin, end, frames_at)))
                    frames_at += total
                    begin, total = end, 0
                total += one.rows[end].frame_bytes
            if begin < one.count:
                out.append((number, one.count - begin, self._record(one, begin, one.count, frames_at)))
        # Only now that nothing can fail any more.
        for number in range(self.partitions):
            one = &self._partitions[number]
            one.count = 0
            if one.room * sizeof(Row) > KEEP_BYTES:
                free(one.rows)
                one.rows, one.room = NULL, 0
            _let_go(&one.frames)
            _let_go(&one.ids)
        _let_go(&self._out)
        if self._names_count > MAX_NAMES or self._texts.size > MAX_TEXT_BYTES:
            self._forget_names()
            self._set_apart()
        self.rows = self.frame_bytes = 0
        return out

    cdef int _set_apart(self) except -1:
        cdef bytes symbol
        cdef int64_t index
        for symbol in self.apart:
            index = self.name(symbol, len(symbol))
            if index < 0:
                raise MemoryError
            self._names[index].apart = True
        return 0

    cdef bytes _record(self, Partition* partition, size_t begin, size_t end, size_t frames_at):
        if self._encode(partition, begin, end, frames_at) < 0:
            raise MemoryError
        return self._out.data[: self._out.size]

    # --- without the interpreter ----------------------------------------------------------------------------

    cdef void _forget_names(self) noexcept nogil:
        """Only "" is left, at 0."""
        memset(self._slots, 0, (self._slots_mask + 1) * sizeof(uint32_t))
        memset(&self._names[0], 0, sizeof(Name))
        self._names[0].partition = -1
        self._names_count = 1
        self._record_number = 0
        _let_go(&self._texts)

    cdef int64_t name(self, const uint8_t* text, size_t size) noexcept nogil:
        """The index of a name; -1 if there is no memory."""
        cdef uint64_t code
        cdef uint32_t slot, index
        cdef Name* one
        if size == 0:
            return 0
        code = eod_hash(text, size, self._seed)
        slot = <uint32_t> code & self._slots_mask
        while self._slots[slot]:
            index = self._slots[slot]
            one = &self._names[index]
            if one.hash == code and one.size == size and memcmp(self._texts.data + one.at, text, size) == 0:
                return index
            slot = (slot + 1) & self._slots_mask
        if self._names_count == self._names_room:
            if self._more_slots() < 0:
                return -1
            slot = <uint32_t> code & self._slots_mask
            while self._slots[slot]:
                slot = (slot + 1) & self._slots_mask
        if _room(&self._texts, size) < 0:
            return -1
        index = self._names_count
        one = &self._names[index]
        one.hash, one.at, one.size, one.partition, one.record = code, self._texts.size, <uint32_t> size, -1, 0
        one.apart = False
        _put(&self._texts, text, size)
        self._slots[slot] = index
        self._names_count += 1
        return index

    cdef int _more_slots(self) noexcept nogil:
        """Twice as many names; a quarter of the slots is in use at most."""
        cdef uint32_t room = 2 * self._names_room
        cdef uint32_t index, slot
        cdef Name* names = <Name*> realloc(self._names, room * sizeof(Name))
        if names == NULL:
            return -1
        self._names = names
        cdef uint32_t* slots = <uint32_t*> calloc(4 * <size_t> room, sizeof(uint32_t))
        if slots == NULL:
            return -1
        free(self._slots)
        self._slots, self._slots_mask, self._names_room = slots, 4 * room - 1, room
        for index in range(1, self._names_count):
            slot = <uint32_t> names[index].hash & self._slots_mask
            while slots[slot]:
                slot = (slot + 1) & self._slots_mask
            slots[slot] = index
        return 0

    cdef int append(
        self, const Row* row, const uint8_t* frame, const uint8_t* exec_id, const uint8_t* exec_ref
    ) noexcept nogil:
        """Adds a row with its texts, to the partition of its symbol; -1, and nothing added, if there is no memory."""
        cdef Name* symbol = &self._names[row.symbol]
        cdef Partition* one
        cdef Row* rows
        cdef size_t room
        if symbol.partition < 0:
            symbol.partition = <int> (
                (murmur2_of(self._texts.data + symbol.at, symbol.size) & 0x7FFFFFFF) % <uint32_t> self.partitions
            )
        one = &self._partitions[symbol.partition]
        if one.count == one.room:
            room = max(2 * one.room, <size_t> 64)
            rows = <Row*> realloc(one.rows, room * sizeof(Row))
            if rows == NULL:
                return -1
            one.rows, one.room = rows, room
        if _room(&one.frames, row.frame_bytes) < 0 or _room(&one.ids, row.exec_id_bytes + row.exec_ref_bytes) < 0:
            return -1
        one.rows[one.count] = row[0]
        one.rows[one.count].ids_at = one.ids.size
        _put(&one.frames, frame, row.frame_bytes)
        _put(&one.ids, exec_id, row.exec_id_bytes)
        _put(&one.ids, exec_ref, row.exec_ref_bytes)
        one.count += 1
        self.rows += 1
        self.frame_bytes += row.frame_bytes
        return 0

    cdef int _encode(self, Partition* partition, size_t begin, size_t end, size_t frames_at) noexcept nogil:
        """Writes rows [begin, end) as a `TradeBatch` to `_out`; at most MAX_ROWS of them. -1 if there is no memory."""
        cdef uint64_t values[MAX_ROWS]
        cdef uint64_t indexes[5][MAX_ROWS]
        cdef uint32_t table[5 * MAX_ROWS]
        cdef uint32_t known = 0
        cdef size_t count = end - begin
        cdef size_t i, column, frames = 0, texts = 0, refs = 0, sources = 0
        cdef bint multiplied = False
        cdef Row* rows = partition.rows + begin
        cdef Bytes* out = &self._out
        cdef Name* name
        self._record_number += 1
        for i in range(count):
            for column in range(5):
                name = &self._names[(&rows[i].session)[column]]
                if name == self._names:
                    indexes[column][i] = 0
                    continue
                if name.record != self._record_number:
                    name.record = self._record_number
                    table[known] = (&rows[i].session)[column]
                    known += 1
                    name.index = known
                    texts += name.size + NAME_BYTES
                indexes[column][i] = name.index
            frames += rows[i].frame_bytes
            texts += rows[i].exec_id_bytes + rows[i].exec_ref_bytes
            refs += rows[i].exec_ref_bytes
        out.size = 0
        if _room(out, HEAD_BYTES + count * ROW_BYTES + texts + frames) < 0:
            return -1
        _put_varint(out, (1 << 3) | VARINT)
        _put_varint(out, self._version)
        _put_text(out, 2, NULL, 0)
        for i in range(known):
            name = &self._names[table[i]]
            _put_text(out, 2, self._texts.data + name.at, name.size)
        _put_varints(out, 3, indexes[COLUMN_SESSION], count)
        for i in range(count):
            values[i] = rows[i].epoch
        _put_varints(out, 4, values, count)
        for i in range(count):
            values[i] = rows[i].msg_seq_num
        _put_varints(out, 5, values, count)
        for i in range(count):
            _put_text(out, 6, partition.ids.data + rows[i].ids_at, rows[i].exec_id_bytes)
        if refs:
            for i in range(count):
                _put_text(
                    out, 7, partition.ids.data + rows[i].ids_at + rows[i].exec_id_bytes, rows[i].exec_ref_bytes
                )
        for i in range(count):
            values[i] = rows[i].action
        _put_varints(out, 8, values, count)
        for i in range(count):
            values[i] = rows[i].side
        _put_varints(out, 9, values, count)
        _put_varints(out, 10, indexes[COLUMN_SYMBOL], count)
        _put_varints(out, 11, indexes[COLUMN_TRADER], count)
        _put_varints(out, 12, indexes[COLUMN_STRATEGY], count)
        _put_varints(out, 13, indexes[COLUMN_ACCOUNT], count)
        for i in range(count):
            values[i] = eod_zigzag(rows[i].last_qty_e8)
        _put_varints(out, 14, values, count)
        for i in range(count):
            values[i] = eod_zigzag(rows[i].last_px_e8)
        _put_varints(out, 15, values, count)
        for i in range(count):
            values[i] = <uint64_t> rows[i].transact_time_ns
        _put_times(out, 16, values, count)
        for i in range(count):
            values[i] = <uint64_t> rows[i].received_at_ns
        _put_times(out, 17, values, count)
        _put_text(out, 18, partition.frames.data + frames_at, frames)
        for i in range(count):
            values[i] = rows[i].frame_bytes
        _put_varints(out, 19, values, count)
        for i in range(count):
            values[i] = rows[i].trade_date
        _put_varints(out, 21, values, count)
        for i in range(count):
            values[i] = rows[i].time_source
            sources += rows[i].time_source
        if sources:
            _put_varints(out, 22, values, count)
        for i in range(count):
            values[i] = <uint64_t> rows[i].multiplier_e8
            multiplied |= values[i] != 0
        if multiplied:
            _put_varints(out, 23, values, count)
        return 0
