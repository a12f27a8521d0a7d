"""Settings are environment variables: the field `flush_rows` of a model is EOD_FLUSH_ROWS."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from eod_contract.kinds import StageKind
from eod_contract.streams import LETTERS, PRICES, SESSIONS, TRADES, Stream
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

PREFIX = "EOD_"
_NEAR = 0.85
"""How alike two names are (0 to 1, see difflib) of which one is taken for a slip of the other."""


class SettingsError(Exception):
    """The environment cannot be understood; the message names the variables."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""Comma-separated."""
NameSet = Annotated[frozenset[str], BeforeValidator(_split)]
"""Comma-separated, in no order."""


class Variables(BaseModel):
    """Settings that a process reads once, at its start; each field is described for who sets it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def fitting(cls, values: Mapping[str, Any]) -> Self:
        """Made of those of the values that are settings of this model.

        Raises:
            pydantic.ValidationError: a value is impossible.
        """
        return cls(**{name: value for name, value in values.items() if name in cls.model_fields})


Model = TypeVar("Model", bound=Variables)


def _given(model: type[Variables], prefix: str) -> dict[str, str]:
    names = {name: prefix + name.upper() for name in model.model_fields}
    return {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}


def given(*models: type[Variables], prefix: str = PREFIX) -> dict[str, str]:
    """What the environment says of the settings of several models, as it says it.

    Raises:
        SettingsError: a variable has an impossible value.
    """
    check(*models, prefix=prefix)
    return {name: value for model in models for name, value in _given(model, prefix).items()}


def read(model: type[Model], prefix: str = PREFIX) -> Model:
    """The settings of this process's environment.

    Raises:
        SettingsError: a variable has an impossible value.
    """
    check(model, prefix=prefix)
    return model(**_given(model, prefix))


def check(*models: type[Variables], prefix: str = PREFIX) -> None:
    """Looks at several models' variables, to name at once all that are wrong.

    Raises:
        SettingsError: a variable has an impossible value.
    """
    lines: dict[str, None] = {}
    for model in models:
        try:
            model(**_given(model, prefix))
        except ValidationError as error:
            lines |= {f"{prefix}{str(item['loc'][0]).upper()}: {item['msg']}": None for item in error.errors()}
    if lines:
        raise SettingsError("; ".join(lines))


def cannot_listen(error: OSError, what: str, host: str, port: int) -> SettingsError:
    """What to say when EOD_{what}_HOST and EOD_{what}_PORT name an address that cannot be listened on."""
    which = f"{PREFIX}{what}_HOST" if error.errno == errno.EADDRNOTAVAIL else f"{PREFIX}{what}_PORT"
    why = os.strerror(error.errno) if error.errno else str(error)
    return SettingsError(f"{host}:{port}: {why}: name another in {which}; port 0 is any free one")


_SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)\Z")
"""What Kubernetes tells every pod of the Services around it; theirs may be called eod-something."""


def strangers(known: AbstractSet[str]) -> list[str]:
    """The variables that are no settings, although their names begin as such; not what Kubernetes says of Services."""
    return sorted(
        name
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and name not in known
        if not _SERVICE_LINK.match(name) and not value.startswith(("tcp://", "udp://", "sctp://"))
    )


def refuse_slips(known: AbstractSet[str]) -> list[str]:
    """Looks for variables that are no settings, although their names begin as such; returns those near to none.

    Args:
        known: every setting's name, and what else is read.

    Raises:
        SettingsError: some are nearly called as a setting is.
    """
    meant = {name: get_close_matches(name, known, 1, _NEAR) for name in strangers(known)}
    if slips := [f"{name} is no setting: {near[0]} is one" for name, near in meant.items() if near]:
        raise SettingsError("; ".join(slips))
    return list(meant)


def names_of(model: type[Variables], prefix: str = PREFIX) -> set[str]:
    """The variables of a model."""
    return {prefix + name.upper() for name in model.model_fields}


class TopicNames(Variables):
    """What the streams are called in this deployment."""

    trades_topic: str = Field(TRADES.name, description="Topic of the trades, by symbol.")
    prices_topic: str = Field(PRICES.name, description="Topic of the prices, by symbol; as many partitions.")
    sessions_topic: str = Field(SESSIONS.name, description="Topic of the received frames that are no trades.")
    letters_topic: str = Field(LETTERS.name, description="Topic of the dead letters.")

    def topic(self, stream: Stream) -> str:
        """The topic of a stream; a stream that has no setting is called as it is everywhere."""
        return str(getattr(self, SETTING_OF[stream])) if stream in SETTING_OF else stream.name


SETTING_OF: Mapping[Stream, str] = MappingProxyType(
    {TRADES: "trades_topic", PRICES: "prices_topic", SESSIONS: "sessions_topic", LETTERS: "letters_topic"}
)
"""The field of `TopicNames` that renames a stream's topic."""


class StageSettings(TopicNames):
    """What every stage can be told about what it consumes; a stage with more to say has a model of its own."""

    topics: Names = Field((), description="Topics to consume; the kind's by default.")
    group: str = Field("", description="Consumer group; the kind's by default.")

    def consumed(self, kind: StageKind) -> tuple[str, ...]:
        """The topics to consume, in the order of the kind's streams."""
        return self.topics or tuple(map(self.topic, kind.reads))

    def group_of(self, kind: StageKind) -> str:
        """The consumer group."""
        return self.group or kind.group


class FlushSettings(StageSettings):
    """Of a stage that collects before it stores."""

    flush_interval_s: float = Field(5.0, gt=0, description="Longest that rows, or bytes of the archive, wait.")


class ReferenceSettings(StageSettings):
    """Of a stage that looks instruments up."""

    reference_file: str = Field("", description="YAML reference data: traders, strategies, securities.")
