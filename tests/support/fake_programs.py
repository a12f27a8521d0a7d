"""Programs that only write down how they were called, for tests of scripts that would change the machine or a cluster."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path


class FakePrograms:
    """A folder for PATH, which holds fakes and the few real programs that are asked for, and nothing else.

    Attributes:
        path: the folder.
    """

    def __init__(self, folder: Path, real: Iterable[str] = ()) -> None:
        self.path = folder / "bin"
        self._calls = folder / "calls"
        self.path.mkdir()
        self._calls.touch()
        for name in ("bash", *real):
            found = shutil.which(name)
            assert found, f"this machine has no {name}"
            (self.path / name).symlink_to(found)

    def add(self, name: str, body: str = "") -> None:
        """A fake: a shell script that writes down its words, then does `body`."""
        note = f"printf '%s\\n' {shlex.quote(name)}\" $*\" >>{shlex.quote(str(self._calls))}"
        file = self.path / name
        file.write_text(f"#!{shutil.which('bash')}\n{note}\n{body}\n", encoding="utf-8")
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Each call, as a line of words."""
        return self._calls.read_text(encoding="utf-8").splitlines()

    def env(self, **more: str) -> dict[str, str]:
        """An environment that finds these programs alone."""
        kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "LC_ALL"}}
        return {**kept, "PATH": str(self.path), **more}
