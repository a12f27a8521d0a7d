"""EodPipeline (`eod.markets/v1alpha1`) as typed models; the CustomResourceDefinition is generated from them."""

from eod_operator.api.closes import Calendar
from eod_operator.api.sources import Topic
from eod_operator.api.spec import PipelineSpec, Scaling
from eod_operator.api.stage import StageSpec
from eod_operator.api.status import CloseStage, Condition, Forecast, LastClose, Phase, PipelineStatus, StageStatus

GROUP = "eod.markets"
VERSION = "v1alpha1"
KIND = "EodPipeline"
PLURAL = "eodpipelines"
API_VERSION = f"{GROUP}/{VERSION}"

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Calendar",
    "CloseStage",
    "Condition",
    "Forecast",
    "LastClose",
    "Phase",
    "PipelineSpec",
    "PipelineStatus",
    "Scaling",
    "StageSpec",
    "StageStatus",
    "Topic",
]
