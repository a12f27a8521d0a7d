"""Streams that are led by which lines of the pure code they reach: `python -m fuzz.guided -max_total_time=60 CORPUS`.

The bytes that atheris makes choose steps, so that checksums are right where nobody wants them wrong. The options are
those of libFuzzer; an input that shows a disagreement is written to a file, and given as an argument it is played again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TypeVar

import atheris

with atheris.instrument_imports(include=["eod_workers.fix", "eod_workers.ingestion", "eod_workers.trades"]):
    from fuzz.agreement import Read, agree

import structlog

from fuzz.streams import BYTES, DAMAGES, EDITS, ODD_KINDS, TAGS, VALUES, Damage, Edit, Step, stream

_T = TypeVar("_T")
_MAX_STEPS = 40
_AHEAD = (0, 0, 0, 0, 1, 2, -1, -2)
_VERSIONS = (b"FIX.4.4", b"FIX.4.2")
_READS = (1 << 20, 5_000, 300, 20)


def _one_of(source: atheris.FuzzedDataProvider, values: Sequence[_T]) -> _T:
    return values[source.ConsumeIntInRange(0, len(values) - 1)]


def _edit(source: atheris.FuzzedDataProvider) -> Edit:
    value = _one_of(source, VALUES) if source.ConsumeBool() else source.ConsumeBytes(12)
    return Edit(_one_of(source, EDITS), _one_of(source, TAGS), value)


def _damage(source: atheris.FuzzedDataProvider) -> Damage:
    value = _one_of(source, BYTES) if source.ConsumeBool() else source.ConsumeBytes(4)
    return Damage(_one_of(source, DAMAGES), source.ConsumeIntInRange(0, 1_000), value, source.ConsumeBool())


def _step(source: atheris.FuzzedDataProvider) -> Step:
    kind = _one_of(source, ODD_KINDS)
    if source.ConsumeBool():
        return Step(kind)
    edits = tuple(_edit(source) for _ in range(source.ConsumeIntInRange(0, 3)))
    damage = tuple(_damage(source) for _ in range(source.ConsumeIntInRange(0, 1)))
    return Step(kind, _one_of(source, _AHEAD), edits, damage)


def case(data: bytes) -> tuple[list[Read], bytes]:
    """The reads and the version that the bytes stand for."""
    source = atheris.FuzzedDataProvider(data)
    version = _one_of(source, _VERSIONS)
    most = _one_of(source, _READS)
    steps = [Step("logon")]
    while source.remaining_bytes() and len(steps) < _MAX_STEPS:
        steps.append(_step(source))
    text = stream(steps, version)
    return [(0.1, text[at : at + most]) for at in range(0, len(text), most)], version


def play(data: bytes) -> None:
    """One input of atheris."""
    agree(*case(data))


def main() -> None:
    """Hands over to libFuzzer, which ends the process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
