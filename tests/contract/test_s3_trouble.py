"""What the S3 archive does when the server is away, and what object lock adds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from eod_workers.adapters.s3 import S3Archive
from eod_workers.ports import ArchivedObject, Unavailable
from testbed.s3 import S3


@pytest.fixture(scope="module")
def server(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server of this module's own, which its tests may stop."""
    del s3_server  # asked for so that this machine's lack of an S3 server is told in one place
    with S3(tmp_path_factory.mktemp("own-s3")) as own:
        yield own
    own.discard()


@asynccontextmanager
async def archive_on(server: S3, bucket: str, **settings: Any) -> Any:
    archive = S3Archive(
        bucket,
        endpoint=server.endpoint,
        region=server.region,
        **{"access_key": server.access_key, "secret_key": server.secret_key, **settings},
    )
    yield archive
    await archive.close()


async def keys(archive: S3Archive) -> list[str]:
    return [archived.key async for archived in archive.objects()]


async def test_a_bucket_that_is_not_there_is_told_with_the_remedy(server: S3, unique: str) -> None:
    """By a look at it, and by whoever stores without having looked; once it is made all is well."""
    async with archive_on(server, unique) as archive:
        with pytest.raises(PermissionError, match=f"no bucket {unique}: make it with 'eod archive init', or mend"):
            await archive.check()
        with pytest.raises(PermissionError, match=f"no bucket {unique}: make it with"):
            await archive.put_once("a", b"content")
        await asyncio.to_thread(server.create_bucket, unique)
        await archive.check()


async def test_without_a_server_every_call_is_unavailable_until_it_is_back(server: S3, unique: str) -> None:
    """The same object works again after a restart, and what was acknowledged is still there."""
    bucket = await asyncio.to_thread(server.create_bucket, unique)
    async with archive_on(server, bucket) as archive:
        await archive.put_once("kept", b"content")
        await asyncio.to_thread(server.kill)
        with pytest.raises(Unavailable):
            await archive.put_once("new", b"content")
        with pytest.raises(Unavailable):
            await archive.get("kept")
        with pytest.raises(Unavailable):
            await keys(archive)
        await asyncio.to_thread(server.start)
        assert await archive.get("kept") == b"content"
        assert await archive.put_once("new", b"content")
        assert await keys(archive) == ["kept", "new"]


async def test_retention_protects_every_version(server: S3, unique: str) -> None:
    """Not even the owner of the bucket deletes or shortens before the time; the time is the clock's plus the days."""
    bucket = await asyncio.to_thread(server.create_bucket, unique)
    async with archive_on(server, bucket, retention_days=3) as archive:
        await archive.put_once("locked", b"content")
        client = server.client()
        head = client.head_object(Bucket=bucket, Key="locked")
        assert head["ObjectLockMode"] == "COMPLIANCE"
        wanted = datetime.now(UTC) + timedelta(days=3)
        assert abs(head["ObjectLockRetainUntilDate"] - wanted) < timedelta(minutes=1)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key="locked", VersionId=head["VersionId"])
        client.close()
        assert await archive.get("locked") == b"content"


async def test_wrong_credentials_and_missing_buckets_are_not_tried_again(server: S3, unique: str) -> None:
    bucket = await asyncio.to_thread(server.create_bucket, unique)
    async with archive_on(server, bucket, secret_key="wrong") as archive:
        with pytest.raises(PermissionError):
            await archive.put_once("a", b"")
    async with archive_on(server, f"{bucket}-missing") as archive:
        with pytest.raises(PermissionError, match="bucket"):
            await archive.put_once("a", b"")


async def test_objects_of_others_are_described_too(server: S3, unique: str) -> None:
    """An object without our metadata: its hash is computed, and the same content counts as stored."""
    bucket = await asyncio.to_thread(server.create_bucket, unique)
    client = server.client()
    client.put_object(Bucket=bucket, Key="theirs", Body=b"content")
    client.close()
    async with archive_on(server, bucket) as archive:
        archived: ArchivedObject = await archive.put_once("theirs", b"content")
        assert [described async for described in archive.objects()] == [archived]
        assert await archive.get("theirs") == b"content"
