"""The played market: the same seed plays the same session, and its own account is right by another arithmetic."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.fix.frames import frame
from eod_workers.market import oddities, play
from eod_workers.market.play import Market, Mischief, report
from eod_workers.market.profile import Profile
from eod_workers.market.tally import Execution, Holding, Tally, digest
from eod_workers.market.universe import accented, make_universe
from eod_workers.trades.captures import trades_of
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import Invalid, trade_of
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, Trade
from eod_workers.trades.numbers import E8
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import parsed
from support.manual_clock import ManualClock

AT_NS = 1_767_387_600_000_000_000


class _Initiator:
    """Takes what a line sends, and puts nothing on any wire."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[tuple[bytes, bool]] = []
        self.repeated: list[int] = []
        self.last_wire = b""
        self.wires: list[bytes] = []

    def send(self, kind: bytes, body: bytes, *, corrupt: bool = False) -> int:
        self.sent.append((body, corrupt))
        sender, _, target = self.name.encode().partition(b"->")
        head = b"35=%b\x0149=%b\x0156=%b\x0134=%d\x01" % (kind, sender, target, len(self.sent))
        self.last_wire = frame(b"FIX.4.4", head + b"52=20260102-21:00:00.007\x01" + body)
        self.wires.append(self.last_wire)
        return len(self.sent)

    def repeat(self, number: int) -> None:
        self.repeated.append(number)

    def lose_heartbeat(self) -> int:
        return 0

    def fill_gap(self, first: int) -> None:
        assert first == 0


def played(seed: int, count: int = 400, **mischief: float) -> Market:
    """A market that has sent `count` executions."""
    market = Market(
        make_universe(seed),
        Profile(10, 10, 100),
        ManualClock(AT_NS),
        network=MemoryNetwork(),
        seed=seed,
        mischief=Mischief(**mischief),
    )
    for line in market._lines:
        line.initiator = _Initiator(line.initiator.name)  # type: ignore[assignment]
    for _ in range(count):
        market._one()
    return market


def test_two_plays_to_one_pipeline_share_no_exec_id() -> None:
    """By their runs; without one, the same seed plays the same session."""
    ids = []
    for run in ("", "", "a1", "a2"):
        market = Market(
            make_universe(1), Profile(10, 10, 100), ManualClock(AT_NS), network=MemoryNetwork(), seed=1, run=run
        )
        for line in market._lines:
            line.initiator = _Initiator(line.initiator.name)  # type: ignore[assignment]
        for _ in range(100):
            market._one()
        ids.append(set(market.tally.executions))
    assert ids[0] == ids[1]
    assert not ids[0] & ids[2]
    assert not ids[2] & ids[3]


def wires(market: Market) -> list[list[tuple[bytes, bool]]]:
    """What each line has sent."""
    return [line.initiator.sent for line in market._lines]  # type: ignore[attr-defined]


# --- seeds --------------------------------------------------------------------------------------------------

_ALL = {"corrupt": 0.05, "duplicates": 0.1, "busts": 0.05, "unknown": 0.05}


@pytest.mark.parametrize("mischief", [{}, _ALL])
def test_the_same_seed_sends_the_same_messages_on_every_line(mischief: dict[str, float]) -> None:
    first, second = played(7, **mischief), played(7, **mischief)
    assert wires(first) == wires(second)
    assert first.tally.executions == second.tally.executions
    assert (first.tally.garbled, first.tally.unknown) == (second.tally.garbled, second.tally.unknown)


def test_another_seed_sends_others() -> None:
    assert wires(played(7)) != wires(played(8))


def test_a_universe_is_a_function_of_its_seed_with_distinct_symbols() -> None:
    assert make_universe(7) == make_universe(7)
    assert make_universe(7).symbols != make_universe(8).symbols
    universe = make_universe(7, symbols=500, traders=30)
    assert (len(set(universe.symbols)), len(universe.opening_px_e8), len(set(universe.traders))) == (500, 500, 30)
    assert min(universe.opening_px_e8) > 0


