"""QuickFIX/J, a FIX counterparty that shares no code with ours: the sources are in `tests/peers`."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from testbed import cache
from testbed.errors import Missing

_PEERS = Path(__file__).parents[1] / "peers"
_MAIN = "eod.peers.Counterparty"
_REMEDY = (
    "install a JDK of version 17 or newer and Maven, on Debian with `apt-get install openjdk-17-jdk-headless maven`."
)
_JVM = ("-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")


class QuickFixJ:
    """The program of `tests/peers`, compiled, with its jars. It is no server: a test runs `command` when it needs it."""

    key: ClassVar[str] = "quickfixj"
    title: ClassVar[str] = "QuickFIX/J"
    fetch_s: ClassVar[float] = 20

    def __init__(self, home: Path) -> None:
        self._home = home

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of classes and jars, fetched and compiled first if need be.

        Raises:
            Missing: there is no JDK or no Maven.
            BuildFailed: fetching or compiling failed.
        """
        sources = sorted(_PEERS.rglob("*.java"))
        version = cache.fingerprint(_PEERS / "pom.xml", *sources)
        if not cache.entry("quickfixj-peer", version).is_dir():
            for program, name in (("javac", "JDK"), ("mvn", "Maven")):
                if shutil.which(program) is None:
                    raise Missing(f"no {name} to build it with: {_REMEDY}")
        elif shutil.which("java") is None:
            raise Missing(f"no Java to run it: {_REMEDY}")
        return cache.cached("quickfixj-peer", version, _build, expected_s=cls.fetch_s)

    @property
    def version(self) -> str:
        """What its jar is called."""
        (jar,) = (self._home / "jars").glob("quickfixj-core-*.jar")
        return jar.stem.removeprefix("quickfixj-core-")

    def command(self, arguments: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs the program with these arguments."""
        classpath = f"{self._home / 'classes'}:{self._home / 'jars'}/*"
        return ["java", *_JVM, "-cp", classpath, _MAIN, *map(str, arguments)]


def _build(shop: cache.Workshop) -> None:
    """Let Maven compile in a scratch folder, and keep the classes and the jars they need."""
    build = shop.log.parent / "maven"
    shop.run(
        [
            *("mvn", "-q", "-B", "-f", _PEERS / "pom.xml", "compile", "dependency:copy-dependencies"),
            *(f"-Deod.build={build}", f"-DoutputDirectory={shop.folder / 'jars'}", "-DincludeScope=runtime"),
        ]
    )
    (build / "classes").rename(shop.folder / "classes")
