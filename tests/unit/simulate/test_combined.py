"""Kafka and cron triggers in one ScaledObject: the HPA takes the larger."""

import pytest
from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.scaler import Scaler
from support.autoscaled import CLOSE_S, follow, seen, setting


def scaler() -> Scaler:
    """Ten records a replica, and four replicas around the close; steps of any size."""
    return (
        BASELINES["keda+cron"](
            lag_threshold=10, desired_replicas=4, lead_min=10, after_min=10, up_pods=100, down_stabilization_s=0
        )
    ).scaler(setting())


@pytest.mark.parametrize(
    ("offset_s", "lag", "replicas"),
    [
        (0, 0, 4),
        (0, 36, 4),
        (0, 84, 9),
        (0, 9_999, 12),  # capped at the partitions by the trigger
        (3_600, 84, 9),
        (3_600, 0, 1),
    ],
)
def test_the_larger_of_both(offset_s: float, lag: float, replicas: int) -> None:
    """Kubernetes, "Scaling on multiple metrics": "takes the maximum scale recommended for each metric"."""
    assert [replicas] == follow(scaler(), [lag], start=2, from_s=CLOSE_S + offset_s)


@pytest.mark.parametrize(("offset_s", "current", "replicas"), [(0, 2, 4), (0, 7, 7), (3_600, 7, 7)])
def test_without_kafka_cron_raises_and_nothing_lowers(offset_s: float, current: int, replicas: int) -> None:
    """Algorithm details: with a metric that cannot be fetched, a scale down "is skipped"; up is still possible."""
    assert replicas == scaler().replicas(seen(0, now_s=CLOSE_S + offset_s, current=current, reachable=False))


def test_an_early_close_is_lag_alone() -> None:
    """Three hours before the usual close, the day's real one: nothing happens before the lag is there."""
    assert follow(scaler(), [0, 0, 5_000], start=1, from_s=CLOSE_S - 10_800) == [1, 1, 12]


def test_all_parameters_are_flat() -> None:
    """Those of both triggers, of the HPA's behavior, and of the ScaledObject."""
    policy = BASELINES["keda+cron"](lag_threshold=7, lead_min=3, down_pods=2, tolerance=0.05, polling_interval_s=5)
    assert policy.name == "keda+cron"
    with pytest.raises(ValueError, match=r"no such parameters: lagThreshold; there are .*lag_threshold"):
        BASELINES["keda+cron"](lagThreshold=7)
