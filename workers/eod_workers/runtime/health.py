"""Whether a stage can do its work, as probes ask and people read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    """Whether the stage can do its work now, and if not, why."""

    why_not: str = "starting"

    def ready(self) -> None:
        """It works."""
        self.why_not = ""

    def not_ready(self, why: str) -> None:
        """It does not; `why` says what is missing."""
        self.why_not = why
