# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Plain executions, from the bytes of a socket to rows of `TradeColumns`, without a Python object each.

A *plain execution* is the message that a close is made of: a sound frame in its turn that reports a trade with nothing
odd about it. Whatever else comes (another message, a gap, a fault, a repeated field, a group other than one party, a data
field, a byte beyond ASCII) is left where it is: `fix/frames.py`, `fix/reading.py`, `fix/session.py` and
`trades/executions.py` own the meaning and every refusal. So each rule here is one of theirs, and to be stricter than
they are costs time only, to be laxer would be wrong.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from eod_workers.trades.columns_kernel cimport Row, TradeColumns

from eod_workers.fix.dictionary import VERSIONS, dictionary
from eod_workers.fix.reading import structural
from eod_workers.trades.contracts import HOUSE as _HOUSE
from eod_workers.trades import dates as _dates

HOUSE = _HOUSE.encode()
cdef int64_t MAX_AHEAD_NS = _dates.MAX_AHEAD_NS
cdef int64_t MAX_AGE_NS = _dates.MAX_AGE_NS

cdef extern from *:
    """
    /* The sum of all bytes; `high` gets a bit above 0x7f set if a byte is beyond ASCII. Compilers make vectors of this. */
    static inline uint32_t eod_sum(const uint8_t* data, size_t size, uint8_t* high) {
        uint32_t total = 0;
        uint8_t seen = 0;
        for (size_t i = 0; i < size; i++) { total += data[i]; seen |= data[i]; }
        *high = seen;
        return total;
    }
    """
    uint32_t eod_sum(const uint8_t* data, size_t size, uint8_t* high) noexcept nogil

cdef enum:
    SOH = 1
    MAX_FRAME_BYTES = 65536  # of fix/frames.py
    TRAILER_BYTES = 7
    MAX_ID_BYTES = 64  # of trades/executions.py
    MAX_NAME_BYTES = 128  # the same
    MAX_DIGITS = 18  # of fix/rules.py
    PLACES = 8
    WHOLE_DIGITS = 11  # of 92,233,720,368, which is what 64 bits hold of 1e-8
    E8 = 100_000_000
    MAX_TAG = 99999
    KNOWN_TAGS = 1024  # above all tags of the dictionaries
    WORDS = 16  # of 64 tags each
    MAX_KEY_BYTES = 64  # of an instrument with its exchange
    FIRST_YEAR = 1970
    LAST_YEAR = 2261
    BUY = 1
    SELL = 2
    TRADE = 1

# A bit for each tag that a dictionary has inside a group or knows as data or its length: what stands there is not plain.
cdef uint64_t STRUCTURAL[WORDS]
for _word in range(WORDS):
    STRUCTURAL[_word] = 0
for _tag in sorted(int(tag) for version in VERSIONS for tag in structural(dictionary(version), b"8")):
    STRUCTURAL[_tag >> 6] |= <uint64_t> 1 << (_tag & 63)

# A bit for each field that the pure code looks at.
cdef enum:
    HAS_ACCOUNT = 1 << 0
    HAS_EXEC_ID = 1 << 1
    HAS_TRANS = 1 << 2
    HAS_PX = 1 << 3
    HAS_QTY = 1 << 4
    HAS_SEQ = 1 << 5
    HAS_TYPE = 1 << 6
    HAS_SENDER = 1 << 7
    HAS_SIDE = 1 << 8
    HAS_SYMBOL = 1 << 9
    HAS_TARGET = 1 << 10
    HAS_TIME = 1 << 11
    HAS_EXEC_TYPE = 1 << 12
    HAS_STRATEGY = 1 << 13
    HAS_TRADE_DATE = 1 << 14
    HAS_SENDING_TIME = 1 << 15
    NEEDED = (
        HAS_EXEC_ID | HAS_PX | HAS_QTY | HAS_SEQ | HAS_TYPE | HAS_SENDER | HAS_SIDE | HAS_SYMBOL | HAS_TARGET | HAS_TIME
        | HAS_EXEC_TYPE | HAS_SENDING_TIME
    )

cdef struct Text:
    const uint8_t* at
    size_t size

cdef struct Session:
    Text head  # what a frame begins with: BeginString, and BodyLength as far as its digits
    Text sender
    Text target
    Text currency  # of the house
    uint64_t expected
    int64_t sent_from_ns  # SendingTime(52) of others is not right
    int64_t sent_to_ns
    bint careful  # some symbols are apart
    int64_t day_begin_ns  # and end: times within are of `day`, others are not known here
    int64_t day_end_ns
    uint32_t day

