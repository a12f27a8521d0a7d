"""Lines on standard error that tell a waiting human what is being fetched, built or started."""

import sys
import time

TICK_S = 10.0


class Progress:
    """One long step: says when it begins, ticks while it lasts, says how long it took."""

    def __init__(self, what: str, expected_s: float) -> None:
        self._what = what
        self._expected_s = expected_s
        self._begun = time.monotonic()
        self._next_tick_s = TICK_S
        say(f"{what}: takes about {expected_s:.0f} s, once")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._begun

    def tick(self) -> None:
        """Print a line if ten seconds have passed since the last one; cheap enough to call in any waiting loop."""
        if self.elapsed_s >= self._next_tick_s:
            self._next_tick_s += TICK_S
            say(f"{self._what}: {self.elapsed_s:.0f} s of about {self._expected_s:.0f} s")

    def done(self) -> None:
        """Print how long the step took."""
        say(f"{self._what}: done in {self.elapsed_s:.1f} s")


def say(line: str) -> None:
    """Print one line, marked as ours, at once."""
    sys.stderr.write(f"[testbed] {line}\n")
    sys.stderr.flush()


class Timed:
    """A step of a run: says when it begins, and how long it took."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = 0.0

    def __enter__(self) -> None:
        """Say that it begins."""
        self._begun = time.monotonic()
        say(f"{self._what} …")

    def __exit__(self, *failed: object) -> None:
        """Say how long it took."""
        outcome = "failed" if failed[0] else "done"
        say(f"{self._what}: {outcome} in {time.monotonic() - self._begun:.1f} s")
