/* The bytes of a PnlSnapshot as a book.
 *
 * A snapshot that contradicts itself is refused with the reason: what the pure code would stumble over much later, when a
 * bust or a publication comes to it, must not become an address here.
 */
#ifndef EOD_LOAD_H
#define EOD_LOAD_H

#include "dump.h"


static const uint8_t SNAPSHOT[MAX_FIELDS] = {
    NO_FIELD, ONE_NUMBER, ONE_NUMBER, MESSAGES, MESSAGES, MESSAGES, MESSAGES, TEXTS, U32,
    TEXTS, U32, U32, S64, S64, MESSAGES, U32, U64, U32, MESSAGES,
};
static const uint8_t OFFSET_ROW[MAX_FIELDS] = {NO_FIELD, ONE_TEXT, ONE_NUMBER, ONE_TEXT, ONE_NUMBER};
static const uint8_t POSITION_ROW[MAX_FIELDS] = {
    NO_FIELD, ONE_TEXT, ONE_TEXT, ONE_TEXT, ONE_TEXT, ONE_TEXT, ONE_NUMBER, ONE_NUMBER, ONE_NUMBER,
};
static const uint8_t MARK_ROW[MAX_FIELDS] = {NO_FIELD, ONE_TEXT, ONE_NUMBER, ONE_S64, ONE_F64, ONE_NUMBER};
static const uint8_t MULTIPLIER_ROW[MAX_FIELDS] = {NO_FIELD, ONE_TEXT, ONE_NUMBER};
static const uint8_t FORGOTTEN_ROW[MAX_FIELDS] = {NO_FIELD, ONE_TEXT, ONE_NUMBER, ONE_NUMBER};
static const uint8_t REPLACED_ROW[MAX_FIELDS] = {NO_FIELD, ONE_NUMBER, ONE_TEXT, ONE_NUMBER};

/* `columns` is the snapshot, `row` the message in it that is being read, `why` what contradicts. */
typedef struct {
    ledger_t *ledger;
    book_t *book;
    columns_t columns, row;
    const char *why;
} loading_t;

static int contradicts(loading_t *load, const char *why)
{
    load->why = why;
    return CONTRADICTS;
}

static inline uint64_t row_number(const loading_t *load, int field)
{
    return load->row.field[field].count ? load->row.field[field].number[0] : 0;
}

static inline span_t row_text(const loading_t *load, int field)
{
    static const uint8_t nothing;
    return load->row.field[field].count ? load->row.field[field].text[0] : (span_t){&nothing, 0};
}

static int load_row(loading_t *load, int field, size_t i, const uint8_t *kinds)
{
    span_t text = load->columns.field[field].text[i];
    return read_message(text.at, text.length, kinds, &load->row);
}

static int load_position(loading_t *load)
{
    ledger_t *l = load->ledger;
    positions_t *p = &load->book->positions;
    int64_t trader = names_number(&l->traders, row_text(load, 1)), symbol = names_number(&l->symbols, row_text(load, 2));
    if (trader < 0 || symbol < 0 || !book_reserve_symbols(load->book, l->symbols.count))
        return NO_MEMORY;
    if (row_number(load, 6) > INT64_MAX)
        return contradicts(load, "a position has more trades than there are");
    uint32_t before = p->count, *head = &load->book->symbols[symbol].first_holder;
    uint64_t hash = hash_pair((uint32_t)trader, (uint32_t)symbol, p->key);
    uint32_t slot = positions_slot(p, (uint32_t)trader, (uint32_t)symbol, hash, head);
    if (slot < before)
        return contradicts(load, "a position is there twice");
    /* An earlier release did not say what was forgotten of a position, nor made any anew. */
    int unknown = load->columns.field[S_EXEC_ID].count && !load->columns.field[S_TRADE_DATE].count;
    load->book->memory.places[slot].approximate = row_number(load, 7) != 0;
    load->book->memory.places[slot].incomplete = row_number(load, 8) != 0 || unknown;
    span_t texts[3] = {row_text(load, 3), row_text(load, 4), row_text(load, 5)};
    i128 numbers[3];
    int fits = 1;
    for (int i = 0; i < 3; i++) {
        int taken = take_i128(texts[i].at, texts[i].length, &numbers[i]);
        if (taken < 0)
            return contradicts(load, "a position's amount is no whole number");
        fits &= taken;
    }
    int64_t trades = (int64_t)row_number(load, 6);
    if (!fits || numbers[0] > INT64_MAX || numbers[0] < INT64_MIN)
        return l->make_big(l->owner, load->book, slot, texts, trades) ? OK : FAULT;
    position_t *position = &p->slots[slot];
    position->quantity = (int64_t)numbers[0];
    position->cost = numbers[1];
    position->realized = numbers[2];
    position->trades = trades;
    return OK;
}

