"""`eod archive init` on a real S3 server: what it makes, what it finds, what it refuses."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from eod_workers.cli import commands as cli
from testbed.s3 import S3
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def environment(s3_server: S3, unique: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {**s3_server.environment, "EOD_ARCHIVE_URL": f"s3://{unique}/segments"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def run(*args: str) -> tuple[int, str]:
    ended = CliRunner().invoke(cli.app, ["archive", "init", *args])
    return ended.exit_code, ended.output


def test_a_bucket_is_made_with_versions_and_lock_and_found_again(s3_server: S3, unique: str) -> None:
    has = "versions, object lock, no retention period\n"
    assert run() == (0, f"bucket {unique} made: {has}")
    assert run() == (0, f"bucket {unique} was there: {has}")
    client = s3_server.client()
    assert client.get_bucket_versioning(Bucket=unique)["Status"] == "Enabled"
    lock = client.get_object_lock_configuration(Bucket=unique)["ObjectLockConfiguration"]
    assert lock["ObjectLockEnabled"] == "Enabled"
    client.close()


def test_a_period_holds_against_the_owner_and_is_lengthened_never_shortened(s3_server: S3, unique: str) -> None:
    assert run("--retention-days=2")[1].endswith("each object kept for 2 days\n")
    assert run("--retention-days=1")[1].endswith("each object kept for 2 days\n")
    assert run()[1].endswith("each object kept for 2 days\n")
    assert run("--retention-days=3")[1].endswith("each object kept for 3 days\n")
    client = s3_server.client()
    version = client.put_object(Bucket=unique, Key="k", Body=b"content")["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=unique, Key="k", VersionId=version)
    client.close()


def test_a_bucket_without_lock_is_refused_with_a_remedy_unless_none_is_wanted(s3_server: S3, unique: str) -> None:
    client = s3_server.client()
    client.create_bucket(Bucket=unique)
    client.close()
    code, told = run()
    assert (code, f"bucket {unique} exists and has no object lock" in told) == (2, True)
    assert "name another bucket in EOD_ARCHIVE_URL" in told
    assert run("--no-object-lock") == (
        0,
        f"bucket {unique} was there: no versions, no object lock, no retention period\n",
    )


def test_without_lock_a_bucket_is_made_without(unique: str) -> None:
    assert run("--no-object-lock") == (0, f"bucket {unique} made: no versions, no object lock, no retention period\n")


@pytest.mark.parametrize(
    ("variable", "value", "args", "sentence"),
    [
        ("EOD_ARCHIVE_URL", "file:///tmp/archive", (), "names no bucket: s3://bucket/prefix is wanted"),
        ("EOD_ARCHIVE_URL", "", (), "names no bucket: s3://bucket/prefix is wanted"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", (), "S3 refuses"),
        ("EOD_S3_ENDPOINT", "http://127.0.0.1:9", ("--wait-seconds=4",), "waiting up to 4 s"),
        ("AWS_REGION", "eu-central-1", (), "takes no request for it in region eu-central-1; set AWS_REGION"),
        ("AWS_REGION", "us-east-1", ("--no-object-lock", "--retention-days=1"), "--retention-days wants object lock"),
    ],
)
def test_what_cannot_be_done_is_told(
    environment: pytest.MonkeyPatch, variable: str, value: str, args: tuple[str, ...], sentence: str
) -> None:
    environment.setenv(variable, value)
    code, told = run(*args)
    assert (code, sentence in told) == (2, True), told
