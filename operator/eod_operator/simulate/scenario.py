"""A scenario: one day of one consumer group, as a YAML file that people can read and write.

Everything that is random about the day is a distribution here and a draw in `world.py`. Times of day are New York's, as
"HH:MM" or "HH:MM:SS"; "close" is the close of the day. Rates are in records a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

ZONE = ZoneInfo("America/New_York")
USUAL_CLOSE = time(16)
"""What a daily cron entry believes, whatever the exchange does."""

UNUSUAL: Mapping[date, time | None] = {
    date(2026, 11, 26): None,
    date(2026, 11, 27): time(13),
    date(2026, 12, 24): time(13),
    date(2026, 12, 25): None,
}
"""New York's holidays (None) and half days around the scenarios' dates; a scenario says its own close itself."""

_SATURDAY = 5
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


class ScenarioError(ValueError):
    """A scenario cannot be read; the message names file, field and remedy."""


def _is_clock(value: str) -> str:
    if not _CLOCK.fullmatch(value):
        raise ValueError(f"{value!r} is not a time of day: write it as HH:MM or HH:MM:SS in quotes")
    return value


def _is_moment(value: str) -> str:
    return value if value == "close" else _is_clock(value)


Clock = Annotated[str, AfterValidator(_is_clock)]
Moment = Annotated[str, AfterValidator(_is_moment)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(_Part):
    """The quiet day: U-shaped, so that open and close are busier than noon, with noise."""

    level: NotNegative = Field(default=40, description="rate at noon")
    edges: Positive = Field(default=1.6, description="rate at the open and at the close, as a multiple of noon's")
    after: NotNegative = Field(default=0.5, description="rate after the close, as a multiple of noon's")
    noise: NotNegative = Field(
        default=0.08, description="sigma of the lognormal noise, half of it slow, half by second"
    )


class Placed(_Part):
    """Something with a place in the day."""

    at: Moment
    after_s: float = Field(default=0, description="seconds after `at`; negative: before it")


class Lasting(Placed):
    """Something that goes on for a time."""

    for_s: Positive


class Burst(Placed):
    """A print: the rate rises within seconds and decays exponentially."""

    peak: NotNegative = Field(description="rate added at the top")
    rise_s: Positive = 5
    decay_s: Positive = 60
    spread: NotNegative = Field(default=0.15, description="sigma of the lognormal day-to-day variation of the peak")
    late_s: NotNegative = Field(default=2, description="the print comes up to so many seconds late")
    recurs: bool = Field(default=True, description="whether the sessions before this one had it too")


class Hot(Lasting):
    """A symbol that draws a share of everything to its partition (drawn by seed) for a time."""

    share: Annotated[float, Field(gt=0, lt=1)]


class Traffic(_Part):
    """What arrives."""

    base: Base = Base()
    bursts: tuple[Burst, ...] = ()
    hot: tuple[Hot, ...] = ()
    symbols: Annotated[int, Field(ge=1, le=100_000)] = 400
    zipf: NotNegative = Field(default=0.7, description="exponent of the symbols' weights; 0: all alike")
    today: Positive = Field(default=1, description="today's bursts as a multiple of those of the sessions before")


class Event(_Part):
    """Something announced that makes the bursts of today's close larger, such as an index rebalance."""

    name: str
    factor: Positive


class Outlier(_Part):
    """A past session unlike the others; it had no announced name unless `event` says so."""

    session: Annotated[int, Field(ge=0)]
    factor: Positive
    event: str = ""


class Past(_Part):
    """Sessions before this day that somebody may have recorded."""

    sessions: Annotated[int, Field(ge=0, le=250)] = 10
    outliers: tuple[Outlier, ...] = ()


class Group(_Part):
    """The consumer group."""

    partitions: Annotated[int, Field(ge=1, le=1000)] = 12
    min: Annotated[int, Field(ge=0)] = 1
    max: Annotated[int, Field(ge=1)] = 12
    protocol: Literal["eager", "cooperative"] = "eager"
    pause_s: NotNegative = 3
    commit_s: Positive = 1
    beat_s: NotNegative = Field(
        default=5, description="members join others when the clock is at a multiple; 0: at once"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}: min must not be above max")
        return self


class Service(_Part):
    """What one replica consumes a second."""

    per_s: Positive = 100
    between: NotNegative = Field(default=0.1, description="sigma of the lognormal variation from pod to pod")
    within: NotNegative = Field(default=0.03, description="sigma of the lognormal variation from minute to minute")


class Pods(_Part):
    """How long a pod takes from the decision until it joins the group, and until it is gone."""

    start_median_s: Positive = 30
    start_p95_s: Positive = 45
    stop_s: NotNegative = 5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start_p95_s < self.start_median_s:
            raise ValueError(f"start_p95_s is {self.start_p95_s:g}: it must not be below start_median_s")
        return self


class Sight(_Part):
    """When offsets are read, and how much later somebody knows them."""

    scrape_s: Positive = 1
    delay_s: NotNegative = 0.5


class Poison(Lasting):
    """One partition (drawn by seed) is consumed at a crawl for a time."""

    per_s: NotNegative = 0


class Outage(Lasting):
    """The broker answers nobody for a time; producers buffer, and flush when it is back."""

    flush_s: Positive = 5


