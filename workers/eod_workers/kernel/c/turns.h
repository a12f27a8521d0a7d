/* Whose turn it is to be published: `pnl/publishing.py` owns the rules.
 *
 * Each trader has at most one place in the queue, a list of the positions that have changed since, and the receive times
 * of the trades behind them.
 */
#ifndef EOD_TURNS_H
#define EOD_TURNS_H

#include <math.h>

#include "positions.h"

enum { RECEIPTS = 4096, KEPT_RECEIPTS = 64 };
#define DIRTY_END 1ULL /* behind the last changed position of a trader */

typedef struct {
    double published_s;
    uint64_t dirty; /* the first changed position, as place_of says it; DIRTY_END: none */
    int64_t *received_ns;
    uint32_t received, capacity;
    uint8_t waits, was_published;
} trader_t;

typedef struct {
    double due_s;
    uint32_t trader;
} turn_t;

typedef struct {
    trader_t *traders; /* by number */
    turn_t *queue;     /* a binary heap, the first due on top */
    uint32_t count, capacity;
    double interval_s;
} turns_t;

static void turns_free(turns_t *t)
{
    for (uint32_t i = 0; i < t->capacity; i++)
        free(t->traders[i].received_ns);
    free(t->traders);
    free(t->queue);
    memset(t, 0, sizeof *t);
}

/* Room for the traders below `traders`: each may wait, once. */
static int turns_reserve(turns_t *t, uint32_t traders)
{
    if (traders <= t->capacity)
        return 1;
    uint32_t capacity = t->capacity < 64 ? 64 : t->capacity * 2;
    capacity = capacity < traders ? traders : capacity;
    trader_t *grown = realloc(t->traders, capacity * sizeof *grown);
    if (grown)
        t->traders = grown;
    turn_t *queue = realloc(t->queue, capacity * sizeof *queue);
    if (queue)
        t->queue = queue;
    if (!grown || !queue)
        return 0;
    memset(grown + t->capacity, 0, (capacity - t->capacity) * sizeof *grown);
    for (uint32_t i = t->capacity; i < capacity; i++)
        grown[i].dirty = DIRTY_END;
    t->capacity = capacity;
    return 1;
}

static inline uint64_t place_of(uint32_t partition_index, uint32_t slot)
{
    return (uint64_t)(partition_index + 1) << 32 | slot;
}

/* The trader waits from now on, unless it does already. */
static inline void turns_wait(turns_t *t, uint32_t number, double now_s)
{
    trader_t *trader = &t->traders[number];
    if (trader->waits)
        return;
    trader->waits = 1;
    double due_s = now_s;
    if (trader->was_published && trader->published_s + t->interval_s > now_s)
        due_s = trader->published_s + t->interval_s;
    uint32_t at = t->count++;
    while (at && t->queue[(at - 1) / 2].due_s > due_s) {
        t->queue[at] = t->queue[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->queue[at] = (turn_t){due_s, number};
}

/* The position has changed; `place` is place_of it. */
static inline void turns_changed(turns_t *t, position_t *position, uint64_t place, double now_s)
{
    if (position->dirty_next)
        return;
    trader_t *trader = &t->traders[position->trader];
    position->dirty_next = trader->dirty;
    trader->dirty = place;
    turns_wait(t, position->trader, now_s);
}

/* Keeps when a trade was received. Without memory for it latency is overstated, as beyond the limit. */
static inline void turns_received(turns_t *t, uint32_t number, int64_t received_at_ns)
{
    trader_t *trader = &t->traders[number];
    if (trader->received == trader->capacity) {
        uint32_t capacity = trader->capacity ? trader->capacity * 2 : 8;
        int64_t *grown = capacity > RECEIPTS ? NULL : realloc(trader->received_ns, capacity * sizeof *grown);
        if (!grown)
            return;
        trader->received_ns = grown;
        trader->capacity = capacity;
    }
    trader->received_ns[trader->received++] = received_at_ns;
}

/* The trader whose turn it is at `now_s`, who counts as published, or -1. At infinity everybody's turn comes, and counts
 * as published when it would have been due. */
static int64_t turns_take(turns_t *t, double now_s)
{
    if (!t->count || !(t->queue[0].due_s <= now_s))
        return -1;
    turn_t first = t->queue[0], last = t->queue[--t->count];
    uint32_t at = 0, child;
    while ((child = 2 * at + 1) < t->count) {
        child += child + 1 < t->count && t->queue[child + 1].due_s < t->queue[child].due_s;
        if (t->queue[child].due_s >= last.due_s)
            break;
        t->queue[at] = t->queue[child];
        at = child;
    }
    t->queue[at] = last;
    trader_t *trader = &t->traders[first.trader];
    trader->waits = 0;
    trader->was_published = 1;
    trader->published_s = isinf(now_s) ? first.due_s : now_s;
    return first.trader;
}

/* Counts how many of the times are within each of the rising bounds, and beyond the last; adds up how late they are. */
static void count_late(const int64_t *received_ns, size_t count, int64_t now_ns, const int64_t *bounds_ns, size_t bounds,
                       int64_t *found, i128 *total_ns)
{
    for (size_t i = 0; i < count; i++) {
        i128 late_ns = (i128)now_ns - received_ns[i];
        size_t at = 0;
        while (at < bounds && late_ns > bounds_ns[at])
            at++;
        found[at]++;
        *total_ns += late_ns;
    }
}

/* Forgets the receive times that were handed over; a burst's room is given back. */
static void turns_handed_over(trader_t *trader)
{
    trader->received = 0;
    if (trader->capacity > KEPT_RECEIPTS) {
        free(trader->received_ns);
        trader->received_ns = NULL;
        trader->capacity = 0;
    }
}

#endif
