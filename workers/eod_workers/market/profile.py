"""The shape of a session: calm, a ramp, the burst at the close, a tail."""

from __future__ import annotations

from dataclasses import dataclass

CALM, RAMP, BURST = 0.40, 0.15, 0.20
"""Shares of the session's length; the tail is the rest."""
RAMP_TOP, TAIL_TOP = 0.5, 0.3
"""Where the ramp ends and the tail begins, as shares of the burst's rate."""


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
        calm, burst = self.calm_per_s, self.burst_per_s
        ramp_start = self.seconds * CALM
        if at_s < ramp_start:
            return calm
        if at_s < self.close_s:
            return calm + (burst * RAMP_TOP - calm) * (at_s - ramp_start) / (self.close_s - ramp_start)
        if at_s < self.burst_end_s:
            return burst
        left = (self.seconds - at_s) / (self.seconds - self.burst_end_s)
        return calm + (burst * TAIL_TOP - calm) * left * left

    def sent_by(self, at_s: float) -> float:
        """Trades from the start to a time: the integral of `rate`, so that a session's total is the same every time."""
        at_s = min(max(at_s, 0.0), self.seconds)
        calm, burst = self.calm_per_s, self.burst_per_s
        in_calm = min(at_s, self.seconds * CALM)
        in_ramp = min(max(at_s - self.seconds * CALM, 0.0), self.seconds * RAMP)
        in_burst = min(max(at_s - self.close_s, 0.0), self.seconds * BURST)
        tail_s = self.seconds - self.burst_end_s
        left = min((self.seconds - at_s) / tail_s, 1.0)
        return (
            calm * in_calm
            + calm * in_ramp
            + (burst * RAMP_TOP - calm) * in_ramp**2 / (2 * self.seconds * RAMP)
            + burst * in_burst
            + calm * max(at_s - self.burst_end_s, 0.0)
            + (burst * TAIL_TOP - calm) * tail_s * (1 - left**3) / 3
        )

    @property
    def total(self) -> int:
        """How many trades the session has."""
        return int(self.sent_by(self.seconds))
