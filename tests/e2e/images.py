"""The images of the end-to-end run, built in the cluster's own Docker from packages alone."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from testbed.docker import Docker
from testbed.image_bases import ImageBases
from testbed.tls import Authority

ROOT = Path(__file__).parents[2]
OLD, NEW = "eod:old", "eod:new"
"""The same code under two tags with different labels: what an upgrade goes from and to."""
STORES = {"kafka": "testbed/kafka:1", "redis": "testbed/redis:1", "s3": "testbed/s3:1", "sqlserver": "testbed/tds:1"}
_PATH = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
_TDS = """FROM testbed/python:1
COPY site /usr/lib/python3/dist-packages/
COPY certificate /usr/share/tds/
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["/usr/bin/python3", "-m", "tds.standin"]
"""


def build_stores(docker: Docker, scratch: Path) -> list[str]:
    """Make the images of the stores, and the bases of ours; return the names of the first.

    Args:
        docker: builds and keeps them.
        scratch: an empty folder.
    """
    bases = ImageBases.fetch()
    docker.import_root(bases / "build.tar", "testbed/build:1")
    docker.import_root(bases / "python.tar", "testbed/python:1")
    docker.import_root(bases / "kafka.tar", STORES["kafka"], [_PATH])
    docker.import_root(bases / "redis.tar", STORES["redis"], [_PATH])
    docker.import_root(bases / "s3.tar", STORES["s3"], [_PATH, 'ENTRYPOINT ["/usr/local/bin/versitygw"]'])
    _tds(docker, scratch)
    return list(STORES.values())


def build_ours(docker: Docker) -> list[str]:
    """Build our images on those bases and return their names."""
    for tag in (OLD, NEW):
        docker(
            *("build", "--build-arg=BUILD=testbed/build:1", "--build-arg=BASE=testbed/python:1"),
            *(f"--build-arg=REVISION={tag}", "--target=image", f"--tag={tag}", ROOT),
        )
    return [OLD, NEW]


def _tds(docker: Docker, scratch: Path) -> None:
    site = scratch / "site"
    shutil.copytree(ROOT / "tests/tds", site / "tds", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        Path(sysconfig.get_path("purelib")) / "sqlglot", site / "sqlglot", ignore=shutil.ignore_patterns("__pycache__")
    )
    certificate, key = Authority(scratch / "pki", "tds").issue("tds", "/CN=tds")
    folder = scratch / "certificate"
    folder.mkdir()
    shutil.copyfile(certificate, folder / "tls.crt")
    shutil.copyfile(key, folder / "tls.key")
    (folder / "tls.key").chmod(0o644)  # of no secret: whoever has the image has it, and the server runs as somebody
    (scratch / "Dockerfile").write_text(_TDS)
    docker("build", f"--tag={STORES['sqlserver']}", scratch)
