"""What a look at the surroundings of a pipeline has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What to think of something."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong; whoever decides about this deployment should know."""
    DANGER = "danger"
    """It works, and trades or the proof of them may be lost by it."""
    MISSING = "missing"
    """A stage that needs it does not work."""
    AWAY = "away"
    """It does not answer; it may yet."""


GRAVE = frozenset({State.DANGER, State.MISSING, State.AWAY})


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them.

    Attributes:
        where: whose: "Kafka", "Redis", "regulatory store", "archive", "settings".
        what: of it, in a few words.
        state: what to think of it.
        said: what is there.
        remedy: what to do, a command where there is one; "" where nothing need be done.
    """

    where: str
    what: str
    state: State
    said: str
    remedy: str = ""
