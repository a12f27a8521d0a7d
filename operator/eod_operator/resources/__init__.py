"""The Kubernetes objects of each stage: pure functions from the spec and a replica count to plain dicts."""

from eod_operator.resources.deployment import deployment
from eod_operator.resources.identity import LABEL_PIPELINE, LABEL_STAGE, MANAGER, Owner, object_name, selector
from eod_operator.resources.service import service

__all__ = ["LABEL_PIPELINE", "LABEL_STAGE", "MANAGER", "Owner", "deployment", "object_name", "selector", "service"]
