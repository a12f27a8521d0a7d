# cython: language_level=3, boundscheck=False, wraparound=False
# distutils: include_dirs = workers/eod_workers/kernel/c
"""The books of a worker in C: `pnl/ledger.py` has the contract, and the twin in Python.

The headers in `kernel/c/` do the work, without the GIL and without a Python object. This file is where bytes go in, and where
what is refused, rare or to be published becomes Python: rows for the dead letters, positions beyond 128 bits, JSON.
It is one class, whose C members no other module could see, and so a long file.
"""
from json.encoder import encode_basestring_ascii as as_json  # what json.dumps makes of a str

from cpython cimport array
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from eod_workers.layouts import PNL_SNAPSHOT, PRICE_BATCH, TRADE_BATCH
from eod_workers.pnl.book import REMEMBER, PartitionBook, already_busted, names_itself, other_multiplier, other_symbol
from eod_workers.pnl.book import unknown_reference
from eod_workers.pnl.ledger import EVERYBODY, Applied, Part, Publication, Value, value_of
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.publishing import position_field
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused, load
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.trades.codec import UndecodableBatch, decode_trades
from eod_workers.trades.model import UNASSIGNED, Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import decode_prices

cdef array.array NANOSECONDS = array.array("q")


cdef inline str text_of(span_t span):
    return PyUnicode_DecodeUTF8(<const char*> span.at, span.length, NULL)


cdef inline str name_of(const names_t* names, uint32_t number):
    return PyUnicode_DecodeUTF8(<const char*> name_at(names, number), names.names[number].length, NULL)


cdef int64_t number_of(const names_t* names, bytes name) noexcept:
    cdef span_t span
    span.at, span.length = name, <uint32_t> len(name)
    return names_find(names, span)


cdef object int_of(i128 value):
    cdef char text[48]
    return int(text[:put_i128(text, value) - text])


cdef object position_of(const position_t* position, bint approximate):
    return Position(position.quantity, int_of(position.cost), int_of(position.realized), position.trades, approximate)


cdef object mark_of(const symbol_t* symbol):
    return Mark(symbol.source, symbol.px, symbol.event_time_ns, symbol.session_date) if symbol.source else None


cdef int move_big(void* owner, book_t* book, uint32_t slot, int64_t quantity, int64_t px, int count) noexcept with gil:
    """Called back for a position whose numbers leave their types, or have left them."""
    cdef Ledger self = <Ledger> owner
    try:
        position = self.big_of(book, slot)
        if count > 0:
            position.trade(quantity, px)
        elif count < 0:
            position.reverse(-quantity, px)
        else:
            position.clear()
    except BaseException as fault:
        self.fault = fault
        return 0
    return 1


cdef int make_big(void* owner, book_t* book, uint32_t slot, const span_t* texts, int64_t trades) noexcept with gil:
    """Called back for a position of a snapshot whose numbers do not fit."""
    cdef Ledger self = <Ledger> owner
    cdef position_t* position = &book.positions.slots[slot]
    try:
        big = self.big[book.partition]
        big.append(Position(int(text_of(texts[0])), int(text_of(texts[1])), int(text_of(texts[2])), trades))
        position.quantity = len(big) - 1
        position.trades = IS_BIG
    except BaseException as fault:
        self.fault = fault
        return 0
    return 1


