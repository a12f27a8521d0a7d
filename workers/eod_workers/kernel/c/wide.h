/* Exact arithmetic beyond 64 bits: the share of a cost, and decimal text.
 *
 * Money is in 1e-16 units, so that one trade of 64-bit quantity and price needs 126 bits. Nothing here wraps: what does
 * not fit 128 bits is refused, and the caller goes on with Python's integers.
 */
#ifndef EOD_WIDE_H
#define EOD_WIDE_H

#include <stdint.h>
#include <string.h>

typedef __int128 i128;
typedef unsigned __int128 u128;

#define E8 100000000ULL
#define E16 10000000000000000ULL
#define E19 10000000000000000000ULL

static inline u128 magnitude(i128 value)
{
    return value < 0 ? (u128)0 - (u128)value : (u128)value;
}

static inline uint64_t magnitude64(int64_t value)
{
    return value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value;
}

/* cost × part ÷ whole, rounded down, for cost < 2^127 and part < whole: the product may have 191 bits, the share has
 * no more than the cost. */
static inline u128 share(u128 cost, uint64_t part, uint64_t whole)
{
    uint64_t high = (uint64_t)(cost >> 64);
    u128 low = (u128)(uint64_t)cost * part;
    if (!high)
        return low >> 64 ? low / whole : (uint64_t)low / whole;
    u128 top = (u128)high * part + (low >> 64);
    u128 rest = (top % whole) << 64 | (uint64_t)low;
    return (top / whole << 64) + rest / whole;
}

static inline i128 floor_divide(i128 a, i128 b)
{
    i128 quotient = a / b;
    return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

/* --- decimal text: each returns the end of what it wrote ------------------------------------------------------- */

/* 00 to 99: two digits a division. */
static const char PAIRS[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354"
    "5556575859606162636465666768697071727374757677787980818283848586878889909192939495969798"
    "99";

static inline char *put_digits(char *out, uint64_t value, int width)
{
    int at = width;
    for (; at >= 2; at -= 2, value /= 100)
        memcpy(out + at - 2, PAIRS + value % 100 * 2, 2);
    if (at)
        *out = (char)('0' + value % 10);
    return out + width;
}

static char *put_u64(char *out, uint64_t value)
{
    char text[20];
    int at = 20;
    for (; value >= 100; value /= 100)
        memcpy(text + (at -= 2), PAIRS + value % 100 * 2, 2);
    if (value >= 10)
        memcpy(text + (at -= 2), PAIRS + value * 2, 2);
    else
        text[--at] = (char)('0' + value);
    memcpy(out, text + at, (size_t)(20 - at));
    return out + 20 - at;
}

static char *put_u128(char *out, u128 value)
{
    if (value <= UINT64_MAX)
        return put_u64(out, (uint64_t)value);
    u128 rest = value / E19;
    out = put_u128(out, rest);
    return put_digits(out, (uint64_t)(value - rest * E19), 19);
}

static char *put_i128(char *out, i128 value)
{
    if (value < 0)
        *out++ = '-';
    return put_u128(out, magnitude(value));
}

/* A decimal without trailing zeros: `value` in units of one `unit`th, which has `places` zeros. */
static char *put_decimal(char *out, i128 value, uint64_t unit, int places)
{
    u128 all = magnitude(value), whole;
    uint64_t part;
    if (all <= UINT64_MAX) {
        whole = (uint64_t)all / unit;
        part = (uint64_t)all % unit;
    } else {
        whole = all / unit;
        part = (uint64_t)(all - whole * unit);
    }
    if (value < 0)
        *out++ = '-';
    out = put_u128(out, whole);
    if (!part)
        return out;
    *out++ = '.';
    out = put_digits(out, part, places);
    while (out[-1] == '0')
        out--;
    return out;
}

static char *put_e8(char *out, i128 value)
{
    return put_decimal(out, value, E8, 8);
}

static char *put_e16(char *out, i128 value)
{
    return put_decimal(out, value, E16, 16);
}

/* Decimal text as a number: an optional minus and digits, nothing else. 1: done; 0: more than 128 bits; -1: no number. */
static int take_i128(const uint8_t *at, uint32_t length, i128 *value)
{
    const uint8_t *end = at + length;
    int negative = at < end && *at == '-', fits = 1;
    at += negative;
    if (at == end)
        return -1;
    i128 sum = 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        int digit = negative ? -(*at - '0') : *at - '0';
        if (__builtin_mul_overflow(sum, (i128)10, &sum) || __builtin_add_overflow(sum, (i128)digit, &sum))
            fits = 0;
    }
    *value = sum;
    return fits;
}

#endif
