"""Print what CHANGELOG.md says of a version; refuse a tag that is not the version of this checkout.

python tools/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(changelog: str, version: str) -> str:
    """The section of a version, without its heading.

    Raises:
        ValueError: there is none, or nothing in it.
    """
    found = re.search(rf"(?ms)^## {re.escape(version)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog)
    if found is None:
        raise ValueError(f"CHANGELOG.md has no section '## {version}': rename '## Unreleased', and begin a new one")
    if not (text := found[1].strip()):
        raise ValueError(f"CHANGELOG.md says nothing of {version}")
    return f"{text}\n"


def main() -> None:
    """Print the notes of the tag that is given."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one word
        sys.exit("usage: release_notes.py TAG, such as v0.1.0")
    tag = sys.argv[1]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"the tag {tag} is not v{version}, the version in pyproject.toml and the charts")
    try:
        sys.stdout.write(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version))
    except ValueError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
