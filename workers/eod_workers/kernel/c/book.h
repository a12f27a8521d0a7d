/* All books of one worker, and what a batch does to one of them: `pnl/book.py` owns the rules. */
#ifndef EOD_BOOK_H
#define EOD_BOOK_H

#include "batch.h"
#include "memory.h"
#include "turns.h"

enum { APPLIED, DUPLICATE, UNKNOWN_REFERENCE, ALREADY_BUSTED, NAMES_ITSELF, OTHER_SYMBOL, OTHER_MULTIPLIER };
enum { AHEAD = 12 };
#define NO_NAME UINT32_MAX

typedef struct {
    int64_t px, event_time_ns; /* of the mark; px in 1e-8 */
    uint32_t source, session_date;
    int64_t multiplier; /* in 1e-8; 0: no trade has said it */
    uint32_t first_holder, unused;
} symbol_t; /* `source` 0: no mark */

typedef struct {
    positions_t positions;
    memory_t memory;
    symbol_t *symbols;
    uint32_t symbol_count; /* symbols below this number have their entry */
    uint32_t stale;        /* how many positions are to be made anew, before anybody looks at them */
    uint32_t index;        /* where the ledger has this book */
    int32_t partition;
} book_t;

/* A row of a batch, its names as numbers, its hashes. */
typedef struct {
    uint64_t position_hash;
    uint32_t session, trader, symbol, hash;
} row_t;

typedef struct {
    uint32_t row, outcome, symbol; /* the symbol of the trade that it refers to */
    int64_t multiplier;            /* of its symbol */
} refused_t;

typedef struct ledger {
    names_t sessions, traders, symbols;
    turns_t turns;
    book_t **books;
    uint32_t book_count;
    uint64_t key, remember;
    uint32_t trades_version, prices_version, snapshot_version; /* of the layouts that are read */
    columns_t columns;
    uint32_t *numbers; /* of the strings of a batch: as session, as trader, as symbol */
    row_t *rows;
    refused_t *refused;
    uint64_t *path; /* trades of one position */
    size_t numbers_capacity, rows_capacity, path_capacity;
    size_t refused_count, duplicates;
    void *owner;
    int (*move_big)(void *owner, book_t *book, uint32_t slot, int64_t quantity, int64_t px, int count);
    int (*make_big)(void *owner, book_t *book, uint32_t slot, const span_t *texts, int64_t trades);
} ledger_t;

static void book_free(book_t *b)
{
    positions_free(&b->positions);
    memory_free(&b->memory);
    free(b->symbols);
    free(b);
}

static book_t *book_new(const ledger_t *l, int32_t partition)
{
    book_t *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->partition = partition;
    b->positions.key = b->memory.key = l->key;
    b->memory.limit = l->remember;
    if (!positions_reserve(&b->positions, 1) || !memory_reserve(&b->memory, 1, 1, 1)) {
        book_free(b);
        return NULL;
    }
    return b;
}

static int book_reserve_symbols(book_t *b, uint32_t symbols)
{
    if (symbols <= b->symbol_count)
        return 1;
    uint32_t count = symbols + symbols / 2 + 16;
    symbol_t *grown = realloc(b->symbols, count * sizeof *grown);
    if (!grown)
        return 0;
    for (uint32_t i = b->symbol_count; i < count; i++)
        grown[i] = (symbol_t){.first_holder = NO_SLOT};
    b->symbols = grown;
    b->symbol_count = count;
    return 1;
}

/* Puts the book where the ledger finds it by number. */
static int ledger_take_in(ledger_t *l, book_t *b)
{
    uint32_t at = 0;
    while (at < l->book_count && l->books[at])
        at++;
    if (at == l->book_count) {
        book_t **grown = realloc(l->books, (at + 1) * sizeof *grown);
        if (!grown)
            return 0;
        l->books = grown;
        l->book_count++;
    }
    b->index = at;
    l->books[at] = b;
    return 1;
}

static inline book_t *book_at(const ledger_t *l, uint64_t place)
{
    return l->books[(place >> 32) - 1];
}

static inline position_t *position_at(const ledger_t *l, uint64_t place)
{
    return &l->books[(place >> 32) - 1]->positions.slots[(uint32_t)place];
}

