"""KEDA's Kafka trigger and ScaledObject against KEDA's documentation (2.18: "Apache Kafka", "ScaledObject specification")."""

from collections.abc import Sequence

import pytest
from eod_operator.simulate.baselines import BASELINES, Keda
from eod_operator.simulate.baselines.hpa import Reading, behavior
from eod_operator.simulate.baselines.keda import KafkaMetadata, KafkaTrigger, even
from hypothesis import given
from hypothesis import strategies as st
from support.autoscaled import follow, seen, setting

JUMP = behavior(up_pods=100, down_stabilization_s=0)


def read(
    metadata: KafkaMetadata, lag: Sequence[float | None], *, lag_s: float = 0.0, arrival_per_s: float = 0.0
) -> tuple[float | None, bool]:
    """What the HPA is given, and whether the trigger is active."""
    trigger = KafkaTrigger(metadata, setting(partitions=len(lag)))
    reading, active = trigger.read(seen(lag, lag_s=lag_s, arrival_per_s=arrival_per_s))
    return reading.value, active


def test_the_target_is_the_lag_threshold() -> None:
    """Parameter list: "lagThreshold - Average target value to trigger scaling actions. (Default: 10)"."""
    assert (
        Reading(37, 10, average=True)
        == KafkaTrigger(KafkaMetadata(), setting()).read(seen([30.0, 7.0] + [0.0] * 10))[0]
    )


def test_four_replicas_for_thirty_seven_records() -> None:
    assert follow(Keda(rules=JUMP).scaler(setting()), [37 + 1e-9], start=1) == [4]


@pytest.mark.parametrize(
    ("metadata", "lag", "value"),
    [
        # The notice: "By default, the number of replicas will not exceed: The number of partitions on a topic"
        (KafkaMetadata(), [1_000.0] * 3, 30),
        # Parameter list: "allowIdleConsumers - When set to true, the number of replicas can exceed the number of partitions"
        (KafkaMetadata(allow_idle_consumers=True), [1_000.0] * 3, 3_000),
        # Parameter list: "limitToPartitionsWithLag - [...] will not exceed the number of partitions having non-zero lag"
        (KafkaMetadata(limit_to_partitions_with_lag=True), [1_000.0, 0.0, 5.0, 0.4], 20),
        (
            KafkaMetadata(),
            [29.0, 0.9],
            29,
        ),  # lag is a whole number of records, and 29 records are below the cap of 20 + 9
    ],
)
def test_caps(metadata: KafkaMetadata, lag: list[float | None], value: float) -> None:
    """The notice on top of the page. The cap divides whole numbers: up to 9 records more than it go through."""
    assert value == read(metadata, lag)[0]


@pytest.mark.parametrize(
    ("lag", "replicas"),
    [(1, 1), (10, 1), (11, 2), (20, 2), (21, 5), (50, 5), (51, 10), (999, 10)],
)
def test_even_distribution(lag: int, replicas: int) -> None:
    """The table under "New ensureEvenDistributionOfPartitions property support": 10 partitions, a threshold of 10."""
    assert replicas == even(lag, 10, 10)
    value, _ = read(KafkaMetadata(ensure_even_distribution=True), [float(lag)] + [0.0] * 9)
    assert replicas * 10 == value


@pytest.mark.parametrize(
    ("metadata", "value"),
    [
        # Parameter list: "scaleToZeroOnInvalidOffset - If 'false' (the default), the scaler will keep a single consumer for that partition"
        (KafkaMetadata(), 1 + 1 + 4),
        (KafkaMetadata(scale_to_zero_on_invalid_offset=True), 4),
        # Offset reset policy: "If the policy is set to earliest [...] the scaler will return a lag value equal to the last offset in the topic"
        (KafkaMetadata(offset_reset_policy="earliest"), 10 + 10 + 4),
        (KafkaMetadata(offset_reset_policy="earliest", scale_to_zero_on_invalid_offset=True), 4),
    ],
)
def test_partitions_without_a_commit(metadata: KafkaMetadata, value: float) -> None:
    """Here five seconds of two records a second lie in each partition."""
    assert value == read(metadata, [None, None, 4.0], lag_s=5.0, arrival_per_s=6.0)[0]


