"""Which rows stand after busts and corrections, as far as the dialects of the stores say it alike.

Rows are never changed, so it is worked out when it is asked, by the rules of flash P&L (`pnl.book`): a bust or a
correction is of the trade that its reference names among those before it in its partition of the log, on the same day,
else on the latest; that trade is of the same instrument; what follows it names any link of the chain; the last
correction stands, and nothing once one is a bust. Where nothing before it has the name, what came later of its day or
an earlier one is meant: the bust was a dead letter until then, and has been redriven. What a trade adds to its day and
hour is counted where the trade itself was, not where its correction came.
"""

from __future__ import annotations

from eod_workers.trades.model import ACTION_BUST, ACTION_TRADE

MOST_LINKS = 90
"""Corrections of corrections; what is further from its trade is `unresolved`."""
ROOTED = f"""climbing AS (
    SELECT n.change_id, n.named_id, n.named_action, 1 AS depth FROM named AS n WHERE n.named_action <> {ACTION_TRADE}
    UNION ALL
    SELECT c.change_id, n.named_id, n.named_action, c.depth + 1
    FROM climbing AS c JOIN named AS n ON n.change_id = c.named_id
    WHERE c.named_action <> {ACTION_TRADE} AND c.depth < {MOST_LINKS}
), rooted AS (
    SELECT n.change_id, n.named_id AS root_id FROM named AS n WHERE n.named_action = {ACTION_TRADE}
    UNION ALL
    SELECT c.change_id, c.named_id FROM climbing AS c WHERE c.named_action = {ACTION_TRADE}
)"""  # noqa: S608 - our own numbers
"""Common table expressions from `named` (change_id, named_id, named_action) to each change's trade. Only what names
another bust or correction is climbed link by link."""
STATUS = f"""CASE WHEN t.action = {ACTION_TRADE} AND r.root_id IS NULL THEN N'stands'
        WHEN t.action = {ACTION_TRADE} AND r.busted = 1 THEN N'busted'
        WHEN t.action = {ACTION_TRADE} THEN N'corrected'
        WHEN c.root_id IS NULL THEN N'unresolved'
        WHEN t.action = {ACTION_BUST} THEN N'applied'
        WHEN c.busted = 1 THEN N'busted'
        WHEN c.place = 1 THEN N'stands'
        ELSE N'corrected' END"""
"""Of a row t: c is the change that it is, r the latest change of the trade that it is; texts as in T-SQL."""
