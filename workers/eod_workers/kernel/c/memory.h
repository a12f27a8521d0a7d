/* The trades that a book remembers, oldest first, and the numbers where its memory ends: `pnl/book.py` owns the rule.
 *
 * Two rings, one of 64-byte entries and one of ExecIDs, and a hash table over them. Everything is numbered from the first
 * trade on and found modulo a power of two, so that forgetting the oldest moves nothing. `walked` counts the trades that
 * were looked at for busts and corrections.
 */
#ifndef EOD_MEMORY_H
#define EOD_MEMORY_H

#include "names.h"

enum { MAX_EPOCHS = 32 };
#define NOT_REMEMBERED UINT64_MAX

typedef struct {
    int64_t quantity, px;    /* signed, 0 once busted; 1e-8 */
    uint64_t msg_seq_num;    /* with `epoch`: the highest delivery that brought it */
    uint64_t id_at;          /* ExecID, in the ring of bytes */
    uint32_t replaced;       /* by how much the number of its correction is higher, or 0 */
    uint32_t trade_date;     /* yyyymmdd, 0: not known */
    uint32_t id_length, hash; /* the hash is of session and ExecID alone: a bust does not say of which day its trade is */
    uint32_t epoch, session;
    uint32_t slot;   /* its position */
    uint32_t before; /* by how much the number of the one before it in its position is lower, or 0; with IN_PLACE */
} remembered_t;

_Static_assert(sizeof(remembered_t) == 64, "a remembered trade is one cache line");

/* In `before`: not of those that the position is made of, for it is a bust, or stands in the place of an earlier one. */
#define IN_PLACE 0x80000000u

/* What the memory knows of a position: the number of the last trade in it + 1, and three flags. `stale`: to be made anew. */
typedef struct {
    uint64_t last;
    uint8_t incomplete, approximate, stale;
} place_t;

typedef struct {
    uint64_t msg_seq_num;
    uint32_t epoch;
} forgotten_t;

typedef struct {
    forgotten_t *epochs;
    uint32_t count, capacity;
} forgetting_t;

/* `table`: open addressing with linear probing, 32 bits of hash (never 0), then the low 32 bits of the number. */
typedef struct {
    remembered_t *ring;
    uint32_t *skips; /* as the ring; NULL until there is a correction: see memory_tip */
    uint64_t ring_size, oldest, next, limit, walked;
    uint8_t *ids;
    uint64_t ids_size, ids_oldest, ids_next;
    uint64_t *table, mask, key;
    forgetting_t *forgotten; /* by session */
    place_t *places;         /* by slot of the position */
    uint32_t sessions, places_count;
} memory_t;

static void memory_free(memory_t *m)
{
    for (uint32_t i = 0; i < m->sessions; i++)
        free(m->forgotten[i].epochs);
    free(m->forgotten);
    free(m->places);
    free(m->ring);
    free(m->skips);
    free(m->ids);
    free(m->table);
    memset(m, 0, sizeof *m);
}

static inline uint64_t memory_count(const memory_t *m)
{
    return m->next - m->oldest;
}

static inline remembered_t *memory_entry(const memory_t *m, uint64_t number)
{
    return &m->ring[number & (m->ring_size - 1)];
}

static inline uint32_t *memory_skip(const memory_t *m, uint64_t number)
{
    return &m->skips[number & (m->ring_size - 1)];
}

static inline uint32_t identity_hash(const memory_t *m, uint32_t session, span_t exec_id)
{
    uint64_t key = m->key + session * 0x9E3779B97F4A7C15ULL;
    return (uint32_t)(hash_bytes(exec_id.at, exec_id.length, key) >> 32) | 1;
}

static inline uint64_t memory_place(const memory_t *m, uint32_t hash)
{
    return (hash >> 1) & m->mask;
}

/* --- ExecIDs --------------------------------------------------------------------------------------------------- */

/* Copies bytes into or out of the ring, over its end where need be. */
static void ids_copy_in(uint8_t *ring, uint64_t size, uint64_t at, const uint8_t *from, uint64_t length)
{
    uint64_t place = at & (size - 1), first = size - place < length ? size - place : length;
    if (first)
        memcpy(ring + place, from, first);
    if (length > first)
        memcpy(ring, from + first, length - first);
}

