"""The arithmetic between offsets and lag; the requests themselves are tested on a real Kafka."""

from __future__ import annotations

from eod_operator.lag import Reading, Wanted, _reading

LEADERS = {"trades": {0: 1, 1: 1}, "prices": {0: 1, 1: 1, 2: 1}}
FIRST = {("trades", 0): 0, ("trades", 1): 50, ("prices", 0): 0, ("prices", 1): 0, ("prices", 2): 0}
END = {("trades", 0): 100, ("trades", 1): 100, ("prices", 0): 10, ("prices", 1): 0, ("prices", 2): 5}


def read(committed: dict[tuple[str, int], int], *topics: str, group: str | None = "g") -> Reading:
    return _reading(Wanted(topics, group), LEADERS, FIRST, END, committed)


def test_lag_is_end_minus_committed() -> None:
    assert read({("trades", 0): 90, ("trades", 1): 100}, "trades") == Reading(partitions=2, lag=(10, 0))


def test_a_partition_without_a_commit_counts_from_its_first_record() -> None:
    """And one whose records were removed by retention counts what is left."""
    assert read({("trades", 0): 100}, "trades").lag == (0, 50)
    assert read({("trades", 0): 100, ("trades", 1): 20}, "trades").lag == (0, 50)


def test_a_commit_beyond_the_end_counts_as_none() -> None:
    """The topic was deleted and made anew."""
    assert read({("trades", 0): 5_000, ("trades", 1): 100}, "trades").lag == (0, 0)


def test_co_partitioned_topics_are_summed_by_partition() -> None:
    """The replicas share as many partitions as the largest topic has."""
    committed = {("trades", 0): 90, ("trades", 1): 95, ("prices", 0): 9, ("prices", 1): 0, ("prices", 2): 0}
    assert read(committed, "trades", "prices") == Reading(partitions=3, lag=(11, 5, 5))


def test_a_group_that_committed_nothing_has_an_unknown_lag() -> None:
    assert read({}, "trades") == Reading(partitions=2, lag=None)


def test_a_missing_topic_leaves_everything_unknown() -> None:
    assert read({("trades", 0): 1}, "trades", "nowhere") == Reading(missing=("nowhere",))


def test_a_stage_without_a_group_has_partitions_only() -> None:
    assert read({}, "trades", group=None) == Reading(partitions=2)
