"""QuickFIX/J, a FIX counterparty that shares no code with ours: the sources are in `tests/peers`."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from testbed.maven import MavenProgram

_MAIN = "eod.peers.Counterparty"


class QuickFixJ(MavenProgram):
    """The program of `tests/peers`, compiled, with its jars."""

    key: ClassVar[str] = "quickfixj"
    title: ClassVar[str] = "QuickFIX/J"
    fetch_s: ClassVar[float] = 20
    sources: ClassVar[Path] = Path(__file__).parents[1] / "peers"
    cached_as: ClassVar[str] = "quickfixj-peer"
    jvm: ClassVar[Sequence[str]] = (
        *("-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"),
    )

    @property
    def version(self) -> str:
        """What its jar is called."""
        return self.jar("quickfixj-core").removeprefix("quickfixj-core-")

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs the program with these arguments."""
        return self.java(_MAIN, arguments)