# --- mischief -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["corrupt", "duplicates", "busts", "unknown", "odd"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 5, float("nan")])
def test_a_share_outside_0_to_1_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*between 0 and 1"):
        Mischief(**{name: value})


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_share_from_0_to_1_is_taken(value: float) -> None:
    assert Mischief(corrupt=value).corrupt == value


def test_a_market_without_mischief_sends_each_execution_once_and_whole() -> None:
    market = played(7)
    sent = [body for line in wires(market) for body, _ in line]
    assert sorted(sent) == sorted(report(execution) for execution in market.tally.executions.values())
    assert not any(corrupt for line in wires(market) for _, corrupt in line)
    tally = market.tally
    assert (tally.garbled, tally.unknown, tally.duplicates, tally.busts) == (set(), set(), 0, 0)


def test_the_account_of_the_mischief_is_the_mischief_done() -> None:
    market = played(7, 2_000, **_ALL)
    tally = market.tally
    assert len(tally.executions) == market.sent == 2_000
    assert len(tally.garbled) == sum(corrupt for line in wires(market) for _, corrupt in line) > 0
    again = sum(len(line) for line in wires(market)) - 2_000
    repeats = sum(len(line.initiator.repeated) for line in market._lines)  # type: ignore[attr-defined]
    assert tally.duplicates == again + repeats
    assert again > 0 < repeats
    busts = [e for e in tally.executions.values() if e.action == ACTION_BUST]
    assert tally.busts == len(busts) > 0
    ghosts = {key for key, e in tally.executions.items() if e.trader not in make_universe(7).traders}
    assert tally.unknown == ghosts
    assert ghosts


def test_a_bust_names_a_trade_of_its_own_session_that_no_other_bust_names() -> None:
    tally = played(7, 2_000, busts=0.3).tally
    busts = [e for e in tally.executions.values() if e.action == ACTION_BUST]
    named = Counter((bust.session, bust.trade_date, bust.exec_ref_id) for bust in busts)
    assert set(named.values()) == {1}
    assert all(tally.executions[key].action == ACTION_TRADE for key in named)


def test_a_report_says_what_the_execution_meant() -> None:
    """Read back by the code that ingestion uses."""
    dates = TradeDates()
    for execution in played(7, 300, busts=0.2, unknown=0.1).tally.executions.values():
        raw = frame(b"FIX.4.4", b"35=8\x0134=1\x01" + report(execution))
        trade = trade_of(
            parsed(raw),
            raw,
            session=execution.session,
            epoch=1,
            msg_seq_num=1,
            received_at_ns=execution.transact_time_ns,
            dates=dates,
        )
        assert trade is not None
        signed = trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8
        assert execution == Execution(
            *trade.identity, trade.exec_ref_id, trade.action, trade.symbol, trade.trader, trade.strategy,
            signed, trade.last_px_e8, trade.transact_time_ns,
        )  # fmt: skip


# --- messages as counterparties send them -------------------------------------------------------------------------


