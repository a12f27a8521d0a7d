"""Views and procedures for whoever reads the rows: what stands after busts and corrections, in decimals and times.

What stands says `adapters.standing`. A recursion of a view ends after 100 links with an error (docs: WITH
common_table_expression), ours before it without. Comparing text, SQL Server overlooks blanks at the end, which CONCAT
with something behind them brings to its notice. Number types are those of docs: Precision, scale, and length; AT TIME
ZONE needs SQL Server 2016.
"""

from __future__ import annotations

from eod_workers.adapters.standing import ROOTED, STATUS
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL

_EPOCH = "CAST('1970-01-01' AS DATETIME2(7))"
_IN_NEW_YORK = "AT TIME ZONE 'UTC' AT TIME ZONE 'Eastern Standard Time'"
_STANDS = "v.status = N'stands'"


def _decimal(units: str) -> str:
    return f"CAST(CAST({units} AS DECIMAL(19, 0)) * 0.00000001 AS DECIMAL(19, 8))"


def _time(ns: str) -> str:
    """A datetime2(7), cut off after 100 ns; DATEADD takes no more than an INT."""
    return (
        f"DATEADD(NANOSECOND, CAST({ns} % 1000000000 / 100 * 100 AS INT), DATEADD(SECOND, "
        f"CAST({ns} / 1000000000 % 86400 AS INT), DATEADD(DAY, CAST({ns} / 1000000000 / 86400 AS INT), {_EPOCH})))"
    )


CHANGES = f"""CREATE OR ALTER VIEW eod.vw_Changes AS
WITH named AS (
    SELECT x.change_id, x.named_id, x.named_action FROM (
        SELECT r.row_id AS change_id, p.row_id AS named_id, p.action AS named_action,
            CASE WHEN p.symbol = r.symbol THEN 1 ELSE 0 END AS alike,
            ROW_NUMBER() OVER (
                PARTITION BY r.row_id ORDER BY CASE WHEN p.[offset] <= r.[offset] THEN 0 ELSE 1 END,
                    CASE WHEN p.trade_date = r.trade_date THEN 0 ELSE 1 END, p.trade_date DESC
            ) AS place
        FROM eod.trades AS r CROSS JOIN eod.trades AS p
        WHERE p.exec_id = r.exec_ref_id AND p.session = r.session
            AND p.topic = r.topic AND p.[partition] = r.[partition]
            AND (p.[offset] <= r.[offset] OR p.trade_date <= r.trade_date)
            AND CONCAT(p.exec_id, N'|') = CONCAT(r.exec_ref_id, N'|')
            AND r.action <> {ACTION_TRADE} AND CONCAT(r.exec_id, N'|') <> CONCAT(r.exec_ref_id, N'|')
    ) AS x WHERE x.place = 1 AND x.alike = 1
), {ROOTED}
SELECT c.change_id, c.root_id, o.trade_date AS root_date, o.transact_time_ns AS root_time_ns,
    MAX(CASE WHEN t.action = {ACTION_BUST} THEN 1 ELSE 0 END) OVER (PARTITION BY c.root_id) AS busted,
    ROW_NUMBER() OVER (
        PARTITION BY c.root_id ORDER BY t.[offset] DESC, t.epoch DESC, t.msg_seq_num DESC, t.row_id DESC
    ) AS place
FROM rooted AS c JOIN eod.trades AS t ON t.row_id = c.change_id JOIN eod.trades AS o ON o.row_id = c.root_id"""  # noqa: S608 - our own numbers

_QUANTITY, _PRICE = _decimal("t.last_qty_e8"), _decimal("t.last_px_e8")
_TIMES = "CASE WHEN t.multiplier_e8 = 0 THEN 100000000 ELSE t.multiplier_e8 END"
_MULTIPLIER = _decimal(_TIMES)
_ABOUT = f"CAST(t.last_qty_e8 AS FLOAT) * CAST(t.last_px_e8 AS FLOAT) * CAST({_TIMES} AS FLOAT)"
_MOST_MONEY = "1E48"
"""In 1e-24: a decimal(38, 6) holds a hundred million times as much, so that sums of it do not overflow."""
TRADES = f"""CREATE OR ALTER VIEW eod.vw_Trades AS
SELECT t.row_id, t.session, COALESCE(m.mpid, N'') AS mpid, t.trade_date, t.exec_id,
    CASE t.action WHEN {ACTION_TRADE} THEN N'trade' WHEN {ACTION_BUST} THEN N'bust'
        WHEN {ACTION_CORRECT} THEN N'correction' ELSE N'unknown' END AS kind,
    t.exec_ref_id,
    {STATUS} AS status,
    t.symbol,
    CASE WHEN t.symbol LIKE N'% ([A-Z][A-Za-z][A-Za-z])' THEN SUBSTRING(t.symbol, LEN(t.symbol) - 3, 3)
        ELSE N'' END AS currency,
    t.isin, COALESCE(s.cusip, N'') AS cusip, COALESCE(s.sedol, N'') AS sedol, COALESCE(s.mic, N'') AS mic,
    CASE t.side WHEN {SIDE_BUY} THEN N'buy' WHEN {SIDE_SELL} THEN N'sell' ELSE N'unknown' END AS side,
    {_QUANTITY} AS quantity,
    {_PRICE} AS price,
    {_MULTIPLIER} AS multiplier,
    CASE WHEN ABS({_ABOUT}) < {_MOST_MONEY} THEN {_QUANTITY} * {_PRICE} * {_MULTIPLIER} END AS notional,
    {_time("t.transact_time_ns")} AS transact_time, t.time_source,
    COALESCE(c.root_date, t.trade_date) AS original_date,
    COALESCE(c.root_time_ns, t.transact_time_ns) AS original_time_ns,
    t.trader, t.trader_name, t.desk, t.strategy, t.strategy_name, t.account, t.topic, t.[partition], t.[offset],
    t.last_qty_e8
FROM eod.trades AS t
LEFT JOIN eod.vw_Changes AS c ON c.change_id = t.row_id
LEFT JOIN eod.vw_Changes AS r ON r.root_id = t.row_id AND r.place = 1
LEFT JOIN eod.mpids AS m ON m.session = t.session
LEFT JOIN eod.securities AS s ON s.symbol = t.symbol"""  # noqa: S608 - our own names