cdef class Ledger:
    """Books by partition, and whose turn it is. The contract is that of `pnl.ledger.Ledger`."""

    cdef ledger_t c
    cdef dict places  # partition → book_t*, as a number
    cdef dict big  # partition → the positions that have left the C types, as `Position`
    cdef object fault
    cdef bint busy
    cdef list symbol_text, symbol_json, symbol_home  # by symbol number, as far as published
    cdef int partitions  # that `symbol_home` was reckoned with

    def __cinit__(self, double interval_s, object remember=REMEMBER):
        PartitionBook(remember)  # refuses what no book could be made with later
        self.c.turns.interval_s = interval_s
        self.c.remember = min(remember, 1 << 30)
        self.c.trades_version, self.c.prices_version = TRADE_BATCH.version, PRICE_BATCH.version
        self.c.snapshot_version = PNL_SNAPSHOT.version
        self.c.key = hash("the books") & 0xFFFFFFFFFFFFFFFF  # differs from process to process, as str's own hash
        self.c.sessions.key = self.c.traders.key = self.c.symbols.key = self.c.key
        self.c.owner = <void*> self
        self.c.move_big = move_big
        self.c.make_big = make_big
        self.places, self.big = {}, {}
        self.symbol_text, self.symbol_json, self.symbol_home = [], [], []

    def __dealloc__(self):
        ledger_free(&self.c)

    cdef int idle(self) except -1:
        """The GIL is let go at work, so another thread may come along."""
        if self.busy:
            raise RuntimeError("the ledger is at work in another thread: it serves one at a time")
        return 0

    cdef book_t* book(self, int32_t partition) except NULL:
        self.idle()
        return <book_t*> <size_t> self.places[partition]

    cdef object big_of(self, book_t* book, uint32_t slot):
        """The `Position` of a big one, which it becomes now if it was none."""
        cdef position_t* position = &book.positions.slots[slot]
        cdef list big = self.big[book.partition]
        if position.trades != IS_BIG:
            big.append(position_of(position, False))
            position.quantity = len(big) - 1
            position.trades = IS_BIG
        big[position.quantity].approximate = bool(book.memory.places[slot].approximate)
        return big[position.quantity]

    cdef object position_at(self, book_t* book, uint32_t slot):
        cdef position_t* position = &book.positions.slots[slot]
        return (
            self.big_of(book, slot)
            if position.trades == IS_BIG
            else position_of(position, book.memory.places[slot].approximate)
        )

    cdef int done(self, int status) except -1:
        """Raises what work in C ended with, if Python is to be told: it has run out of memory, or of luck."""
        self.busy = False
        if status == NO_MEMORY:
            raise MemoryError("the books of flash P&L do not fit in memory")
        if status == FAULT:
            fault, self.fault = self.fault, None
            raise fault
        return 0

    cdef int settle(self, book_t* book) except -1:
        """Makes anew all positions of a book that busts and corrections have changed."""
        cdef int status
        self.busy = True
        with nogil:
            status = book_settle_all(&self.c, book)
        return self.done(status)

    # --- partitions ----------------------------------------------------------------------------------------------

    def open(self, int32_t partition, bytes snapshot, double now):
        """See `pnl.ledger.Ledger`."""
        cdef dict offsets = {}
        self.close(partition)
        cdef book_t* book = book_new(&self.c, partition)
        if book == NULL:
            self.done(NO_MEMORY)
        if not ledger_take_in(&self.c, book):
            book_free(book)
            self.done(NO_MEMORY)
        self.places[partition] = <size_t> book
        self.big[partition] = []
        try:
            if snapshot is not None:
                offsets = self.load(book, snapshot)
        except BaseException:
            self.close(partition)
            raise
        book_announce(&self.c, book, now)
        return offsets

    cdef dict load(self, book_t* book, bytes snapshot):
        cdef loading_t* loading = <loading_t*> PyMem_Calloc(1, sizeof(loading_t))
        cdef const uint8_t* data = snapshot
        cdef size_t length = len(snapshot), i = 0
        cdef dict offsets = {}
        cdef int status
        if loading == NULL:
            self.done(NO_MEMORY)
        loading.ledger, loading.book = &self.c, book
        try:
            self.busy = True
            with nogil:
                status = load_book(loading, data, length)
            self.done(status)
            while status == OK and i < loading.columns.field[S_NEXT_OFFSET].count:
                status = load_row(loading, S_NEXT_OFFSET, i, OFFSET_ROW)
                if status == OK:
                    offsets[text_of(row_text(loading, 1))] = ReadTo(
                        <int64_t> row_number(loading, 2), text_of(row_text(loading, 3)), <uint32_t> row_number(loading, 4)
                    )
                i += 1
            self.done(status)
            if status == OK:
                return offsets
            if status == MALFORMED:
                load(snapshot)  # has the sentence
            why = loading.why.decode() if loading.why != NULL else "the kernel cannot read what the pure code can"
            raise SnapshotRefused(
                f"these {length} bytes are a PnlSnapshot that makes no book: {why}; "
                "delete the snapshot to replay the log"
            )
        finally:
            columns_free(&loading.columns)
            columns_free(&loading.row)
            PyMem_Free(loading)

    def close(self, int32_t partition):
        """See `pnl.ledger.Ledger`."""
        if partition in self.places:
            ledger_let_go(&self.c, self.book(partition))
            del self.places[partition], self.big[partition]

    def owns(self, int32_t partition):
        """See `pnl.ledger.Ledger`."""
        return partition in self.places

    def dump(self, int32_t partition, read):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef writer_t out
        cdef uint32_t slot = 0
        self.settle(book)
        out.bytes, out.count, out.capacity, out.failed = NULL, 0, 0, 0
        head = PnlSnapshot(version=self.c.snapshot_version, partition=partition)
        for topic, to in read.items():
            head.next_offset.add(topic=topic, **to._asdict())
        try:
            write_message(&out, head)
            while slot < book.positions.count:
                self.busy = True
                with nogil:
                    slot = dump_positions(&self.c, book, slot, &out)
                self.busy = False
                if slot < book.positions.count:
                    write_message(&out, self.big_row(book, slot))
                    slot += 1
            self.busy = True
            with nogil:
                dump_marks_and_forgotten(&self.c, book, &out)
                dump_remembered(&self.c, book, &out)
            self.done(NO_MEMORY if out.failed else OK)
            return PyBytes_FromStringAndSize(<char*> out.bytes, out.count)
        finally:
            self.busy = False
            free(out.bytes)

    cdef object big_row(self, book_t* book, uint32_t slot):
        """A snapshot of nothing but a big position."""
        position, out = self.big_of(book, slot), PnlSnapshot()
        out.positions.add(
            trader=name_of(&self.c.traders, book.positions.slots[slot].trader),
            symbol=name_of(&self.c.symbols, book.positions.slots[slot].symbol),
            quantity_e8=str(position.quantity_e8),
            cost_e16=str(position.cost_e16),
            realized_e16=str(position.realized_e16),
            trades=position.trades,
            approximate=position.approximate,
            incomplete=book.memory.places[slot].incomplete,
        )
        return out

    # --- batches -------------------------------------------------------------------------------------------------

    def apply_trades(self, int32_t partition, bytes value, double now):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef const uint8_t* data = value
        cdef size_t length = len(value), i
        cdef int status
        self.busy = True
        with nogil:
            status = c_apply_trades(&self.c, book, data, length, now)
        self.done(status)
        if status == MALFORMED:
            decode_trades(value)  # has the sentence
            raise UndecodableBatch(_DISAGREE)
        refused = [self.refusal(&self.c.refused[i]) for i in range(self.c.refused_count)]
        return Applied(self.c.columns.field[B_EXEC_ID].count, self.c.duplicates, refused)

    def apply_prices(self, int32_t partition, bytes value, double now):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef const uint8_t* data = value
        cdef size_t length = len(value)
        cdef int status
        self.busy = True
        with nogil:
            status = c_apply_prices(&self.c, book, data, length, now)
        self.done(status)
        if status == MALFORMED:
            decode_prices(value)
            raise UndecodableBatch(_DISAGREE)

    cdef object refusal(self, const refused_t* refused):
        trade = self.trade(refused.row)
        if refused.outcome == NAMES_ITSELF:
            return trade, names_itself(trade)
        if refused.outcome == OTHER_SYMBOL:
            return trade, other_symbol(trade, name_of(&self.c.symbols, refused.symbol))
        if refused.outcome == OTHER_MULTIPLIER:
            return trade, other_multiplier(trade, refused.multiplier)
        if refused.outcome == ALREADY_BUSTED:
            return trade, already_busted(trade)
        return trade, unknown_reference(trade, self.c.remember)

    cdef object trade(self, size_t row):
        """A row of the batch that was read last."""
        cdef column_t* f = self.c.columns.field
        cdef span_t* strings = f[B_STRINGS].text
        cdef uint64_t start = 0
        cdef size_t i, framed = row
        while framed and not f[B_FRAME_LENGTH].number[framed]:  # it shares that of the row before
            framed -= 1
        for i in range(framed):
            start += f[B_FRAME_LENGTH].number[i]
        frame = b""
        if f[B_FRAME_LENGTH].number[framed]:
            frame = PyBytes_FromStringAndSize(<char*> f[B_FRAMES].text[0].at + start, f[B_FRAME_LENGTH].number[framed])
        return Trade(
            session=text_of(strings[f[B_SESSION].number[row]]),
            epoch=f[B_EPOCH].number[row],
            msg_seq_num=f[B_MSG_SEQ_NUM].number[row],
            exec_id=text_of(f[B_EXEC_ID].text[row]),
            exec_ref_id=text_of(exec_ref_id(&self.c.columns, row)),
            action=f[B_ACTION].number[row],
            side=f[B_SIDE].number[row],
            symbol=text_of(strings[f[B_SYMBOL].number[row]]),
            trader=text_of(strings[f[B_TRADER].number[row]]),
            strategy=text_of(strings[f[B_STRATEGY].number[row]]),
            account=text_of(strings[f[B_ACCOUNT].number[row]]),
            last_qty_e8=<int64_t> f[B_LAST_QTY].number[row],
            last_px_e8=<int64_t> f[B_LAST_PX].number[row],
            transact_time_ns=<int64_t> f[B_TRANSACT_TIME].number[row],
            received_at_ns=<int64_t> f[B_RECEIVED_AT].number[row],
            frame=frame,
            redrive_of=text_of(f[B_REDRIVE_OF].text[0]) if f[B_REDRIVE_OF].count else "",
            trade_date=f[B_TRADE_DATE].number[row] if f[B_TRADE_DATE].count else 0,
            time_source=f[B_TIME_SOURCE].number[row] if f[B_TIME_SOURCE].count else 0,
            multiplier_e8=f[B_MULTIPLIER].number[row] if f[B_MULTIPLIER].count else 0,
        )

    # --- turns ---------------------------------------------------------------------------------------------------

    def due(self, double now, *, as_of_ns, int partitions, int limit=EVERYBODY):
        """See `pnl.ledger.Ledger`."""
        cdef list out = []
        cdef int64_t trader
        self.idle()
        if partitions != self.partitions:
            self.symbol_home.clear()
            self.partitions = partitions
        words = b',"as_of_ns":%d,"positions":{' % as_of_ns
        while limit > 0:
            trader = turns_take(&self.c.turns, now)
            if trader < 0:
                break
            publication = self.publication(<uint32_t> trader, words)
            out.append(publication)
            limit -= max(sum([len(part.fields) for part in publication.parts]), 1)
        return out

    cdef object publication(self, uint32_t number, bytes words):
        cdef trader_t* trader = &self.c.turns.traders[number]
        cdef uint64_t place = trader.dirty
        cdef position_t* position
        cdef book_t* book
        cdef dict drafts = {}  # partition → (fields, pieces of the message)
        cdef array.array received = array.clone(NANOSECONDS, trader.received, False)
        if trader.received:
            memcpy(received.data.as_longlongs, trader.received_ns, trader.received * sizeof(int64_t))
        turns_handed_over(trader)
        trader.dirty = DIRTY_END
        while place != DIRTY_END:
            book = book_at(&self.c, place)
            position = &book.positions.slots[<uint32_t> place]
            self.draft(drafts, book, <uint32_t> place)
            place = position.dirty_next
            position.dirty_next = 0
        name = name_of(&self.c.traders, number)
        head = b'{"trader":' + as_json(name or UNASSIGNED).encode() if drafts else b""
        parts = []
        for partition, (fields, pieces) in drafts.items():
            pieces[0] = b'%b,"partition":%d%b%b' % (head, partition, words, (<bytes> pieces[0])[1:])
            pieces.append(b"}}")
            parts.append(Part(partition, fields, b"".join(pieces)))
        return Publication(name, parts, received)

    cdef int draft(self, dict drafts, book_t* book, uint32_t slot) except -1:
        """Renders a position into its partition's fields and message. Its symbol's own partition counts."""
        cdef const position_t* position = &book.positions.slots[slot]
        cdef uint32_t symbol = position.symbol
        cdef char text[FIELD_BYTES]
        cdef size_t length
        self.know(symbol)
        home = self.symbol_home[symbol]
        if home != book.partition:
            if home not in self.places:
                return 0
            book = <book_t*> <size_t> self.places[home]
            slot = positions_find(&book.positions, position.trader, symbol)
            if slot == NO_SLOT:
                return 0
            position = &book.positions.slots[slot]
        self.done(book_settle(&self.c, book, slot))
        draft = drafts.get(home)
        if draft is None:
            draft = drafts[home] = ({}, [])
        fields, pieces = draft
        if self.symbol_text[symbol] in fields:
            return 0
        length = 0 if position.trades == IS_BIG else render_position(
            text, position, &book.symbols[symbol], book.memory.places[slot].approximate
        )
        if length:
            field = PyBytes_FromStringAndSize(text, length)
        else:
            field = position_field(self.position_at(book, slot), mark_of(&book.symbols[symbol]), book.symbols[symbol].multiplier)
        fields[self.symbol_text[symbol]] = field
        pieces.append(self.symbol_json[symbol])
        pieces.append(field)
        return 0

    cdef int know(self, uint32_t symbol) except -1:
        """Fills the lists of symbols up to this one."""
        cdef uint32_t number
        for number in range(len(self.symbol_text), symbol + 1):
            text = name_of(&self.c.symbols, number)
            self.symbol_text.append(text)
            self.symbol_json.append(b"," + as_json(text).encode() + b":")
        for number in range(len(self.symbol_home), symbol + 1):
            self.symbol_home.append(partition_of(self.symbol_text[number], self.partitions))
        return 0

    def next_due(self):
        """See `pnl.ledger.Ledger`."""
        self.idle()
        return self.c.turns.queue[0].due_s if self.c.turns.count else None

    def announce_again(self, publications, double now):
        """See `pnl.ledger.Ledger`."""
        cdef int64_t trader, symbol
        cdef uint32_t slot
        cdef book_t* book
        cdef span_t span
        cdef bytes text
        self.idle()
        for name, parts, received_at_ns in publications:
            if not parts:
                continue
            text = name.encode()
            span.at, span.length = text, <uint32_t> len(text)
            trader = names_number(&self.c.traders, span)
            if trader < 0 or not turns_reserve(&self.c.turns, self.c.traders.count):
                self.done(NO_MEMORY)
            for part in parts:
                if part.partition not in self.places:
                    continue
                book = self.book(part.partition)
                for name in part.fields:
                    symbol = number_of(&self.c.symbols, name.encode())
                    slot = NO_SLOT if symbol < 0 else positions_find(&book.positions, <uint32_t> trader, <uint32_t> symbol)
                    if slot != NO_SLOT:
                        turns_changed(&self.c.turns, &book.positions.slots[slot], place_of(book.index, slot), now)
            turns_wait(&self.c.turns, <uint32_t> trader, now)
            if len(received_at_ns):
                turns_received(&self.c.turns, <uint32_t> trader, min(received_at_ns))

    def lateness(self, publications, int64_t published_at_ns, bounds_ns):
        """See `pnl.ledger.Ledger`."""
        cdef array.array bounds = array.array("q", bounds_ns), counts = array.array("q", [0] * (len(bounds_ns) + 1))
        cdef array.array received
        cdef i128 total_ns = 0
        for publication in publications:
            received = publication.received_at_ns
            count_late(
                <int64_t*> received.data.as_longlongs, len(received), published_at_ns,
                <int64_t*> bounds.data.as_longlongs, len(bounds), <int64_t*> counts.data.as_longlongs, &total_ns,
            )
        return counts.tolist(), int_of(total_ns)

    def applied_lateness(self, int64_t applied_at_ns, bounds_ns):
        """See `pnl.ledger.Ledger`."""
        cdef array.array bounds = array.array("q", bounds_ns), counts = array.array("q", [0] * (len(bounds_ns) + 1))
        cdef column_t* received = &self.c.columns.field[B_RECEIVED_AT]
        cdef i128 total_ns = 0
        self.idle()
        count_late(
            <int64_t*> received.number, received.count, applied_at_ns,
            <int64_t*> bounds.data.as_longlongs, len(bounds), <int64_t*> counts.data.as_longlongs, &total_ns,
        )
        return counts.tolist(), int_of(total_ns)

    # --- a look inside -------------------------------------------------------------------------------------------

    @property
    def size(self):
        """See `pnl.ledger.Ledger`."""
        self.idle()
        return sum([(<book_t*> <size_t> place).positions.count for place in self.places.values()])

    def remembers(self, int32_t partition):
        """See `pnl.ledger.Ledger`."""
        return memory_count(&self.book(partition).memory)

    def walked(self, int32_t partition):
        """See `pnl.ledger.Ledger`."""
        return self.book(partition).memory.walked

    def positions(self, int32_t partition):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef uint32_t slot
        cdef list out = []
        self.settle(book)
        for slot in range(book.positions.count):
            key = (
                name_of(&self.c.traders, book.positions.slots[slot].trader),
                name_of(&self.c.symbols, book.positions.slots[slot].symbol),
            )
            out.append((key, self.position_at(book, slot)))
        return iter(out)

    def mark(self, int32_t partition, str symbol):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef int64_t number = number_of(&self.c.symbols, symbol.encode())
        return mark_of(&book.symbols[number]) if 0 <= number < book.symbol_count else None

    def multiplier_e8(self, int32_t partition, str symbol):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef int64_t number = number_of(&self.c.symbols, symbol.encode())
        return book.symbols[number].multiplier if 0 <= number < book.symbol_count else 0

    def value(self, int32_t partition, str symbol):
        """See `pnl.ledger.Ledger`."""
        cdef book_t* book = self.book(partition)
        cdef int64_t number = number_of(&self.c.symbols, symbol.encode())
        cdef value_t value
        cdef int fits, status
        if not 0 <= number < book.symbol_count:
            return Value(0, 0, 0, 0, 0)
        self.busy = True
        with nogil:
            status = book_settle_symbol(&self.c, book, <uint32_t> number)
            fits = c_value_of(book, <uint32_t> number, &value)
        self.done(status)
        if not fits:
            return value_of([position for (_, held), position in self.positions(partition) if held == symbol])
        return Value(
            value.positions, int_of(value.long_quantity), int_of(value.short_quantity),
            int_of(value.cost), int_of(value.realized),
        )


cdef int write_message(writer_t* out, object message) except -1:
    """Messages one after the other are one message."""
    cdef bytes data = message.SerializeToString()
    write_bytes(out, <const char*> data, len(data))
    return 0


_DISAGREE = (
    "the kernel cannot read this batch, though the pure code can: run the stage with EOD_KERNEL=off and redrive it"
)
