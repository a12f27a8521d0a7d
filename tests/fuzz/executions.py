"""Random streams of a FIX session, read with the kernel and without: they must agree on everything."""

from __future__ import annotations

import time
from random import Random
from typing import NamedTuple

from fuzz.agreement import Disagreement, Read, agree
from fuzz.streams import Step, random_cuts, random_step, stream


class Run(NamedTuple):
    """What a run has seen."""

    streams: int
    pieces: int
    plain: int
    trades: int
    letters: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.streams:,} streams, {self.pieces:,} frames and pieces of garbage at {self.pieces / self.seconds:,.0f}/s: "
            f"{self.trades:,} trades, {self.plain:,} of them plain, {self.letters:,} dead letters; all agreed"
        )


def case(seed: str) -> tuple[list[Step], list[Read], bytes]:
    """The steps, the reads and the version of one stream."""
    random = Random(seed)
    version = random.choice((b"FIX.4.4", b"FIX.4.4", b"FIX.4.2"))
    odd = random.choice((0.02, 0.1, 0.3))
    steps = [Step("logon"), *(random_step(random, odd) for _ in range(random.choice((5, 40, 150))))]
    if random.random() < 0.05:
        del steps[0]
    data = stream(steps, version)
    reads: list[Read] = []
    at = 0
    for end in random_cuts(random, len(data)):
        reads.append((random.choice((0.0, 0.001, 0.3)), data[at:end]))
        if random.random() < 0.03:
            reads.append((random.choice((0.1, 2.5, 31.0)), b""))
        at = end
    return steps, reads, version


def run(seconds: float, seed: int) -> Run:
    """Plays streams for so long, at least one.

    Raises:
        Disagreement: with the seed of the stream that shows it.
    """
    began = time.monotonic()
    streams = pieces = plain = trades = letters = 0
    while not streams or time.monotonic() - began < seconds:
        _, reads, version = case(f"{seed}.{streams}")
        try:
            out = agree(reads, version)
        except Exception as error:
            raise Disagreement(f"stream {seed}.{streams} (fuzz.executions.case repeats it): {error}") from error
        streams += 1
        plain += out.plain
        trades += (booked := sum(map(len, out.trades.values())))
        letters += len(out.letters)
        pieces += booked + len(out.letters) + sum(len(raws) for raws, _ in out.aside.values())
    return Run(streams, pieces, plain, trades, letters, time.monotonic() - began)
