/* What prices do to a book, and what its positions in a symbol come to: `pnl/marks.py` owns the rule of marks.
 *
 * One price may change a million positions. They are met in the order of a chain, in chunks, so that the memory of a whole
 * chunk is asked for before the first of it is needed.
 */
#ifndef EOD_PRICES_H
#define EOD_PRICES_H

#include "book.h"

enum { CHUNK = 64 };

/* Gathers the next holders of a symbol and asks for their memory; returns how many, and moves `*slot` on. */
static inline uint32_t gather_holders(const positions_t *p, uint32_t *slot, uint32_t *found)
{
    uint32_t count = 0;
    for (; count < CHUNK && *slot != NO_SLOT; *slot = p->next_holder[*slot]) {
        __builtin_prefetch(&p->slots[*slot], 1);
        found[count++] = *slot;
    }
    return count;
}

static void remark(ledger_t *l, const book_t *b, uint32_t symbol, double now_s)
{
    uint32_t found[CHUNK], count, slot = b->symbols[symbol].first_holder;
    while ((count = gather_holders(&b->positions, &slot, found))) {
        for (uint32_t i = 0; i < count; i++)
            __builtin_prefetch(&l->turns.traders[b->positions.slots[found[i]].trader], 1);
        for (uint32_t i = 0; i < count; i++)
            book_changed(l, b, found[i], now_s);
    }
}

/* Whether the later session, within it the higher source, within that the later event time is the new one's. */
static inline int is_better(const symbol_t *now, const symbol_t *then)
{
    if (!then->source || now->session_date != then->session_date)
        return !then->source || now->session_date > then->session_date;
    if (now->source != then->source)
        return now->source > then->source;
    return now->event_time_ns >= then->event_time_ns;
}

/* Applies the bytes of a batch. MALFORMED: nothing was applied. */
static int apply_prices(ledger_t *l, book_t *b, const uint8_t *data, size_t length, double now_s)
{
    const column_t *f = l->columns.field;
    int status = read_prices(data, length, l->prices_version, &l->columns);
    if (status)
        return status;
    for (size_t i = 0; i < f[P_SYMBOL].count; i++) {
        int64_t number = names_number(&l->symbols, f[P_STRINGS].text[f[P_SYMBOL].number[i]]);
        if (number < 0 || !book_reserve_symbols(b, l->symbols.count))
            return NO_MEMORY;
        symbol_t *symbol = &b->symbols[number], incoming = *symbol;
        incoming.px = (int64_t)f[P_PX].number[i];
        incoming.event_time_ns = (int64_t)f[P_EVENT_TIME].number[i];
        incoming.source = (uint32_t)f[P_SOURCE].number[i];
        incoming.session_date = (uint32_t)f[P_SESSION_DATE].number[i];
        if (!is_better(&incoming, symbol))
            continue;
        int changed = incoming.px != symbol->px || incoming.source != symbol->source;
        *symbol = incoming;
        if (changed)
            remark(l, b, (uint32_t)number, now_s);
    }
    return OK;
}

/* What all positions of a symbol come to. */
typedef struct {
    i128 long_quantity, short_quantity, cost, realized; /* 1e-8, 1e-8, 1e-16, 1e-16 */
    uint64_t positions;
} value_t;

/* Adds them up, each touched once. 0: a sum leaves 128 bits, or a position is big: the caller adds up for itself. */
static int value_of(const book_t *b, uint32_t symbol, value_t *value)
{
    uint32_t found[CHUNK], count, slot = b->symbols[symbol].first_holder;
    memset(value, 0, sizeof *value);
    while ((count = gather_holders(&b->positions, &slot, found)))
        for (uint32_t i = 0; i < count; i++) {
            const position_t *p = &b->positions.slots[found[i]];
            if (p->trades == IS_BIG || __builtin_add_overflow(value->cost, p->cost, &value->cost) ||
                __builtin_add_overflow(value->realized, p->realized, &value->realized))
                return 0;
            *(p->quantity > 0 ? &value->long_quantity : &value->short_quantity) += p->quantity;
            value->positions++;
        }
    return 1;
}

#endif