def test_what_an_odd_message_says_is_what_its_account_says() -> None:
    """Read back by the code that ingestion uses: every kind is met, and nothing else is booked or refused."""
    market = played(7, 3_000, odd=0.5)
    tally, dates = market.tally, TradeDates()
    booked: dict[tuple[str, int, str], Execution] = {}
    refused, messages, kinds = set(), 0, Counter[str]()
    for line in market._lines:
        for raw in line.initiator.wires:  # type: ignore[attr-defined]
            message = parsed(raw)
            kinds[message.fields[b"35"].decode()] += 1
            if len(raw) > 65_536:
                refused.add(digest(raw))
                continue
            try:
                trades = [] if message.fields[b"35"] in {b"n", b"B"} else read_back(raw, line.initiator.name, dates)
            except Invalid:
                refused.add(digest(raw))
                continue
            messages += 1
            for trade in trades:
                signed = trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8
                booked[trade.identity] = Execution(
                    *trade.identity, trade.exec_ref_id, trade.action, trade.symbol, trade.trader, trade.strategy,
                    signed, trade.last_px_e8, trade.transact_time_ns, trade.multiplier_e8,
                )  # fmt: skip
    assert booked == tally.executions
    assert (refused, messages) == (tally.refused, tally.messages)
    assert kinds.keys() == {"8", "AE", "B", "n"}
    universe = make_universe(7)
    assert {one.key for one in universe.instruments} <= {execution.symbol for execution in booked.values()}
    assert {accented(number) for number in range(1, 5)} <= {execution.trader for execution in booked.values()}
    assert {ACTION_TRADE, ACTION_BUST, ACTION_CORRECT} == {execution.action for execution in booked.values()}
    days = Counter((session, exec_id) for session, _, exec_id in booked)
    assert max(days.values()) == 2
    assert min(execution.px_e8 for execution in booked.values()) < 0


def read_back(raw: bytes, session: str, dates: TradeDates) -> list[Trade]:
    """What ingestion makes of a frame."""
    return trades_of(
        parsed(raw), raw, session=session, epoch=1, msg_seq_num=1, received_at_ns=0, dates=dates,
    )  # fmt: skip


def test_each_kind_of_odd_message_comes_sooner_or_later() -> None:
    made = set()
    kinds = tuple(lambda make, kind=kind: made.add(kind) or kind(make) for kind in oddities.ODDITIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(play, "ODDITIES", kinds)
        market = played(3, 1_000, odd=0.3)
    assert made == set(oddities.ODDITIES)
    assert {kind for kind, _ in market._turns} | market.tally.turns.keys() == set(play.TURNS)


def test_a_corrected_trade_is_valued_where_the_old_one_stood_times_its_multiplier() -> None:
    def one(exec_id: str, quantity: int, px: int, ref: str = "", action: int = ACTION_TRADE) -> Execution:
        return Execution("S", 20260102, exec_id, ref, action, "ES", "ann", "", quantity * E8, px * E8, 0, 50 * E8)

    tally = Tally()
    for execution in (
        one("1", 2, 10), one("2", 2, 20), one("3", -2, 30), one("4", 2, 12, "1", ACTION_CORRECT), one("5", 9, 9),
        one("6", 0, 0, "5", ACTION_BUST),
    ):  # fmt: skip
        tally.executions[execution.identity] = execution
    ((_, holding),) = tally.positions().items()
    assert (holding.quantity, holding.realized, holding.trades) == (2, 50 * 28, 3)


# --- the shape of a session ---------------------------------------------------------------------------------

_PROFILES = st.builds(Profile, st.floats(2, 600), st.floats(1, 5_000), st.floats(1, 20_000))


@given(profile=_PROFILES, at=st.floats(0, 1))
def test_the_count_by_a_time_is_the_area_under_the_rate(profile: Profile, at: float) -> None:
    """By Simpson's rule over each phase, whose rates are at most quadratic: so the rule is exact."""
    until = at * profile.seconds
    edges = [0.0, profile.seconds * 0.40, profile.close_s, profile.burst_end_s, profile.seconds]
    area = 0.0
    for start, edge in pairwise(edges):
        end = min(edge, until)
        if end <= start:
            break
        inside = 1e-9 * (edge - start)
        a, b = start + inside, end - inside
        area += (end - start) / 6 * (profile.rate(a) + 4 * profile.rate((a + b) / 2) + profile.rate(b))
    assert profile.sent_by(until) == pytest.approx(area, rel=1e-4, abs=1e-3)


@given(profile=_PROFILES)
def test_the_total_is_what_the_session_has_sent_at_its_end_and_beyond(profile: Profile) -> None:
    assert profile.total == int(profile.sent_by(profile.seconds)) == int(profile.sent_by(2 * profile.seconds))
    assert profile.sent_by(-1) == 0
    counts = [profile.sent_by(profile.seconds * step / 50) for step in range(51)]
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("at", "phase", "rate"),
    [(0, "calm", 100), (3.9, "calm", 100), (4.0, "ramp", 100), (5.5, "burst", 2_000), (7.4, "burst", 2_000),
     (7.5, "tail", None), (9.99, "tail", None)],
)  # fmt: skip
def test_a_session_is_calm_then_ramps_bursts_at_the_close_and_ebbs(at: float, phase: str, rate: float | None) -> None:
    profile = Profile(10, 100, 2_000)
    assert profile.phase(at) == phase
    assert rate is None or profile.rate(at) == rate
    assert (profile.rate(-0.1), profile.rate(10)) == (0, 0)


