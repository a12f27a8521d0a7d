"""All objects of a stage, in the order in which they are applied: the pods come after what they need."""

from __future__ import annotations

from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.resources.deployment import deployment
from eod_operator.resources.identity import Manifest, Owner, signed
from eod_operator.resources.platform import disruption_budget, network_policy, service_account, service_monitor
from eod_operator.resources.service import service
from eod_operator.resources.settings import config_map


def stage_objects(
    owner: Owner, spec: PipelineSpec, stage: StageSpec, replicas: int, *, references: str = ""
) -> list[Manifest]:
    """Every object of a stage, signed.

    Args:
        owner: the pipeline.
        spec: of the pipeline.
        stage: of the spec.
        replicas: of the Deployment; the other objects do not depend on it.
        references: digest of the contents of what the spec refers to; empty when it refers to nothing.
    """
    made = [
        service_account(owner, spec, stage),
        config_map(owner, spec, stage),
        network_policy(owner, spec, stage),
        disruption_budget(owner, stage),
        service(owner, stage),
        deployment(owner, spec, stage, replicas, references),
        service_monitor(owner, spec, stage),
    ]
    return [signed(manifest) for manifest in made if manifest is not None]
