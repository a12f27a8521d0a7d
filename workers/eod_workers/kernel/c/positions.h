/* Positions as 64-byte slots in arrival order, found by (trader, symbol): `pnl/positions.py` owns the arithmetic.
 *
 * A number that would leave its type moves its position, for good, into a Python `Position` of the caller, who is called
 * back for every later change of it: rare, slow, and exact.
 */
#ifndef EOD_POSITIONS_H
#define EOD_POSITIONS_H

#include "names.h"

#define NO_SLOT UINT32_MAX
#define IS_BIG INT64_MIN /* in `trades`: the numbers are in the caller's big position number `quantity` */

typedef struct {
    i128 cost, realized; /* 1e-16 */
    int64_t quantity;    /* 1e-8 */
    int64_t trades;
    uint64_t dirty_next; /* 0: not waiting to be published; else the trader's next such slot, or DIRTY_END */
    uint32_t trader, symbol;
} position_t;

_Static_assert(sizeof(position_t) == 64, "a position is one cache line");

typedef struct {
    position_t *slots;
    uint32_t *next_holder; /* slot → the next slot of the same symbol */
    uint32_t count, capacity;
    uint64_t *table, mask, key; /* as in names_t */
} positions_t;

static void positions_free(positions_t *p)
{
    free(p->slots);
    free(p->next_holder);
    free(p->table);
    memset(p, 0, sizeof *p);
}

static int positions_rehash(positions_t *p, uint64_t size)
{
    uint64_t *table = calloc(size, sizeof *table);
    if (!table)
        return 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint64_t hash = hash_pair(p->slots[i].trader, p->slots[i].symbol, p->key), place = hash;
        while (table[place & (size - 1)])
            place++;
        table[place & (size - 1)] = (hash & 0xFFFFFFFF00000000ULL) | (i + 1);
    }
    free(p->table);
    p->table = table;
    p->mask = size - 1;
    return 1;
}

/* Room for `more` positions, so that none of them needs memory of its own. */
static int positions_reserve(positions_t *p, uint32_t more)
{
    uint64_t wanted = (uint64_t)p->count + more;
    if (wanted >= INT32_MAX)
        return 0;
    if (wanted > p->capacity) {
        uint64_t capacity = p->capacity < 64 ? 64 : p->capacity + p->capacity / 2;
        capacity = capacity < wanted ? wanted : capacity;
        position_t *slots = aligned_alloc(64, capacity * sizeof *slots);
        uint32_t *next = realloc(p->next_holder, capacity * sizeof *next);
        if (next)
            p->next_holder = next;
        if (!slots || !next) {
            free(slots);
            return 0;
        }
        if (p->count)
            memcpy(slots, p->slots, p->count * sizeof *slots);
        free(p->slots);
        p->slots = slots;
        p->capacity = (uint32_t)capacity;
    }
    uint64_t size = p->table ? p->mask + 1 : 128;
    while (size < wanted * 2)
        size *= 2;
    return (p->table && size == p->mask + 1) || positions_rehash(p, size);
}

/* The slot of (trader, symbol), or NO_SLOT; `*place` is then where it belongs. Needs a table. */
static inline uint32_t positions_look(
    const positions_t *p, uint32_t trader, uint32_t symbol, uint64_t hash, uint64_t *place)
{
    for (*place = hash & p->mask; p->table[*place]; *place = (*place + 1) & p->mask) {
        uint64_t entry = p->table[*place];
        const position_t *slot = &p->slots[(uint32_t)entry - 1];
        if (entry >> 32 == hash >> 32 && slot->trader == trader && slot->symbol == symbol)
            return (uint32_t)entry - 1;
    }
    return NO_SLOT;
}

static uint32_t positions_find(const positions_t *p, uint32_t trader, uint32_t symbol)
{
    uint64_t place;
    return p->table ? positions_look(p, trader, symbol, hash_pair(trader, symbol, p->key), &place) : NO_SLOT;
}

/* The slot of (trader, symbol), made if there is none: `*head` is the first holder of the symbol. Needs reserved room. */
static inline uint32_t positions_slot(
    positions_t *p, uint32_t trader, uint32_t symbol, uint64_t hash, uint32_t *head)
{
    uint64_t place;
    uint32_t slot = positions_look(p, trader, symbol, hash, &place);
    if (slot != NO_SLOT)
        return slot;
    slot = p->count++;
    p->slots[slot] = (position_t){.trader = trader, .symbol = symbol};
    p->next_holder[slot] = *head;
    *head = slot;
    p->table[place] = (hash & 0xFFFFFFFF00000000ULL) | (slot + 1);
    return slot;
}

/* Takes in a signed quantity at a price. 0: a number would leave its type, and nothing has changed. */
static inline int position_move(position_t *p, int64_t quantity, int64_t px)
{
    int64_t held = p->quantity, after;
    i128 value = (i128)quantity * px, cost, realized = p->realized;
    if (__builtin_add_overflow(held, quantity, &after))
        return 0;
    if (!held || !quantity || (held > 0) == (quantity > 0)) { /* opens or increases */
        if (__builtin_add_overflow(p->cost, value, &cost))
            return 0;
    } else if (after && (after > 0) == (held > 0)) { /* closes a part */
        i128 allotted = (i128)share(magnitude(p->cost), magnitude64(quantity), magnitude64(held));
        allotted = p->cost < 0 ? -allotted : allotted;
        if (__builtin_sub_overflow(realized, value, &realized) || __builtin_sub_overflow(realized, allotted, &realized))
            return 0;
        cost = p->cost - allotted;
    } else { /* closes everything, and opens the rest, if any */
        i128 gain;
        if (__builtin_sub_overflow((i128)held * px, p->cost, &gain) || __builtin_add_overflow(realized, gain, &realized))
            return 0;
        cost = (i128)after * px;
    }
    p->quantity = after;
    p->cost = cost;
    p->realized = realized;
    return 1;
}

/* What closing at the mark would add to `realized`. 0: more than 128 bits. */
static inline int position_unrealized(const position_t *p, int64_t mark_px, i128 *value)
{
    if (!p->quantity) {
        *value = 0;
        return 1;
    }
    return !__builtin_sub_overflow((i128)p->quantity * mark_px, p->cost, value);
}

#endif
