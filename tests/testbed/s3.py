"""A real S3: versitygw over a folder, with versions, object lock, checksums and conditional writes."""

import functools
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from testbed import cache, go
from testbed.process import run
from testbed.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_VERSION = "v1.8.0"
_MODULE = "versitygw"
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_TIMEOUT_S = 5.0


# Each client would read the description of all of S3 anew, for longer than most tests of an archive take.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)


class S3(Server):
    """One S3 server.

    Attributes:
        access_key: generated, of the root account.
        secret_key: generated.
        region: what requests are signed for.
    """

    key: ClassVar[str] = "s3"
    title: ClassVar[str] = "S3 (versitygw)"
    default_ports: ClassVar[Mapping[str, int]] = {"s3": 17070}
    fetch_s: ClassVar[float] = 100
    ready_within_s: ClassVar[float] = 20
    region: ClassVar[str] = "us-east-1"

    def __init__(self, home: Path, *, tethered: bool = True, prefer_default_ports: bool = False) -> None:
        super().__init__(home, tethered=tethered, prefer_default_ports=prefer_default_ports)
        self.access_key = f"testbed{secrets.token_hex(6)}"
        self.secret_key = secrets.token_hex(20)

    @classmethod
    def fetch(cls) -> Path:
        """The folder of versitygw, built from its Go module."""
        return go.cached(_MODULE, _VERSION, _build, module=_MODULE, expected_s=cls.fetch_s)

    @property
    def endpoint(self) -> str:
        """The address to give to S3 clients, which then name buckets in paths."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def version(self) -> str:
        """What the binary says."""
        text = run([self.fetch() / "versitygw", "--version"])
        found = re.search(r"Version\s*:\s*(\S+)", text)
        return found[1] if found else text.strip()

    @property
    def environment(self) -> Mapping[str, str]:
        """EOD_S3_ENDPOINT and the AWS variables."""
        return {
            "EOD_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    def client(self) -> "S3Client":
        """Return a boto3 client of this server; close it when done."""
        return boto3.session.Session(
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, region_name=self.region
        ).client(
            "s3",
            endpoint_url=self.endpoint,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=_TIMEOUT_S,
                read_timeout=_TIMEOUT_S,
                retries={"total_max_attempts": 1},
            ),
        )

    def create_bucket(self, name: str) -> str:
        """Make a bucket that keeps versions and honours object lock, and return its name."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        finally:
            client.close()
        return name

    def _prepare(self, programs: Path) -> None:
        del programs
        for folder in ("objects", "versions", "iam"):
            (self.data / folder).mkdir(exist_ok=True)

    def _launch(self, programs: Path) -> None:
        self._spawn(
            "s3",
            [
                *(programs / "versitygw", "--quiet", "--port", f"127.0.0.1:{self.ports['s3']}"),
                *("--region", self.region, "--iam-dir", self.data / "iam"),
                *("posix", "--versioning-dir", self.data / "versions", self.data / "objects"),
            ],
            env={"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
        )
        client = self.client()
        try:
            self._await(client.list_buckets, BotoCoreError)
        finally:
            client.close()


def _build(shop: cache.Workshop) -> None:
    go.build(shop, _MODULE, _PACKAGE, "versitygw", {"main.Version": _VERSION})
