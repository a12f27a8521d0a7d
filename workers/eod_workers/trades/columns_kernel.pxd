# What the reader of executions needs of `TradeColumns`, for `cimport`.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Row:
    int64_t last_qty_e8
    int64_t last_px_e8
    int64_t transact_time_ns
    int64_t received_at_ns
    uint64_t msg_seq_num
    int64_t multiplier_e8
    # Indexes into the names of the columns; 0 is "".
    uint32_t session
    uint32_t symbol
    uint32_t trader
    uint32_t strategy
    uint32_t account
    uint32_t epoch
    # The text that is this row's own: the frame, and ExecID with ExecRefID behind it.
    uint64_t ids_at
    uint32_t exec_id_bytes
    uint32_t exec_ref_bytes
    uint32_t frame_bytes
    uint32_t trade_date
    uint8_t action
    uint8_t side
    uint8_t time_source


cdef struct Bytes:
    uint8_t* data
    size_t size
    size_t room


cdef struct Partition:
    Row* rows
    size_t count
    size_t room
    Bytes frames
    Bytes ids


cdef struct Name:
    uint64_t hash
    size_t at
    uint32_t size
    int partition  # -1 until a row of this symbol asks for it
    uint64_t record  # the last record whose string table has the name
    uint32_t index  # and where in it
    bint apart  # a symbol whose reports the pure code reads


cdef class TradeColumns:
    cdef readonly int partitions
    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t frame_bytes
    cdef Partition* _partitions
    cdef Name* _names
    cdef uint32_t _names_count
    cdef uint32_t _names_room
    cdef uint32_t* _slots
    cdef uint32_t _slots_mask
    cdef uint64_t _record_number
    cdef uint64_t _seed
    cdef uint32_t _version  # of the layout of the records
    cdef Bytes _texts
    cdef Bytes _out
    cdef readonly tuple apart

    cdef int64_t name(self, const uint8_t* text, size_t size) noexcept nogil
    cdef int append(
        self, const Row* row, const uint8_t* frame, const uint8_t* exec_id, const uint8_t* exec_ref
    ) noexcept nogil
    cdef bytes _record(self, Partition* partition, size_t begin, size_t end, size_t frames_at)
    cdef int _more_slots(self) noexcept nogil
    cdef int _encode(self, Partition* partition, size_t begin, size_t end, size_t frames_at) noexcept nogil
    cdef void _forget_names(self) noexcept nogil
    cdef int _set_apart(self) except -1