static int load_mark(loading_t *load)
{
    ledger_t *l = load->ledger;
    int64_t number = names_number(&l->symbols, row_text(load, 1));
    if (number < 0 || !book_reserve_symbols(load->book, l->symbols.count))
        return NO_MEMORY;
    symbol_t *mark = &load->book->symbols[number];
    mark->source = (uint32_t)row_number(load, 2);
    mark->px = (int64_t)row_number(load, 3);
    mark->event_time_ns = (int64_t)row_number(load, 4);
    mark->session_date = (uint32_t)row_number(load, 5);
    if (!mark->source || mark->source > HIGHEST_SOURCE)
        return contradicts(load, "the source of a mark is outside the schema");
    return OK;
}

static int load_multiplier(loading_t *load)
{
    ledger_t *l = load->ledger;
    int64_t number = names_number(&l->symbols, row_text(load, 1));
    uint64_t multiplier = row_number(load, 2);
    if (number < 0 || !book_reserve_symbols(load->book, l->symbols.count))
        return NO_MEMORY;
    if (!multiplier || multiplier > INT64_MAX)
        return contradicts(load, "a multiplier is outside the schema");
    load->book->symbols[number].multiplier = (int64_t)multiplier;
    return OK;
}

static int load_forgotten(loading_t *load)
{
    memory_t *m = &load->book->memory;
    int64_t session = names_number(&load->ledger->sessions, row_text(load, 1));
    if (session < 0 || !memory_reserve_sessions(m, load->ledger->sessions.count) ||
        !memory_note_forgotten(m, (uint32_t)session, (uint32_t)row_number(load, 2), row_number(load, 3)))
        return NO_MEMORY;
    return OK;
}

static int load_rows(loading_t *load)
{
    const column_t *f = load->columns.field;
    int status = OK;
    if (f[S_POSITIONS].count > INT32_MAX || !positions_reserve(&load->book->positions, (uint32_t)f[S_POSITIONS].count) ||
        !memory_reserve_places(&load->book->memory, (uint32_t)f[S_POSITIONS].count))
        return NO_MEMORY;
    for (size_t i = 0; i < f[S_POSITIONS].count && !status; i++)
        if (!(status = load_row(load, S_POSITIONS, i, POSITION_ROW)))
            status = load_position(load);
    for (size_t i = 0; i < f[S_MARKS].count && !status; i++)
        if (!(status = load_row(load, S_MARKS, i, MARK_ROW)))
            status = load_mark(load);
    for (size_t i = 0; i < f[S_MULTIPLIERS].count && !status; i++)
        if (!(status = load_row(load, S_MULTIPLIERS, i, MULTIPLIER_ROW)))
            status = load_multiplier(load);
    for (size_t i = 0; i < f[S_FORGOTTEN].count && !status; i++)
        if (!(status = load_row(load, S_FORGOTTEN, i, FORGOTTEN_ROW)))
            status = load_forgotten(load);
    return status;
}

static int load_trade(loading_t *load, size_t i)
{
    ledger_t *l = load->ledger;
    memory_t *m = &load->book->memory;
    const column_t *f = load->columns.field, *strings = &f[S_STRINGS];
    size_t count = strings->count;
    uint32_t trader, symbol;
    remembered_t entry = {.quantity = (int64_t)f[S_QUANTITY].number[i], .px = (int64_t)f[S_PX].number[i]};
    entry.epoch = f[S_EPOCH].count ? (uint32_t)f[S_EPOCH].number[i] : 0;
    entry.msg_seq_num = f[S_MSG_SEQ_NUM].count ? f[S_MSG_SEQ_NUM].number[i] : 0;
    entry.trade_date = f[S_TRADE_DATE].count ? (uint32_t)f[S_TRADE_DATE].number[i] : 0;
    if (!number_of(&l->sessions, l->numbers, strings, f[S_SESSION].number[i], &entry.session) ||
        !number_of(&l->traders, l->numbers + count, strings, f[S_TRADER].number[i], &trader) ||
        !number_of(&l->symbols, l->numbers + 2 * count, strings, f[S_SYMBOL].number[i], &symbol) ||
        !memory_reserve_sessions(m, l->sessions.count))
        return NO_MEMORY;
    entry.slot = positions_find(&load->book->positions, trader, symbol);
    if (entry.slot == NO_SLOT)
        return contradicts(load, "a remembered trade has no position");
    span_t exec_id = f[S_EXEC_ID].text[i];
    entry.hash = identity_hash(m, entry.session, exec_id);
    if (memory_find(m, entry.session, entry.trade_date, exec_id, entry.hash) != NOT_REMEMBERED)
        return contradicts(load, "a trade is remembered twice");
    if (entry.quantity == INT64_MIN)
        return contradicts(load, "a remembered quantity is outside the schema");
    return memory_keep(m, entry, exec_id) ? OK : NO_MEMORY;
}

