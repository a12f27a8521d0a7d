"""Closes that another process loads, and what is remembered of them."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from eod_operator import closes
from eod_operator.closes import load_elsewhere
from eod_operator.scaling.calendar import CalendarNotLoadedError, UnknownExchangeError, Years, load_closes

pytestmark = pytest.mark.filterwarnings(
    "ignore:Series.values returning:DeprecationWarning"
)  # see test_scaling_calendar


def test_another_process_says_the_same_as_this_one() -> None:
    assert load_elsewhere("XNYS", 2026) == load_closes("XNYS", 2026)


@pytest.mark.slow
def test_an_unknown_exchange_is_unknown_there_too() -> None:
    with pytest.raises(UnknownExchangeError, match="'XNYZ' is not an exchange") as error:
        load_elsewhere("XNYZ", 2026)
    assert not isinstance(error.value, CalendarNotLoadedError)


@pytest.mark.parametrize("fault", [OSError("no memory"), subprocess.TimeoutExpired("python", 60)])
def test_a_process_that_fails_is_worth_another_try(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(closes.subprocess, "run", fail)
    with pytest.raises(CalendarNotLoadedError, match="the calendar of XNYS for 2026 could not be loaded"):
        load_elsewhere("XNYS", 2026)


def test_each_year_is_loaded_once_and_so_is_what_is_not_there() -> None:
    asked: list[tuple[str, int]] = []

    def load(code: str, year: int) -> tuple[float, ...]:
        asked.append((code, year))
        if code == "NONE":
            raise UnknownExchangeError("no such exchange")
        return (1.0,)

    years = Years(load)
    assert not years.has("XNYS", 2026)
    for _ in range(3):
        assert years.closes("XNYS", 2026) == (1.0,)
        with pytest.raises(UnknownExchangeError, match="no such exchange"):
            years.closes("NONE", 2026)
    assert years.has("XNYS", 2026)
    assert years.has("NONE", 2026)
    assert asked == [("XNYS", 2026), ("NONE", 2026)]


def test_what_failed_for_another_reason_is_asked_again() -> None:
    answers: list[Any] = [CalendarNotLoadedError("no memory"), (1.0,)]

    def load(code: str, year: int) -> tuple[float, ...]:
        del code, year
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return tuple(answer)

    years = Years(load)
    with pytest.raises(CalendarNotLoadedError):
        years.closes("XNYS", 2026)
    assert years.closes("XNYS", 2026) == (1.0,)


def test_memory_is_bounded() -> None:
    years = Years(lambda _code, year: (float(year),))
    for year in range(2000, 2200):
        years.closes("XNYS", year)
    assert sum(years.has("XNYS", year) for year in range(2000, 2200)) == 64
