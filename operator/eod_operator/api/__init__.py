"""EodPipeline (`eod.markets/v1alpha1`) as typed models; the CustomResourceDefinition is generated from them."""

from eod_operator.api.kinds import KINDS, StageKind
from eod_operator.api.spec import PipelineSpec, StageSpec
from eod_operator.api.status import Condition, Phase, PipelineStatus, StageStatus

GROUP = "eod.markets"
VERSION = "v1alpha1"
KIND = "EodPipeline"
PLURAL = "eodpipelines"
API_VERSION = f"{GROUP}/{VERSION}"

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "KINDS",
    "PLURAL",
    "VERSION",
    "Condition",
    "Phase",
    "PipelineSpec",
    "PipelineStatus",
    "StageKind",
    "StageSpec",
    "StageStatus",
]
