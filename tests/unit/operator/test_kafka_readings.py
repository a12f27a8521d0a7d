"""The arithmetic between offsets and lag; the requests themselves are tested on a real Kafka."""

from __future__ import annotations

from array import array

import pytest
from eod_operator.kafka import Reading, Wanted
from eod_operator.kafka.offsets import CommitSeries, Offsets, TopicSeries
from eod_operator.kafka.readings import Lost, seen, with_rates
from hypothesis import given
from hypothesis import strategies as st

PARTITIONS = {"trades": 2, "prices": 3}
FIRST = {"trades": array("q", [0, 50]), "prices": array("q", [0, 0, 0])}
END = {"trades": array("q", [100, 100]), "prices": array("q", [10, 0, 5])}
NONE = -1


def offsets(trades: list[int] | None = None, prices: list[int] | None = None) -> Offsets:
    """One look at both topics, and at what the group g has committed in them."""
    committed = {"trades": array("q", trades or [NONE] * 2), "prices": array("q", prices or [NONE] * 3)}
    return Offsets(PARTITIONS, FIRST, END, missing=frozenset({"nowhere"}), committed={"g": committed})


def read(look: Offsets, *topics: str, group: str | None = "g") -> Reading:
    return seen(Wanted(topics, group), look)


def test_lag_is_end_minus_committed() -> None:
    assert read(offsets([90, 100]), "trades") == Reading(partitions=2, lag=(10, 0))


def test_a_partition_without_a_commit_counts_from_its_first_record() -> None:
    """And one whose records were removed by retention counts what is left."""
    assert read(offsets([100, NONE]), "trades").lag == (0, 50)
    assert read(offsets([100, 20]), "trades").lag == (0, 50)


def test_what_retention_has_overtaken_is_lost() -> None:
    """A partition without a commit was never read, and one that is read to its end has lost nothing."""
    assert read(offsets([100, 20]), "trades").lost == (Lost("trades", 1, 20, 50),)
    assert read(offsets([100, 20], [0, 0, 0]), "trades", "prices").lost == (Lost("trades", 1, 20, 50),)
    assert read(offsets([100, 20], [0, 0, 0]), "prices").lost == ()
    assert read(offsets([NONE, 50]), "trades").lost == ()
    assert read(offsets([100, NONE]), "trades").lost == ()


def test_a_commit_beyond_the_end_counts_as_none() -> None:
    """The topic was deleted and made anew."""
    assert read(offsets([5_000, 100]), "trades").lag == (0, 0)


def test_co_partitioned_topics_are_summed_by_partition() -> None:
    """The replicas share as many partitions as the largest topic has."""
    look = offsets([90, 95], [9, 0, 0])
    assert read(look, "trades", "prices") == Reading(partitions=3, lag=(11, 5, 5))


def test_a_group_that_committed_nothing_has_everything_before_it() -> None:
    """What there is: retention has removed the rest."""
    assert read(offsets(), "trades") == Reading(partitions=2, lag=(100, 50))
    assert read(offsets(), "trades", "prices").lag == (110, 50, 5)


def test_a_group_of_which_nothing_was_read_has_an_unknown_lag() -> None:
    assert read(offsets(), "trades", group="h") == Reading(partitions=2, lag=None)


def test_a_group_that_committed_to_one_of_its_topics_has_a_lag_in_all() -> None:
    assert read(offsets([100, 100]), "trades", "prices").lag == (10, 0, 5)


def test_a_missing_topic_leaves_everything_unknown() -> None:
    assert read(offsets([1, 1]), "trades", "nowhere") == Reading(missing=("nowhere",))


def test_a_topic_that_was_not_asked_about_is_not_missing() -> None:
    assert read(offsets([1, 1]), "trades", "later") == Reading()


def test_a_stage_without_a_group_has_partitions_only() -> None:
    assert read(offsets(), "trades", group=None) == Reading(partitions=2)


def test_a_group_that_is_refused_has_a_problem_and_partitions() -> None:
    look = Offsets(PARTITIONS, FIRST, END, refused={"g": "not allowed"})
    assert read(look, "trades") == Reading(partitions=2, problem="not allowed")
    assert read(look, "trades", group=None).problem is None


