"""What the operator learns of one stage while it watches: the shape of closes, and how long a new pod takes.

What was learned is kept as text (see `scaling.memory`), because it is looked at once a day; what decisions need every
few seconds (the profile, the session that is being recorded) is kept ready beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from eod_operator.scaling.forecast import Forecast, Verdict
from eod_operator.scaling.foresight import Foresight
from eod_operator.scaling.memory import Memory, dumps, loads, remember, started
from eod_operator.scaling.profile import quantile_of
from eod_operator.scaling.recorder import Circumstances, trace
from eod_operator.scaling.service_rate import KNOWN_AFTER, ServiceRate

LEAST_STARTS = 3
"""Measured starts before they replace what the spec says."""
LONGEST_START_S = 900.0
"""A pod that takes longer has been kept from starting, by a full cluster or a missing image."""
START_QUANTILE = 0.95


class Learning:
    """Of one stage."""

    def __init__(self, text: str = "", last_day: str = "") -> None:
        """Go on from what was remembered, and the trace of the last day; nothing at first."""
        memory = loads(text) if text else Memory()
        self.note = memory.note
        """Why what was remembered could not be read; empty when it could."""
        self.unsaved = bool(memory.note)
        """Whether there is something new to be remembered."""
        self.urgent = False
        """Whether that shall not wait."""
        self.restored_per_s = memory.service_per_s
        """Service rate that was remembered."""
        self._raise: tuple[float, int] | None = None
        self._starts_s = memory.starts_s
        self._packed = zlib.compress(text.encode()) if text else b""
        self._last_day = zlib.compress(last_day.encode()) if last_day else b""
        self._foresight = Foresight(memory.sessions)
        if memory.today is not None:
            self._foresight.resume(memory.today)

    @property
    def verdict(self) -> Verdict:
        """Whether the forecast of an ordinary close is trusted."""
        return self._foresight.learned.verdict

    def look(
        self, at_s: float, ends: Sequence[int], close_s: float | None, *, event: str = "", replicas: int = 0
    ) -> None:
        """Take a look at the log.

        Args:
            at_s: when it was.
            ends: of each partition, how many records were ever appended.
            close_s: the close whose session it is; None when there is none.
            event: what was announced for it.
            replicas: that the stage has.
        """
        over = self._foresight.look(at_s, ends, close_s, event=event, replicas=replicas)
        if over is None:
            self.unsaved = self.unsaved or self._foresight.recorder is not None
            return
        memory = remember(self._memory(), over)
        self._foresight.learn(memory.sessions)
        self._keep(replace(memory, today=None))
        self.urgent = True

    def outlook(
        self, now_s: float, closes_s: tuple[float, ...], events: Mapping[float, tuple[str, float]]
    ) -> Forecast | None:
        """What is expected, when that is to be trusted."""
        return self._foresight.outlook(now_s, closes_s, events)

    def scaled(self, now_s: float, replicas: int) -> None:
        """A raise to so many replicas was carried out."""
        self._raise = (now_s, replicas)

    def serving(self, now_s: float, ready: int) -> None:
        """So many replicas serve now: the last raise may be complete."""
        if self._raise is None or ready < self._raise[1]:
            return
        took_s, self._raise = now_s - self._raise[0], None
        if 0 < took_s <= LONGEST_START_S:
            memory = started(self._memory(), took_s)
            self._starts_s = memory.starts_s
            self._keep(memory)

    @property
    def start_s(self) -> float | None:
        """95th percentile of the measured starts; None before there are enough."""
        return quantile_of(self._starts_s, START_QUANTILE) if len(self._starts_s) >= LEAST_STARTS else None

    def text(self, service: ServiceRate) -> str:
        """What is to be remembered."""
        self.unsaved = self.urgent = False
        memory = self._memory()
        if service.observations >= KNOWN_AFTER:
            memory = replace(memory, service_per_s=service.per_s)
        recorder = self._foresight.recorder
        memory = replace(memory, today=None if recorder is None else recorder.session())
        text = dumps(memory)
        self._packed = zlib.compress(text.encode())
        return text

    def last_day(self, around: Circumstances) -> str:
        """The last day as it is replayed by the simulator; empty before the first.

        Args:
            around: what the day's traffic does not tell.
        """
        if self._foresight.ended is not None:
            ended, self._foresight.ended = self._foresight.ended, None
            if ended.shares():
                self._last_day = zlib.compress(trace(ended, around).encode())
        return zlib.decompress(self._last_day).decode() if self._last_day else ""

    def _memory(self) -> Memory:
        return loads(zlib.decompress(self._packed).decode()) if self._packed else Memory()

    def _keep(self, memory: Memory) -> None:
        self._packed = zlib.compress(dumps(memory).encode())
        self.unsaved = True
