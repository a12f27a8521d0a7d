"""The archive in an S3 bucket: conditional puts, checked hashes and, if wanted, retention.

`put_once` is one PutObject that the server refuses if the key exists (If-None-Match: *) or if the bytes arrived
changed (x-amz-checksum-sha256). Repeating it is safe: a refusal followed by a look at the same content is success.
The SHA-256 is stored as metadata, because a listing does not tell checksums; `objects` therefore asks for each object
of a page (HeadObject), a few at a time.
The client is that of boto3, made by botocore alone: boto3 would load its transfer manager as well, which no worker
uses. It is synchronous; its calls run in threads of the archive's own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import exceptions
from botocore.config import Config
from botocore.session import get_session

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.object_keys import MOST_KEYS, check_key, check_most
from eod_workers.adapters.s3_bucket import BucketState, ensure, exists, look
from eod_workers.ports import ArchiveConflict, ArchivedObject, Clock, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_THREADS = 8
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 30.0
_PAGE_KEYS = 1_000
_PUT_ATTEMPTS = 5
_PUT_PAUSE_S = 0.05
_SHA256 = "sha256"  # metadata
_NS_PER_S = 1_000_000_000

_PRECONDITION_FAILED = 412
_SERVER_ERROR = 500
_CONFLICT_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted"})
_MISSING_CODES = frozenset({"NoSuchKey", "404", "NotFound"})
_BUSY_CODES = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded"})
_FORBIDDEN_CODES = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})
_IMPOSSIBLE_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "BucketAlreadyExists",
        "InvalidBucketName",
        "NoSuchBucket",
    }
)
"""Another region than AWS_REGION, somebody else's bucket, nobody's name for one, or none of this name."""

Answer = TypeVar("Answer")


class S3Archive:
    """Objects below `prefix` of a bucket that exists; see `ports.ObjectArchive`.

    Args:
        bucket: name of the bucket; it needs object lock if `retention_days` is given.
        endpoint: URL of an S3 server that is not AWS; buckets are then named in paths.
        prefix: put before every key, verbatim.
        access_key: with `secret_key`; without them boto3 looks in its usual places.
        secret_key: see above.
        region: what requests are signed for.
        retention_days: keeps every object, against everybody, for so long (object lock in COMPLIANCE mode).
        clock: for the end of the retention.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None = None,
        prefix: str = "",
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str = "us-east-1",
        retention_days: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._bucket = bucket
        self._endpoint = endpoint
        self._prefix = prefix
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._retention_days = retention_days
        self._clock = clock or SystemClock()
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix=f"s3 {bucket}")
        self._connecting = asyncio.Lock()
        self._client: S3Client | None = None
        self._closed = False

    async def check(self) -> None:
        """Returns if the bucket is there."""
        await self._call(self._check)

    async def put_once(self, key: str, body: bytes) -> ArchivedObject:
        """Stores an object that does not exist yet."""
        check_key(key)
        return await self._call(partial(self._put_once, key, body))

    async def get(self, key: str) -> bytes | None:
        """The content, or None if there is no such object."""
        check_key(key)
        return await self._call(partial(self._get, key))

    async def objects(self, prefix: str = "") -> AsyncIterator[ArchivedObject]:
        """The objects whose keys begin with `prefix`, in the order of their keys."""
        token: str | None = None
        while True:
            keys, token = await self._call(partial(self._list, prefix, token))
            for archived in await asyncio.gather(*(self._call(partial(self._describe, key)) for key in keys)):
                if archived is not None:
                    yield archived
            if token is None:
                return

    async def keys(self, prefix: str, *, after: str = "", most: int = MOST_KEYS) -> list[str]:
        """Up to `most` keys that begin with `prefix` and come after `after`, in their order, in one request."""
        check_most(most)
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, "MaxKeys": most}
        if after:
            request["StartAfter"] = self._prefix + after
        page = await self._call(lambda client: client.list_objects_v2(**request))
        return [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", [])]

    async def ensure_bucket(self, *, object_lock: bool, retention_days: int | None = None) -> BucketState:
        """Makes the bucket if it is not there; see `s3_bucket.ensure`."""
        wanted = partial(ensure, self._bucket, self._region, object_lock=object_lock, retention_days=retention_days)
        return await self._call(wanted)

    async def look(self) -> BucketState | None:
        """What the bucket is like; None if there is none."""
        return await self._call(partial(look, self._bucket, self._region))

    async def close(self) -> None:
        """Closes the connections after the calls under way."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        if self._client is not None:
            self._client.close()

    async def _call(self, call: Callable[[S3Client], Answer]) -> Answer:
        if self._closed:
            raise RuntimeError("this archive is closed")
        loop = asyncio.get_running_loop()
        async with self._connecting:
            if self._client is None:
                self._client = await loop.run_in_executor(self._threads, self._connect)
        client = self._client
        return await loop.run_in_executor(self._threads, lambda: _translate(lambda: call(client)))

    # --- what follows runs in threads -------------------------------------------------------------

    def _connect(self) -> S3Client:
        client: S3Client = get_session().create_client(  # type: ignore[assignment]
            "s3",
            region_name=self._region,
            aws_access_key_id=self._access_key,
            aws_secret_access_key=self._secret_key,
            endpoint_url=self._endpoint,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if self._endpoint else "auto"},
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"total_max_attempts": 1},
                max_pool_connections=_THREADS,
            ),
        )
        return client

    def _check(self, client: S3Client) -> None:
        try:
            there = exists(self._bucket, self._region, client)
        except ValueError as error:
            raise PermissionError(f"S3: {error}") from error
        if not there:
            raise PermissionError(_no_bucket(self._bucket))

    def _put_once(self, key: str, body: bytes, client: S3Client) -> ArchivedObject:
        digest = hashlib.sha256(body)
        archived = ArchivedObject(key, len(body), digest.hexdigest())
        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": self._prefix + key,
            "Body": body,
            "IfNoneMatch": "*",
            "ChecksumSHA256": base64.b64encode(digest.digest()).decode(),
            "Metadata": {_SHA256: archived.sha256},
            **self._retention(),
        }
        for _ in range(_PUT_ATTEMPTS):
            try:
                client.put_object(**request)
            except exceptions.ClientError as error:
                if _code(error) not in _CONFLICT_CODES and _status(error) != _PRECONDITION_FAILED:
                    raise
            else:
                return archived
            stored = self._describe(key, client)
            if stored is not None and stored.sha256 != archived.sha256:
                raise ArchiveConflict(f"{key} exists with other content: SHA-256 {stored.sha256}, {stored.size} bytes")
            if stored is not None:
                return archived
            time.sleep(_PUT_PAUSE_S)  # another writer is at it, or it was deleted just now
        raise Unavailable(f"{key} is being written by somebody else")

    def _retention(self) -> dict[str, Any]:
        if self._retention_days is None:
            return {}
        now = datetime.fromtimestamp(self._clock.now_ns() / _NS_PER_S, UTC)
        until = now + timedelta(days=self._retention_days)
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}

    def _get(self, key: str, client: S3Client) -> bytes | None:
        found = self._fetch(key, client)
        if found is None:
            return None
        body, recorded = found
        computed = hashlib.sha256(body).hexdigest()
        if recorded is not None and recorded != computed:
            raise ValueError(f"{key} does not match its recorded hash: SHA-256 is {computed}, recorded was {recorded}")
        return body

    def _fetch(self, key: str, client: S3Client) -> tuple[bytes, str | None] | None:
        try:
            answer = client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            return answer["Body"].read(), answer["Metadata"].get(_SHA256)
        except exceptions.ClientError as error:
            if _code(error) in _MISSING_CODES:
                return None
            raise

    def _list(self, prefix: str, token: str | None, client: S3Client) -> tuple[list[str], str | None]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, "MaxKeys": _PAGE_KEYS}
        if token is not None:
            request["ContinuationToken"] = token
        page = client.list_objects_v2(**request)
        keys = [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", [])]
        return keys, page.get("NextContinuationToken")

    def _describe(self, key: str, client: S3Client) -> ArchivedObject | None:
        try:
            answer = client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except exceptions.ClientError as error:
            if _code(error) in _MISSING_CODES:
                return None
            raise
        recorded = answer["Metadata"].get(_SHA256)
        if recorded is None:  # somebody else put it there
            found = self._fetch(key, client)
            return None if found is None else ArchivedObject(key, len(found[0]), hashlib.sha256(found[0]).hexdigest())
        return ArchivedObject(key, answer["ContentLength"], recorded)


def _translate(call: Callable[[], Answer]) -> Answer:
    try:
        return call()
    except PermissionError:  # our own, and no OSError of the line
        raise
    except exceptions.ClientError as error:
        if _status(error) >= _SERVER_ERROR or _code(error) in _BUSY_CODES:
            raise Unavailable(f"S3: {error}") from error
        if _code(error) == "NoSuchBucket":
            bucket = error.response.get("Error", {}).get("BucketName", "")
            raise PermissionError(_no_bucket(str(bucket))) from error
        if _code(error) in _FORBIDDEN_CODES | _IMPOSSIBLE_CODES:
            raise PermissionError(f"S3 refuses: {error} (EOD_ARCHIVE_URL, EOD_S3_ENDPOINT, AWS_*)") from error
        raise RuntimeError(f"S3: {error}") from error
    except exceptions.FlexibleChecksumError as error:
        raise ValueError(f"S3 sent content that does not match its checksum: {error}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise PermissionError(f"S3: {error}") from error
    except exceptions.ParamValidationError as error:
        raise ValueError(f"S3: {error}") from error
    except (exceptions.BotoCoreError, OSError) as error:
        raise Unavailable(f"S3: {error}") from error


def _no_bucket(name: str) -> str:
    named = f"no bucket {name}" if name else "no such bucket"
    return f"S3: there is {named}: make it with 'eod archive init', or mend its name in EOD_ARCHIVE_URL"


def _code(error: exceptions.ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
