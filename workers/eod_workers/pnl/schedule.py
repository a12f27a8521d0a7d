"""When a partition's snapshot is due.

A snapshot is whole, so it costs what the book is large; without it, a restart costs what the log has grown since the
last one. As with a database's checkpoints and the rewriting of append-only files, a large one is therefore written
only when reading the log again would be several times as long: for each trade the cost stays bounded, and so does the
time of a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMALL_BYTES: Final = 256 * 1024
"""A snapshot up to this size costs about a millisecond and follows the interval."""

TIMES: Final = 8
"""A larger one waits until so many times its size has been read from the log: some 200,000 trades for a full book."""

PATIENCE: Final = 60
"""But no longer than so many intervals: the log is not kept for ever."""


@dataclass(slots=True)
class _Last:
    """The last snapshot of a partition, and what was read since."""

    at: float
    size: int
    read: int = 0


class SnapshotSchedule:
    """Decides. Times are monotonic seconds given by the caller, sizes are bytes.

    Args:
        interval_s: the least time between two snapshots of a partition.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last: dict[int, _Last] = {}

    def opened(self, partition: int, size: int, now: float) -> None:
        """A partition was loaded from a snapshot of this size; 0 if there was none."""
        self._last[partition] = _Last(now, size)

    def read(self, partition: int, size: int) -> None:
        """A record of the partition was applied."""
        self._last[partition].read += max(size, 1)

    def taken(self, partition: int, size: int, now: float) -> None:
        """A snapshot was made."""
        self._last[partition] = _Last(now, size)

    def failed(self, partition: int) -> None:
        """The last snapshot is lost, or of a topic that is: another is due at once, if the partition is still ours."""
        if last := self._last.get(partition):
            self._last[partition] = _Last(float("-inf"), last.size, max(last.read, 1))

    def closed(self, partition: int) -> None:
        """The partition is not ours any more."""
        self._last.pop(partition, None)

    def changed(self) -> list[int]:
        """The partitions of which something is in no snapshot."""
        return sorted(partition for partition, last in self._last.items() if last.read)

    def due(self, now: float) -> list[int]:
        """The partitions whose snapshot is due, the oldest snapshot first."""
        return sorted(
            (partition for partition, last in self._last.items() if last.read and self._is_due(last, now - last.at)),
            key=lambda partition: (self._last[partition].at, partition),
        )

    def _is_due(self, last: _Last, elapsed_s: float) -> bool:
        if elapsed_s < self._interval_s:
            return False
        worth_it = last.size <= SMALL_BYTES or last.read >= TIMES * last.size
        return worth_it or elapsed_s >= PATIENCE * self._interval_s