/* Lets a book go. Its traders keep their turns: what they have elsewhere may wait too. */
static void ledger_let_go(ledger_t *l, book_t *b)
{
    for (uint32_t i = 0; i < b->positions.count; i++) {
        if (!b->positions.slots[i].dirty_next)
            continue;
        uint64_t *link = &l->turns.traders[b->positions.slots[i].trader].dirty;
        while (*link != DIRTY_END) {
            position_t *position = position_at(l, *link);
            if (*link >> 32 == b->index + 1) {
                *link = position->dirty_next;
                position->dirty_next = 0;
            } else {
                link = &position->dirty_next;
            }
        }
    }
    l->books[b->index] = NULL;
    book_free(b);
}

static void ledger_free(ledger_t *l)
{
    for (uint32_t i = 0; i < l->book_count; i++)
        if (l->books[i])
            book_free(l->books[i]);
    free(l->books);
    names_free(&l->sessions);
    names_free(&l->traders);
    names_free(&l->symbols);
    turns_free(&l->turns);
    columns_free(&l->columns);
    free(l->numbers);
    free(l->rows);
    free(l->refused);
    free(l->path);
    memset(l, 0, sizeof *l);
}

static inline void book_changed(ledger_t *l, const book_t *b, uint32_t slot, double now_s)
{
    turns_changed(&l->turns, &b->positions.slots[slot], place_of(b->index, slot), now_s);
}

/* Everything in the book is to be published: the last publication of its former owner may be missing. */
static void book_announce(ledger_t *l, const book_t *b, double now_s)
{
    for (uint32_t i = 0; i < b->positions.count; i++)
        book_changed(l, b, i, now_s);
}

/* --- a batch of trades: names to numbers, and room ------------------------------------------------------------- */

static int reserve_rows(ledger_t *l, size_t rows, size_t strings)
{
    if (strings * 3 > l->numbers_capacity) {
        uint32_t *grown = realloc(l->numbers, strings * 3 * sizeof *grown);
        if (!grown)
            return 0;
        l->numbers = grown;
        l->numbers_capacity = strings * 3;
    }
    if (rows > l->rows_capacity) {
        row_t *grown = realloc(l->rows, rows * sizeof *grown);
        if (grown)
            l->rows = grown;
        refused_t *refused = realloc(l->refused, rows * sizeof *refused);
        if (refused)
            l->refused = refused;
        if (!grown || !refused)
            return 0;
        l->rows_capacity = rows;
    }
    if (strings)
        memset(l->numbers, 0xFF, strings * 3 * sizeof *l->numbers); /* NO_NAME */
    return 1;
}

static inline int number_of(names_t *names, uint32_t *numbers, const column_t *strings, uint64_t index, uint32_t *number)
{
    if (numbers[index] == NO_NAME) {
        int64_t found = names_number(names, strings->text[index]);
        if (found < 0)
            return 0;
        numbers[index] = (uint32_t)found;
    }
    *number = numbers[index];
    return 1;
}

/* The rows of the batch that was read, with room for all that they may bring. */
static int prepare_rows(ledger_t *l, book_t *b)
{
    const column_t *f = l->columns.field, *strings = &f[B_STRINGS];
    size_t rows = f[B_EXEC_ID].count, count = strings->count;
    uint64_t id_bytes = 0;
    if (!reserve_rows(l, rows, count))
        return 0;
    uint32_t *as_session = l->numbers, *as_trader = as_session + count, *as_symbol = as_trader + count;
    for (size_t i = 0; i < rows; i++) {
        row_t *row = &l->rows[i];
        if (!number_of(&l->sessions, as_session, strings, f[B_SESSION].number[i], &row->session) ||
            !number_of(&l->traders, as_trader, strings, f[B_TRADER].number[i], &row->trader) ||
            !number_of(&l->symbols, as_symbol, strings, f[B_SYMBOL].number[i], &row->symbol))
            return 0;
        id_bytes += f[B_EXEC_ID].text[i].length;
    }
    if (rows > INT32_MAX || !positions_reserve(&b->positions, (uint32_t)rows) ||
        !memory_reserve_places(&b->memory, b->positions.count + (uint32_t)rows) ||
        !memory_reserve(&b->memory, rows, id_bytes, l->sessions.count) || !turns_reserve(&l->turns, l->traders.count) ||
        !book_reserve_symbols(b, l->symbols.count))
        return 0;
    for (size_t i = 0; i < rows; i++) { /* asks for the memory that the rows will need, long before they do */
        row_t *row = &l->rows[i];
        row->hash = identity_hash(&b->memory, row->session, f[B_EXEC_ID].text[i]);
        row->position_hash = hash_pair(row->trader, row->symbol, b->positions.key);
        __builtin_prefetch(&b->memory.table[memory_place(&b->memory, row->hash)], 1);
        __builtin_prefetch(&b->positions.table[row->position_hash & b->positions.mask]);
    }
    return 1;
}