/* Which correction stands in a trade's place. Corrections are younger than what they replace, or a bust would go round. */
static int load_replaced(loading_t *load)
{
    memory_t *m = &load->book->memory;
    uint64_t number = row_number(load, 1) & UINT32_MAX;
    span_t exec_id = row_text(load, 2);
    if (number >= load->columns.field[S_EXEC_ID].count)
        return contradicts(load, "a correction replaces a trade that is not there");
    if (!exec_id.length || number < m->oldest)
        return OK;
    remembered_t *entry = memory_entry(m, number);
    uint64_t found = memory_find(m, entry->session, (uint32_t)row_number(load, 3), exec_id,
                                 identity_hash(m, entry->session, exec_id));
    const position_t *slots = load->book->positions.slots;
    if (found == NOT_REMEMBERED || found <= number ||
        slots[memory_entry(m, found)->slot].symbol != slots[entry->slot].symbol)
        return contradicts(load, "a correction is not there, or older than what it replaces");
    if (!memory_reserve_skips(m))
        return NO_MEMORY;
    memory_replace(m, number, found);
    if (memory_entry(m, found)->slot == entry->slot)
        memory_entry(m, found)->before |= IN_PLACE;
    return OK;
}

static int load_remembered(loading_t *load)
{
    ledger_t *l = load->ledger;
    book_t *b = load->book;
    const column_t *f = load->columns.field;
    size_t rows = f[S_EXEC_ID].count, strings = f[S_STRINGS].count;
    uint64_t id_bytes = 0;
    int status = OK;
    if (!all_below(&f[S_SESSION], rows, strings) || !all_below(&f[S_TRADER], rows, strings) ||
        !all_below(&f[S_SYMBOL], rows, strings) || f[S_QUANTITY].count != rows || f[S_PX].count != rows ||
        (f[S_EPOCH].count && f[S_EPOCH].count != rows) || (f[S_MSG_SEQ_NUM].count && f[S_MSG_SEQ_NUM].count != rows) ||
        (f[S_TRADE_DATE].count && f[S_TRADE_DATE].count != rows))
        return contradicts(load, "the columns of the remembered trades do not fit together");
    for (size_t i = 0; i < rows; i++)
        id_bytes += f[S_EXEC_ID].text[i].length;
    if (!reserve_rows(l, 0, strings) || !memory_reserve(&b->memory, rows, id_bytes, l->sessions.count))
        return NO_MEMORY;
    for (size_t i = 0; i < rows && !status; i++)
        status = load_trade(load, i);
    for (size_t i = 0; i < f[S_REPLACED_BY].count && !status; i++)
        if (!(status = load_row(load, S_REPLACED_BY, i, REPLACED_ROW)))
            status = load_replaced(load);
    return status;
}

/* Fills an empty book. Whatever does not end OK leaves a book that must be let go. */
static int load_book(loading_t *load, const uint8_t *data, size_t length)
{
    int status = read_message(data, length, SNAPSHOT, &load->columns);
    if (!status && !is_of_version(&load->columns, load->ledger->snapshot_version))
        status = MALFORMED;
    if (status || (status = load_rows(load)) || (status = load_remembered(load)))
        return status;
    ledger_t *l = load->ledger;
    if (!turns_reserve(&l->turns, l->traders.count) || !book_reserve_symbols(load->book, l->symbols.count))
        return NO_MEMORY;
    return OK;
}

#endif
