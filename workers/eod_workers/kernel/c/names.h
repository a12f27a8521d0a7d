/* Names as numbers: each session, trader and symbol is kept once, and known by a small number from then on. */
#ifndef EOD_NAMES_H
#define EOD_NAMES_H

#include "wide.h"
#include "wire.h"

/* A keyed hash in the manner of wyhash: multiply 64 × 64 → 128 bits and fold. Counterparties choose what is hashed, so
 * the key differs from process to process. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
    u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(const uint8_t *at, uint32_t length, uint64_t key)
{
    uint64_t sum = key ^ (length * 0x9E3779B97F4A7C15ULL), word;
    uint32_t left = length;
    for (; left > 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        sum = fold(sum ^ word, 0xA0761D6478BD642FULL ^ key);
    }
    word = 0;
    if (left)
        memcpy(&word, at, left);
    return fold(sum ^ word, 0xE7037ED1A0B428DBULL ^ sum);
}

static inline uint64_t hash_pair(uint32_t a, uint32_t b, uint64_t key)
{
    return fold(((uint64_t)a << 32 | b) ^ key, 0x9E3779B97F4A7C15ULL ^ (key << 1 | 1));
}

typedef struct {
    uint64_t at;
    uint32_t length;
} name_t;

/* `table` is open addressing with linear probing: 32 bits of hash, then number + 1; 0 is free. At most half full. */
typedef struct {
    uint64_t *table, mask, key;
    name_t *names;
    uint32_t count, capacity;
    uint8_t *bytes;
    size_t bytes_count, bytes_capacity;
} names_t;

static void names_free(names_t *names)
{
    free(names->table);
    free(names->names);
    free(names->bytes);
    memset(names, 0, sizeof *names);
}

static inline const uint8_t *name_at(const names_t *names, uint32_t number)
{
    return names->bytes + names->names[number].at;
}

static int names_grow(names_t *names)
{
    uint64_t size = names->table ? (names->mask + 1) * 2 : 64;
    uint64_t *table = calloc(size, sizeof *table);
    if (!table)
        return 0;
    for (uint64_t i = 0; names->table && i <= names->mask; i++) {
        uint64_t entry = names->table[i];
        if (!entry)
            continue;
        uint32_t number = (uint32_t)entry - 1;
        uint64_t place = hash_bytes(name_at(names, number), names->names[number].length, names->key);
        while (table[place & (size - 1)])
            place++;
        table[place & (size - 1)] = entry;
    }
    free(names->table);
    names->table = table;
    names->mask = size - 1;
    return 1;
}

/* The number of a name, or -1 if it is new. `*place` is then where it belongs. */
static inline int64_t names_look(const names_t *names, span_t text, uint64_t hash, uint64_t *place)
{
    for (*place = hash & names->mask; names->table[*place]; *place = (*place + 1) & names->mask) {
        uint64_t entry = names->table[*place];
        if (entry >> 32 != hash >> 32)
            continue;
        const name_t *name = &names->names[(uint32_t)entry - 1];
        if (name->length == text.length && !memcmp(names->bytes + name->at, text.at, text.length))
            return (int64_t)(uint32_t)entry - 1;
    }
    return -1;
}

static int64_t names_find(const names_t *names, span_t text)
{
    uint64_t place;
    return names->table ? names_look(names, text, hash_bytes(text.at, text.length, names->key), &place) : -1;
}

/* The number of a name, which is kept if it is new; -1 without memory. */
static int64_t names_number(names_t *names, span_t text)
{
    uint64_t place, hash = hash_bytes(text.at, text.length, names->key);
    if ((!names->table || (uint64_t)names->count * 2 >= names->mask) && !names_grow(names))
        return -1;
    int64_t found = names_look(names, text, hash, &place);
    if (found >= 0)
        return found;
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity ? names->capacity * 2 : 32;
        name_t *grown = capacity > INT32_MAX ? NULL : realloc(names->names, capacity * sizeof *grown);
        if (!grown)
            return -1;
        names->names = grown;
        names->capacity = capacity;
    }
    if (names->bytes_capacity - names->bytes_count < text.length || !names->bytes) {
        size_t capacity = names->bytes_capacity ? names->bytes_capacity : 1024;
        while (capacity - names->bytes_count < text.length)
            capacity *= 2;
        uint8_t *grown = realloc(names->bytes, capacity);
        if (!grown)
            return -1;
        names->bytes = grown;
        names->bytes_capacity = capacity;
    }
    if (text.length)
        memcpy(names->bytes + names->bytes_count, text.at, text.length);
    names->names[names->count] = (name_t){names->bytes_count, text.length};
    names->bytes_count += text.length;
    names->table[place] = (hash & 0xFFFFFFFF00000000ULL) | (names->count + 1);
    return names->count++;
}

#endif
