/* TradeBatch and PriceBatch (protos/eod/v1) as checked columns: `trades/codec.py` and `trades/prices.py` own the rules.
 *
 * Whatever they refuse is refused here. Why is their business: the caller asks them for the sentence.
 */
#ifndef EOD_BATCH_H
#define EOD_BATCH_H

#include "wire.h"

enum {
    B_VERSION = 1, B_STRINGS, B_SESSION, B_EPOCH, B_MSG_SEQ_NUM, B_EXEC_ID, B_EXEC_REF_ID, B_ACTION, B_SIDE, B_SYMBOL,
    B_TRADER, B_STRATEGY, B_ACCOUNT, B_LAST_QTY, B_LAST_PX, B_TRANSACT_TIME, B_RECEIVED_AT, B_FRAMES, B_FRAME_LENGTH,
    B_REDRIVE_OF, B_TRADE_DATE, B_TIME_SOURCE, B_MULTIPLIER
};
enum { P_VERSION = 1, P_STRINGS, P_SYMBOL, P_SOURCE, P_PX, P_EVENT_TIME, P_SESSION_DATE };
enum { ACTION_TRADE = 1, ACTION_BUST, ACTION_CORRECT };
enum { SIDE_BUY = 1, SIDE_SELL };
enum { HIGHEST_SOURCE = 4 };

static const uint8_t TRADE_BATCH[MAX_FIELDS] = {
    NO_FIELD, ONE_NUMBER, TEXTS, U32, U32, U64, TEXTS, TEXTS, U32, U32, U32,
    U32, U32, U32, S64, S64, F64, F64, ONE_BYTES, U32, ONE_TEXT, U32, U32, U64,
};
static const uint8_t PRICE_BATCH[MAX_FIELDS] = {NO_FIELD, ONE_NUMBER, TEXTS, U32, U32, S64, F64, U32};

/* Whether it is of this version of its layout: `layouts.py` has the number, and the ledger was told it. */
static inline int is_of_version(const columns_t *c, uint32_t version)
{
    const column_t *found = &c->field[1]; /* uint32 in every envelope: its low half counts */
    return found->count && (uint32_t)found->number[0] == version;
}

/* Whether a column has `rows` values, all of them below `limit`. */
static int all_below(const column_t *column, size_t rows, uint64_t limit)
{
    uint64_t highest = 0;
    for (size_t i = 0; i < column->count; i++)
        highest = column->number[i] > highest ? column->number[i] : highest;
    return column->count == rows && (!rows || highest < limit);
}

static int trades_fit_together(const columns_t *c)
{
    const column_t *f = c->field;
    size_t rows = f[B_EXEC_ID].count, strings = f[B_STRINGS].count;
    static const uint8_t indexes[] = {B_SESSION, B_SYMBOL, B_TRADER, B_STRATEGY, B_ACCOUNT};
    static const uint8_t numbers[] = {B_EPOCH, B_MSG_SEQ_NUM, B_LAST_QTY, B_LAST_PX, B_TRANSACT_TIME, B_RECEIVED_AT};
    for (size_t i = 0; i < sizeof indexes; i++)
        if (!all_below(&f[indexes[i]], rows, strings))
            return 0;
    for (size_t i = 0; i < sizeof numbers; i++)
        if (f[numbers[i]].count != rows)
            return 0;
    static const uint8_t may_be_left_out[] = {B_EXEC_REF_ID, B_TRADE_DATE, B_TIME_SOURCE, B_MULTIPLIER};
    for (size_t i = 0; i < sizeof may_be_left_out; i++)
        if (f[may_be_left_out[i]].count && f[may_be_left_out[i]].count != rows)
            return 0;
    if (!all_below(&f[B_ACTION], rows, ACTION_CORRECT + 1) || !all_below(&f[B_SIDE], rows, SIDE_SELL + 1))
        return 0;
    if (f[B_FRAME_LENGTH].count != rows)
        return 0;
    for (size_t i = 0; i < f[B_MULTIPLIER].count; i++)
        if (f[B_MULTIPLIER].number[i] > INT64_MAX)
            return 0;
    uint64_t frame_bytes = 0;
    for (size_t i = 0; i < rows; i++) {
        if (!f[B_ACTION].number[i] || !f[B_SIDE].number[i] || f[B_LAST_QTY].number[i] == (uint64_t)INT64_MIN)
            return 0;
        frame_bytes += f[B_FRAME_LENGTH].number[i];
    }
    return frame_bytes == (f[B_FRAMES].count ? f[B_FRAMES].text[0].length : 0);
}

static int read_trades(const uint8_t *data, size_t length, uint32_t version, columns_t *columns)
{
    int status = read_message(data, length, TRADE_BATCH, columns);
    if (status)
        return status;
    return is_of_version(columns, version) && trades_fit_together(columns) ? OK : MALFORMED;
}

static int read_prices(const uint8_t *data, size_t length, uint32_t version, columns_t *columns)
{
    int status = read_message(data, length, PRICE_BATCH, columns);
    if (status)
        return status;
    const column_t *f = columns->field;
    size_t rows = f[P_SYMBOL].count;
    if (!is_of_version(columns, version) || !all_below(&f[P_SYMBOL], rows, f[P_STRINGS].count) ||
        !all_below(&f[P_SOURCE], rows, HIGHEST_SOURCE + 1) || f[P_PX].count != rows ||
        f[P_EVENT_TIME].count != rows || f[P_SESSION_DATE].count != rows)
        return MALFORMED;
    for (size_t i = 0; i < rows; i++)
        if (!f[P_SOURCE].number[i])
            return MALFORMED;
    return OK;
}

static inline int is_redriven(const columns_t *c)
{
    return c->field[B_REDRIVE_OF].count && c->field[B_REDRIVE_OF].text[0].length;
}

static inline uint32_t trade_date_of(const columns_t *c, size_t row)
{
    return c->field[B_TRADE_DATE].count ? (uint32_t)c->field[B_TRADE_DATE].number[row] : 0;
}

/* In 1e-8; 0 where nobody says. */
static inline int64_t multiplier_of(const columns_t *c, size_t row)
{
    return c->field[B_MULTIPLIER].count ? (int64_t)c->field[B_MULTIPLIER].number[row] : 0;
}

static inline span_t exec_ref_id(const columns_t *c, size_t row)
{
    static const uint8_t nothing;
    return c->field[B_EXEC_REF_ID].count ? c->field[B_EXEC_REF_ID].text[row] : (span_t){&nothing, 0};
}

#endif
