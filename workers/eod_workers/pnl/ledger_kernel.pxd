# What `ledger_kernel.pyx` uses of the C in `kernel/c/`. Types are declared as far as Python needs to see them.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "ledger.h" nogil:
    ctypedef long long i128  # really 128 bits: only ever handed from C to C
    enum: OK, MALFORMED, NO_MEMORY, FAULT, CONTRADICTS
    enum: ALREADY_BUSTED, NAMES_ITSELF, OTHER_SYMBOL, OTHER_MULTIPLIER
    enum: B_STRINGS, B_SESSION, B_EPOCH, B_MSG_SEQ_NUM, B_EXEC_ID, B_ACTION, B_SIDE, B_SYMBOL, B_TRADER, B_STRATEGY
    enum: B_ACCOUNT, B_LAST_QTY, B_LAST_PX, B_TRANSACT_TIME, B_RECEIVED_AT, B_FRAMES, B_FRAME_LENGTH, B_REDRIVE_OF
    enum: B_TRADE_DATE, B_TIME_SOURCE, B_MULTIPLIER
    enum: S_NEXT_OFFSET
    int64_t IS_BIG
    uint64_t DIRTY_END
    uint32_t NO_SLOT
    enum: FIELD_BYTES
    const uint8_t OFFSET_ROW[]

    ctypedef struct span_t:
        const uint8_t* at
        uint32_t length
    ctypedef struct column_t:
        uint64_t* number
        span_t* text
        size_t count
    ctypedef struct columns_t:
        column_t field[24]
    ctypedef struct writer_t:
        uint8_t* bytes
        size_t count
        size_t capacity
        int failed
    ctypedef struct name_t:
        uint64_t at
        uint32_t length
    ctypedef struct names_t:
        name_t* names
        uint32_t count
        uint64_t key
    ctypedef struct position_t:
        i128 cost
        i128 realized
        int64_t quantity
        int64_t trades
        uint64_t dirty_next
        uint32_t trader
        uint32_t symbol
    ctypedef struct positions_t:
        position_t* slots
        uint32_t* next_holder
        uint32_t count
    ctypedef struct symbol_t:
        int64_t px
        int64_t event_time_ns
        uint32_t source
        uint32_t session_date
        int64_t multiplier
        uint32_t first_holder
    ctypedef struct place_t:
        uint8_t incomplete
        uint8_t approximate
    ctypedef struct memory_t:
        place_t* places
        uint64_t walked
    ctypedef struct book_t:
        positions_t positions
        memory_t memory
        symbol_t* symbols
        uint32_t symbol_count
        uint32_t index
        int32_t partition
    ctypedef struct trader_t:
        uint64_t dirty
        int64_t* received_ns
        uint32_t received
    ctypedef struct turn_t:
        double due_s
    ctypedef struct turns_t:
        trader_t* traders
        turn_t* queue
        uint32_t count
        double interval_s
    ctypedef struct refused_t:
        uint32_t row
        uint32_t outcome
        uint32_t symbol
        int64_t multiplier
    ctypedef struct ledger_t:
        names_t sessions
        names_t traders
        names_t symbols
        turns_t turns
        uint64_t key
        uint64_t remember
        uint32_t trades_version
        uint32_t prices_version
        uint32_t snapshot_version
        columns_t columns
        refused_t* refused
        size_t refused_count
        size_t duplicates
        void* owner
        int (*move_big)(void* owner, book_t* book, uint32_t slot, int64_t quantity, int64_t px, int count) noexcept nogil
        int (*make_big)(void* owner, book_t* book, uint32_t slot, const span_t* texts, int64_t trades) noexcept nogil
    ctypedef struct loading_t:
        ledger_t* ledger
        book_t* book
        columns_t columns
        columns_t row
        const char* why
    ctypedef struct value_t:
        i128 long_quantity
        i128 short_quantity
        i128 cost
        i128 realized
        uint64_t positions

    int c_apply_trades "apply_trades"(ledger_t* ledger, book_t* book, const uint8_t* data, size_t length, double now_s)
    int c_apply_prices "apply_prices"(ledger_t* ledger, book_t* book, const uint8_t* data, size_t length, double now_s)
    book_t* book_new(const ledger_t* ledger, int32_t partition)
    void book_free(book_t* book)
    int book_settle(ledger_t* ledger, book_t* book, uint32_t slot)
    int book_settle_all(ledger_t* ledger, book_t* book)
    int book_settle_symbol(ledger_t* ledger, book_t* book, uint32_t symbol)
    void book_announce(ledger_t* ledger, const book_t* book, double now_s)
    int ledger_take_in(ledger_t* ledger, book_t* book)
    void ledger_let_go(ledger_t* ledger, book_t* book)
    void ledger_free(ledger_t* ledger)
    int load_book(loading_t* load, const uint8_t* data, size_t length)
    int load_row(loading_t* load, int field, size_t i, const uint8_t* kinds)
    span_t row_text(const loading_t* load, int field)
    uint64_t row_number(const loading_t* load, int field)
    void columns_free(columns_t* columns)
    const uint8_t* name_at(const names_t* names, uint32_t number)
    int64_t names_find(const names_t* names, span_t text)
    int64_t names_number(names_t* names, span_t text)
    uint32_t positions_find(const positions_t* positions, uint32_t trader, uint32_t symbol)
    uint64_t memory_count(const memory_t* memory)
    span_t exec_ref_id(const columns_t* columns, size_t row)
    book_t* book_at(const ledger_t* ledger, uint64_t place)
    uint64_t place_of(uint32_t index, uint32_t slot)
    int turns_reserve(turns_t* turns, uint32_t traders)
    void turns_wait(turns_t* turns, uint32_t number, double now_s)
    void turns_changed(turns_t* turns, position_t* position, uint64_t place, double now_s)
    void turns_received(turns_t* turns, uint32_t number, int64_t received_at_ns)
    int64_t turns_take(turns_t* turns, double now_s)
    void turns_handed_over(trader_t* trader)
    void count_late(
        const int64_t* received_ns, size_t count, int64_t now_ns, const int64_t* bounds_ns, size_t bounds,
        int64_t* found, i128* total_ns
    )
    size_t render_position(char* out, const position_t* position, const symbol_t* mark, int approximate)
    int c_value_of "value_of"(const book_t* book, uint32_t symbol, value_t* value)
    char* put_i128(char* out, i128 value)
    void write_text(writer_t* writer, uint32_t field, const void* data, size_t length)
    void write_number(writer_t* writer, uint32_t field, uint64_t value)
    void write_bytes(writer_t* writer, const void* data, size_t length)
    uint32_t dump_positions(const ledger_t* ledger, const book_t* book, uint32_t start, writer_t* writer)
    void dump_marks_and_forgotten(const ledger_t* ledger, const book_t* book, writer_t* writer)
    void dump_remembered(const ledger_t* ledger, const book_t* book, writer_t* writer)
