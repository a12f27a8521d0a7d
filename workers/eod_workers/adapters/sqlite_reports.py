"""The views of `sqlserver.reports` on SQLite, by the same rules and with the same columns.

SQLite knows neither decimals nor times: quantities and prices are exact as text, times are text that sorts, `notional`
is a floating-point number. It has no procedures either: vw_Trades with a `trade_date` is what CAT takes, and
vw_DailyPositions summed up to a day are the positions at its end.
"""

from __future__ import annotations

from eod_workers.adapters.standing import ROOTED, STATUS
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL

_E8 = 100_000_000
_STANDS = "v.status = 'stands'"
_STATUS = STATUS.replace("N'", "'")


def _decimal(units: str) -> str:
    """Text of a number of 64 bits in 1e-8."""
    sign = f"CASE WHEN {units} < 0 AND {units} / {_E8} = 0 THEN '-' ELSE '' END"
    return f"printf('%s%d.%08d', {sign}, {units} / {_E8}, abs({units} % {_E8}))"


def _sum(wholes: str, rests: str) -> str:
    """Text of a sum that 64 bits may not hold: of what stands before the point, and of what behind it in 1e-8."""
    rest = f"(({rests}) % {_E8} + {_E8}) % {_E8}"
    whole = f"(({wholes}) + (({rests}) - {rest}) / {_E8})"
    return (
        f"CASE WHEN {whole} >= 0 OR {rest} = 0 THEN printf('%d.%08d', {whole}, {rest}) "
        f"ELSE printf('-%d.%08d', -{whole} - 1, {_E8} - {rest}) END"
    )


CHANGES = f"""CREATE VIEW vw_Changes AS
WITH named AS (
    SELECT x.change_id, x.named_id, x.named_action FROM (
        SELECT r.rowid AS change_id, p.rowid AS named_id, p.action AS named_action, p.symbol = r.symbol AS alike,
            ROW_NUMBER() OVER (
                PARTITION BY r.rowid
                ORDER BY p."offset" > r."offset", p.trade_date <> r.trade_date, p.trade_date DESC
            ) AS place
        FROM trades AS r CROSS JOIN trades AS p
        WHERE p.exec_id = r.exec_ref_id AND +p.session = r.session
            AND p.topic = r.topic AND p."partition" = r."partition"
            AND (p."offset" <= r."offset" OR +p.trade_date <= r.trade_date)
            AND r.action <> {ACTION_TRADE} AND r.exec_id <> r.exec_ref_id
    ) AS x WHERE x.place = 1 AND x.alike
), {ROOTED}
SELECT c.change_id, c.root_id, o.trade_date AS root_date, o.transact_time_ns AS root_time_ns,
    MAX(t.action = {ACTION_BUST}) OVER (PARTITION BY c.root_id) AS busted,
    ROW_NUMBER() OVER (
        PARTITION BY c.root_id ORDER BY t."offset" DESC, t.epoch DESC, t.msg_seq_num DESC, t.rowid DESC
    ) AS place
FROM rooted AS c JOIN trades AS t ON t.rowid = c.change_id JOIN trades AS o ON o.rowid = c.root_id"""  # noqa: S608 - our own numbers

_MULTIPLIER = f"CASE WHEN t.multiplier_e8 = 0 THEN {_E8} ELSE t.multiplier_e8 END"
_ABOUT = f"t.last_qty_e8 / {_E8}.0 * (t.last_px_e8 / {_E8}.0) * (({_MULTIPLIER}) / {_E8}.0)"
TRADES = f"""CREATE VIEW vw_Trades AS
SELECT t.rowid AS row_id, t.session, COALESCE(m.mpid, '') AS mpid, t.trade_date, t.exec_id,
    CASE t.action WHEN {ACTION_TRADE} THEN 'trade' WHEN {ACTION_BUST} THEN 'bust'
        WHEN {ACTION_CORRECT} THEN 'correction' ELSE 'unknown' END AS kind,
    t.exec_ref_id,
    {_STATUS} AS status,
    t.symbol,
    CASE WHEN t.symbol GLOB '* ([A-Z][A-Za-z][A-Za-z])' THEN substr(t.symbol, -4, 3) ELSE '' END AS currency,
    t.isin, COALESCE(s.cusip, '') AS cusip, COALESCE(s.sedol, '') AS sedol, COALESCE(s.mic, '') AS mic,
    CASE t.side WHEN {SIDE_BUY} THEN 'buy' WHEN {SIDE_SELL} THEN 'sell' ELSE 'unknown' END AS side,
    {_decimal("t.last_qty_e8")} AS quantity,
    {_decimal("t.last_px_e8")} AS price,
    {_decimal(f"({_MULTIPLIER})")} AS multiplier,
    CASE WHEN abs({_ABOUT}) < 1e24 THEN {_ABOUT} END AS notional,
    strftime('%Y-%m-%d %H:%M:%S', t.transact_time_ns / 1000000000, 'unixepoch')
        || printf('.%07d', t.transact_time_ns % 1000000000 / 100) AS transact_time,
    t.time_source,
    COALESCE(c.root_date, t.trade_date) AS original_date,
    COALESCE(c.root_time_ns, t.transact_time_ns) AS original_time_ns,
    t.trader, t.trader_name, t.desk, t.strategy, t.strategy_name, t.account, t.topic, t."partition", t."offset",
    t.last_qty_e8
FROM trades AS t
LEFT JOIN vw_Changes AS c ON c.change_id = t.rowid
LEFT JOIN vw_Changes AS r ON r.root_id = t.rowid AND r.place = 1
LEFT JOIN mpids AS m ON m.session = t.session
LEFT JOIN securities AS s ON s.symbol = t.symbol"""  # noqa: S608 - our own names