static inline void fetch_ahead(const ledger_t *l, const book_t *b, const row_t *row)
{
    uint64_t entry = b->positions.table[row->position_hash & b->positions.mask];
    if (entry)
        __builtin_prefetch(&b->positions.slots[(uint32_t)entry - 1], 1);
    __builtin_prefetch(&l->turns.traders[row->trader], 1);
    if (memory_count(&b->memory) >= b->memory.limit) {
        uint32_t hash = memory_entry(&b->memory, b->memory.oldest + AHEAD)->hash;
        __builtin_prefetch(&b->memory.table[memory_place(&b->memory, hash)], 1);
    }
}

/* --- a batch of trades: row by row ----------------------------------------------------------------------------- */

/* `count` is how many more trades stand: 1 or -1. A stale position is left alone: it is made anew of all that stand. */
static inline int book_move(ledger_t *l, book_t *b, uint32_t slot, int64_t quantity, int64_t px, int count)
{
    position_t *position = &b->positions.slots[slot];
    if (b->memory.places[slot].stale)
        return 1;
    if (position->trades == IS_BIG || !position_move(position, quantity, px))
        return l->move_big(l->owner, b, slot, quantity, px, count);
    position->trades += count;
    return 1;
}

/* Makes a position anew of the trades that stand, if it is to be. */
static int book_settle(ledger_t *l, book_t *b, uint32_t slot)
{
    if (!b->memory.places[slot].stale)
        return OK;
    memory_t *m = &b->memory;
    place_t *place = &m->places[slot];
    position_t *position = &b->positions.slots[slot];
    size_t count = 0;
    place->stale = 0;
    b->stale--;
    for (uint64_t number = place->last; number > m->oldest;) {
        const remembered_t *entry = memory_entry(m, --number);
        m->walked++;
        if (count == l->path_capacity) {
            size_t capacity = l->path_capacity ? l->path_capacity * 2 : 256;
            uint64_t *grown = realloc(l->path, capacity * sizeof *grown);
            if (!grown)
                return NO_MEMORY;
            l->path = grown;
            l->path_capacity = capacity;
        }
        if (!(entry->before & IN_PLACE))
            l->path[count++] = number;
        uint32_t distance = entry->before & ~IN_PLACE;
        if (!distance || distance > number)
            break;
        number = number - distance + 1;
    }
    if (position->trades == IS_BIG) {
        if (!l->move_big(l->owner, b, slot, 0, 0, 0))
            return FAULT;
    } else {
        position->cost = position->realized = 0;
        position->quantity = position->trades = 0;
    }
    while (count) {
        const remembered_t *standing = memory_standing(m, l->path[--count]);
        if (standing && !book_move(l, b, slot, standing->quantity, standing->px, 1))
            return FAULT;
    }
    return OK;
}

/* All positions, or those of a symbol, before they are looked at. */
static int book_settle_all(ledger_t *l, book_t *b)
{
    int status = OK;
    for (uint32_t slot = 0; b->stale && slot < b->positions.count && !status; slot++)
        status = book_settle(l, b, slot);
    return status;
}

static int book_settle_symbol(ledger_t *l, book_t *b, uint32_t symbol)
{
    int status = OK;
    uint32_t slot = b->stale ? b->symbols[symbol].first_holder : NO_SLOT;
    for (; slot != NO_SLOT && !status; slot = b->positions.next_holder[slot])
        status = book_settle(l, b, slot);
    return status;
}

/* Takes back a trade that stands no more; see `pnl/book.py`. The position is made anew when somebody looks at it. */
static int book_take_back(ledger_t *l, book_t *b, uint32_t slot, int64_t quantity, int64_t px)
{
    place_t *place = &b->memory.places[slot];
    if (place->incomplete) {
        place->approximate = 1;
        return book_move(l, b, slot, -quantity, px, -1) ? OK : FAULT;
    }
    b->stale += !place->stale;
    place->stale = 1;
    return OK;
}

/* Keeps a trade. A stale position is made anew before one that stands in it is forgotten: it cannot be any more then. */
static inline int book_keep(ledger_t *l, book_t *b, remembered_t entry, span_t exec_id)
{
    memory_t *m = &b->memory;
    if (memory_count(m) >= m->limit) {
        const remembered_t *oldest = memory_entry(m, m->oldest);
        int stands = m->places[oldest->slot].stale && !(oldest->before & IN_PLACE) && memory_standing(m, m->oldest);
        int status = stands ? book_settle(l, b, oldest->slot) : OK;
        if (status)
            return status;
    }
    return memory_keep(m, entry, exec_id) ? OK : NO_MEMORY;
}

