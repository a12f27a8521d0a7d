"""The mark waterfall."""

from __future__ import annotations

from functools import reduce

import pytest
from eod_workers.pnl.marks import SOURCES, Mark, choose
from eod_workers.protos.prices_pb2 import (
    PRICE_SOURCE_LAST_TRADE,
    PRICE_SOURCE_MID,
    PRICE_SOURCE_OFFICIAL_CLOSE,
    PRICE_SOURCE_PREVIOUS_CLOSE,
    PriceSource,
)
from hypothesis import given
from hypothesis import strategies as st

FRIDAY, MONDAY = 20260102, 20260105
CLOSE, LAST, MID, STALE = (
    PRICE_SOURCE_OFFICIAL_CLOSE,
    PRICE_SOURCE_LAST_TRADE,
    PRICE_SOURCE_MID,
    PRICE_SOURCE_PREVIOUS_CLOSE,
)


@pytest.mark.parametrize(
    ("current", "incoming", "replaces"),
    [
        pytest.param(
            Mark(LAST, 1, 50, FRIDAY), Mark(CLOSE, 2, 40, FRIDAY), True, id="close over last, even if earlier"
        ),
        pytest.param(Mark(MID, 1, 50, FRIDAY), Mark(LAST, 2, 40, FRIDAY), True, id="last over mid"),
        pytest.param(Mark(STALE, 1, 50, FRIDAY), Mark(MID, 2, 40, FRIDAY), True, id="mid over previous close"),
        pytest.param(Mark(CLOSE, 1, 50, FRIDAY), Mark(MID, 2, 60, FRIDAY), False, id="a late mid leaves the close"),
        pytest.param(Mark(CLOSE, 1, 50, FRIDAY), Mark(LAST, 2, 60, FRIDAY), False, id="a late trade leaves the close"),
        pytest.param(Mark(LAST, 1, 50, FRIDAY), Mark(MID, 2, 60, FRIDAY), False, id="mid under last"),
        pytest.param(Mark(MID, 1, 50, FRIDAY), Mark(STALE, 2, 60, FRIDAY), False, id="previous close under mid"),
        pytest.param(Mark(MID, 1, 50, FRIDAY), Mark(MID, 2, 51, FRIDAY), True, id="same source, later"),
        pytest.param(Mark(MID, 1, 50, FRIDAY), Mark(MID, 2, 49, FRIDAY), False, id="same source, earlier"),
        pytest.param(Mark(MID, 1, 50, FRIDAY), Mark(MID, 2, 50, FRIDAY), True, id="same source, same time"),
        pytest.param(Mark(CLOSE, 1, 50, FRIDAY), Mark(STALE, 2, 40, MONDAY), True, id="a new session starts over"),
        pytest.param(Mark(STALE, 1, 50, MONDAY), Mark(CLOSE, 2, 60, FRIDAY), False, id="an older session is ignored"),
    ],
)
def test_waterfall(current: Mark, incoming: Mark, *, replaces: bool) -> None:
    assert (incoming if replaces else current) is choose(current, incoming)


def test_the_first_mark_is_taken() -> None:
    mark = Mark(STALE, 1, 50, FRIDAY)

    assert choose(None, mark) is mark


@pytest.mark.parametrize("source", [0, 5])
@pytest.mark.parametrize("current", [None, Mark(STALE, 1, 50, FRIDAY)])
def test_a_source_without_a_rank_is_refused(source: int, current: Mark | None) -> None:
    with pytest.raises(ValueError, match=f"PriceSource {source} is unknown"):
        choose(current, Mark(source, 1, 60, MONDAY))


def test_every_source_but_unspecified_has_a_name() -> None:
    assert {number for number in PriceSource.values() if number} == set(SOURCES)


marks = st.lists(
    st.builds(
        Mark,
        source=st.sampled_from(sorted(SOURCES)),
        px_e8=st.integers(1, 5),
        event_time_ns=st.integers(1, 6),
        session_date=st.sampled_from([FRIDAY, MONDAY]),
    ),
    min_size=1,
    max_size=12,
)


def chosen_of(marks: list[Mark]) -> Mark:
    mark = reduce(choose, marks[1:], choose(None, marks[0]))
    assert mark in marks
    return mark


@given(marks=marks, data=st.data())
def test_the_order_of_arrival_does_not_matter_but_for_ties(marks: list[Mark], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(marks))

    assert chosen_of(marks)._replace(px_e8=0) == chosen_of(shuffled)._replace(px_e8=0)


@given(marks=marks)
def test_the_chosen_mark_is_the_last_best_of_the_newest_session(marks: list[Mark]) -> None:
    """Filters one rule at a time, where the code compares tuples."""
    newest = [mark for mark in marks if mark.session_date == max(m.session_date for m in marks)]
    for source in (CLOSE, LAST, MID, STALE):
        best = [mark for mark in newest if mark.source == source]
        if best:
            latest = [mark for mark in best if mark.event_time_ns == max(m.event_time_ns for m in best)]
            assert latest[-1] == chosen_of(marks)
            return
    pytest.fail("no mark has a known source")
