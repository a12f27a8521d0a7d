"""Which keys every archive takes, so that one can stand in for another."""

from __future__ import annotations

OWN_FOLDER = ".eod"  # the folder archive keeps its own files there


MOST_KEYS = 1_000
"""Of one request, as S3 has it (ListObjectsV2)."""


def check_most(most: int) -> None:
    """Refuses to list none, or more than `MOST_KEYS`.

    Raises:
        ValueError: it is so.
    """
    if not 1 <= most <= MOST_KEYS:
        raise ValueError(f"{most} keys: 1 to {MOST_KEYS:,} can be listed at once")


def check_key(key: str) -> None:
    """Refuses a key that is not a plain relative path.

    Raises:
        ValueError: the key is empty, absolute, reserved, or has empty or dotted segments.
    """
    segments = key.split("/")
    if any(segment in {"", ".", ".."} or "\0" in segment or "\\" in segment for segment in segments):
        raise ValueError(f"{key!r} is no key for an archive: it must be a plain relative path")
    if segments[0] == OWN_FOLDER:
        raise ValueError(f"{key!r} is no key for an archive: {OWN_FOLDER} is reserved")
