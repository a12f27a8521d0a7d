"""The golden table of the policy by load and forecast; that of lag, calendar and orders is test_scaling_decisions.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from eod_operator.scaling import BurstWindow, History, Overrides, Sample, Signals, StagePolicy, decide
from eod_operator.scaling.demand import Outlook
from eod_operator.scaling.effect import Raise
from eod_operator.scaling.history import Burst
from eod_operator.scaling.service_rate import ServiceRate
from unit.scaling.situations import BURST, CALM, KNOWN, NOW, Flat, flow, one_hot, settled

H = KNOWN.horizon_s
LEARNED = ServiceRate(per_s=50.0, observations=5, ready=1, ready_since_s=NOW - 10_000)
QUICK = ServiceRate(ready=1, ready_since_s=NOW - 10_000, kept_up_per_s=400.0, kept_up_at_s=NOW)
NO_ORDERS = Overrides()
CALM_HISTORY = settled()
INEFFECTIVE = Raise(NOW - 100, 3, 6, 300.0, 1_000, NOW - 90, NOW - 50)
CLOSED = BurstWindow(NOW - 100, NOW + 86_000)


@dataclass(frozen=True)
class Row:
    """One situation and the answer to it."""

    name: str
    expected: int
    winner: str
    signals: Signals
    current: int = 1
    policy: StagePolicy = KNOWN
    window: BurstWindow = CALM
    history: History = CALM_HISTORY
    outlook: Outlook | None = None
    overrides: Overrides = NO_ORDERS
    capped_by: str | None = None


ROWS = [
    # by load: (arrival x 1.1 + behind / 30) / 100, aligned
    Row("one replica that keeps up has proven that it can", 1, "load", flow(300)),
    Row("a trickle needs one", 1, "load", flow(5)),
    Row("nothing at all needs the minimum", 1, "min", flow(0)),
    Row("what one replica just carries needs one", 1, "load", flow(90)),
    Row("the pause of a rebalance counts", 2, "load", flow(92)),
    Row("three replicas' worth and their pauses need four", 4, "load", flow(300, consumed=90)),
    Row("five are aligned to six", 6, "load", flow(410, consumed=90)),
    Row("seven are aligned to twelve", 12, "load", flow(600, consumed=90)),
    Row("a flood is capped by the partitions' number", 12, "load", flow(99_999, consumed=90)),
    Row("a flood is capped by max", 4, "load", flow(99_999, consumed=90), policy=replace(KNOWN, max_replicas=4, burst_replicas=4), capped_by="max"),
    Row("a backlog adds what catching up takes", 3, "load", flow(60, lag=5_120, lag_s=50.0)),
    Row("what is merely under way is no backlog", 1, "load", flow(90, lag=180, lag_s=2.0)),
    Row("a shorter catch-up takes more", 6, "load", flow(60, lag=5_120, lag_s=50.0), policy=replace(KNOWN, catch_up_s=10)),
    Row("what was learned replaces what was believed", 2, "load", flow(60, consumed=50), history=settled(service=LEARNED)),
    Row("two observations do not", 1, "load", flow(60), history=settled(service=replace(LEARNED, observations=2))),
    Row("without a known rate lag decides", 6, "lag", flow(70, lag=5_500, lag_s=50.0, ready=1, consumed=90), policy=replace(KNOWN, replica_per_s=None, catch_up_s=3_600)),
    Row("without a known rate, what is done counts in a backlog", 12, "load", flow(10, lag=5_500, lag_s=50.0), policy=replace(KNOWN, replica_per_s=None)),
    Row("but not in a small one", 1, "lag", flow(10, lag=900, lag_s=50.0), policy=replace(KNOWN, replica_per_s=None)),
    Row("without rates lag decides", 6, "lag", replace(flow(10, lag=5_500), arrival_per_s=None)),
    Row("a rate that is not a number leaves it to lag", 6, "lag", replace(flow(10, lag=5_500), arrival_per_s=(float("nan"),) * 12)),
    Row("a negative rate leaves it to lag", 6, "lag", replace(flow(10, lag=5_500), consumed_per_s=(-1.0,) * 12)),
    Row("a backlog that grows faster than the means explain counts", 4, "load", flow(100, lag=1_200, lag_s=3.0), history=replace(settled(), behind=(NOW - 5, 0))),
    Row("but not while members come and go", 2, "load", flow(100, lag=1_200, lag_s=3.0), history=replace(settled(service=ServiceRate(ready=1, ready_since_s=NOW - 10)), behind=(NOW - 5, 0))),
    # skew
    Row("a hot partition needs its neighbours spread", 6, "load", flow(one_hot(15, 70), consumed=90)),
    Row("a partition above a replica counts as most of one", 12, "load", flow(one_hot(25, 300), consumed=90)),
    Row("a hot partition alone does not ask for all", 1, "load", flow(one_hot(1, 300), consumed=90)),
    Row("a partition that makes no progress counts no more", 1, "load", flow(one_hot(1, 1), consumed=one_hot(1, 0), lag=one_hot(0, 90_000), lag_s=one_hot(0, 900))),
    # replicas that have kept up with more
    Row("who keeps up with small records is not raised", 1, "load", flow(390), history=settled(service=QUICK)),
    Row("a little above what was proven is tolerated", 1, "load", flow(450, consumed=400), history=settled(service=QUICK)),
    Row("half as much again is not", 2, "load", flow(600, consumed=400), history=settled(service=QUICK)),
    Row("with a backlog the proof is void", 12, "load", flow(390, lag=9_000, lag_s=20.0), history=settled(service=QUICK)),
    # staying takes more room than coming
    Row("a raise is not taken back at once", 2, "load", flow(85), current=2),
    Row("it is when there is room", 1, "load", flow(70), current=2),
    Row("lowering takes the highest of the window", 2, "stabilization", flow(30), current=4, history=settled(2)),
    Row("a small step waits while the need falls", 3, "step", flow(30), current=3, history=settled(2)),
    Row("a small step is taken when the need is steady", 2, "load", flow(120, consumed=100), current=3, history=settled(2)),
    Row("nothing is lowered while records wait", 4, "backlog", flow(30, lag=300, lag_s=9.0), current=4),
    Row("records under way do not hold", 1, "load", flow(30, lag=60, lag_s=2.0), current=4),
    Row("a stuck partition does not hold", 1, "load", flow(one_hot(1, 1), consumed=one_hot(1, 0), lag=one_hot(0, 90_000), lag_s=one_hot(0, 900)), current=4),
    Row("partitions that are not seen hold", 4, "stale", replace(flow(30), lag=(0,) * 11), current=4),
    Row("partitions that are not seen still let lag raise", 6, "lag", replace(flow(30), lag=(500,) * 11), current=4),
    Row("partitions that were added count from then on", 8, "load", flow(700, consumed=90, partitions=24)),
    Row("a lag of an age that is not a number lets lag alone decide", 1, "load", replace(flow(30), lag_s=(float("nan"),) * 12), current=4),
    # a raise that brought nothing
    Row("a raise that brought nothing is not repeated", 6, "load", flow(900, consumed=300, lag=9_000, lag_s=20.0, ready=6), current=6, history=replace(settled(), raised=INEFFECTIVE)),
    Row("a forecast still raises then", 12, "forecast", flow(900, consumed=300, lag=9_000, lag_s=20.0, ready=6), current=6, history=replace(settled(), raised=INEFFECTIVE), outlook=Flat(900)),
    Row("once it helps, lag raises again", 12, "load", flow(900, consumed=500, lag=9_000, lag_s=20.0, ready=6), current=6, history=replace(settled(), raised=INEFFECTIVE)),
    Row("after ten minutes it is tried again", 12, "load", flow(900, consumed=300, lag=9_000, lag_s=20.0, ready=6), current=6, history=replace(settled(), raised=replace(INEFFECTIVE, ineffective_s=NOW - 601))),
    # by forecast: 80 % of 100 a replica
    Row("a quiet forecast asks for one", 1, "forecast", flow(30), outlook=Flat(30)),
    Row("a hump within the horizon is met in one step", 6, "forecast", flow(30), outlook=Flat(30, 450, NOW + H - 1, NOW + 900)),
    Row("a hump beyond the horizon is not", 1, "forecast", flow(30), outlook=Flat(30, 450, NOW + H + 20, NOW + 900)),
    Row("a moment's peak is waited through", 4, "forecast", flow(30), outlook=Flat(300, 450, NOW + 20, NOW + 30)),
    Row("less planned use takes more", 12, "forecast", flow(30), outlook=Flat(450), policy=replace(KNOWN, utilization=0.6)),
    Row("a forecast takes the calendar's place", 1, "forecast", flow(30), window=BURST, outlook=Flat(30)),
    Row("without a forecast the calendar stands", 6, "calendar", flow(30), window=BURST),
    Row("a forecast without a known rate leaves it to the calendar", 6, "calendar", flow(30), window=BURST, outlook=Flat(900), policy=replace(KNOWN, replica_per_s=None)),
    Row("a forecast counts on stale signals", 6, "forecast", replace(flow(30), age_s=99), outlook=Flat(450)),
    Row("load above the forecast wins", 12, "load", flow(900, consumed=90), outlook=Flat(300)),
    Row("a forecast never lowers what load needs", 6, "load", flow(450, ready=6), current=6, outlook=Flat(10)),
    Row("it is not lowered when it comes back soon", 6, "returns", flow(30), current=6, outlook=Flat(30, 450, NOW + 100, NOW + 400)),
    Row("it is lowered when it comes back late", 1, "forecast", flow(30), current=6, outlook=Flat(30, 450, NOW + 2_000, NOW + 2_400)),
    Row("with a forecast a minute of calm is enough", 1, "forecast", flow(30), current=6, history=History((Sample(NOW - 70, 6), Sample(NOW - 59, 1))), outlook=Flat(30)),
    Row("with a forecast the burst holds nothing", 1, "forecast", flow(30), current=6, window=CLOSED, outlook=Flat(30)),
    Row("with a forecast a backlog does", 6, "backlog", flow(30, lag=500, lag_s=8), current=6, window=CLOSED, outlook=Flat(30)),
    Row("a burst that came to a third counts as a third", 2, "forecast", flow(30), outlook=Flat(450), window=CLOSED, history=replace(settled(), burst=Burst(NOW - 100, 3_000.0, 9_000.0, NOW))),
    Row("a burst that came to double counts as double", 12, "forecast", flow(30), outlook=Flat(450), window=CLOSED, history=replace(settled(), burst=Burst(NOW - 100, 18_000.0, 9_000.0, NOW))),
    Row("before it can be told it counts as foreseen", 6, "forecast", flow(30), outlook=Flat(450), window=BurstWindow(NOW - 40, NOW + 9e4), history=replace(settled(), burst=Burst(NOW - 40, 1.0, 900.0, NOW))),
    Row("a freeze holds against the forecast", 2, "freeze", flow(30), current=2, outlook=Flat(900), overrides=Overrides(frozen="so")),
    Row("a pin holds against load", 3, "pin", flow(900, consumed=90), current=2, overrides=Overrides(pinned=3)),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_situation_has_its_answer(row: Row) -> None:
    decision = decide(
        row.policy,
        row.signals,
        row.window,
        row.history,
        current=row.current,
        now_s=NOW,
        overrides=row.overrides,
        outlook=row.outlook,
    )
    assert (decision.replicas, decision.winner, decision.capped_by) == (row.expected, row.winner, row.capped_by), (
        decision.reason
    )


def test_there_are_enough_rows() -> None:
    """Names are sentences about situations, each of them once."""
    assert len({row.name for row in ROWS}) == len(ROWS) >= 60
