/* A book as the bytes of a PnlSnapshot (protos/eod/v1/storage.proto). */
#ifndef EOD_DUMP_H
#define EOD_DUMP_H

#include "book.h"

enum {
    S_VERSION = 1, S_PARTITION, S_NEXT_OFFSET, S_POSITIONS, S_MARKS, S_FORGOTTEN, S_STRINGS, S_SESSION, S_EXEC_ID,
    S_TRADER, S_SYMBOL, S_QUANTITY, S_PX, S_REPLACED_BY, S_EPOCH, S_MSG_SEQ_NUM, S_TRADE_DATE, S_MULTIPLIERS
};

static inline size_t text_size(size_t length)
{
    return length ? 1 + varint_size(length) + length : 0;
}

static inline void write_some_text(writer_t *w, uint32_t field, const void *text, size_t length)
{
    if (length)
        write_text(w, field, text, length);
}

static void dump_position(const ledger_t *l, const position_t *p, const place_t *place, writer_t *w)
{
    char texts[3][48];
    size_t sizes[3] = {
        (size_t)(put_i128(texts[0], p->quantity) - texts[0]),
        (size_t)(put_i128(texts[1], p->cost) - texts[1]),
        (size_t)(put_i128(texts[2], p->realized) - texts[2]),
    };
    uint32_t trader = l->traders.names[p->trader].length, symbol = l->symbols.names[p->symbol].length;
    size_t size = text_size(trader) + text_size(symbol) + text_size(sizes[0]) + text_size(sizes[1]) + text_size(sizes[2]);
    size += p->trades ? 1 + varint_size((uint64_t)p->trades) : 0;
    size += 2 * place->approximate + 2 * place->incomplete;
    uint8_t *start = write_room(w, size + 16), *out = start;
    if (!start)
        return;
    out = put_varint(put_varint(out, S_POSITIONS << 3 | WIRE_BYTES), size);
    if (trader)
        out = put_text(out, 1, name_at(&l->traders, p->trader), trader);
    if (symbol)
        out = put_text(out, 2, name_at(&l->symbols, p->symbol), symbol);
    for (uint32_t i = 0; i < 3; i++)
        out = put_text(out, 3 + i, texts[i], sizes[i]);
    if (p->trades)
        out = put_varint(put_varint(out, 6 << 3 | WIRE_VARINT), (uint64_t)p->trades);
    if (place->approximate)
        out = put_varint(put_varint(out, 7 << 3 | WIRE_VARINT), 1);
    if (place->incomplete)
        out = put_varint(put_varint(out, 8 << 3 | WIRE_VARINT), 1);
    w->count += (size_t)(out - start);
}

/* Writes positions from number `from` on; returns that of the first one that it cannot write, because it is big. */
static uint32_t dump_positions(const ledger_t *l, const book_t *b, uint32_t from, writer_t *w)
{
    for (; from < b->positions.count && b->positions.slots[from].trades != IS_BIG; from++)
        dump_position(l, &b->positions.slots[from], &b->memory.places[from], w);
    return from;
}

static void write_inner(writer_t *w, uint32_t field, const writer_t *inner)
{
    write_text(w, field, inner->bytes, inner->count);
    w->failed |= inner->failed;
}

static void dump_marks_and_forgotten(const ledger_t *l, const book_t *b, writer_t *w)
{
    writer_t inner = {0};
    for (uint32_t i = 0; i < b->symbol_count; i++) {
        const symbol_t *mark = &b->symbols[i];
        if (!mark->source)
            continue;
        inner.count = 0;
        write_some_text(&inner, 1, name_at(&l->symbols, i), l->symbols.names[i].length);
        write_number(&inner, 2, mark->source);
        write_number(&inner, 3, zigzag(mark->px));
        write_tag(&inner, 4, WIRE_FIXED64);
        write_bytes(&inner, &mark->event_time_ns, 8);
        write_number(&inner, 5, mark->session_date);
        write_inner(w, S_MARKS, &inner);
    }
    for (uint32_t i = 0; i < b->symbol_count; i++) {
        if (!b->symbols[i].multiplier)
            continue;
        inner.count = 0;
        write_some_text(&inner, 1, name_at(&l->symbols, i), l->symbols.names[i].length);
        write_number(&inner, 2, (uint64_t)b->symbols[i].multiplier);
        write_inner(w, S_MULTIPLIERS, &inner);
    }
    for (uint32_t i = 0; i < b->memory.sessions && i < l->sessions.count; i++)
        for (uint32_t j = 0; j < b->memory.forgotten[i].count; j++) {
            const forgotten_t *f = &b->memory.forgotten[i].epochs[j];
            inner.count = 0;
            write_some_text(&inner, 1, name_at(&l->sessions, i), l->sessions.names[i].length);
            write_number(&inner, 2, f->epoch);
            write_number(&inner, 3, f->msg_seq_num);
            write_inner(w, S_FORGOTTEN, &inner);
        }
    free(inner.bytes);
}

