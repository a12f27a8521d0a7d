"""What the dead-letters stage can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import StageSettings


class DeadLettersSettings(StageSettings):
    """How much it lists."""

    listed_letters: int = Field(
        20_000,
        gt=0,
        description="How many dead letters are listed, each in some 400 bytes of Redis. Older ones stay on their "
        "topic.",
    )
