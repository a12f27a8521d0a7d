"""Studies as a table for a terminal, as JSON with every seed, and as a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from eod_operator.simulate.bars import ALLOWANCE, PRICE_HOURS_PER_S2, RIVAL, USUAL, Bars
from eod_operator.simulate.compare import Entry, Study, met
from eod_operator.simulate.metrics import FLOOR_S2
from eod_operator.simulate.tune import Tuned

COLUMNS: Mapping[str, str] = {
    "replica_hours": "replica-hours",
    "lateness_s2": "lateness s²",
    "max_lag_s": "max lag s",
    "late_s": "late s",
    "drain_s": "drain s",
    "p99_age_s": "p99 age s",
    "max_age_s": "max age s",
    "changes": "changes",
    "rebalances": "rebalances",
    "moved": "moved",
    "unfinished": "unfinished",
}
"""Metrics as they are called in tables; each number is the median over seeds."""
_BAR_COLUMNS = (
    "lateness at our cost",
    "cost at our lateness",
    "knee: cost",
    "lateness",
    "price",
    "rebalances",
    "tuned for the usual day: price",
)
_NONE = "-"


def parameters(params: Mapping[str, object]) -> str:
    """Parameters in a line; empty for the defaults."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def number(value: float) -> str:
    """A number with as many digits as a reader needs."""
    if abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def rows(study: Study) -> list[tuple[str, list[str], str]]:
    """Of the table: policy, its numbers in the order of `COLUMNS`, its parameters."""
    return [
        (entry.name, [number(entry.median(key)) for key in COLUMNS], parameters(entry.params))
        for entry in study.entries
    ]


def table(studies: Iterable[Study]) -> Table:
    """All scenarios and policies."""
    made = Table(title="Medians over seeds", title_justify="left", header_style="bold")
    made.add_column("scenario")
    made.add_column("policy")
    for title in COLUMNS.values():
        made.add_column(title, justify="right")
    for study in studies:
        for index, (name, numbers, _) in enumerate(rows(study)):
            made.add_row(study.scenario if index == 0 else "", name, *numbers)
        made.add_section()
    return made


def bar_row(bars: Bars, met_price: float | None) -> list[str]:
    """Of the comparison, in the order of its columns."""
    return [
        _ratio(bars.lateness),
        _ratio(bars.cost),
        _ratio(bars.knee_cost),
        _ratio(bars.knee_lateness),
        _ratio(bars.knee_price),
        f"{bars.knee_rebalances:+g}",
        _ratio(met_price),
    ]


def bar_table(studies: Sequence[Study]) -> Table:
    """Ours against the tuned rival."""
    made = Table(title=f"eod as a multiple of the best tuned {RIVAL} (below 1: eod is better)", title_justify="left")
    made.add_column("scenario")
    for title in _BAR_COLUMNS:
        made.add_column(title, justify="right")
    made.add_column("its knee", style="dim", overflow="fold")
    usual = met(studies)
    for study in studies:
        if study.bars is not None:
            made.add_row(
                study.scenario, *bar_row(study.bars, usual.get(study.scenario)), parameters(study.bars.knee.params)
            )
    return made


def legend() -> str:
    """What the comparison's columns mean."""
    return (
        f"Lateness is the integral of lag-seconds; below {FLOOR_S2:g} s² it counts as {FLOOR_S2:g}. "
        f"Lateness at our cost: against the least late configuration that costs no more than eod (+{ALLOWANCE:.0%}). "
        f"Cost at our lateness: against the cheapest that is no later (+{ALLOWANCE:.0%}); {_NONE}: there is none. "
        f"Knee: the lowest price, which is replica-hours + lateness / {1 / PRICE_HOURS_PER_S2:g}: "
        "a lag of one minute that lasts for a minute is worth a replica for an hour. "
        "All that was tuned on the day and the seeds that it is judged on; the last column is against the knee of "
        f"{USUAL}, which met the day as it came."
    )


def as_json(studies: Sequence[Study]) -> dict[str, Any]:
    """Everything but the curves."""
    return {
        "version": 1,
        "floorSecondsSquared": FLOOR_S2,
        "priceReplicaHoursPerSecondSquared": PRICE_HOURS_PER_S2,
        "priceAgainstTunedForUsualDay": met(studies),
        "scenarios": {study.scenario: _study(study) for study in studies},
    }


def _study(study: Study) -> dict[str, Any]:
    return {
        "about": study.about,
        "seeds": list(study.seeds),
        "policies": {entry.name: _entry(entry) for entry in study.entries},
        "tuned": {name: [_point(point) for point in points] for name, points in study.tuned.items()},
        "bars": None if study.bars is None else _bars(study.bars),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "params": dict(entry.params),
        "median": entry.medians(),
        "seeds": [one.as_dict() for one in entry.metrics],
    }


def _point(point: Tuned) -> dict[str, Any]:
    return {
        "params": dict(point.params),
        "cost": point.cost,
        "lateness": point.lateness,
        "rebalances": point.rebalances,
    }


def _bars(bars: Bars) -> dict[str, Any]:
    rivals = {"lateness_rival": bars.lateness_rival, "cost_rival": bars.cost_rival, "knee": bars.knee}
    plain = {name: getattr(bars, name) for name in Bars.__dataclass_fields__ if name not in rivals}
    return plain | {name: None if point is None else _point(point) for name, point in rivals.items()}


def _ratio(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } p { max-width: 75ch; }
img { max-width: 100%; background: white; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, td:last-child { text-align: left; }
"""


def page(studies: Sequence[Study], pictures: Mapping[str, bytes]) -> str:
    """A page with the tables and the pictures in it.

    Args:
        studies: in the order of the page.
        pictures: PNG by the name of a scenario, and one of all under the empty name.
    """
    usual = met(studies)
    compared = [
        (study.scenario, bar_row(study.bars, usual.get(study.scenario))) for study in studies if study.bars is not None
    ]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>eod simulate</title><style>{_STYLE}</style><h1>eod simulate</h1>",
    ]
    if compared:
        parts.append(f"<h2>eod as a multiple of the best tuned {html.escape(RIVAL)}</h2><p>{html.escape(legend())}</p>")
        parts.append(_html_table(("scenario", *_BAR_COLUMNS), [[name, *cells] for name, cells in compared]))
    if "" in pictures:
        parts.append(f"<h2>Cost against lateness</h2>{_picture(pictures[''], 'cost against lateness, by scenario')}")
    for study in studies:
        seeds = f"{len(study.seeds)} seed{'' if len(study.seeds) == 1 else 's'}"
        parts.append(f"<h2>{html.escape(study.scenario)}</h2><p>{html.escape(study.about)} Medians of {seeds}.</p>")
        if study.scenario in pictures:
            parts.append(_picture(pictures[study.scenario], f"the close of {study.scenario}, first seed"))
        cells = [[name, *numbers, params] for name, numbers, params in rows(study)]
        parts.append(_html_table(("policy", *COLUMNS.values(), "parameters"), cells))
    return "\n".join(parts) + "\n"


def _picture(png: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _html_table(titles: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'