static inline void book_traded(ledger_t *l, const book_t *b, uint32_t slot, size_t i, double now_s)
{
    book_changed(l, b, slot, now_s);
    turns_received(&l->turns, b->positions.slots[slot].trader, (int64_t)l->columns.field[B_RECEIVED_AT].number[i]);
}

static inline int span_equals(span_t a, span_t b)
{
    return a.length == b.length && !memcmp(a.at, b.at, a.length);
}

static void refuse(ledger_t *l, const book_t *b, size_t i, uint32_t outcome, uint32_t symbol)
{
    l->refused[l->refused_count++] = (refused_t){(uint32_t)i, outcome, symbol, b->symbols[l->rows[i].symbol].multiplier};
}

enum { AGREES, LEARNED, DIFFERS };

/* The first multiplier that is said holds for all positions of the symbol: LEARNED is to be told to their holders. */
static inline int take_multiplier(ledger_t *l, book_t *b, size_t i)
{
    int64_t said = multiplier_of(&l->columns, i), *known = &b->symbols[l->rows[i].symbol].multiplier;
    if (!said || said == *known)
        return AGREES;
    if (*known)
        return DIFFERS;
    *known = said;
    return LEARNED;
}

/* All positions of the row's symbol but two have changed. */
static void others_changed(ledger_t *l, const book_t *b, size_t i, uint32_t one, uint32_t two, double now_s)
{
    uint32_t slot = b->symbols[l->rows[i].symbol].first_holder;
    for (; slot != NO_SLOT; slot = b->positions.next_holder[slot])
        if (slot != one && slot != two)
            book_traded(l, b, slot, i, now_s);
}

static int taken_before(ledger_t *l, book_t *b, size_t i, uint64_t number)
{
    const column_t *f = l->columns.field;
    if (f[B_ACTION].number[i] != ACTION_TRADE && span_equals(f[B_EXEC_ID].text[i], exec_ref_id(&l->columns, i))) {
        refuse(l, b, i, NAMES_ITSELF, 0);
        return OK;
    }
    remembered_t *entry = memory_entry(&b->memory, number);
    uint32_t epoch = (uint32_t)f[B_EPOCH].number[i];
    uint64_t msg_seq_num = f[B_MSG_SEQ_NUM].number[i];
    if (epoch > entry->epoch || (epoch == entry->epoch && msg_seq_num > entry->msg_seq_num)) {
        entry->epoch = epoch;
        entry->msg_seq_num = msg_seq_num;
    }
    l->duplicates++;
    return OK;
}

static remembered_t entry_of(const ledger_t *l, size_t i, uint32_t slot, int64_t quantity, int64_t px)
{
    const column_t *f = l->columns.field;
    const row_t *row = &l->rows[i];
    return (remembered_t){
        .quantity = quantity, .px = px, .msg_seq_num = f[B_MSG_SEQ_NUM].number[i], .hash = row->hash,
        .epoch = (uint32_t)f[B_EPOCH].number[i], .session = row->session, .slot = slot,
        .trade_date = trade_date_of(&l->columns, i),
    };
}

