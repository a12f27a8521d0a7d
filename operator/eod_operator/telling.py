"""An explanation (`explain`) as text for a terminal, or for a pipe: no line is cut off there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from eod_operator.explain import Explanation

PIPED_WIDTH = 160
"""Columns when nobody says how many there are."""
_COLUMNS = (
    ("DESIRED", "desired"),
    ("CURRENT", "current"),
    ("READY", "ready"),
    ("LAG", "lag"),
    ("BEHIND", "lagSeconds"),
    ("ARRIVAL/S", "arrivalPerSecond"),
    ("CONSUMED/S", "consumedPerSecond"),
)


def show(explanation: Explanation, file: IO[str]) -> None:
    """Write an explanation, in colour where that is a terminal."""
    console = Console(
        file=file, width=None if file.isatty() else PIPED_WIDTH, markup=False, highlight=False, emoji=False
    )
    for part in _parts(explanation):
        console.print(part, soft_wrap=isinstance(part, Text))


def text(explanation: Explanation) -> str:
    """The same as a string."""
    written = StringIO()
    show(explanation, written)
    return written.getvalue()


def _parts(explanation: Explanation) -> Iterator[RenderableType]:
    yield _header(explanation)
    for note in explanation["notes"]:
        yield Text(f"note: {note}", style="yellow")
    yield Text()
    yield from _close(explanation["close"], _time(explanation["at"]))
    yield Text()
    yield _stages(explanation["stages"])
    if explanation["attention"]:
        yield Text("\nneeds attention", style="bold")
        for one in explanation["attention"]:
            yield _indented(
                (f"{one['type']} {one['reason']}", "yellow"), f" since {_clock(one['since'])}: {one['message']}"
            )
    yield Text("\nlast decisions", style="bold")
    if not explanation["decisions"]:
        yield _indented("none recorded")
    for one in explanation["decisions"]:
        yield from _decision(one)


def _header(explanation: Explanation) -> Text:
    pipeline, ready = explanation["pipeline"], explanation["pipeline"]["ready"]
    line = Text(f"{pipeline['namespace']}/{pipeline['name']}", style="bold")
    parts = [(pipeline["phase"] or "no phase yet", ""), (f"mode {pipeline['mode']}", "")]
    if ready is None:
        parts.append(("readiness unknown", "yellow"))
    elif ready["status"] == "True":
        parts.append(("ready", "green"))
    else:
        parts.append((f"not ready ({ready['reason']}): {ready['message']}", "red"))
    parts += [(one, "magenta") for one in explanation["orders"]]
    for words, style in parts:
        line.append("  ", style="not bold").append(words, style=f"not bold {style}")
    return line


def _close(close: Explanation, now: datetime) -> Iterator[RenderableType]:
    if close["problem"]:
        yield Text(f"next close unknown: {close['problem']}", style="yellow")
    elif close["next"] is None:
        yield Text("no close ahead: nothing will be pre-scaled")
    else:
        local = f" ({close['local'][:16].replace('T', ' ')} {close['timezone']})" if close["local"] else ""
        begin, at = _time(close["prescaling"]), _time(close["next"])
        begins = "began" if begin <= now else "begins"
        yield Text(
            f"next close {_clock(close['next'])}{local}, in {_duration(at, now)}; "
            f"pre-scaling {begins} {_clock(close['prescaling'])}"
        )
    if close["burst"]:
        burst = close["burst"]
        yield Text(f"during the burst of the close at {_clock(burst['close'])} until {_clock(burst['until'])}")
    if close["last"]:
        yield Text(f"how the close of {_clock(close['last']['at'])} was met", style="bold")
        yield from (_indented(_met(one)) for one in close["last"]["stages"])
    if close["stages"]:
        yield _table(
            ("STAGE", "NOW", "AT THE CLOSE", "BECAUSE"),
            (
                (
                    one["name"],
                    _number(one["now"]),
                    f"{'at least ' if one['atLeast'] else ''}{one['atClose']}",
                    _why(one),
                )
                for one in close["stages"]
            ),
        )


def _met(one: Explanation) -> str:
    """How a stage met a close."""
    ready, assigned, lag = one["readySeconds"], one["assignedSeconds"], one["worstLagSeconds"]
    words = ["not all of them were ready" if ready is None else f"ready {_beside_the_bell(ready)}"]
    words += [] if assigned is None else [f"with their partitions {_beside_the_bell(assigned)}"]
    words += [] if lag is None else [f"{lag:g} s behind at worst"]
    return f"{one['name']}: {one['replicas']} replicas, {', '.join(words)}"


def _beside_the_bell(seconds: int) -> str:
    return f"{-seconds} s before the bell" if seconds <= 0 else f"{seconds} s after the bell"


def _why(one: Explanation) -> str:
    hindrance = f"not carried out, because {one['hindrance']}; otherwise " if one["hindrance"] else ""
    return f"{hindrance}{one['reason']}"


def _stages(stages: Sequence[Explanation]) -> Table:
    heads = ("STAGE", *(head for head, _ in _COLUMNS), "REASON")
    return _table(
        heads, ((one["name"], *(_number(one[key]) for _, key in _COLUMNS), one["reason"] or "-") for one in stages)
    )


def _decision(one: Explanation) -> Iterator[RenderableType]:
    before, after = one.get("from", "?"), one.get("replicas", "?")
    change = f"stays {after}" if before == after else f"{before} → {after}"
    line = f"{_clock(str(one.get('at', '')))}  {one['stage']}  {change}"
    capped = f", capped by {one['cappedBy']}" if one.get("cappedBy") else ""
    yield _indented((line, "bold"), f"{capped}  {one.get('outcome', '')}")
    for term in one.get("terms") or ():
        won = term.get("name") == one.get("winner")
        mark = "*" if won else " "
        words = f"  {mark} {term.get('name', ''):<14}{term.get('replicas', '?'):>5}  {term.get('detail', '')}"
        yield _indented((words, "green" if won else ""))
    yield _indented(f"    signals: {_signals(one.get('signals') or {})}")


def _signals(signals: Explanation) -> str:
    lag, age_s, partitions = signals.get("lag"), signals.get("ageSeconds"), signals.get("partitions")
    words = ["lag unknown" if lag is None else f"lag {lag:,}"]
    words += [] if age_s is None else [f"{age_s:g} s old"]
    words += ["partitions unknown" if partitions is None else f"{partitions} partitions"]
    return ", ".join(words)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table as kubectl's, but with lines that break where the terminal ends."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, head in enumerate(heads):
        last = number == len(heads) - 1
        table.add_column(head, no_wrap=not last, overflow="fold", ratio=1 if last else None)
    for row in rows:
        table.add_row(*row)
    return table


def _indented(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble("  ", *parts)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def _time(rfc3339: str) -> datetime:
    return datetime.fromisoformat(rfc3339)


def _clock(rfc3339: str) -> str:
    """A time in UTC as people write it; one that cannot be read as it is."""
    try:
        return f"{_time(rfc3339).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return rfc3339


def _duration(until: datetime, now: datetime) -> str:
    minutes = int((until - now).total_seconds()) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    parts = ((days, "d"), (hours, "h"), (minutes % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "less than a minute"