static void ids_copy_out(const memory_t *m, const remembered_t *entry, uint8_t *to)
{
    uint64_t place = entry->id_at & (m->ids_size - 1), length = entry->id_length;
    uint64_t first = m->ids_size - place < length ? m->ids_size - place : length;
    if (first)
        memcpy(to, m->ids + place, first);
    if (length > first)
        memcpy(to + first, m->ids, length - first);
}

static int id_equals(const memory_t *m, const remembered_t *entry, span_t exec_id)
{
    if (entry->id_length != exec_id.length)
        return 0;
    uint64_t place = entry->id_at & (m->ids_size - 1), length = exec_id.length;
    uint64_t first = m->ids_size - place < length ? m->ids_size - place : length;
    return !memcmp(m->ids + place, exec_id.at, first) && !memcmp(m->ids, exec_id.at + first, length - first);
}

/* --- room ------------------------------------------------------------------------------------------------------ */

static uint64_t power_of_two(uint64_t least, uint64_t from)
{
    while (from < least)
        from *= 2;
    return from;
}

static int memory_grow_ids(memory_t *m, uint64_t size)
{
    uint8_t *ids = malloc(size);
    if (!ids)
        return 0;
    uint64_t used = m->ids_next - m->ids_oldest;
    if (used) {
        uint64_t place = m->ids_oldest & (m->ids_size - 1);
        uint64_t first = m->ids_size - place < used ? m->ids_size - place : used;
        ids_copy_in(ids, size, m->ids_oldest, m->ids + place, first);
        ids_copy_in(ids, size, m->ids_oldest + first, m->ids, used - first);
    }
    free(m->ids);
    m->ids = ids;
    m->ids_size = size;
    return 1;
}

static int memory_grow_ring(memory_t *m, uint64_t size)
{
    remembered_t *ring = aligned_alloc(64, size * sizeof *ring);
    uint32_t *skips = m->skips ? malloc(size * sizeof *skips) : NULL;
    if (!ring || (m->skips && !skips)) {
        free(ring);
        free(skips);
        return 0;
    }
    for (uint64_t i = m->oldest; i < m->next; i++) {
        ring[i & (size - 1)] = *memory_entry(m, i);
        if (skips)
            skips[i & (size - 1)] = *memory_skip(m, i);
    }
    free(m->ring);
    free(m->skips);
    m->skips = skips;
    m->ring = ring;
    m->ring_size = size;
    return 1;
}

static int memory_rehash(memory_t *m, uint64_t size)
{
    uint64_t *table = calloc(size, sizeof *table);
    if (!table)
        return 0;
    free(m->table);
    m->table = table;
    m->mask = size - 1;
    for (uint64_t i = m->oldest; i < m->next; i++) {
        uint32_t hash = memory_entry(m, i)->hash;
        uint64_t place = memory_place(m, hash);
        while (table[place])
            place = (place + 1) & m->mask;
        table[place] = (uint64_t)hash << 32 | (uint32_t)i;
    }
    return 1;
}

static int memory_reserve_sessions(memory_t *m, uint32_t sessions)
{
    if (sessions <= m->sessions)
        return 1;
    forgetting_t *grown = realloc(m->forgotten, sessions * 2 * sizeof *grown);
    if (!grown)
        return 0;
    memset(grown + m->sessions, 0, (sessions * 2 - m->sessions) * sizeof *grown);
    m->forgotten = grown;
    m->sessions = sessions * 2;
    return 1;
}

/* Places for positions below this number. */
static int memory_reserve_places(memory_t *m, uint32_t positions)
{
    if (positions <= m->places_count)
        return 1;
    uint32_t count = positions + positions / 2 + 16;
    place_t *grown = realloc(m->places, count * sizeof *grown);
    if (!grown)
        return 0;
    memset(grown + m->places_count, 0, (count - m->places_count) * sizeof *grown);
    m->places = grown;
    m->places_count = count;
    return 1;
}

/* Room for so many trades, ExecIDs of so many bytes and so many sessions: applying a batch allocates nothing else but an
 * epoch's line, once an epoch. */
