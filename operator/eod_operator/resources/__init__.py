"""The Kubernetes objects of each stage: pure functions from the spec and a replica count to plain dicts."""

from eod_operator.resources.deployment import ANNOTATION_REFERENCES
from eod_operator.resources.identity import (
    ANNOTATION_APPLIED,
    LABEL_MANAGER,
    LABEL_PIPELINE,
    LABEL_STAGE,
    MANAGER,
    Manifest,
    Owner,
    decisions_name,
    digest,
    forecast_name,
    object_name,
    selector,
    signed,
)
from eod_operator.resources.stage import stage_objects

__all__ = [
    "ANNOTATION_APPLIED",
    "ANNOTATION_REFERENCES",
    "LABEL_MANAGER",
    "LABEL_PIPELINE",
    "LABEL_STAGE",
    "MANAGER",
    "Manifest",
    "Owner",
    "decisions_name",
    "digest",
    "forecast_name",
    "object_name",
    "selector",
    "signed",
    "stage_objects",
]