def test_the_usual_demo_has_well_over_100_000_trades() -> None:
    assert Profile(60, 500, 10_000).total > 120_000


# --- the account --------------------------------------------------------------------------------------------


def by_shares(trades: list[tuple[int, int]]) -> tuple[Fraction, Fraction, Fraction]:
    """Quantity, cost and realized P&L share by share: each closes at the average price of those that are open."""
    open_shares: list[Fraction] = []
    direction, realized = 0, Fraction(0)
    for quantity, price in trades:
        sign = 1 if quantity > 0 else -1
        for _ in range(abs(quantity)):
            if open_shares and direction != sign:
                average = sum(open_shares, Fraction(0)) / len(open_shares)
                realized += direction * (price - average)
                open_shares = [average] * (len(open_shares) - 1)
            else:
                direction = sign
                open_shares.append(Fraction(price))
    return Fraction(direction * len(open_shares)), direction * sum(open_shares, Fraction(0)), realized


@given(
    trades=st.lists(st.tuples(st.integers(-8, 8).filter(bool), st.integers(0, 50)), max_size=12),
    mark=st.integers(0, 50),
)
def test_a_holding_is_what_share_by_share_accounting_says(trades: list[tuple[int, int]], mark: int) -> None:
    holding = Holding()
    for quantity, price in trades:
        holding.trade(Fraction(quantity), Fraction(price))
    assert (holding.quantity, holding.cost, holding.realized) == by_shares(trades)
    assert holding.trades == len(trades)
    unrealized = holding.quantity * mark - holding.cost
    assert holding.realized + unrealized == holding.cash + holding.quantity * mark


def test_the_case_that_lifetime_average_cost_gets_wrong() -> None:
    """100 at 10, sold at 12, 100 at 20, marked at 20: 200 were earned, not 700."""
    holding = Holding()
    for quantity, price in ((100, 10), (-100, 12), (100, 20)):
        holding.trade(Fraction(quantity), Fraction(price))
    assert holding.realized == 200
    assert holding.cash + holding.quantity * 20 == 200


def test_a_bust_takes_its_trade_back_and_nothing_else() -> None:
    def execution(exec_id: str, quantity: int, px: int, ref: str = "") -> Execution:
        action = ACTION_BUST if ref else ACTION_TRADE
        return Execution("S", 20260102, exec_id, ref, action, "IBM", "T1", "VWAP", quantity * 10**8, px * 10**8, 0)

    tally = Tally()
    # The bust's own numbers must not matter.
    for e in (execution("1", 100, 10), execution("2", 50, 20), execution("3", 7, 7, ref="2")):
        tally.executions[e.identity] = e
    (holding,) = tally.positions().values()
    assert (holding.quantity, holding.cash) == (100, -1_000)


def test_every_frame_written_is_counted_with_its_bytes() -> None:
    tally = Tally()
    for raw in (b"one", b"two", b"one"):
        tally.wrote(raw)
    assert tally.bytes_sent == 9
    assert tally.frames == Counter({digest(b"one"): 2, digest(b"two"): 1})