class Believed(_Part):
    """What whoever configures an autoscaler believes in the morning; null in a scenario file means: no idea.

    The start of a pod and the pause of a rebalance are those of `pods` and `group` unless said here.
    """

    burst_replicas: Annotated[int, Field(ge=1)] | None = 6
    service_per_s: Positive | None = 100
    start_s: Positive | None = None
    pause_s: NotNegative | None = None


class Steps(_Part):
    """How finely time is cut: coarse in quiet hours, fine from some time before each burst or fault until after it."""

    coarse_s: Positive = 15
    fine_s: Positive = 1
    before_s: NotNegative = 660
    after_s: NotNegative = 900


class Scenario(_Part):
    """One day."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    about: str
    date: date
    open: Clock = "09:30"
    close: Clock | None = "16:00"
    until: Clock = "16:45"
    slo_s: Positive = 5
    traffic: Traffic = Traffic()
    history: Past = Past()
    events: tuple[Event, ...] = ()
    group: Group = Group()
    service: Service = Service()
    pods: Pods = Pods()
    sight: Sight = Sight()
    poison: tuple[Poison, ...] = ()
    outages: tuple[Outage, ...] = ()
    believed: Believed = Believed()
    steps: Steps = Steps()

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.close is None:
            if self.events:
                raise ValueError("events need a close: give one, or drop the events")
            at_close: list[Placed] = [*self.traffic.bursts, *self.traffic.hot, *self.poison, *self.outages]
            if any(one.at == "close" for one in at_close):
                raise ValueError('something is at: close, but the day has no close: write a time as "HH:MM"')
        if self.open_s >= self.until_s:
            raise ValueError(f"until is {self.until}, which is not after open {self.open}")
        if self.close_s is not None and not self.open_s < self.close_s <= self.until_s:
            raise ValueError(f"close is {self.close}: it must lie between open {self.open} and until {self.until}")
        return self

    def at(self, moment: str) -> float:
        """Epoch seconds of a time of the day, or of "close"."""
        if moment == "close":
            if self.close is None:
                raise ScenarioError(f"{self.name}: the day has no close: write a time as HH:MM")
            moment = self.close
        return epoch_s(self.date, time.fromisoformat(moment.zfill(5) if moment.count(":") == 1 else moment.zfill(8)))

    def place(self, one: Placed) -> float:
        """Epoch seconds at which something happens or begins."""
        return self.at(one.at) + one.after_s

    @property
    def open_s(self) -> float:
        """When the day begins."""
        return self.at(self.open)

    @property
    def until_s(self) -> float:
        """When the day ends, some time after the close."""
        return self.at(self.until)

    @property
    def close_s(self) -> float | None:
        """The close, or None on a day without a session."""
        return None if self.close is None else self.at("close")


def epoch_s(day: date, clock: time) -> float:
    """Epoch seconds of a time of day in New York."""
    return datetime.combine(day, clock, tzinfo=ZONE).timestamp()


def is_weekday(day: date) -> bool:
    """Whether a daily cron entry takes it for a trading day."""
    return day.weekday() < _SATURDAY


def sessions(day: date, step: int) -> Iterator[tuple[date, time]]:
    """Sessions before (step -1) or after (step 1) a day with their closes, the nearest first."""
    while True:
        day += timedelta(days=step)
        close = UNUSUAL.get(day, USUAL_CLOSE)
        if is_weekday(day) and close is not None:
            yield day, close


def names() -> tuple[str, ...]:
    """Names of the scenarios that come with this package."""
    folder = resources.files(__package__) / "scenarios"
    return tuple(sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml")))


def find(name_or_file: str) -> Scenario:
    """A scenario by its name, or from a YAML file.

    Raises:
        ScenarioError: there is none, or it is wrong.
    """
    if name_or_file in names():
        text = (resources.files(__package__) / "scenarios" / f"{name_or_file}.yaml").read_text(encoding="utf-8")
        return parse(text, name_or_file)
    if not name_or_file.endswith((".yaml", ".yml")):
        raise ScenarioError(
            f"{name_or_file!r} is not a scenario: give the path of a .yaml file, or one of {', '.join(names())}"
        )
    try:
        return parse(Path(name_or_file).read_text(encoding="utf-8"), name_or_file)
    except OSError as error:
        raise ScenarioError(f"{name_or_file}: cannot be read: {error.strerror}") from error


def parse(text: str, where: str) -> Scenario:
    """A scenario from YAML.

    Raises:
        ScenarioError: it is not YAML, or a field is wrong; all wrong fields are named.
    """
    try:
        found: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{where}: is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise ScenarioError(f"{where}: must be a mapping with name, about and date; see eod simulate --list")
    try:
        return Scenario.model_validate(found)
    except ValidationError as error:
        raise ScenarioError(sentences(where, error)) from error


def sentences(where: str, error: ValidationError) -> str:
    """A line for each field that is wrong, with what is wrong and how to mend it."""
    return "\n".join(f"{where}: {_sentence(problem)}" for problem in error.errors())


def _sentence(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "the scenario"
    if problem["type"] == "extra_forbidden":
        return f"{field}: there is no such field; take it out, or look for a slip of the pen"
    if problem["type"] == "missing":
        return f"{field}: is missing; add it"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]} (it is {problem['input']!r})" if problem["loc"] else message