def test_a_topic_that_cannot_be_read_is_a_problem_of_its_stages_alone() -> None:
    look = Offsets(PARTITIONS, {"prices": FIRST["prices"]}, {"prices": END["prices"]}, unreadable={"trades": "why"})
    assert read(look, "trades") == Reading(partitions=2, problem="why")
    assert read(look, "prices", group=None) == Reading(partitions=3)


def rated(committed: list[int], *, looks: int = 2, group: str | None = "g") -> Reading:
    """A reading after looks a second apart, in which both partitions of trades grew by ten and the group stood."""
    ends, commits = TopicSeries(), CommitSeries()
    for look in range(looks):
        at_s = float(look - looks)
        ends.append(at_s, array("q", [100 - 10 * (looks - 1 - look)] * 2))
        commits.append(at_s, array("q", committed))
    wanted, look_now = Wanted(("trades",), group), offsets(committed)
    return with_rates(seen(wanted, look_now), wanted, look_now, {"trades": ends}, {("g", "trades"): commits})


def test_rates_are_of_all_partitions() -> None:
    reading = rated([95, 95])
    assert reading.arrival_per_s == 20.0
    assert reading.consumed_per_s == 0.0


def test_the_age_is_that_of_the_oldest_unconsumed_record() -> None:
    """Ten records arrive a second: the fifth to last is half a second old, whatever the other partition has."""
    assert rated([95, 100]).lag_s == rated([95, 98]).lag_s == pytest.approx(0.45)


def test_nothing_unconsumed_is_no_second_old() -> None:
    assert rated([100, 100]).lag_s == 0.0


def test_a_record_from_before_the_first_look_is_at_least_as_old_as_the_looks() -> None:
    assert rated([10, 100], looks=4).lag_s == 3.0


def test_one_look_tells_neither_ages_nor_rates() -> None:
    """But that nothing is unconsumed it tells."""
    reading = rated([95, 100], looks=1)
    assert (reading.lag_s, reading.arrival_per_s, reading.consumed_per_s) == (None, None, None)
    assert rated([100, 100], looks=1).lag_s == 0.0


def test_a_stage_without_a_group_has_an_arrival_rate() -> None:
    reading = rated([95, 95], group=None)
    assert (reading.lag_s, reading.arrival_per_s, reading.consumed_per_s) == (None, 20.0, None)


def test_two_topics_with_one_unknown_rate_have_none() -> None:
    known, unknown = TopicSeries(), TopicSeries()
    known.append(0.0, END["trades"])
    known.append(1.0, END["trades"])
    unknown.append(1.0, END["prices"])
    wanted, look = Wanted(("trades", "prices"), "g"), offsets([100, 100], [10, 0, 5])
    reading = with_rates(seen(wanted, look), wanted, look, {"trades": known, "prices": unknown}, {})
    assert reading.arrival_per_s is None
    assert reading.lag_s == 0.0


POSITIONS = st.lists(st.integers(-1, 150), min_size=2, max_size=2)


@given(committed=POSITIONS, first=POSITIONS, grown=st.lists(st.integers(0, 120), min_size=2, max_size=2))
def test_only_no_lag_has_no_age(committed: list[int], first: list[int], grown: list[int]) -> None:
    """Neither of them is ever negative, wherever the group, the first record and the looks were."""
    end = [max(120, number) for number in first]
    ends = TopicSeries()
    ends.append(0.0, array("q", [now - more for now, more in zip(end, grown, strict=True)]))
    ends.append(5.0, array("q", end))
    wanted = Wanted(("trades",), "g")
    look = Offsets(
        {"trades": 2},
        {"trades": array("q", [max(0, number) for number in first])},
        {"trades": array("q", end)},
        committed={"g": {"trades": array("q", committed)}},
    )
    reading = with_rates(seen(wanted, look), wanted, look, {"trades": ends}, {})
    if reading.lag is None:
        assert committed == [-1, -1]
        assert reading.lag_s is None
    else:
        assert min(reading.lag) >= 0
        assert reading.lag_s is not None
        assert 0 <= reading.lag_s <= 5.0
        assert (reading.lag_s == 0) == (sum(reading.lag) == 0)
