"""What to think of the stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eod_workers.adapters.redis_look import RedisSeen
from eod_workers.adapters.s3_bucket import BucketState
from eod_workers.doctor.findings import Finding, State
from eod_workers.process.settings import RegulatoryAccess

REDIS, ROWS, ARCHIVE = "Redis", "regulatory store", "archive"
_FULL = 0.8
_MIB = 1024 * 1024


def of_redis(seen: RedisSeen) -> Iterator[Finding]:
    """What to think of the state store."""
    yield Finding(REDIS, "server", State.OK, f"version {seen.version}, {seen.used / _MIB:.1f} MiB in use")
    if seen.replica:
        yield Finding(
            REDIS,
            "role",
            State.MISSING,
            "it follows another server, and takes no writes",
            "name the one that it follows in EOD_REDIS_URL",
        )
    if seen.cluster:
        yield Finding(
            REDIS,
            "cluster_enabled",
            State.MISSING,
            "keys are spread over several servers, and what belongs together is written in one piece",
            "name a server (or a primary with replicas) without cluster mode in EOD_REDIS_URL",
        )
    if seen.policy != "noeviction":
        yield Finding(
            REDIS,
            "maxmemory-policy",
            State.DANGER,
            f"{seen.policy}: when it is full, positions, snapshots and sequence numbers are thrown away",
            "redis-cli CONFIG SET maxmemory-policy noeviction, and CONFIG REWRITE (hosted: in its parameter group)",
        )
    if not seen.log:
        yield from _unlogged(seen)
    if not seen.limit:
        yield Finding(
            REDIS,
            "maxmemory",
            State.NOTE,
            "no limit: the system ends it when the machine or the container is full, instead of a refusal",
            "redis-cli CONFIG SET maxmemory BYTES (about three quarters of what it may have), and CONFIG REWRITE",
        )
    elif seen.used > _FULL * seen.limit:
        yield Finding(
            REDIS,
            "memory",
            State.DANGER,
            f"{seen.used / seen.limit:.0%} of {seen.limit / _MIB:.0f} MiB in use; a full one stops P&L and sessions",
            "give it more: redis-cli CONFIG SET maxmemory BYTES, and CONFIG REWRITE",
        )


def _unlogged(seen: RedisSeen) -> Iterator[Finding]:
    """A server that may forget."""
    remedy = "redis-cli CONFIG SET appendonly yes, and CONFIG REWRITE (hosted: in its parameter group)"
    if seen.snapshots:
        said = f"no: after a crash it is as it was at its last snapshot (save {seen.snapshots})"
        yield Finding(REDIS, "appendonly", State.NOTE, said, remedy)
    elif seen.snapshots is None:
        said = "no; whether it writes snapshots it does not tell"
        yield Finding(REDIS, "appendonly", State.NOTE, said, remedy)
    else:
        said = "no, and no snapshots: a restart forgets positions older than the log, and all sequence numbers"
        yield Finding(REDIS, "appendonly", State.DANGER, said, remedy)


def of_schema(where: str, found: int | None, migrations: Mapping[int, str]) -> Finding:
    """What to think of the tables of the regulatory store; `found` is the version that they have."""
    wanted = max(migrations)
    if found == wanted:
        return Finding(ROWS, "schema", State.OK, f"{where}: version {found}")
    if found is not None and found > wanted:
        return Finding(
            ROWS,
            "schema",
            State.MISSING,
            f"{where}: version {found}, of a later release; this one works with {wanted}",
            "use the release that has migrated it, or a later one",
        )
    said = "no tables yet" if found is None else f"version {found}; this release works with {wanted}"
    return Finding(
        ROWS, "schema", State.MISSING, f"{where}: {said}", "eod db migrate (eod db create for a new database)"
    )


def of_sqlserver(access: RegulatoryAccess) -> Iterator[Finding]:
    """What to think of how SQL Server is talked to."""
    if access.sqlserver_encryption != "require":
        yield Finding(
            ROWS,
            "EOD_SQLSERVER_ENCRYPTION",
            State.DANGER,
            f"{access.sqlserver_encryption}: rows, and perhaps the password, may cross the network as they are",
            "EOD_SQLSERVER_ENCRYPTION=require, and a certificate for the server",
        )
    if not access.sqlserver_ca_file and access.sqlserver_encryption != "off":
        yield Finding(
            ROWS,
            "EOD_SQLSERVER_CA_FILE",
            State.DANGER,
            "not set: whoever stands between us and the server can show any certificate, and read and change rows",
            "EOD_SQLSERVER_CA_FILE=FILE, the PEM of the authority that signed the server's certificate",
        )


def of_bucket(name: str, seen: BucketState | None) -> Iterator[Finding]:
    """What to think of the archive's bucket."""
    if seen is None:
        yield Finding(ARCHIVE, "bucket", State.MISSING, f"there is no bucket {name}", "eod archive init")
        return
    yield Finding(ARCHIVE, "bucket", State.OK, f"{seen.name} is there")
    if not seen.versions:
        yield Finding(
            ARCHIVE,
            "versions",
            State.DANGER,
            "not kept: what is overwritten or deleted is gone",
            f"aws s3api put-bucket-versioning --bucket {seen.name} --versioning-configuration Status=Enabled",
        )
    if not seen.object_lock:
        yield Finding(
            ARCHIVE,
            "object lock",
            State.NOTE,
            "none: who may delete objects can delete the archive",
            "name a bucket that is not there yet in EOD_ARCHIVE_URL, and run eod archive init",
        )
    elif seen.retention_days is None:
        yield Finding(
            ARCHIVE,
            "retention",
            State.NOTE,
            "no period: objects can be kept against everybody, and are not",
            "eod archive init --retention-days DAYS",
        )