_BOUGHT_AND_SOLD = ", ".join(
    f"SUM(CASE WHEN {_STANDS} AND v.side = N'{side}' THEN v.{what} ELSE 0 END) AS {told}_{what}"
    for side, told in (("buy", "bought"), ("sell", "sold"))
    for what in ("quantity", "notional")
)
TRADER_DAILY_SUMMARY = f"""CREATE OR ALTER VIEW eod.vw_TraderDailySummary AS
SELECT v.original_date AS trade_date, v.trader, MAX(v.trader_name) AS trader_name, MAX(v.desk) AS desk, v.currency,
    SUM(CASE WHEN {_STANDS} THEN 1 ELSE 0 END) AS trades,
    COUNT(DISTINCT CASE WHEN {_STANDS} THEN v.symbol END) AS instruments,
    SUM(CASE WHEN v.kind = N'trade' AND v.status = N'corrected' THEN 1 ELSE 0 END) AS corrected,
    SUM(CASE WHEN v.kind = N'trade' AND v.status = N'busted' THEN 1 ELSE 0 END) AS busted,
    SUM(CASE WHEN v.status = N'unresolved' THEN 1 ELSE 0 END) AS unresolved,
    {_BOUGHT_AND_SOLD}
FROM eod.vw_Trades AS v WHERE v.kind = N'trade' OR v.status = N'stands' OR v.status = N'unresolved'
GROUP BY v.original_date, v.trader, v.currency"""  # noqa: S608 - our own names

HOURLY_VOLUME = f"""CREATE OR ALTER VIEW eod.vw_HourlyVolume AS
SELECT h.hour_utc, CAST(h.hour_utc {_IN_NEW_YORK} AS DATETIME2(0)) AS hour_new_york,
    h.symbol, h.currency, COUNT(*) AS trades, SUM(h.quantity) AS quantity, SUM(h.notional) AS notional
FROM (
    SELECT CAST(DATEADD(HOUR, CAST(v.original_time_ns / 1000000000 / 3600 AS INT), {_EPOCH}) AS DATETIME2(0))
            AS hour_utc,
        v.symbol, v.currency, v.quantity, v.notional
    FROM eod.vw_Trades AS v WHERE {_STANDS}
) AS h GROUP BY h.hour_utc, h.symbol, h.currency"""  # noqa: S608 - our own names

DAILY_POSITIONS = f"""CREATE OR ALTER VIEW eod.vw_DailyPositions AS
SELECT v.original_date AS trade_date, v.trader, MAX(v.trader_name) AS trader_name, MAX(v.desk) AS desk,
    v.symbol, v.currency, MAX(v.isin) AS isin, COUNT(*) AS trades,
    SUM(CASE WHEN v.side = N'buy' THEN v.quantity ELSE -v.quantity END) AS quantity,
    {_BOUGHT_AND_SOLD}
FROM eod.vw_Trades AS v WHERE {_STANDS} GROUP BY v.original_date, v.trader, v.symbol, v.currency"""  # noqa: S608 - our own names

TRADES_FOR_CAT = """CREATE OR ALTER PROCEDURE eod.sp_GetTradesForCat @TradeDate BIGINT, @Mpid NVARCHAR(400) = NULL AS
SELECT v.row_id, v.mpid, v.session, v.trade_date, v.transact_time, v.time_source, v.kind, v.status, v.exec_id,
    v.exec_ref_id, v.symbol, v.currency, v.isin, v.cusip, v.sedol, v.mic, v.side, v.quantity, v.price,
    v.trader, v.trader_name, v.desk, v.account
FROM eod.vw_Trades AS v WHERE v.trade_date = @TradeDate AND (@Mpid IS NULL OR v.mpid = @Mpid)
ORDER BY v.transact_time, v.row_id"""

_SUMS = ", ".join(
    f"SUM(p.{name}) AS {name}"
    for name in ("quantity", "bought_quantity", "bought_notional", "sold_quantity", "sold_notional")
)
EOD_POSITIONS = f"""CREATE OR ALTER PROCEDURE eod.sp_GetEodPositions @TradeDate BIGINT, @FromDate BIGINT = 0 AS
SELECT p.trader, MAX(p.trader_name) AS trader_name, MAX(p.desk) AS desk, p.symbol, p.currency, MAX(p.isin) AS isin,
    SUM(p.trades) AS trades, {_SUMS}
FROM eod.vw_DailyPositions AS p WHERE p.trade_date <= @TradeDate AND p.trade_date >= @FromDate
GROUP BY p.trader, p.symbol, p.currency ORDER BY p.trader, p.symbol"""  # noqa: S608 - our own names

BATCHES = (
    CHANGES,
    TRADES,
    TRADER_DAILY_SUMMARY,
    HOURLY_VOLUME,
    DAILY_POSITIONS,
    TRADES_FOR_CAT,
    EOD_POSITIONS,
)