def test_persistent_lag_is_left_out_but_activates() -> None:
    """Parameter list: "excludePersistentLag"; at the first look no offset is known to stand still."""
    trigger = KafkaTrigger(KafkaMetadata(exclude_persistent_lag=True), setting(partitions=2))
    stuck = seen([7.0, 5.0], consumed_per_s=(0.0, 3.0))
    assert (trigger.read(stuck)[0].value, trigger.read(stuck)[1]) == (12, True)
    assert trigger.read(stuck)[0].value == 5
    reading, active = trigger.read(seen([7.0, 0.0], consumed_per_s=(0.0, 3.0)))
    assert (reading.value, active) == (0, True)


@pytest.mark.parametrize(("lag", "active"), [(3, False), (4, True)])
def test_activation_needs_more_than_its_threshold(lag: float, active: bool) -> None:  # noqa: FBT001 - a table's column
    """Scaling Deployments, "Activating and Scaling thresholds": a scaler is active above activationLagThreshold."""
    assert active == read(KafkaMetadata(activation_lag_threshold=3), [lag])[1]


def test_a_failing_kafka_holds() -> None:
    scaler = Keda(rules=JUMP).scaler(setting())
    assert [scaler.replicas(seen(0, now_s=15.0 * step, current=7, reachable=False)) for step in range(40)] == [7] * 40
    assert scaler.replicas(seen(0, now_s=600, current=7)) == 1


@pytest.mark.parametrize(("fallback", "replicas"), [("static", 6), ("currentReplicasIfHigher", 7)])
def test_fallback(fallback: str, replicas: int) -> None:
    """ScaledObject specification, fallback: "Once that value passes the failureThreshold [...] fallback replicas"."""
    scaler = BASELINES["keda"](
        fallback_replicas=6, fallback_behavior=fallback, up_pods=100, down_stabilization_s=0
    ).scaler(setting())
    blind = [scaler.replicas(seen(0, now_s=15.0 * step, current=7, reachable=False)) for step in range(4)]
    assert [7, 7, 7, replicas] == blind


def test_from_none_to_one_and_back() -> None:
    """pollingInterval: KEDA looks every 30 s at zero. cooldownPeriod: 300 s "after the last trigger reported active"."""
    scaler = Keda(rules=JUMP).scaler(setting(least=0))
    assert follow(scaler, [0, 500], start=0) == [0, 0]  # not polled yet
    assert follow(scaler, [500, 500], start=0, from_s=30) == [1, 12]
    quiet = follow(scaler, [0] * 30, start=12, from_s=60)
    assert {1} == set(quiet[:18])
    assert 0 not in quiet[:18]
    assert quiet[-1] == 0
    assert 60 + 15 * quiet.index(0) == 30 + 300


def test_with_a_minimum_nothing_is_scaled_to_none() -> None:
    """The cooldownPeriod "only applies when scaling to 0"."""
    assert {2} == set(follow(Keda(rules=JUMP).scaler(setting(least=2)), [0] * 60, start=2))


def test_min_share_is_a_floor() -> None:
    assert follow(Keda(min_share=0.25, rules=JUMP).scaler(setting()), [0], start=5) == [3]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lag_threshold": 0}, "at least one record"),
        ({"lag_threshold_s": 0}, "seconds above 0"),
        ({"allow_idle_consumers": True, "limit_to_partitions_with_lag": True}, "choose one"),
        ({"lead_min": 3}, "no such parameters: lead_min; there are"),
    ],
)
def test_refusals(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BASELINES["keda"](**params)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 20))
def test_never_more_than_the_partitions(lags: list[float], start: int, partitions: int) -> None:
    scaler = Keda(rules=JUMP).scaler(setting(partitions=partitions, most=30))
    for replicas in follow(scaler, lags, start=start, partitions=partitions)[1:]:
        assert 1 <= replicas <= max(start, partitions)
