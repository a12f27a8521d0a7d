"""What the hot path is measured against: QuickFIX/J, a Kafka producer and Kafka Streams, out of `bench/peers/java`."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from testbed import cache
from testbed.maven import MavenProgram

_PROTO = "peer.proto"


class Peers(MavenProgram):
    """The programs, compiled, with their jars, and Python's side of their envelopes."""

    key: ClassVar[str] = "peers"
    title: ClassVar[str] = "the benchmark's peers"
    fetch_s: ClassVar[float] = 30
    sources: ClassVar[Path] = Path(__file__).parents[2] / "bench" / "peers" / "java"
    cached_as: ClassVar[str] = "bench-peers"
    jvm: ClassVar[Sequence[str]] = ("-Xms1g", "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

    @classmethod
    def build(cls, shop: cache.Workshop) -> None:
        """Compile, and keep the envelopes in Python, too."""
        python = shop.folder / "python"
        python.mkdir()
        proto = cls.sources / "src/main/proto"
        shop.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", f"--python_out={python}", proto / _PROTO])
        super().build(shop)

    @property
    def versions(self) -> str:
        """What its jars are called."""
        return ", ".join(map(self.jar, ("quickfixj-core", "kafka-clients", "kafka-streams")))

    @property
    def envelopes(self) -> ModuleType:
        """The module of `Execution` and `Holding`."""
        name = "peer_pb2"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, self.home / "python" / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    def command(self, main: str, arguments: Sequence[object]) -> list[str]:
        """Return the command line that runs one of the programs: Acceptor, Positions or Parse."""
        return self.java(f"eod.bench.{main}", arguments)
