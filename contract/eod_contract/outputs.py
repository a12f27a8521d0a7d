"""Where a command is to write, looked at before the work is done that would be lost."""

from __future__ import annotations

import os
from pathlib import Path


def unwritable(file: Path) -> str:
    """Why a file cannot be written, as far as can be told without writing; "" if it can."""
    if file.is_dir():
        return "it is a folder: name a file"
    if not file.parent.is_dir():
        return f"there is no folder {file.parent}: make it, or name another"
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        return "it may not be written to: name another"
    return ""


def unusable(folder: Path) -> str:
    """Why files cannot be put into a folder, which is made if it is not there; "" if they can."""
    if folder.is_dir():
        return "" if os.access(folder, os.W_OK) else "it may not be written to: name another"
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        return f"{there} is no folder: name another"
    return "" if os.access(there, os.W_OK) else f"no folder can be made in {there}: name another"
