"""`status` of an EodPipeline: what the operator saw, decided and did."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from eod_operator.api.model import Model

Phase = Literal["Pending", "Running", "Bursting", "Degraded", "Paused", "Preview"]

MESSAGE_LENGTH = 4096
"""Of a condition's message; longer ones are cut."""


class StatusModel(Model):
    """A part of the status; a newer operator's fields are read over."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """One question about the pipeline, answered."""

    type: str = Field(
        max_length=64,
        description="The question: Ready, Progressing, Degraded, ForecastReady, ScalingLimited, WithinBudget, Paused, "
        "or one of those that Degraded sums up.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="The answer.")
    reason: str = Field(max_length=128, description="The answer's cause in one CamelCase word.")
    message: str = Field(max_length=MESSAGE_LENGTH, description="The cause in a sentence, with the remedy.")
    last_transition_time: str = Field(
        json_schema_extra={"format": "date-time"}, description="When status last changed."
    )
    observed_generation: int = Field(description="Generation of the spec that this answer is about.")


class Forecast(StatusModel):
    """What a stage will have for the next close."""

    at: str = Field(
        json_schema_extra={"format": "date-time"}, description="When it will be asked for: before the close."
    )
    replicas: int = Field(description="Replicas that will then be asked for at least.")
    learned: bool = Field(default=False, description="Whether by what was learned; otherwise by replicas.burst.")
    peak_per_second: float | None = Field(
        default=None, description="Highest arrival that is forecast, in records a second; absent until it is learned."
    )
    note: str | None = Field(default=None, max_length=512, description="Why what was learned is trusted, or is not.")


class StageStatus(StatusModel):
    """One stage."""

    name: str = Field(description="Name of the stage, as in the spec.")
    desired: int = Field(description="Replicas that were decided; differs from current in Preview and Paused.")
    current: int = Field(description="Replicas that its Deployment asks for.")
    ready: int = Field(description="Replicas that are ready.")
    lag: int | None = Field(default=None, description="Unconsumed records of its group; absent when unknown.")
    lag_seconds: float | None = Field(
        default=None, description="Age of the oldest unconsumed record, in seconds; absent when unknown."
    )
    arrival_per_second: float | None = Field(
        default=None, description="Records appended to its topics per second; absent when unknown."
    )
    consumed_per_second: float | None = Field(
        default=None, description="Records that its group commits per second, all replicas; absent when unknown."
    )
    service_per_second: float | None = Field(
        default=None, description="Records that one replica consumes a second, as learned; absent until it is."
    )
    start_seconds: float | None = Field(
        default=None, description="95th percentile of how long new pods took until they were ready; absent until known."
    )
    replica_hours: float | None = Field(
        default=None, description="Replica-hours of this day (UTC) so far, since this operator began to lead."
    )
    forecast: Forecast | None = Field(
        default=None, description="What it will have for the next close; absent without a burst or a close."
    )
    reason: str = Field(description="Why so many were decided, in a sentence.")
    last_scale_time: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="When the operator last changed the replica count.",
    )


class CloseStage(StatusModel):
    """How one stage met a close. Times are in seconds after the bell, and so negative before it."""

    name: str = Field(description="Name of the stage, as in the spec.")
    replicas: int = Field(description="Replicas that it was to have.")
    ready_seconds: int | None = Field(
        default=None,
        description="When so many were ready, in seconds after the bell (negative: before); absent until then.",
    )
    assigned_seconds: int | None = Field(
        default=None, description="When so many of its group had partitions; absent until then, and without a group."
    )
    worst_lag_seconds: float | None = Field(
        default=None, description="Age of the oldest unconsumed record at its worst, in seconds; absent when unknown."
    )


class LastClose(StatusModel):
    """How the stages met a close."""

    at: str = Field(json_schema_extra={"format": "date-time"}, description="When the bell rang, or will.")
    stages: Annotated[
        tuple[CloseStage, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), description="The stages that were to have replicas for it.")


class PipelineStatus(StatusModel):
    """The pipeline as a whole."""

    observed_generation: int = Field(description="Generation of the spec that this status is about.")
    phase: Phase = Field(description="The pipeline in one word.")
    next_close: str | None = Field(
        default=None,
        json_schema_extra={"format": "date-time"},
        description="The next close of the calendar; absent when there is none.",
    )
    last_close: LastClose | None = Field(
        default=None, description="How the stages met the close whose window is on, or the one before."
    )
    lag: int | None = Field(default=None, description="Unconsumed records of all stages; absent when unknown.")
    lag_seconds: float | None = Field(
        default=None, description="Age of the oldest unconsumed record of all stages, in seconds; absent when unknown."
    )
    replicas: int = Field(description="Replicas of all stages.")
    desired: int = Field(default=0, description="Replicas that were decided, of all stages.")
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default=(), description="Questions and answers; Ready sums them up.")
    stages: Annotated[
        tuple[StageStatus, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), description="The stages, in the order of the spec.")