cdef struct Report:
    uint64_t msg_seq_num
    uint32_t trade_date
    Text exec_id
    Text symbol
    Text trader
    Text strategy
    Text account
    int64_t last_qty_e8
    int64_t last_px_e8
    int64_t transact_time_ns
    int64_t sending_time_ns
    uint8_t side
    uint8_t key[MAX_KEY_BYTES]  # Symbol(55) and SecurityExchange(207), where there is one


cdef inline bint _same(Text text, const uint8_t* at, size_t size) noexcept nogil:
    return text.size == size and memcmp(text.at, at, size) == 0


cdef inline bint _digit(uint8_t byte) noexcept nogil:
    return <uint8_t> (byte - 48) <= 9


cdef inline bint _two(const uint8_t* at, uint32_t* value) noexcept nogil:
    """Two digits."""
    if not (_digit(at[0]) and _digit(at[1])):
        return False
    value[0] = (at[0] - 48) * 10 + (at[1] - 48)
    return True


cdef bint _number_e8(const uint8_t* at, size_t size, int64_t* value) noexcept nogil:
    """`trades/numbers.py:parse_e8`; False for all that it refuses."""
    cdef size_t i = 0, digits, point
    cdef uint64_t whole = 0, part = 0
    cdef bint minus = size > 0 and at[0] == 45
    if minus:
        i = 1
    cdef size_t begin = i
    while i < size and at[i] == 48:
        i += 1
    point = i
    while i < size and _digit(at[i]):
        if i - point == WHOLE_DIGITS:
            return False
        whole = whole * 10 + (at[i] - 48)
        i += 1
    digits = i - begin
    if i < size:
        if at[i] != 46:
            return False
        i += 1
        point = i
        while i < size and _digit(at[i]):
            if i - point < PLACES:
                part = part * 10 + (at[i] - 48)
            elif at[i] != 48:
                return False
            i += 1
        if i < size:
            return False
        digits += i - point
        point = min(i - point, <size_t> PLACES)
        while point < PLACES:
            part *= 10
            point += 1
    if digits == 0:
        return False
    whole = whole * E8 + part
    if whole > INT64_MAX:
        return False
    value[0] = -<int64_t> whole if minus else <int64_t> whole
    return True


cdef bint _date(const uint8_t* at, uint32_t* year, uint32_t* month, uint32_t* day) noexcept nogil:
    """Eight digits that are a day (`fix/fields.py:parse_date`)."""
    cdef uint32_t century, last
    if not (_two(at, &century) and _two(at + 2, year) and _two(at + 4, month) and _two(at + 6, day)):
        return False
    year[0] += century * 100
    if not FIRST_YEAR <= year[0] <= LAST_YEAR or not 1 <= month[0] <= 12:
        return False
    last = 30 + ((month[0] + (month[0] >> 3)) & 1)
    if month[0] == 2:
        last = 29 if year[0] % 4 == 0 and (year[0] % 100 != 0 or year[0] % 400 == 0) else 28
    return 1 <= day[0] <= last


