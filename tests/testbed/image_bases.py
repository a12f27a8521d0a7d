"""What images are built upon where no registry can be asked: Debian root file systems, in the cache as tars for `docker import`.

They stand for the public images that the Dockerfile and the charts name, and keep their promises: where Python is, that the
base of `eod` has no shell, that /opt/kafka/bin has the scripts by which a broker is formatted and started.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from testbed import cache, rootfs
from testbed.cache import Workshop
from testbed.kafka import Kafka
from testbed.process import run
from testbed.s3 import S3

_SHELL_TOOLS = (
    "sh",
    "cat",
    "cp",
    "chmod",
    "env",
    "grep",
    "hostname",
    "ls",
    "mkdir",
    "printf",
    "rm",
    "sed",
    "sleep",
    "test",
    "tr",
)
_USERS = "root:x:0:0::/:/none\nnonroot:x:65532:65532::/tmp:/none\n"
_JAVA_HOME = "/usr/lib/jvm/java-17-openjdk-amd64"
_KAFKA_SCRIPT = """#!/bin/sh
# Stands for the script of Kafka's own distribution, which is not among its jars.
exec {home}/bin/java ${{KAFKA_HEAP_OPTS:--Xms128m -Xmx512m}} $KAFKA_OPTS -XX:+UseSerialGC \\
  ${{KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=/opt/kafka/config/log4j2.properties}} -cp '/opt/kafka/libs/*' {main} "$@"
"""
_KAFKA_MAINS = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand",
}


class ImageBases:
    """`build.tar` and `python.tar` for the image of eod; `kafka.tar`, `redis.tar` and `s3.tar` for the stores."""

    key: ClassVar[str] = "image-bases"
    title: ClassVar[str] = "bases of images"
    fetch_s: ClassVar[float] = 60

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of the tars.

        Raises:
            Missing: this is not root on a Debian-like machine.
            BuildFailed: a package could not be had.
        """
        kafka, s3 = Kafka.jars(), S3.fetch()
        version = cache.fingerprint(Path(__file__), Path(rootfs.__file__))
        if not cache.entry(cls.key, version).is_dir():
            rootfs.require()
        return cache.cached(cls.key, version, lambda shop: _build(shop, kafka, s3), expected_s=cls.fetch_s)


def _build(shop: Workshop, kafka: Path, s3: Path) -> None:
    _base(shop, "build", ("python3-venv", "python3-dev", "gcc", "libc6-dev", "binutils"), configured=True)
    _base(shop, "python", ("python3", "libstdc++6", "ca-certificates"), _python)
    _base(shop, "kafka", ("openjdk-17-jre-headless", "busybox-static"), lambda root: _kafka(root, kafka))
    _base(shop, "redis", ("redis-server", "redis-tools", "busybox-static"), _shell)
    _base(shop, "s3", ("busybox-static", "ca-certificates"), lambda root: _s3(root, s3))


def _base(
    shop: Workshop,
    name: str,
    packages: tuple[str, ...],
    finish: Callable[[Path], None] = lambda _: None,
    *,
    configured: bool = False,
) -> None:
    root = shop.log.parent / name
    rootfs.make(shop, root, packages, configured=configured)
    if not configured:
        _lone(root)
    finish(root)
    run(["tar", "-C", root, "-cf", shop.folder / f"{name}.tar", "."])
    run(["rm", "-rf", root])


def _lone(root: Path) -> None:
    """What every image has although no package brought it, and not what could only install more of them."""
    for unwanted in ("var/lib/apt", "var/lib/dpkg", "var/cache", "usr/share/perl5", "usr/lib/dpkg"):
        shutil.rmtree(root / unwanted, ignore_errors=True)
    for pattern in ("usr/bin/dpkg*", "usr/bin/deb*", "usr/bin/c_rehash", "usr/bin/update-*", "bin/tar"):
        for program in root.glob(pattern):
            program.unlink()
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text("root:x:0:\nnonroot:x:65532:\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    if authorities:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_text("".join(one.read_text() for one in authorities))


def _python(root: Path) -> None:
    for pattern in (
        "usr/bin/pdb3*",
        "usr/bin/py[a-oq-z3]*",
        "usr/bin/pydoc*",
        "usr/bin/openssl",
        "usr/lib/python3.11/pydoc_data",
    ):
        for path in root.glob(pattern):
            if "python3" not in path.name:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(["chroot", root, "/usr/bin/python3", "-m", "compileall", "-q", "/usr/lib/python3.11"])


def _shell(root: Path) -> None:
    for tool in _SHELL_TOOLS:
        link = root / "bin" / tool
        if not link.exists():
            link.symlink_to("busybox")


def _kafka(root: Path, jars: Path) -> None:
    _shell(root)
    home = root / "opt/kafka"
    shutil.copytree(jars, home / "libs")
    for folder in ("bin", "config"):
        (home / folder).mkdir()
    shutil.copy2(cache.SOURCES / "kafka/log4j2.properties", home / "config")
    for name, main in _KAFKA_MAINS.items():
        script = home / "bin" / name
        script.write_text(_KAFKA_SCRIPT.format(home=_JAVA_HOME, main=main))
        script.chmod(0o755)


def _s3(root: Path, programs: Path) -> None:
    _shell(root)
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(programs / "versitygw", root / "usr/local/bin/versitygw")
