/* A position as JSON: byte for byte what `publishing.position_field` makes of it. */
#ifndef EOD_RENDER_H
#define EOD_RENDER_H

#include "book.h"

enum { FIELD_BYTES = 768 }; /* nine numbers of at most 41 characters, and the words around them */

static const char *const SOURCE_NAMES[] = {"", "previous_close", "mid", "last_trade", "official_close"};

static inline char *put_words(char *out, const char *words)
{
    size_t length = strlen(words);
    memcpy(out, words, length);
    return out + length;
}

static inline char *put_amount(char *out, const char *words, i128 value)
{
    out = put_e16(put_words(out, words), value);
    *out++ = '"';
    return out;
}

/* Cost of one unit of the open quantity, to the nearest 1e-8, ties up. 0: more than 128 bits. */
static int average_price(const position_t *p, i128 *average)
{
    i128 cost = p->quantity < 0 ? 0 : p->cost, quantity = (i128)magnitude64(p->quantity);
    if ((p->quantity < 0 && __builtin_sub_overflow((i128)0, p->cost, &cost)) ||
        __builtin_mul_overflow(cost, (i128)2, &cost) || __builtin_add_overflow(cost, quantity, &cost))
        return 0;
    *average = floor_divide(cost, 2 * quantity);
    return 1;
}

/* Quantity times price as money: times the multiplier in 1e-8, to the nearest, ties up. 0: more than 128 bits. */
static inline int as_money(int64_t multiplier, i128 *value)
{
    if (!multiplier || multiplier == (int64_t)E8)
        return 1;
    if (__builtin_mul_overflow(*value, (i128)multiplier, value) || __builtin_mul_overflow(*value, (i128)2, value) ||
        __builtin_add_overflow(*value, (i128)E8, value))
        return 0;
    *value = floor_divide(*value, 2 * (i128)E8);
    return 1;
}

/* Writes the field of a position; its length, or 0 if a number needs more than 128 bits. */
static size_t render_position(char *start, const position_t *p, const symbol_t *mark, int approximate)
{
    i128 average = 0, gain = 0, total = 0, cost = p->cost, realized = p->realized;
    int64_t multiplier = mark->multiplier;
    int valued = mark->source || !p->quantity;
    if (p->quantity && !average_price(p, &average))
        return 0;
    if (!as_money(multiplier, &cost) || !as_money(multiplier, &realized))
        return 0;
    if (valued && (!position_unrealized(p, mark->px, &gain) || !as_money(multiplier, &gain) ||
                   __builtin_add_overflow(realized, gain, &total)))
        return 0;
    char *out = put_e8(put_words(start, "{\"quantity\":\""), p->quantity);
    if (p->quantity) {
        out = put_e8(put_words(out, "\",\"average_price\":\""), average);
        *out++ = '"';
    } else {
        out = put_words(out, "\",\"average_price\":null");
    }
    out = put_amount(out, ",\"cost\":\"", cost);
    out = put_amount(out, ",\"realized\":\"", realized);
    if (valued) {
        out = put_amount(out, ",\"unrealized\":\"", gain);
        out = put_amount(out, ",\"total\":\"", total);
    } else {
        out = put_words(out, ",\"unrealized\":null,\"total\":null");
    }
    if (mark->source) {
        out = put_e8(put_words(out, ",\"mark\":\""), mark->px);
        out = put_words(put_words(out, "\",\"mark_source\":\""), SOURCE_NAMES[mark->source]);
        out = put_words(out, "\",\"trades\":");
    } else {
        out = put_words(out, ",\"mark\":null,\"mark_source\":null,\"trades\":");
    }
    out = put_i128(out, p->trades);
    if (multiplier && multiplier != (int64_t)E8) {
        out = put_e8(put_words(out, ",\"multiplier\":\""), multiplier);
        *out++ = '"';
    }
    if (approximate)
        out = put_words(out, ",\"approximate\":true");
    *out++ = '}';
    return (size_t)(out - start);
}

#endif
