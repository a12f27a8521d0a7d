"""Files that are read again when they change, as those of a Secret do when it is renewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Reread(NamedTuple):
    """What came of a look at a file that had changed.

    Attributes:
        file: its path.
        error: what is wrong with it; "" if it holds from now on. It repeats no secret.
        meanwhile: what goes on instead of what is wrong.
    """

    file: str
    error: str = ""
    meanwhile: str = ""


Tell = Callable[[Reread], None]
"""Is told when a file has been read again."""


class Watched:
    """Some files, as they were when they were last looked at."""

    def __init__(self, *files: Path) -> None:
        """Looks at them; whoever reads them does so afterwards, or a change in between would not be seen."""
        self._files = files
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether one has been written, replaced, deleted or made since the last look."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when a file does; those of a ConfigMap or Secret are changed by a link to another folder."""
        return tuple(map(_stamp, self._files))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
