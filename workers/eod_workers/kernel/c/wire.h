/* Protocol buffers' wire format, read into columns and written.
 *
 * A message is described by one kind a field number; whatever else it holds is skipped, as proto3 demands. Every length
 * is checked against what is left before a byte is read. What protobuf's own parser refuses is refused here too:
 * truncated or overlong varints, field number 0, groups that do not end, text that is not UTF-8.
 */
#ifndef EOD_WIRE_H
#define EOD_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed numbers are copied as they are on the wire");

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_GROUP = 3, WIRE_END_GROUP = 4, WIRE_FIXED32 = 5 };

/* What a field holds. The first four are repeated, packed or not; ONE_… keep the last value that comes. */
enum {
    NO_FIELD = 0, U32, U64, S64, F64, /* F64: eight bytes, as integer */
    TEXTS, MESSAGES, ONE_NUMBER, ONE_TEXT, ONE_BYTES, ONE_S64, ONE_F64
};

/* What a call ends with. FAULT: the caller was called back, and failed; CONTRADICTS: well-formed, and yet no book. */
enum { OK = 0, MALFORMED, NO_MEMORY, FAULT, CONTRADICTS };

enum { MAX_FIELDS = 24, MAX_GROUP_DEPTH = 100 };

typedef struct {
    const uint8_t *at, *end;
} reader_t;

typedef struct {
    const uint8_t *at;
    uint32_t length;
} span_t;

/* The values of one field: numbers, or texts, as the message has it. Kept from message to message, also of other kinds, so
 * that nothing is allocated anew: hence the capacity in bytes. */
typedef struct {
    union {
        uint64_t *number;
        span_t *text;
    };
    size_t count, capacity_bytes;
} column_t;

typedef struct {
    column_t field[MAX_FIELDS];
} columns_t;

static void columns_free(columns_t *columns)
{
    for (int i = 0; i < MAX_FIELDS; i++)
        free(columns->field[i].number);
    memset(columns, 0, sizeof *columns);
}

static void columns_clear(columns_t *columns)
{
    for (int i = 0; i < MAX_FIELDS; i++)
        columns->field[i].count = 0;
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static inline int read_varint(reader_t *r, uint64_t *value)
{
    const uint8_t *at = r->at;
    if (at < r->end && *at < 0x80) {
        *value = *at;
        r->at = at + 1;
        return 1;
    }
    uint64_t sum = 0;
    for (int shift = 0; shift < 70 && at < r->end; shift += 7) {
        uint64_t byte = *at++;
        sum |= (byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = sum;
            r->at = at;
            return 1;
        }
    }
    return 0;
}

/* A tag or a length: at most five bytes and 32 bits. */
static inline int read_short_varint(reader_t *r, uint64_t *value, uint64_t most)
{
    const uint8_t *start = r->at;
    return read_varint(r, value) && r->at - start <= 5 && *value <= most;
}

static inline int read_span(reader_t *r, span_t *span)
{
    uint64_t length;
    if (!read_short_varint(r, &length, INT32_MAX) || length > (uint64_t)(r->end - r->at))
        return 0;
    span->at = r->at;
    span->length = (uint32_t)length;
    r->at += length;
    return 1;
}

static int skip_field(reader_t *r, uint32_t field, int type, int depth)
{
    uint64_t value;
    span_t span;
    switch (type) {
    case WIRE_VARINT: return read_varint(r, &value);
    case WIRE_BYTES: return read_span(r, &span);
    case WIRE_FIXED64:
    case WIRE_FIXED32: {
        ptrdiff_t size = type == WIRE_FIXED64 ? 8 : 4;
        if (r->end - r->at < size)
            return 0;
        r->at += size;
        return 1;
    }
    case WIRE_GROUP:
        if (depth >= MAX_GROUP_DEPTH)
            return 0;
        while (read_short_varint(r, &value, UINT32_MAX) && value >> 3) {
            if ((value & 7) == WIRE_END_GROUP)
                return value >> 3 == field;
            if (!skip_field(r, (uint32_t)(value >> 3), (int)(value & 7), depth + 1))
                return 0;
        }
        return 0;
    default: return 0;
    }
}

/* UTF-8 as Unicode defines it (table 3-7): no overlong forms, no surrogates, nothing above U+10FFFF. */
static int is_utf8(const uint8_t *at, size_t length)
{
    const uint8_t *end = at + length;
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8 && (memcpy(&eight, at, 8), !(eight & 0x8080808080808080ULL))) {
            at += 8;
            continue;
        }
        uint8_t first = *at++;
        if (first < 0x80)
            continue;
        int more = first >= 0xC2 && first <= 0xDF ? 1 : (first & 0xF0) == 0xE0 ? 2 : first >= 0xF0 && first <= 0xF4 ? 3 : 0;
        if (!more || end - at < more)
            return 0;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (*at < low || *at > high)
            return 0;
        for (at++; --more; at++)
            if ((*at & 0xC0) != 0x80)
                return 0;
    }
    return 1;
}

static int column_reserve(column_t *column, size_t more, size_t size)
{
    size_t wanted = (column->count + more) * size;
    if (wanted <= column->capacity_bytes)
        return 1;
    size_t capacity = column->capacity_bytes < 512 ? 512 : column->capacity_bytes;
    while (capacity < wanted)
        capacity *= 2;
    void *grown = realloc(column->number, capacity);
    if (!grown)
        return 0;
    column->number = grown;
    column->capacity_bytes = capacity;
    return 1;
}

static inline uint64_t as_kind(int kind, uint64_t raw)
{
    if (kind == S64 || kind == ONE_S64)
        return (raw >> 1) ^ (0 - (raw & 1)); /* zigzag */
    return kind == U32 ? (uint32_t)raw : raw;
}