static void write_packed(writer_t *w, uint32_t field, const uint64_t *values, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += varint_size(values[i]);
    write_tag(w, field, WIRE_BYTES);
    write_varint(w, size);
    uint8_t *out = write_room(w, size);
    if (!out)
        return;
    for (size_t i = 0; i < count; i++)
        out = put_varint(out, values[i]);
    w->count += size;
}

/* The string table of the remembered trades: their names, each at the place that it gets in `numbers` (0: none yet). */
static void dump_names(const names_t *names, uint32_t *numbers, uint32_t *next, const uint64_t *values, size_t count,
                       writer_t *w)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t *number = &numbers[values[i]];
        if (!*number) {
            write_text(w, S_STRINGS, name_at(names, (uint32_t)values[i]), names->names[values[i]].length);
            *number = (*next)++;
        }
    }
}

static void dump_named(const names_t *names, uint32_t field, uint64_t *values, size_t count, uint32_t *next, writer_t *w)
{
    uint32_t *numbers = calloc(names->count + 1, sizeof *numbers);
    if (!numbers) {
        w->failed = 1;
        return;
    }
    dump_names(names, numbers, next, values, count, w);
    for (size_t i = 0; i < count; i++)
        values[i] = numbers[values[i]];
    write_packed(w, field, values, count);
    free(numbers);
}

static void dump_exec_ids(const memory_t *m, writer_t *w)
{
    writer_t inner = {0};
    for (uint64_t i = m->oldest; i < m->next; i++) {
        const remembered_t *entry = memory_entry(m, i);
        uint8_t *start = write_room(w, entry->id_length + 16), *out = start;
        if (!start)
            return;
        out = put_varint(put_varint(out, S_EXEC_ID << 3 | WIRE_BYTES), entry->id_length);
        ids_copy_out(m, entry, out);
        w->count += (size_t)(out - start) + entry->id_length;
    }
    for (uint64_t i = m->oldest; i < m->next && !w->failed; i++) {
        const remembered_t *entry = memory_entry(m, i);
        if (!entry->replaced)
            continue;
        const remembered_t *correction = memory_entry(m, i + entry->replaced);
        inner.count = 0;
        write_number(&inner, 1, i - m->oldest);
        write_tag(&inner, 2, WIRE_BYTES);
        write_varint(&inner, correction->id_length);
        uint8_t *out = write_room(&inner, correction->id_length);
        if (out) {
            ids_copy_out(m, correction, out);
            inner.count += correction->id_length;
        }
        write_number(&inner, 3, correction->trade_date);
        write_inner(w, S_REPLACED_BY, &inner);
    }
    free(inner.bytes);
}

static void dump_remembered(const ledger_t *l, const book_t *b, writer_t *w)
{
    const memory_t *m = &b->memory;
    const position_t *slots = b->positions.slots;
    size_t count = memory_count(m);
    uint64_t *values = malloc((count + 1) * sizeof *values);
    uint32_t next = 1; /* 0 is "" */
    if (!values || !count) {
        w->failed |= !values;
        free(values);
        return;
    }
    write_text(w, S_STRINGS, "", 0);
#define COLUMN(value)                                       \
    for (size_t i = 0; i < count; i++) {                    \
        const remembered_t *e = memory_entry(m, m->oldest + i); \
        values[i] = (value);                                \
    }
    COLUMN(e->session) dump_named(&l->sessions, S_SESSION, values, count, &next, w);
    COLUMN(slots[e->slot].trader) dump_named(&l->traders, S_TRADER, values, count, &next, w);
    COLUMN(slots[e->slot].symbol) dump_named(&l->symbols, S_SYMBOL, values, count, &next, w);
    COLUMN(zigzag(e->quantity)) write_packed(w, S_QUANTITY, values, count);
    COLUMN(zigzag(e->px)) write_packed(w, S_PX, values, count);
    COLUMN(e->epoch) write_packed(w, S_EPOCH, values, count);
    COLUMN(e->msg_seq_num) write_packed(w, S_MSG_SEQ_NUM, values, count);
    COLUMN(e->trade_date) write_packed(w, S_TRADE_DATE, values, count);
#undef COLUMN
    free(values);
    dump_exec_ids(m, w);
}

#endif
