"""KEDA's cron trigger against its documentation ("Cron") and two of its issues."""

import pytest
from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.baselines.cron import CronMetadata, CronTrigger, desired
from eod_operator.simulate.scaler import Setting
from hypothesis import given
from hypothesis import strategies as st
from support.autoscaled import CLOSE_S, follow, seen, setting


def at(
    offset_s: float, metadata: CronMetadata | None = None, known: Setting | None = None
) -> tuple[float | None, bool]:
    """What the HPA is given so long after the close, and whether the trigger is active."""
    trigger = CronTrigger(metadata or CronMetadata(lead_min=10, after_min=30, desired_replicas=10), known or setting())
    reading, active = trigger.read(seen(now_s=CLOSE_S + offset_s))
    return reading.value, active


@pytest.mark.parametrize(
    ("offset_s", "value", "active"),
    [(-601, 1, False), (-600, 10, True), (0, 10, True), (1_799, 10, True), (1_800, 1, False)],
)
def test_desired_replicas_between_start_and_end(offset_s: float, value: float, active: bool) -> None:  # noqa: FBT001 - a table's column
    """Parameter list: "Number of replicas to which the resource has to be scaled between the start and end of the cron schedule"."""
    assert (value, active) == at(offset_s)


def test_times_are_whole_minutes() -> None:
    """`start` and `end` are "Linux format cron": Minute Hour Dom Month Dow. A close within a minute begins with it."""
    known = setting()
    late = Setting(**{name: getattr(known, name) for name in known.__slots__} | {"timetable_s": (CLOSE_S + 59,)})
    assert at(-600, known=late) == (10, True)


def test_a_window_may_end_before_the_close() -> None:
    before = CronMetadata(lead_min=30, after_min=-10, desired_replicas=4)
    assert at(-600, before) == (1, False)
    assert at(-601, before) == (4, True)


def test_start_and_end_should_not_be_the_same() -> None:
    with pytest.raises(ValueError, match="start and end should not be the same"):
        CronMetadata(lead_min=5, after_min=-5)


@pytest.mark.parametrize(
    ("metadata", "believed", "replicas"),
    [
        (CronMetadata(desired_replicas=7, desired_share=1.0), 6, 7),
        (CronMetadata(desired_share=0.5), 7, 6),
        (CronMetadata(), 7, 7),
        (CronMetadata(), None, 12),
    ],
)
def test_how_many(metadata: CronMetadata, believed: int | None, replicas: int) -> None:
    assert replicas == desired(metadata, setting(burst_replicas=believed))


def test_a_day_that_the_timetable_has_is_scaled_for() -> None:
    """Up in one step at the start; down when the end and the HPA's five minutes of stabilization are over."""
    scaler = BASELINES["cron"](lead_min=5, after_min=5, desired_replicas=8, up_pods=100).scaler(setting())
    steps = follow(scaler, [0] * 81, start=1, from_s=CLOSE_S - 600)
    assert steps[:20] == [1] * 20  # until five minutes before
    assert steps[20:79] == [8] * 59  # until five minutes after the last recommendation of 8, 15 s before the end
    assert steps[79:] == [1, 1]


def test_the_hpa_steps_up_by_its_default_policies() -> None:
    """Default Behavior of the HPA: more by four pods or by as many again, every 15 seconds."""
    scaler = BASELINES["cron"](lead_min=5, desired_replicas=12).scaler(setting())
    assert follow(scaler, [0] * 3, start=1, from_s=CLOSE_S - 300) == [5, 10, 12]


@pytest.mark.parametrize(("wanted", "current"), [(89, 88), (24, 22)])
def test_the_dead_band_stops_short(wanted: int, current: int) -> None:
    """kedacore/keda#5263: "Once you've reached 88 instances, you won't never reach 89"; gocrane/crane#836: 22 of 24."""
    known = setting(most=100)
    scaler = BASELINES["cron"](desired_replicas=wanted, up_pods=100).scaler(known)
    assert [current] * 5 == follow(scaler, [0] * 5, start=current, from_s=CLOSE_S)
    exact = BASELINES["cron"](desired_replicas=wanted, up_pods=100, tolerance=0.0).scaler(known)
    assert [wanted] == follow(exact, [0], start=current, from_s=CLOSE_S)


@given(st.integers(1, 100), st.integers(1, 12), st.floats(-3_600, 3_600))
def test_it_stays_within_its_bounds(wanted: int, start: int, offset_s: float) -> None:
    scaler = BASELINES["cron"](desired_replicas=wanted).scaler(setting(least=2))
    assert all(2 <= one <= 12 for one in follow(scaler, [0] * 5, start=start, from_s=CLOSE_S + offset_s))