def _summed(condition: str) -> str:
    chosen = f"CASE WHEN {condition} THEN v.last_qty_e8 ELSE 0 END"
    return _sum(f"SUM(({chosen}) / {_E8})", f"SUM(({chosen}) % {_E8})")


_BUYS, _SELLS = (f"{_STANDS} AND v.side = '{side}'" for side in ("buy", "sell"))
_BOUGHT_AND_SOLD = ", ".join(
    f"{_summed(which)} AS {told}_quantity, SUM(CASE WHEN {which} THEN v.notional ELSE 0.0 END) AS {told}_notional"
    for which, told in ((_BUYS, "bought"), (_SELLS, "sold"))
)
TRADER_DAILY_SUMMARY = f"""CREATE VIEW vw_TraderDailySummary AS
SELECT v.original_date AS trade_date, v.trader, MAX(v.trader_name) AS trader_name, MAX(v.desk) AS desk, v.currency,
    SUM({_STANDS}) AS trades,
    COUNT(DISTINCT CASE WHEN {_STANDS} THEN v.symbol END) AS instruments,
    SUM(v.kind = 'trade' AND v.status = 'corrected') AS corrected,
    SUM(v.kind = 'trade' AND v.status = 'busted') AS busted,
    SUM(v.status = 'unresolved') AS unresolved,
    {_BOUGHT_AND_SOLD}
FROM vw_Trades AS v WHERE v.kind = 'trade' OR v.status IN ('stands', 'unresolved')
GROUP BY v.original_date, v.trader, v.currency"""  # noqa: S608 - our own names

_SUNDAY = "strftime('%Y', h.hour_utc) || '-{day}', 'weekday 0', '+{hour} hours'"
_SUMMER = (
    f"h.hour_utc >= datetime({_SUNDAY.format(day='03-08', hour=7)}) AND "
    f"h.hour_utc < datetime({_SUNDAY.format(day='11-01', hour=6)})"
)
"""In New York since 2007: from the second Sunday of March until the first of November, at 2 o'clock."""
HOURLY_VOLUME = f"""CREATE VIEW vw_HourlyVolume AS
SELECT h.hour_utc, datetime(h.hour_utc, CASE WHEN {_SUMMER} THEN '-4 hours' ELSE '-5 hours' END) AS hour_new_york,
    h.symbol, h.currency, COUNT(*) AS trades,
    {_sum(f"SUM(h.last_qty_e8 / {_E8})", f"SUM(h.last_qty_e8 % {_E8})")} AS quantity, SUM(h.notional) AS notional
FROM (
    SELECT datetime(v.original_time_ns / 3600000000000 * 3600, 'unixepoch') AS hour_utc,
        v.symbol, v.currency, v.last_qty_e8, v.notional
    FROM vw_Trades AS v WHERE {_STANDS}
) AS h GROUP BY h.hour_utc, h.symbol, h.currency"""  # noqa: S608 - our own names

_NET = "CASE WHEN v.side = 'buy' THEN v.last_qty_e8 ELSE -v.last_qty_e8 END"
DAILY_POSITIONS = f"""CREATE VIEW vw_DailyPositions AS
SELECT v.original_date AS trade_date, v.trader, MAX(v.trader_name) AS trader_name, MAX(v.desk) AS desk,
    v.symbol, v.currency, MAX(v.isin) AS isin, COUNT(*) AS trades,
    {_sum(f"SUM(({_NET}) / {_E8})", f"SUM(({_NET}) % {_E8})")} AS quantity,
    {_BOUGHT_AND_SOLD}
FROM vw_Trades AS v WHERE {_STANDS} GROUP BY v.original_date, v.trader, v.symbol, v.currency"""  # noqa: S608 - our own names

VIEWS = {
    "vw_Changes": CHANGES,
    "vw_Trades": TRADES,
    "vw_TraderDailySummary": TRADER_DAILY_SUMMARY,
    "vw_HourlyVolume": HOURLY_VOLUME,
    "vw_DailyPositions": DAILY_POSITIONS,
}