static int read_packed(column_t *column, int kind, span_t span)
{
    reader_t inner = {span.at, span.at + span.length};
    if (kind == F64) {
        if (span.length % 8)
            return MALFORMED;
        if (!column_reserve(column, span.length / 8, sizeof(uint64_t)))
            return NO_MEMORY;
        if (span.length)
            memcpy(column->number + column->count, span.at, span.length);
        column->count += span.length / 8;
        return OK;
    }
    if (!column_reserve(column, span.length, sizeof(uint64_t))) /* a value is at least a byte */
        return NO_MEMORY;
    uint64_t *out = column->number + column->count;
    while (inner.at < inner.end) {
        uint64_t raw;
        if (!read_varint(&inner, &raw))
            return MALFORMED;
        *out++ = as_kind(kind, raw);
    }
    column->count = (size_t)(out - column->number);
    return OK;
}

static int read_number(reader_t *r, column_t *column, int kind, int type)
{
    uint64_t raw;
    if (type == WIRE_FIXED64) {
        if (r->end - r->at < 8)
            return MALFORMED;
        memcpy(&raw, r->at, 8);
        r->at += 8;
    } else if (!read_varint(r, &raw)) {
        return MALFORMED;
    }
    if (kind >= ONE_NUMBER)
        column->count = 0;
    if (!column_reserve(column, 1, sizeof(uint64_t)))
        return NO_MEMORY;
    column->number[column->count++] = as_kind(kind, raw);
    return OK;
}

static int read_text(column_t *column, int kind, span_t span)
{
    if ((kind == TEXTS || kind == ONE_TEXT) && !is_utf8(span.at, span.length))
        return MALFORMED;
    if (kind >= ONE_NUMBER)
        column->count = 0;
    if (!column_reserve(column, 1, sizeof(span_t)))
        return NO_MEMORY;
    column->text[column->count++] = span;
    return OK;
}

static inline int is_text(int kind)
{
    return kind == TEXTS || kind == MESSAGES || kind == ONE_TEXT || kind == ONE_BYTES;
}

static inline int is_fixed(int kind)
{
    return kind == F64 || kind == ONE_F64;
}

/* Reads a message; `kinds` has MAX_FIELDS entries. Texts point into `data`. */
static int read_message(const uint8_t *data, size_t length, const uint8_t *kinds, columns_t *columns)
{
    reader_t r = {data, data + length};
    columns_clear(columns);
    while (r.at < r.end) {
        uint64_t tag;
        if (!read_short_varint(&r, &tag, UINT32_MAX) || !(tag >> 3))
            return MALFORMED;
        uint32_t field = (uint32_t)(tag >> 3);
        int type = (int)(tag & 7), kind = field < MAX_FIELDS ? kinds[field] : NO_FIELD, status = OK;
        span_t span;
        if (kind && type == WIRE_BYTES && (is_text(kind) || kind < TEXTS)) {
            if (!read_span(&r, &span))
                return MALFORMED;
            column_t *column = &columns->field[field];
            status = is_text(kind) ? read_text(column, kind, span) : read_packed(column, kind, span);
        } else if (kind && !is_text(kind) && type == (is_fixed(kind) ? WIRE_FIXED64 : WIRE_VARINT)) {
            status = read_number(&r, &columns->field[field], kind, type);
        } else if (!skip_field(&r, field, type, 0)) {
            return MALFORMED;
        }
        if (status)
            return status;
    }
    return OK;
}

/* --- writing --------------------------------------------------------------------------------------------------- */

/* Bytes that grow. A failed allocation is remembered, and everything after it ignored. */
typedef struct {
    uint8_t *bytes;
    size_t count, capacity;
    int failed;
} writer_t;

static uint8_t *write_room(writer_t *w, size_t more)
{
    if (w->capacity - w->count < more) {
        size_t capacity = w->capacity < 4096 ? 4096 : w->capacity;
        while (capacity - w->count < more)
            capacity *= 2;
        uint8_t *grown = w->failed ? NULL : realloc(w->bytes, capacity);
        if (!grown) {
            w->failed = 1;
            return NULL;
        }
        w->bytes = grown;
        w->capacity = capacity;
    }
    return w->bytes + w->count;
}

static inline size_t varint_size(uint64_t value)
{
    return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
}

static inline uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (uint8_t)value | 0x80;
        value >>= 7;
    }
    *out++ = (uint8_t)value;
    return out;
}

static inline uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static void write_varint(writer_t *w, uint64_t value)
{
    uint8_t *out = write_room(w, 10);
    if (out)
        w->count += (size_t)(put_varint(out, value) - out);
}

static void write_tag(writer_t *w, uint32_t field, int type)
{
    write_varint(w, (uint64_t)field << 3 | (unsigned)type);
}

static void write_bytes(writer_t *w, const void *data, size_t length)
{
    uint8_t *out = write_room(w, length);
    if (out && length) {
        memcpy(out, data, length);
        w->count += length;
    }
}

static inline uint8_t *put_text(uint8_t *out, uint32_t field, const void *data, size_t length)
{
    out = put_varint(put_varint(out, (uint64_t)field << 3 | WIRE_BYTES), length);
    if (length)
        memcpy(out, data, length);
    return out + length;
}

static void write_text(writer_t *w, uint32_t field, const void *data, size_t length)
{
    uint8_t *out = write_room(w, length + 20);
    if (out)
        w->count += (size_t)(put_text(out, field, data, length) - out);
}

/* A number that is left out when it is 0, as proto3 does. */
static void write_number(writer_t *w, uint32_t field, uint64_t value)
{
    if (value) {
        write_tag(w, field, WIRE_VARINT);
        write_varint(w, value);
    }
}

#endif
