"""Java programs of ours, compiled by Maven with the jars they need. They are no servers: who needs one runs `command`."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from testbed import cache
from testbed.errors import Missing

_REMEDY = (
    "install a JDK of version 17 or newer and Maven, on Debian with `apt-get install openjdk-17-jdk-headless maven`."
)


class MavenProgram:
    """Programs of one folder with a `pom.xml`.

    Attributes:
        key: of the catalogue.
        title: for people.
        fetch_s: how long fetching and compiling takes, about.
        sources: the folder.
        cached_as: the entry of the cache.
        jvm: options of every run.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    fetch_s: ClassVar[float]
    sources: ClassVar[Path]
    cached_as: ClassVar[str]
    jvm: ClassVar[Sequence[str]]

    def __init__(self, home: Path) -> None:
        """`home` is what `fetch` has returned."""
        self.home = home

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of classes and jars, fetched and compiled first if need be.

        Raises:
            Missing: there is no JDK or no Maven.
            BuildFailed: fetching or compiling failed.
        """
        version = cache.fingerprint(*sorted(path for path in cls.sources.rglob("*") if path.is_file()))
        if not cache.entry(cls.cached_as, version).is_dir():
            for program, name in (("javac", "JDK"), ("mvn", "Maven")):
                if shutil.which(program) is None:
                    raise Missing(f"no {name} to build it with: {_REMEDY}")
        elif shutil.which("java") is None:
            raise Missing(f"no Java to run it: {_REMEDY}")
        return cache.cached(cls.cached_as, version, cls.build, expected_s=cls.fetch_s)

    @classmethod
    @classmethod
    def build(cls, shop: cache.Workshop) -> None:
        """Let Maven compile in a scratch folder, and keep the classes and the jars they need."""
        scratch = shop.log.parent / "maven"
        shop.run(
            [
                *("mvn", "-q", "-B", "-f", cls.sources / "pom.xml", "compile", "dependency:copy-dependencies"),
                *(f"-Deod.build={scratch}", f"-DoutputDirectory={shop.folder / 'jars'}", "-DincludeScope=runtime"),
            ]
        )
        (scratch / "classes").rename(shop.folder / "classes")

    def jar(self, name: str) -> str:
        """What a jar is called, with its version: its file's name without the ending."""
        return next((self.home / "jars").glob(f"{name}-[0-9]*.jar")).stem

    def java(self, main: str, arguments: Sequence[object]) -> list[str]:
        """Return the command line that runs a class."""
        classpath = f"{self.home / 'classes'}:{self.home / 'jars'}/*"
        return ["java", *self.jvm, "-cp", classpath, main, *map(str, arguments)]
