"""The golden table of the policy: each row is a situation and the answer that we stand by."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from eod_operator.scaling import BurstWindow, History, Overrides, Sample, Signals, StagePolicy, decide

NOW = 1_000_000.0
BURST = BurstWindow(close_s=NOW + 60, next_close_s=NOW + 60)
CALM = BurstWindow(close_s=None, next_close_s=NOW + 9_000)
FLASH = StagePolicy(min_replicas=1, max_replicas=12, burst_replicas=6, lag_per_replica=1_000)
SMALL = StagePolicy(min_replicas=1, max_replicas=4, burst_replicas=2, lag_per_replica=1_000)
INGESTION = StagePolicy(min_replicas=1, max_replicas=2, burst_replicas=2)
IDLE = StagePolicy(min_replicas=0, max_replicas=2, burst_replicas=0, lag_per_replica=1_000)
SETTLED = History((Sample(NOW - 10, 0),))


def lag(total: int, *, partitions: int = 12, age_s: float = 0.0) -> Signals:
    return Signals(
        lag=(total, *[0] * (partitions - 1)),
        age_s=age_s,
        partitions=partitions,
    )


NO_LAG = lag(0)
NO_ORDERS = Overrides()


@dataclass(frozen=True)
class Row:
    """One situation and the answer to it."""

    name: str
    expected: int
    winner: str
    policy: StagePolicy = FLASH
    signals: Signals = NO_LAG
    window: BurstWindow = CALM
    history: History = SETTLED
    current: int = 1
    capped_by: str | None = None
    overrides: Overrides = NO_ORDERS


ROWS = [
    Row("nothing to do stays at min", 1, "min"),
    Row("a new stage starts at min", 1, "min", current=0),
    Row("one record of lag needs one", 1, "lag", signals=lag(1)),
    Row("exactly one replica's worth needs one", 1, "lag", signals=lag(1_000)),
    Row("one record more needs two", 2, "lag", signals=lag(1_001)),
    Row("three share 12 evenly", 3, "lag", signals=lag(2_500)),
    Row("five are rounded up to six on 12 partitions", 6, "lag", signals=lag(4_001)),
    Row("seven are rounded up to twelve on 12 partitions", 12, "lag", signals=lag(6_001)),
    Row("the rounding is capped by max", 4, "lag", policy=SMALL, signals=lag(4_001), capped_by="max"),
    Row("an enormous lag is capped by partitions", 12, "lag", signals=lag(10**12)),
    Row("an enormous lag is capped by max", 4, "lag", policy=SMALL, signals=lag(10**12), capped_by="max"),
    Row("three partitions take three replicas", 3, "lag", signals=lag(9_000, partitions=3)),
    Row("one partition takes one replica", 1, "lag", signals=lag(9_000, partitions=1)),
    Row("min above partitions gives way", 1, "min", policy=StagePolicy(3, 6, 3, 1_000), signals=lag(0, partitions=1), capped_by="partitions"),
    Row("the calendar raises before there is any lag", 6, "calendar", window=BURST),
    Row("lag above the burst size wins inside the burst", 12, "lag", window=BURST, signals=lag(8_000)),
    Row("lag below the burst size does not", 6, "calendar", window=BURST, signals=lag(3_000)),
    Row("burst size above partitions is capped", 4, "calendar", window=BURST, signals=lag(0, partitions=4), capped_by="partitions"),
    Row("nothing is lowered inside the burst", 12, "burst-hold", window=BURST, current=12),
    Row("no lower even with an old history", 8, "burst-hold", window=BURST, current=8, history=History((Sample(NOW - 9_999, 1),))),
    Row("max lowers even inside the burst", 4, "burst-hold", policy=SMALL, window=BURST, current=9, capped_by="max"),
    Row("a drained stage goes to min after the window", 1, "min", current=6, history=History((Sample(NOW - 301, 6),  Sample(NOW - 299, 1)))),
    Row("a drained stage waits inside the window", 6, "stabilization", current=6, history=History((Sample(NOW - 299, 6),))),
    Row("down only to the highest of the window", 4, "stabilization", current=8, history=History((Sample(NOW - 200, 4), Sample(NOW - 100, 2)))),
    Row("a small step down waits while the need still falls", 6, "step", current=6, history=History((Sample(NOW - 200, 4), Sample(NOW - 100, 2)))),
    Row("stabilization never raises", 2, "stabilization", current=2, history=History((Sample(NOW - 10, 6),))),
    Row("a restart holds what runs", 6, "stabilization", current=6, history=History()),
    Row("a restart still raises", 12, "lag", current=6, history=History(), signals=lag(12_000)),
    Row("unknown lag holds", 5, "stale", current=5, signals=Signals()),
    Row("unknown partitions hold", 5, "stale", current=5, signals=Signals(lag=(9_000,))),
    Row("a topic without partitions holds", 5, "stale", current=5, signals=Signals(lag=(), partitions=0)),
    Row("lag at the limit of age is believed", 2, "lag", signals=lag(2_000, age_s=60.0)),
    Row("lag beyond the limit of age holds", 5, "stale", current=5, signals=lag(0, age_s=60.1)),
    Row("lag of unknown age holds", 5, "stale", current=5, signals=lag(0, age_s=float("nan"))),
    Row("stale lag does not raise either", 5, "stale", current=5, signals=lag(10**9, age_s=99.0)),
    Row("the calendar raises on stale lag", 6, "calendar", current=2, signals=Signals(), window=BURST),
    Row("stale lag never lowers inside the burst", 9, "stale", current=9, signals=Signals(), window=BURST),
    Row("stale and new starts at min", 1, "min", current=0, signals=Signals()),
    Row("stale and above max comes down to max", 4, "stale", policy=SMALL, current=9, signals=Signals(), capped_by="max"),
    Row("min raises a stage that somebody made smaller", 2, "min", policy=StagePolicy(2, 6, 2, 1_000), current=1),
    Row("a negative lag of a topic made anew counts as none", 1, "min", signals=Signals(lag=(-50, -7), partitions=2)),
    Row("a negative lag does not hide another partition's", 2, "lag", signals=Signals(lag=(-5_000, 1_500), partitions=2)),
    Row("ingestion is sized by the calendar: burst", 2, "calendar", policy=INGESTION, signals=Signals(), window=BURST),
    Row("ingestion is sized by the calendar: calm", 1, "min", policy=INGESTION, signals=Signals()),
    Row("ingestion comes down when the burst is over", 1, "min", policy=INGESTION, signals=Signals(), current=2),
    Row("zero is allowed when min is zero", 0, "lag", policy=IDLE, signals=lag(0, partitions=3), current=0),
    Row("a freeze holds against lag", 1, "freeze", signals=lag(9_000), overrides=Overrides(frozen="so")),
    Row("a freeze holds against the calendar", 1, "freeze", window=BURST, overrides=Overrides(frozen="so")),
    Row("a freeze holds what is above max", 9, "freeze", policy=SMALL, current=9, overrides=Overrides(frozen="so")),
    Row("a freeze wins over a pin", 3, "freeze", current=3, overrides=Overrides(frozen="so", pinned=8)),
    Row("a pin wins over lag", 2, "pin", signals=lag(9_000), overrides=Overrides(pinned=2)),
    Row("a pin lowers inside the burst", 2, "pin", window=BURST, current=9, overrides=Overrides(pinned=2)),
    Row("a pin may be below min", 0, "pin", overrides=Overrides(pinned=0)),
    Row("a pin is capped by max", 4, "pin", policy=SMALL, overrides=Overrides(pinned=9), capped_by="max"),
    Row("a pin is capped by partitions", 3, "pin", signals=lag(0, partitions=3), overrides=Overrides(pinned=9), capped_by="partitions"),
    Row("a pin holds on unknown lag", 4, "pin", signals=Signals(), overrides=Overrides(pinned=4)),
    Row("a hold lowers nothing", 7, "hold", current=7, overrides=Overrides(hold_down="so")),
    Row("a hold lets lag raise", 12, "lag", current=7, signals=lag(9_000), overrides=Overrides(hold_down="so")),
    Row("one dead letter wakes a sleeping stage", 1, "lag", policy=IDLE, signals=lag(1, partitions=3), current=0),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_decision_table(row: Row) -> None:
    """Each situation has this answer, this winner and this cap."""
    decision = decide(
        row.policy, row.signals, row.window, row.history, current=row.current, now_s=NOW, overrides=row.overrides
    )
    assert (row.expected, row.winner, row.capped_by) == (
        decision.replicas,
        decision.winner,
        decision.capped_by,
    )


def test_reason_is_a_sentence_with_the_arithmetic() -> None:
    """The reason says how many, by which rule, from which numbers, and what capped it."""
    decision = decide(SMALL, lag(5_000), CALM, SETTLED, current=1, now_s=NOW)
    assert decision.reason == (
        "4 replicas (lag): lag 5,000 at 1,000 a replica calls for 5, 6 to share 12 partitions evenly; capped by max 4"
    )


def test_all_terms_that_applied_are_told() -> None:
    """A decision lists every rule with its wish, not the winner alone."""
    decision = decide(FLASH, lag(2_000), BURST, SETTLED, current=3, now_s=NOW)
    assert [(term.name, term.replicas) for term in decision.terms] == [
        ("calendar", 6),
        ("lag", 2),
        ("min", 1),
        ("burst-hold", 3),
        ("stabilization", 3),
    ]


def test_equal_situations_give_equal_sentences() -> None:
    """No ticking number is in a reason: a status that says it again is not written again."""
    first = decide(FLASH, Signals(age_s=61), CALM, SETTLED, current=3, now_s=NOW)
    again = decide(FLASH, Signals(age_s=76), CALM, first.history, current=3, now_s=NOW + 15)
    assert first.reason == again.reason


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, r"min \(3\) <= burst \(3\) <= max \(2\)"),
        ({"min_replicas": 1, "max_replicas": 2, "burst_replicas": 5}, r"burst \(5\) <= max \(2\)"),
        ({"min_replicas": 2, "max_replicas": 4, "burst_replicas": 1}, r"min \(2\) <= burst \(1\)"),
        ({"min_replicas": -1, "max_replicas": 4}, r"min \(-1\)"),
        ({"min_replicas": 1, "max_replicas": 4, "lag_per_replica": 0}, "at least 1"),
    ],
)
def test_nonsense_policies_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StagePolicy(**fields)


def test_a_close_is_prescaled_and_drained_in_one_step_each() -> None:
    """Played over a day's end with a lag that follows: up once before the close, down once after the window."""
    close_s, history, current, changes = NOW + 1_000, History(), 1, []
    for second in range(0, 3_000, 5):
        now_s = NOW + second
        active = close_s - 300 <= now_s <= close_s + 900
        window = BurstWindow(close_s if active else None, close_s)
        backlog = 5_500 if close_s <= now_s <= close_s + 60 else 200
        decision = decide(FLASH, lag(backlog), window, history, current=current, now_s=now_s)
        history = decision.history
        if decision.replicas != current:
            changes.append((second, decision.replicas))
            current = decision.replicas
    assert changes == [(700, 6), (2_205, 1)]