static int memory_reserve(memory_t *m, uint64_t trades, uint64_t id_bytes, uint32_t sessions)
{
    uint64_t most = memory_count(m) + trades;
    if (most > m->limit + 1)
        most = m->limit + 1;
    if (most >= INT32_MAX)
        return 0;
    uint64_t ring = power_of_two(most, m->ring ? m->ring_size : 64);
    uint64_t ids = power_of_two(m->ids_next - m->ids_oldest + id_bytes, m->ids ? m->ids_size : 1024);
    uint64_t table = power_of_two(most * 2, m->table ? m->mask + 1 : 128);
    return (ring == m->ring_size || memory_grow_ring(m, ring)) && (ids == m->ids_size || memory_grow_ids(m, ids)) &&
           ((m->table && table == m->mask + 1) || memory_rehash(m, table)) && memory_reserve_sessions(m, sessions);
}

/* --- looking, keeping, forgetting ------------------------------------------------------------------------------ */

/* The trade of a session with this ExecID and, if `any`, of whichever day: that day if there is one, else the latest. */
static inline uint64_t memory_look(const memory_t *m, uint32_t session, uint32_t trade_date, span_t exec_id,
                                   uint32_t hash, int any)
{
    uint64_t latest = NOT_REMEMBERED;
    for (uint64_t place = memory_place(m, hash); m->table[place]; place = (place + 1) & m->mask) {
        uint64_t found = m->table[place];
        if (found >> 32 != hash)
            continue;
        uint64_t number = m->oldest + (uint32_t)((uint32_t)found - (uint32_t)m->oldest);
        const remembered_t *entry = memory_entry(m, number);
        if (entry->session != session || (!any && entry->trade_date != trade_date) || !id_equals(m, entry, exec_id))
            continue;
        if (entry->trade_date == trade_date)
            return number;
        if (latest == NOT_REMEMBERED || entry->trade_date > memory_entry(m, latest)->trade_date)
            latest = number;
    }
    return latest;
}

static inline uint64_t memory_find(const memory_t *m, uint32_t session, uint32_t trade_date, span_t exec_id,
                                   uint32_t hash)
{
    return memory_look(m, session, trade_date, exec_id, hash, 0);
}

/* What a bust or a correction of that day means by an ExecID. */
static inline uint64_t memory_find_named(const memory_t *m, uint32_t session, uint32_t trade_date, span_t exec_id)
{
    return memory_look(m, session, trade_date, exec_id, identity_hash(m, session, exec_id), 1);
}

/* Whether a delivery of a trade that is not remembered is not above those that were forgotten. */
static inline int memory_is_forgotten(const memory_t *m, uint32_t session, uint32_t epoch, uint64_t msg_seq_num)
{
    const forgetting_t *f = &m->forgotten[session];
    if (!f->count)
        return 0;
    for (uint32_t i = 0; i < f->count; i++)
        if (f->epochs[i].epoch == epoch)
            return msg_seq_num <= f->epochs[i].msg_seq_num;
    return !msg_seq_num;
}

/* Notes a highest forgotten number as it is. 0: no memory. */
static int memory_note_forgotten(memory_t *m, uint32_t session, uint32_t epoch, uint64_t msg_seq_num)
{
    forgetting_t *f = &m->forgotten[session];
    for (uint32_t i = 0; i < f->count; i++)
        if (f->epochs[i].epoch == epoch) {
            f->epochs[i].msg_seq_num = msg_seq_num;
            return 1;
        }
    if (f->count == f->capacity) {
        uint32_t capacity = f->capacity ? f->capacity * 2 : 4;
        forgotten_t *grown = realloc(f->epochs, capacity * sizeof *grown);
        if (!grown)
            return 0;
        f->epochs = grown;
        f->capacity = capacity;
    }
    f->epochs[f->count++] = (forgotten_t){msg_seq_num, epoch};
    return 1;
}

static int memory_raise_forgotten(memory_t *m, const remembered_t *entry)
{
    forgetting_t *f = &m->forgotten[entry->session];
    for (uint32_t i = 0; i < f->count; i++)
        if (f->epochs[i].epoch == entry->epoch && entry->msg_seq_num <= f->epochs[i].msg_seq_num)
            return 1;
    if (!memory_note_forgotten(m, entry->session, entry->epoch, entry->msg_seq_num))
        return 0;
    if (f->count > MAX_EPOCHS) { /* the lowest epoch goes; the others keep their order */
        uint32_t lowest = 0;
        for (uint32_t i = 1; i < f->count; i++)
            if (f->epochs[i].epoch < f->epochs[lowest].epoch)
                lowest = i;
        memmove(&f->epochs[lowest], &f->epochs[lowest + 1], (--f->count - lowest) * sizeof *f->epochs);
    }
    return 1;
}

