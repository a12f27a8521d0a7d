"""`status` of an EodPipeline: what the operator saw, decided and did."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from eod_operator.api.spec import Model

Phase = Literal["Pending", "Running", "Bursting", "Degraded", "Paused", "Preview"]


class StatusModel(Model):
    """A part of the status; a newer operator's fields are read over."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """One question about the pipeline, answered."""

    type: str = Field(
        max_length=64,
        description="The question: Ready, SpecValid, ObjectsApplied, KafkaReachable, TopicsReady, LagKnown.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="The answer.")
    reason: str = Field(max_length=128, description="The answer's cause in one CamelCase word.")
    message: str = Field(max_length=4096, description="The cause in a sentence, with the remedy.")
    last_transition_time: str = Field(
        json_schema_extra={"format": "date-time"}, description="When status last changed."
    )
    observed_generation: int = Field(description="Generation of the spec that this answer is about.")


class StageStatus(StatusModel):
    """One stage."""

    name: str = Field(description="Name of the stage, as in the spec.")
    replicas: int = Field(description="Replicas that its Deployment asks for.")
    desired: int = Field(description="Replicas that were decided; differs from replicas in Preview and Paused.")
    ready: int = Field(description="Replicas that are ready.")
    lag: int | None = Field(default=None, description="Unconsumed records of its group; absent when unknown.")
    reason: str = Field(description="Why so many were decided, in a sentence.")
    last_scale_time: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When the operator last changed the replica count.",
    )


class PipelineStatus(StatusModel):
    """The pipeline as a whole."""

    observed_generation: int = Field(description="Generation of the spec that this status is about.")
    phase: Phase = Field(description="The pipeline in one word.")
    next_close: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="The next close of the calendar; absent when there is none.",
    )
    lag: int | None = Field(default=None, description="Unconsumed records of all stages; absent when unknown.")
    replicas: int = Field(description="Replicas of all stages.")
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default=(), description="Questions and answers; Ready sums them up.")
    stages: Annotated[
        tuple[StageStatus, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), description="The stages, in the order of the spec.")
