"""Fixed replicas."""

import pytest
from eod_operator.simulate.baselines import BASELINES, Static
from support.autoscaled import seen, setting


@pytest.mark.parametrize(
    ("policy", "partitions", "replicas"),
    [
        (Static(), 12, 12),
        (Static(), 8, 8),  # more would idle
        (Static(share=0.3), 12, 4),
        (Static(replicas=5), 12, 5),
        (Static(replicas=1), 12, 2),
        (Static(replicas=99), 12, 12),
    ],
)
def test_always_the_same(policy: Static, partitions: int, replicas: int) -> None:
    scaler = policy.scaler(setting(partitions=partitions, least=2))
    looks = [seen(lag, now_s=now_s, current=3) for lag, now_s in ((0, 0), (1e6, 3_600), (0, 7_200))]
    assert [replicas] * 3 == [scaler.replicas(look) for look in looks]


def test_a_share_is_above_none_and_up_to_all() -> None:
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            BASELINES["static"](share=share)