cdef bint _timestamp_ns(const uint8_t* at, size_t size, int64_t* value) noexcept nogil:
    """`fix/fields.py:parse_timestamp_ns`; False for all that it refuses."""
    cdef uint32_t year, month, day, hour, minute, second
    cdef int64_t fraction = 0, days, shifted
    cdef size_t i
    if size < 17 or at[8] != 45 or at[11] != 58 or at[14] != 58:
        return False
    if not _date(at, &year, &month, &day):
        return False
    if not (_two(at + 9, &hour) and _two(at + 12, &minute) and _two(at + 15, &second)):
        return False
    if hour > 23 or minute > 59 or second > 60:
        return False
    if size > 17:
        if at[17] != 46 or not 19 <= size <= 27:
            return False
        for i in range(18, size):
            if not _digit(at[i]):
                return False
            fraction = fraction * 10 + (at[i] - 48)
        for i in range(size, 27):
            fraction *= 10
    # Days since 1970-01-01 of the proleptic Gregorian calendar, in years that begin in March.
    shifted = year - (month <= 2)
    days = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400
    days += <int64_t> ((153 * ((month + 9) % 12) + 2) // 5 + day) - 1 - 719468
    value[0] = (days * 86400 + <int64_t> (hour * 3600 + minute * 60 + second)) * 1_000_000_000 + fraction
    return True


cdef size_t _framed(const uint8_t* at, size_t size, const Session* session, size_t* begin) noexcept nogil:
    """Where the body of the sound frame at `at` ends, and in `begin` where it begins; 0 if there is no such frame."""
    cdef size_t i = session.head.size
    cdef size_t length = 0, trailer
    cdef uint32_t total
    cdef uint8_t high
    if size < i + TRAILER_BYTES or memcmp(at, session.head.at, i) != 0:
        return 0
    while i < size and _digit(at[i]):
        length = length * 10 + (at[i] - 48)
        if length > MAX_FRAME_BYTES:
            return 0
        i += 1
    if i == session.head.size or i > session.head.size + 5 or i == size or at[i] != SOH:
        return 0
    begin[0] = i + 1
    trailer = begin[0] + length
    if length == 0 or trailer > MAX_FRAME_BYTES or trailer + TRAILER_BYTES > size or at[trailer - 1] != SOH:
        return 0
    if memcmp(at + trailer, b"10=", 3) != 0 or at[trailer + 6] != SOH:
        return 0
    total = eod_sum(at, trailer, &high) & 0xFF
    if high > 0x7F or at[trailer + 3] != 48 + total // 100 or at[trailer + 4] != 48 + total // 10 % 10:
        return 0
    return trailer if at[trailer + 5] == 48 + total % 10 else 0


cdef size_t _plain(const uint8_t* at, size_t size, const Session* session, Report* report) noexcept nogil:
    """The bytes of the plain execution at `at`, or 0."""
    cdef size_t i, begin, end
    cdef size_t trailer = _framed(at, size, session, &begin)
    cdef uint32_t tag, seen = 0, bit, year, month, day
    cdef uint32_t party = 0  # 1 behind NoPartyIDs(453)=1, 2 inside the one party, 3 behind it
    cdef uint64_t tags[WORDS]
    cdef uint8_t exec_type = 0, trans = 0
    cdef Text text, candidate, exchange
    cdef uint64_t mark
    if trailer == 0:
        return 0
    if memcmp(at + begin, b"35=8\x01", 5) != 0:
        return 0
    report.trader.size = report.strategy.size = report.account.size = 0
    candidate.at, candidate.size = at, 0
    exchange.at, exchange.size = at, 0
    memset(tags, 0, sizeof(tags))
    tags[0] = 1 << 8 | 1 << 9 | 1 << 10  # stand around the body
    i = begin
    while i < trailer:
        if not 49 <= at[i] <= 57:
            return 0
        tag = 0
        while _digit(at[i]):  # ends at the latest at the SOH before the trailer
            tag = tag * 10 + (at[i] - 48)
            if tag > MAX_TAG:
                return 0
            i += 1
        if at[i] != 61:
            return 0
        text.at = at + i + 1
        end = <const uint8_t*> memchr(text.at, SOH, trailer - i - 1) - at
        text.size = end - i - 1
        i = end + 1
        bit = 0
        if tag < KNOWN_TAGS:
            mark = <uint64_t> 1 << (tag & 63)
            if (tags[tag >> 6] | STRUCTURAL[tag >> 6]) & mark:
                return 0
            tags[tag >> 6] |= mark
        if tag == 448:
            if party != 1:
                return 0
            candidate, party = text, 2
            continue
        if tag == 447 or tag == 452:
            if party != 2:
                return 0
            if tag == 452 and _same(text, b"12", 2):
                report.trader = candidate
                if candidate.size > MAX_NAME_BYTES or _same(candidate, b"UNASSIGNED", 10):
                    return 0
            continue
        if party == 1:
            return 0
        if party == 2:
            party = 3
        if tag == 453:
            if party or not _same(text, b"1", 1):
                return 0
            party = 1
            continue
        if tag == 1:
            bit, report.account = HAS_ACCOUNT, text
            if text.size > MAX_NAME_BYTES:
                return 0
        elif tag == 17:
            bit, report.exec_id = HAS_EXEC_ID, text
            if not 1 <= text.size <= MAX_ID_BYTES:
                return 0
        elif tag == 20:
            bit, trans = HAS_TRANS, text.at[0]
            if text.size != 1:
                return 0
        elif tag == 31:
            bit = HAS_PX
            if not _number_e8(text.at, text.size, &report.last_px_e8):
                return 0
        elif tag == 32:
            bit = HAS_QTY
            if not _number_e8(text.at, text.size, &report.last_qty_e8) or report.last_qty_e8 <= 0:
                return 0
        elif tag == 34:
            bit = HAS_SEQ
            if not 1 <= text.size <= MAX_DIGITS or not _whole(text, &report.msg_seq_num):
                return 0
            if report.msg_seq_num != session.expected:
                return 0
        elif tag == 35:
            bit = HAS_TYPE
            if text.size != 1 or text.at[0] != 56:
                return 0
        elif tag == 49:
            bit = HAS_SENDER
            if not _same(session.sender, text.at, text.size):
                return 0
        elif tag == 52:
            bit = HAS_SENDING_TIME
            if not _timestamp_ns(text.at, text.size, &report.sending_time_ns):
                return 0
            if not session.sent_from_ns <= report.sending_time_ns <= session.sent_to_ns:
                return 0
        elif tag == 54:
            bit = HAS_SIDE
            if text.size != 1 or not 49 <= text.at[0] <= 54:
                return 0
            report.side = BUY if text.at[0] == 49 or text.at[0] == 51 else SELL
        elif tag == 55:
            bit, report.symbol = HAS_SYMBOL, text
            if not 1 <= text.size <= MAX_NAME_BYTES or text.at[text.size - 1] == 41:  # what ends with ")" may tell a currency
                return 0
            if text.at[0] == 32 or text.at[text.size - 1] == 32:  # blanks at either end mean nothing
                return 0
        elif tag == 56:
            bit = HAS_TARGET
            if not _same(session.target, text.at, text.size):
                return 0
        elif tag == 60:
            bit = HAS_TIME
            if not _timestamp_ns(text.at, text.size, &report.transact_time_ns):
                return 0
        elif tag == 75:
            bit = HAS_TRADE_DATE
            if text.size != 8 or not _date(text.at, &year, &month, &day):
                return 0
            report.trade_date = year * 10_000 + month * 100 + day
        elif tag == 150:
            bit, exec_type = HAS_EXEC_TYPE, text.at[0]
            if text.size != 1:
                return 0
        elif tag == 15:
            if not _same(session.currency, text.at, text.size):
                return 0
        elif tag == 207:
            exchange = text
            if session.careful:
                return 0
        elif tag == 167:
            if text.size and not _same(text, b"CS", 2):
                return 0
        elif tag == 461:
            if text.size and (text.at[0] == 79 or text.at[0] == 70):  # an option or a future
                return 0
        elif tag == 442:
            if _same(text, b"3", 1):
                return 0
        elif tag == 231:  # ContractMultiplier: `trades/contracts.py`
            return 0
        elif tag == 65 or tag == 200 or tag == 201 or tag == 202 or tag == 205 or tag == 541:
            return 0  # an instrument with more to it than its symbol: `trades/instruments.py`
        elif tag == 6061:
            bit, report.strategy = HAS_STRATEGY, text
            if text.size > MAX_NAME_BYTES:
                return 0
        elif tag == 19 or tag == 43:  # ExecRefID and PossDupFlag are the pure code's
            return 0
        if seen & bit:
            return 0
        seen |= bit
    if party == 1 or seen & NEEDED != NEEDED:
        return 0
    # `trades/dates.py:why_impossible`
    if not -MAX_AHEAD_NS <= report.sending_time_ns - report.transact_time_ns <= MAX_AGE_NS:
        return 0
    if exchange.size:
        if report.symbol.size + 1 + exchange.size > MAX_KEY_BYTES:
            return 0
        memcpy(report.key, report.symbol.at, report.symbol.size)
        report.key[report.symbol.size] = 64  # @
        memcpy(report.key + report.symbol.size + 1, exchange.at, exchange.size)
        report.symbol.at, report.symbol.size = report.key, report.symbol.size + 1 + exchange.size
    if not seen & HAS_TRADE_DATE:
        if not session.day_begin_ns <= report.transact_time_ns < session.day_end_ns:
            return 0
        report.trade_date = session.day
    # FIX 4.4 calls a trade F; FIX 4.2 has ExecTransType(20)=0 beside it, and calls fills 1 and 2, too.
    if not seen & HAS_TRANS:
        if exec_type != 70:
            return 0
    elif trans != 48 or not (exec_type == 49 or exec_type == 50 or exec_type == 70):
        return 0
    return trailer + TRAILER_BYTES


cdef bint _whole(Text text, uint64_t* value) noexcept nogil:
    """A number of digits alone, no more of them than 64 bits hold."""
    cdef size_t i
    value[0] = 0
    for i in range(text.size):
        if not _digit(text.at[i]):
            return False
        value[0] = value[0] * 10 + (text.at[i] - 48)
    return True


cdef int _keep(
    TradeColumns columns, Row* row, const Report* report, const uint8_t* frame, size_t size
) noexcept nogil:
    """Adds the row of a plain execution. -1 if there is no memory, 1 if its symbol is apart."""
    cdef int64_t symbol = columns.name(report.symbol.at, report.symbol.size)
    cdef int64_t trader = columns.name(report.trader.at, report.trader.size)
    cdef int64_t strategy = columns.name(report.strategy.at, report.strategy.size)
    cdef int64_t account = columns.name(report.account.at, report.account.size)
    if symbol < 0 or trader < 0 or strategy < 0 or account < 0:
        return -1
    if columns._names[symbol].apart:
        return 1
    row.symbol, row.trader = <uint32_t> symbol, <uint32_t> trader
    row.strategy, row.account = <uint32_t> strategy, <uint32_t> account
    row.msg_seq_num = report.msg_seq_num
    row.side = report.side
    row.trade_date = report.trade_date
    row.time_source = 0  # TransactTime(60), without which a report is not plain
    row.multiplier_e8 = 0  # nor is one with ContractMultiplier(231)
    row.last_qty_e8 = report.last_qty_e8
    row.last_px_e8 = report.last_px_e8
    row.transact_time_ns = report.transact_time_ns
    row.exec_id_bytes = <uint32_t> report.exec_id.size
    row.frame_bytes = <uint32_t> size
    return columns.append(row, frame, report.exec_id.at, NULL)


def take_plain(
    bytes buffer not None,
    Py_ssize_t position,
    TradeColumns columns not None,
    *,
    bytes begin_string not None,
    bytes sender not None,
    bytes target not None,
    str session not None,
    uint32_t epoch,
    uint64_t expected,
    int64_t received_at_ns,
    dates not None,
    int64_t accuracy_ns=0,
    bytes currency not None=HOUSE,
):
    """Takes the plain executions that begin at `position`: (where the next frame begins, how many were taken).

    `sender` and `target` are SenderCompID(49) and TargetCompID(56) as the counterparty writes them, `session` the
    name that the rows get, `expected` the MsgSeqNum(34) of the first. `dates` is a `trades.dates.TradeDates`: a report
    without TradeDate(75) is plain only on the day that it was last asked for. `accuracy_ns` is how far SendingTime(52)
    may be from `received_at_ns`; 0 does not compare them. `currency` is that of the house, which a plain one may say in
    Currency(15).

    Raises:
        ValueError: `position` is not within the buffer.
    """
    cdef const uint8_t* data = <const uint8_t*> PyBytes_AS_STRING(buffer)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(buffer)
    if not 0 <= position <= size:
        raise ValueError(f"position {position} is not within the {size} bytes of the buffer")
    cdef bytes head = b"8=" + begin_string + b"\x019="
    cdef Session expect
    expect.head.at, expect.head.size = <const uint8_t*> PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head)
    expect.sender.at, expect.sender.size = <const uint8_t*> PyBytes_AS_STRING(sender), PyBytes_GET_SIZE(sender)
    expect.target.at, expect.target.size = <const uint8_t*> PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target)
    expect.currency.at, expect.currency.size = <const uint8_t*> PyBytes_AS_STRING(currency), PyBytes_GET_SIZE(currency)
    expect.expected = expected
    expect.sent_from_ns, expect.sent_to_ns = 0, INT64_MAX
    if accuracy_ns:
        expect.sent_from_ns = max(received_at_ns - accuracy_ns, <int64_t> 0)
        expect.sent_to_ns = received_at_ns + min(accuracy_ns, INT64_MAX - received_at_ns)
    expect.careful = bool(columns.apart)
    expect.day_begin_ns, expect.day_end_ns, expect.day = dates.begin_ns, dates.end_ns, dates.date
    cdef bytes session_text = session.encode()
    cdef Text name
    name.at, name.size = <const uint8_t*> PyBytes_AS_STRING(session_text), PyBytes_GET_SIZE(session_text)
    cdef Row row
    cdef Report report
    cdef size_t taken = 0, frame = 0
    cdef int64_t session_name
    cdef bint no_memory = False
    cdef int kept
    with nogil:
        frame = _plain(data + position, size - position, &expect, &report)
        if frame:
            session_name = columns.name(name.at, name.size)
            no_memory = session_name < 0
            row.session = <uint32_t> session_name
            row.epoch = epoch
            row.action = TRADE
            row.received_at_ns = received_at_ns
            row.exec_ref_bytes = 0
            row.ids_at = 0
        while frame and not no_memory:
            kept = _keep(columns, &row, &report, data + position, frame)
            if kept:
                no_memory = kept < 0
                break
            taken += 1
            expect.expected += 1
            position += frame
            frame = _plain(data + position, size - position, &expect, &report)
    if no_memory:
        raise MemoryError
    return position, taken