/* Busts or corrects the trade that now stands in the place of the one named by ExecRefID. */
static int adjust(ledger_t *l, book_t *b, size_t i, double now_s)
{
    const column_t *f = l->columns.field;
    const row_t *row = &l->rows[i];
    memory_t *m = &b->memory;
    span_t exec_id = f[B_EXEC_ID].text[i], ref = exec_ref_id(&l->columns, i);
    if (span_equals(exec_id, ref))
        return refuse(l, b, i, NAMES_ITSELF, 0), OK;
    uint64_t number = memory_find_named(m, row->session, trade_date_of(&l->columns, i), ref);
    if (number == NOT_REMEMBERED)
        return refuse(l, b, i, UNKNOWN_REFERENCE, 0), OK;
    number = memory_tip(m, number);
    remembered_t *standing = memory_entry(m, number);
    uint32_t slot = standing->slot, symbol = b->positions.slots[slot].symbol;
    int64_t old_quantity = standing->quantity, old_px = standing->px;
    if (symbol != row->symbol)
        return refuse(l, b, i, OTHER_SYMBOL, symbol), OK;
    if (!old_quantity)
        return refuse(l, b, i, ALREADY_BUSTED, 0), OK;

    int status, multiplier = f[B_ACTION].number[i] == ACTION_BUST ? AGREES : take_multiplier(l, b, i);
    if (multiplier == DIFFERS)
        return refuse(l, b, i, OTHER_MULTIPLIER, 0), OK;
    book_traded(l, b, slot, i, now_s);
    if (f[B_ACTION].number[i] == ACTION_BUST) {
        remembered_t bust = entry_of(l, i, slot, 0, old_px);
        bust.before = IN_PLACE;
        if ((status = book_keep(l, b, bust, exec_id)))
            return status;
        standing->quantity = 0;
        return book_take_back(l, b, slot, old_quantity, old_px);
    }
    int64_t quantity = (int64_t)f[B_LAST_QTY].number[i], px = (int64_t)f[B_LAST_PX].number[i];
    quantity = f[B_SIDE].number[i] == SIDE_BUY ? quantity : -quantity;
    uint32_t *head = &b->symbols[row->symbol].first_holder;
    uint32_t to = positions_slot(&b->positions, row->trader, row->symbol, row->position_hash, head);
    remembered_t correction = entry_of(l, i, to, quantity, px);
    correction.before = to == slot ? IN_PLACE : 0;
    uint64_t kept_as = m->next;
    if (!memory_reserve_skips(m))
        return NO_MEMORY;
    if ((status = book_keep(l, b, correction, exec_id)))
        return status;
    memory_replace(m, number, kept_as);
    if ((status = book_take_back(l, b, slot, old_quantity, old_px)))
        return status;
    if (to != slot)
        book_traded(l, b, to, i, now_s);
    if (multiplier == LEARNED)
        others_changed(l, b, i, slot, to, now_s);
    /* In a complete position it has the place of what it corrects. */
    return to == slot && !m->places[slot].incomplete ? OK : book_move(l, b, to, quantity, px, 1) ? OK : FAULT;
}

static inline int apply_row(ledger_t *l, book_t *b, size_t i, int redriven, double now_s)
{
    const column_t *f = l->columns.field;
    const row_t *row = &l->rows[i];
    span_t exec_id = f[B_EXEC_ID].text[i];
    uint64_t taken = memory_find(&b->memory, row->session, trade_date_of(&l->columns, i), exec_id, row->hash);
    if (taken != NOT_REMEMBERED)
        return taken_before(l, b, i, taken);
    uint32_t epoch = (uint32_t)f[B_EPOCH].number[i];
    if (!redriven && memory_is_forgotten(&b->memory, row->session, epoch, f[B_MSG_SEQ_NUM].number[i])) {
        l->duplicates++;
        return OK;
    }
    if (f[B_ACTION].number[i] != ACTION_TRADE)
        return adjust(l, b, i, now_s);
    int multiplier = take_multiplier(l, b, i);
    if (multiplier == DIFFERS)
        return refuse(l, b, i, OTHER_MULTIPLIER, 0), OK;
    int64_t quantity = (int64_t)f[B_LAST_QTY].number[i], px = (int64_t)f[B_LAST_PX].number[i];
    quantity = f[B_SIDE].number[i] == SIDE_BUY ? quantity : -quantity;
    uint32_t *head = &b->symbols[row->symbol].first_holder;
    uint32_t slot = positions_slot(&b->positions, row->trader, row->symbol, row->position_hash, head);
    int status = book_keep(l, b, entry_of(l, i, slot, quantity, px), exec_id); /* before it counts: it may settle */
    if (status)
        return status;
    book_traded(l, b, slot, i, now_s);
    if (multiplier == LEARNED)
        others_changed(l, b, i, slot, slot, now_s);
    return book_move(l, b, slot, quantity, px, 1) ? OK : FAULT;
}

/* Applies the bytes of a batch; what was refused is in `refused`. MALFORMED: nothing was applied. */
static int apply_trades(ledger_t *l, book_t *b, const uint8_t *data, size_t length, double now_s)
{
    int status = read_trades(data, length, l->trades_version, &l->columns);
    l->refused_count = l->duplicates = 0;
    if (status)
        return status;
    if (!prepare_rows(l, b))
        return NO_MEMORY;
    size_t rows = l->columns.field[B_EXEC_ID].count;
    int redriven = is_redriven(&l->columns);
    for (size_t i = 0; i < rows && !status; i++) {
        if (i + AHEAD < rows)
            fetch_ahead(l, b, &l->rows[i + AHEAD]);
        status = apply_row(l, b, i, redriven, now_s);
    }
    return status;
}

#endif
