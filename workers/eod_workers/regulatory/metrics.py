"""What the regulatory stage counts."""

from __future__ import annotations

from prometheus_client import Counter

from eod_workers.runtime.metrics import DUPLICATES, OF_THE_LOOP, PROCESSED

EXCEPTIONS = Counter(
    "eod_regulatory_exceptions_total", "References that could not be resolved", ["field"], registry=None
)
METRICS = (*OF_THE_LOOP, PROCESSED, DUPLICATES, EXCEPTIONS)
"""All of them."""
