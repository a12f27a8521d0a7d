"""The archive's bucket: made if it is not there, and refused if it could not keep what it is given.

Object lock can be had from the start of a bucket alone, as far as all servers go (AWS grants it later, too, others do
not), and a bucket without it deletes for whoever has the right. So a bucket that lacks it is not mended but named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore import exceptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = frozenset({"404", "NoSuchBucket", "NotFound"})
_ELSEWHERE = frozenset({"400", "301"})
_OURS_ALREADY = frozenset({"BucketAlreadyOwnedByYou"})
_NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "404"})
_WITHOUT_LOCATION = "us-east-1"
"""Where buckets are made that name no region: AWS refuses to be told it."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """What a bucket is like.

    Attributes:
        name: of the bucket.
        made: just now, by us.
        versions: an overwritten or deleted object is kept as a version.
        object_lock: versions can be kept against everybody until a date.
        retention_days: of an object that names no date itself; None without such a period.
    """

    name: str
    made: bool
    versions: bool
    object_lock: bool
    retention_days: int | None

    def __str__(self) -> str:
        has = [
            "versions" if self.versions else "no versions",
            "object lock" if self.object_lock else "no object lock",
            f"each object kept for {self.retention_days} days" if self.retention_days else "no retention period",
        ]
        return f"bucket {self.name} {'made' if self.made else 'was there'}: {', '.join(has)}"


def ensure(
    bucket: str, region: str, client: S3Client, *, object_lock: bool, retention_days: int | None = None
) -> BucketState:
    """The bucket, made if need be; a period that is there already is lengthened and never shortened.

    Raises:
        ValueError: it is there and lacks what is wanted; the message says how to have it.
        ClientError: the server refuses.
    """
    made = not exists(bucket, region, client) and _make(bucket, region, client, object_lock=object_lock)
    locked, days = _lock(bucket, client)
    if object_lock and not locked:
        raise ValueError(
            f"bucket {bucket} exists and has no object lock, so what is archived there can be deleted: name another "
            "bucket in EOD_ARCHIVE_URL, which will be made with it, or enable it on this one where your server can "
            "(aws s3api put-bucket-versioning, then put-object-lock-configuration), or say --no-object-lock"
        )
    if retention_days is not None and retention_days > (days or 0):
        rule: Any = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": retention_days}}
        client.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        days = retention_days
    return BucketState(bucket, made, _versions(bucket, client), locked, days)


def look(bucket: str, region: str, client: S3Client) -> BucketState | None:
    """What the bucket is like; None if there is none.

    Raises:
        ValueError: the server takes no request for it in this region.
        ClientError: the server refuses.
    """
    if not exists(bucket, region, client):
        return None
    return BucketState(bucket, False, _versions(bucket, client), *_lock(bucket, client))


def exists(bucket: str, region: str, client: S3Client) -> bool:
    """Whether there is such a bucket.

    Raises:
        ValueError: the server takes no request for it in this region.
        ClientError: the server refuses.
    """
    try:
        client.head_bucket(Bucket=bucket)
    except exceptions.ClientError as error:
        if _code(error) in _MISSING:
            return False
        if _code(error) in _ELSEWHERE:  # an answer to HEAD has no text that would say so
            raise ValueError(
                f"bucket {bucket}: the server takes no request for it in region {region}; "
                "set AWS_REGION to the bucket's, or mend the bucket's name in EOD_ARCHIVE_URL"
            ) from error
        raise
    return True


def _make(bucket: str, region: str, client: S3Client, *, object_lock: bool) -> bool:
    """Whether it was us who made it."""
    place: Any = {} if region == _WITHOUT_LOCATION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=object_lock, **place)
    except exceptions.ClientError as error:
        if _code(error) in _OURS_ALREADY:  # somebody else of ours was quicker
            return False
        raise
    return True


def _versions(bucket: str, client: S3Client) -> bool:
    return client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"


def _lock(bucket: str, client: S3Client) -> tuple[bool, int | None]:
    """Whether it has object lock, and the days of its default retention."""
    try:
        found: Any = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except exceptions.ClientError as error:
        if _code(error) in _NO_LOCK:
            return False, None
        raise
    period = found.get("Rule", {}).get("DefaultRetention", {})
    days = period.get("Days") or period.get("Years", 0) * 365
    return found.get("ObjectLockEnabled") == "Enabled", days or None


def _code(error: exceptions.ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