/* Takes the entry out of the table, and moves up what was pushed behind it. */
static inline void memory_unlink(memory_t *m, uint64_t number, uint32_t hash)
{
    uint64_t wanted = (uint64_t)hash << 32 | (uint32_t)number, hole = memory_place(m, hash);
    while (m->table[hole] != wanted)
        hole = (hole + 1) & m->mask;
    for (uint64_t next = (hole + 1) & m->mask; m->table[next]; next = (next + 1) & m->mask) {
        uint64_t home = memory_place(m, (uint32_t)(m->table[next] >> 32));
        if (((next - home) & m->mask) >= ((next - hole) & m->mask)) {
            m->table[hole] = m->table[next];
            hole = next;
        }
    }
    m->table[hole] = 0;
}

/* Room for the skips: a book without a correction has none. 0: no memory. */
static int memory_reserve_skips(memory_t *m)
{
    if (!m->skips)
        m->skips = malloc(m->ring_size * sizeof *m->skips);
    return m->skips != NULL;
}

/* A correction, which is younger, stands in the place of a trade from now on. Needs room for skips. */
static inline void memory_replace(memory_t *m, uint64_t number, uint64_t correction)
{
    memory_entry(m, number)->replaced = *memory_skip(m, number) = (uint32_t)(correction - number);
}

/* The number of what now stands in the place of a trade, in whichever position. Whoever corrects names the first, or the
 * last, or any between: skips lead over corrections of corrections, further with each walk, or N corrections of one trade
 * would take N*N steps. What a skip leads to is younger, so it is not forgotten before. */
static inline uint64_t memory_tip(memory_t *m, uint64_t number)
{
    for (; memory_entry(m, number)->replaced; number += *memory_skip(m, number)) {
        uint64_t after = number + *memory_skip(m, number);
        if (memory_entry(m, after)->replaced)
            *memory_skip(m, number) += *memory_skip(m, after);
        m->walked++;
    }
    return number;
}

/* What stands in the place of one that its position is made of: an entry, or NULL if nothing does, in that position. All
 * that it walks over is of that position, and in the place of no other. */
static inline const remembered_t *memory_standing(memory_t *m, uint64_t number)
{
    const remembered_t *entry = memory_entry(m, number), *first = entry;
    while (entry->replaced) {
        m->walked++;
        number += entry->replaced;
        entry = memory_entry(m, number);
        if (entry->slot != first->slot)
            return NULL;
    }
    return entry->quantity ? entry : NULL;
}

static int memory_forget_oldest(memory_t *m)
{
    remembered_t *entry = memory_entry(m, m->oldest);
    if (!(entry->before & IN_PLACE) && memory_standing(m, m->oldest))
        m->places[entry->slot].incomplete = 1;
    memory_unlink(m, m->oldest, entry->hash);
    m->oldest++;
    m->ids_oldest = entry->id_at + entry->id_length;
    return !entry->msg_seq_num || memory_raise_forgotten(m, entry);
}

/* Keeps a trade that is not remembered, and forgets the oldest beyond the limit. 0: no memory for a line of an epoch.
 * Needs reserved room. `entry` comes without `id_at` and `id_length`, its `before` is 0 or IN_PLACE. */
static inline int memory_keep(memory_t *m, remembered_t entry, span_t exec_id)
{
    entry.id_at = m->ids_next;
    entry.id_length = exec_id.length;
    ids_copy_in(m->ids, m->ids_size, m->ids_next, exec_id.at, exec_id.length);
    m->ids_next += exec_id.length;
    uint64_t place = memory_place(m, entry.hash);
    while (m->table[place])
        place = (place + 1) & m->mask;
    m->table[place] = (uint64_t)entry.hash << 32 | (uint32_t)m->next;
    place_t *position = &m->places[entry.slot];
    if (position->last > m->oldest)
        entry.before |= (uint32_t)(m->next - (position->last - 1));
    position->last = m->next + 1;
    *memory_entry(m, m->next) = entry;
    m->next++;
    return memory_count(m) <= m->limit || memory_forget_oldest(m);
}

#endif
