"""What a metric says, without a registry."""

from __future__ import annotations

from prometheus_client.registry import Collector


def sampled(metric: Collector, name: str, **labels: str) -> float:
    """The value of one of its samples; 0 while there is none."""
    return next(
        (
            sample.value
            for family in metric.collect()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ),
        0.0,
    )
