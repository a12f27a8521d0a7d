"""The shape of a session: calm, a ramp, the burst at the close, a tail."""

from __future__ import annotations

from dataclasses import dataclass

CALM, RAMP, BURST = 0.40, 0.15, 0.20
"""Shares of the session's length; the tail is the rest."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Trades per second over a session of `seconds`: `calm_per_s` at first, `burst_per_s` from the close on."""

    seconds: float
    calm_per_s: float
    burst_per_s: float

    @property
    def close_s(self) -> float:
        """Seconds from the start to the close, when the burst begins."""
        return self.seconds * (CALM + RAMP)

    @property
    def burst_end_s(self) -> float:
        """Seconds from the start to the end of the burst."""
        return self.seconds * (CALM + RAMP + BURST)

    def phase(self, at_s: float) -> str:
        """The name of the phase."""
        if at_s < self.seconds * CALM:
            return "calm"
        if at_s < self.close_s:
            return "ramp"
        return "burst" if at_s < self.burst_end_s else "tail"

    def rate(self, at_s: float) -> float:
        """Trades per second at a time; 0 outside the session."""
        if not 0 <= at_s < self.seconds:
            return 0.0
        ramp_start = self.seconds * CALM
        if at_s < ramp_start:
            return self.calm_per_s
        if at_s < self.close_s:
            return (
                self.calm_per_s
                + (self.burst_per_s - self.calm_per_s) * (at_s - ramp_start) / (self.close_s - ramp_start) * 0.5
            )
        if at_s < self.burst_end_s:
            return self.burst_per_s
        left = (self.seconds - at_s) / (self.seconds - self.burst_end_s)
        return self.calm_per_s + (self.burst_per_s * 0.3 - self.calm_per_s) * left * left

    def total(self, *, step_s: float = 0.01) -> int:
        """About how many trades the session has."""
        steps = int(self.seconds / step_s)
        return int(sum(self.rate((i + 0.5) * step_s) for i in range(steps)) * step_s)
