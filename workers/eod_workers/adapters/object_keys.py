"""Which keys every archive takes, so that one can stand in for another."""

from __future__ import annotations

OWN_FOLDER = ".eod"  # the folder archive keeps its own files there


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
