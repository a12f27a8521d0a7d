"""What commands write, and where: looked at before the work is done that would be lost, and written when it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

STDOUT: Final = "-"
"""What standard output is called where a file is asked for."""


def unwritable(file: Path) -> str:
    """Why a file cannot be written; "" if it can. It is opened to see, and left as it was."""
    if file.is_dir():
        return "it is a folder: name a file"
    if not file.parent.is_dir():
        return f"there is no folder {file.parent}: make it, or name another"
    if file.exists() and not file.is_file():  # whoever reads a pipe would take a look at it for its end
        return "" if os.access(file, os.W_OK) else "it may not be written to: name another"
    try:
        place = file.resolve()
        new = not place.exists()
        with place.open("ab"):
            pass
        if new:
            place.unlink()
    except OSError as error:
        return f"it may not be written to ({error.strerror}): name another"
    return ""


def printable(text: str) -> str:
    """A text from outside as a line for people: what a terminal would obey rather than show is escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def write_json(where: str, told: object) -> None:
    """Writes a result as JSON to a file, or to standard output where that is called "-".

    What took minutes is not lost when the file cannot be written in the end, as when the disk is full: that is said,
    and the result goes to standard output.
    """
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    if where != STDOUT:
        try:
            Path(where).write_text(text, encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"eod: {where} could not be written ({error.strerror}): here is what was to be in it\n")
        else:
            return
    sys.stdout.write(text)


def unusable(folder: Path) -> str:
    """Why files cannot be put into a folder, which is made if it is not there; "" if they can."""
    if folder.is_dir():
        return "" if os.access(folder, os.W_OK) else "it may not be written to: name another"
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        return f"{there} is no folder: name another"
    return "" if os.access(there, os.W_OK) else f"no folder can be made in {there}: name another"
