"""When a pipeline's closes are."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812 - fields are called date
from datetime import datetime, time
from typing import Annotated, Self

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from eod_operator.api.exchanges import EXCHANGES
from eod_operator.api.model import TIME_OF_DAY, Model, rule, rules


class Session(Model):
    """One trading session."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.close > self.open", "close must be after open", fieldPath=".close"),
        )
    )

    open: AwareDatetime = Field(description="Start of the session, such as 2026-11-27T09:30:00-05:00 (RFC 3339).")
    close: AwareDatetime = Field(description="End of the session, after open (RFC 3339).")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.close <= self.open:
            raise ValueError(f"close ({_rfc3339(self.close)}) must be after open ({_rfc3339(self.open)})")
        return self


class Burst(Model):
    """The time around a close in which a stage has at least its burst replicas."""

    lead_seconds: int = Field(
        default=300, ge=0, le=86_400, description="How long before the close it starts: cover the start of a pod."
    )
    duration_seconds: int = Field(default=900, ge=0, le=86_400, description="How long after the close it ends.")


class EarlyClose(Model):
    """One day whose close is at another time."""

    date: Date = Field(description="The day, such as 2026-12-24, where the exchange is.")
    at: str = Field(
        pattern=TIME_OF_DAY, max_length=5, description="Time of its close where the exchange is, such as 13:00."
    )

    @property
    def time(self) -> time:
        """The same as a time of day."""
        return time.fromisoformat(self.at)


class BurstEvent(Model):
    """A day whose close will be unlike others."""

    date: Date = Field(description="The day, such as 2026-12-18, where the exchange is.")
    name: str = Field(
        min_length=1,
        max_length=63,
        description="What it is, such as index-rebalance; sessions of one name are learned together.",
    )
    burst_factor: float = Field(
        default=1.0, ge=0.01, le=1000, description="How many times the usual burst is expected, until that is learned."
    )


class Calendar(Model):
    """When the closes are: an exchange's sessions, or sessions written out."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.exchange) != has(self.sessions)",
                "calendar takes exactly one of exchange (such as XNYS) and sessions (opens and closes written out)",
            ),
            rule(
                f"!has(self.exchange) || self.exchange in [{', '.join(map(repr, EXCHANGES))}]",
                "exchange is not known: use an ISO 10383 code such as XNYS, XNAS, XLON, XETR or XTKS "
                "(all of them: eod operator exchanges), or write the closes out as sessions",
                fieldPath=".exchange",
            ),
        )
    )

    exchange: str | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="ISO 10383 code of an exchange, such as XNYS; half days, holidays and clock changes are known.",
    )
    sessions: Annotated[tuple[Session, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None = (
        Field(
            default=None, min_length=1, max_length=400, description="Sessions written out, for another venue or a test."
        )
    )
    burst: Burst = Field(default=Burst(), description="The time around a close with burst replicas.")
    closed: Annotated[tuple[Date, ...], Field(json_schema_extra={"x-kubernetes-list-type": "set"})] = Field(
        default=(),
        max_length=64,
        description="Days on which the exchange is closed although the calendar has a session.",
    )
    early_closes: Annotated[
        tuple[EarlyClose, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["date"]}),
    ] = Field(default=(), max_length=64, description="Days whose close is at another time than the calendar's.")
    events: Annotated[
        tuple[BurstEvent, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["date"]}),
    ] = Field(default=(), max_length=64, description="Days with another burst than usual, such as index rebalances.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.exchange is None) == (self.sessions is None):
            raise ValueError("calendar takes exactly one of exchange (such as XNYS) and sessions")
        return self


def _rfc3339(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
