"""The layers hold for Cython, too: import-linter reads no `.pyx`, so what is imported there is held against them here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[3]
OURS = "eod_workers"
WORKERS = ROOT / "workers" / OURS
COMPILED = {"ingestion/plain_kernel.pyx", "kernel/hashes.pyx", "pnl/ledger_kernel.pyx", "trades/columns_kernel.pyx"}
FILES = sorted(file for kind in ("pyx", "pxd", "pxi", "pyi") for file in WORKERS.rglob(f"*.{kind}"))

_NO_CODE = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    r"|'''(?:\\.|[^\\])*?'''"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'"
    r"|\#[^\n]*",
    re.DOTALL,
)
_IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*"
    r"(?:from[ \t]*(?P<dots>\.*)[ \t]*(?P<whence>[\w.]*)[ \t]*\bc?import\b[ \t]*(?P<names>\([^)]*\)|[^\n;]*)"
    r"|c?import[ \t]+(?P<modules>[^\n;]+))",
    re.MULTILINE,
)
Levels = dict[str, int]
"""Package → how high it is. Those of one level know nothing of each other."""


def levels() -> Levels:
    """What import-linter is told of the workers' layers."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in told if one["type"] == "layers" and one.get("containers") == [OURS]]
    return {name.strip(): high for high, layer in enumerate(reversed(layers)) for name in layer.split("|")}


def imported(source: str, module: PurePosixPath) -> Iterator[str]:
    """The full names of all that a source imports, at its top and elsewhere; `module` is its path in our package."""
    code = _NO_CODE.sub("", source).replace("\\\n", " ")
    for found in _IMPORT.finditer(code):
        if found["modules"]:
            yield from (_name(one) for one in found["modules"].split(","))
            continue
        package = [OURS, *module.parts[:-1]]
        base = package[: len(package) + 1 - len(found["dots"])] if found["dots"] else []
        base += filter(None, [found["whence"]])
        yield from (".".join([*base, _name(one)]) for one in found["names"].strip("() \t").split(",") if one.strip())


def _name(text: str) -> str:
    """What is imported, without the name that it gets here."""
    return text.split(maxsplit=1)[0]


def wrong(source: str, module: PurePosixPath, known: Levels) -> list[str]:
    """What a source imports and may not, in words."""
    own = module.parts[0].partition(".")[0]
    found = []
    for name in imported(source, module):
        root, _, rest = name.partition(".")
        package = rest.partition(".")[0]
        if root == OURS and package != own and known.get(package, len(known)) >= known[own]:
            found.append(f"{module}: {own} must not import {name}")
    return found


# --- ours ---------------------------------------------------------------------------------------------------


def test_all_of_it_is_looked_at() -> None:
    found = {file.relative_to(WORKERS).as_posix() for file in FILES}
    assert found >= COMPILED
    assert found >= {name.replace(".pyx", ".pyi") for name in COMPILED}
    assert found >= {name.replace(".pyx", ".pxd") for name in COMPILED} - {"ingestion/plain_kernel.pxd"}
    assert len(found) >= 15


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(WORKERS).as_posix())
def test_it_imports_what_its_layer_may(file: Path) -> None:
    module = PurePosixPath(file.relative_to(WORKERS))
    assert wrong(file.read_text(encoding="utf-8"), module, levels()) == []


@pytest.mark.parametrize(
    ("name", "imports"),
    [
        ("ingestion/plain_kernel.pyx", {"eod_workers.trades.columns_kernel.TradeColumns", "libc.string.memchr"}),
        ("pnl/ledger_kernel.pyx", {"eod_workers.pnl.book.unknown_reference", "cpython.array", "libc.stdlib.free"}),
        ("trades/columns_kernel.pyx", {"eod_workers.kernel.hashes.murmur2_of", "os"}),
        ("pnl/ledger_kernel.pyi", {"eod_workers.pnl.marks.Mark", "collections.abc.Iterator"}),
    ],
)
def test_what_it_imports_is_found(name: str, imports: set[str]) -> None:
    """Else nothing would be wrong, because nothing was read."""
    assert set(imported((WORKERS / name).read_text(encoding="utf-8"), PurePosixPath(name))) >= imports


def test_no_other_place_would_do_for_the_ledger() -> None:
    """It knows its twin: below it, or beside it, it is out of place."""
    source = (WORKERS / "pnl/ledger_kernel.pyx").read_text(encoding="utf-8")
    for place in ("kernel/ledger.pyx", "trades/ledger.pyx", "ingestion/ledger.pyx"):
        assert any("must not import eod_workers.pnl." in one for one in wrong(source, PurePosixPath(place), levels()))


# --- the check itself ---------------------------------------------------------------------------------------

MADE_UP: Levels = {"top": 3, "left": 2, "right": 2, "low": 1, "lowest": 0}
HERE = PurePosixPath("left/inner/made_up.pyx")


@pytest.mark.parametrize(
    "source",
    [
        "from eod_workers.low.thing import One",
        "from eod_workers.low cimport thing",
        "from eod_workers import low, lowest",
        "cimport eod_workers.lowest.thing as thing, numpy",
        "import eod_workers.left.other",
        "from . import other",
        "from .other cimport one",
        "from .. import other",
        "from ...low cimport (\n    one,  # of two\n    two,\n)",
        "from libc.stdint cimport int64_t\nfrom eod_operator import scaling",
        "cdef int important = 1",
        "# from eod_workers.top import One",
        '"""One.\n\nfrom eod_workers.top import One\n"""',
        "cdef extern from *:\n    '''\n    import eod_workers.top \\' of C\n    '''",
        'text = "a \\"; import eod_workers.top"',
    ],
)
def test_what_a_layer_may_import_is_left_alone(source: str) -> None:
    assert wrong(source, HERE, MADE_UP) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from eod_workers.top.thing import One", "eod_workers.top.thing.One"),
        ("from eod_workers.top.thing cimport One as Other", "eod_workers.top.thing.One"),
        ("from eod_workers.right import thing", "eod_workers.right.thing"),
        ("from eod_workers import low, right", "eod_workers.right"),
        ("import eod_workers.right.thing as thing", "eod_workers.right.thing"),
        ("cimport numpy, eod_workers.top", "eod_workers.top"),
        ("from ...top cimport one", "eod_workers.top.one"),
        ("from ... import right", "eod_workers.right"),
        (
            "from eod_workers.low.thing import (\n    One,  # )\n)\nfrom ...right import (\n    Two\n)",
            "eod_workers.right.Two",
        ),
        ("from eod_workers.low import one, \\\n    two\nimport eod_workers.top", "eod_workers.top"),
        ("def later():\n    '''Later.'''\n    from eod_workers.top import thing", "eod_workers.top.thing"),
        ("if 1: import eod_workers.top", "eod_workers.top"),
        ("import os; from eod_workers.top cimport thing", "eod_workers.top.thing"),
        ("from eod_workers.top import *", "eod_workers.top.*"),
        ("import eod_workers", "eod_workers"),
        ("from eod_workers.unheard_of import thing", "eod_workers.unheard_of.thing"),
    ],
)
def test_what_a_layer_may_not_import_is_named(source: str, name: str) -> None:
    assert wrong(source, HERE, MADE_UP) == [f"{HERE}: left must not import {name}"]


def test_the_layers_are_read_from_above() -> None:
    known = levels()
    assert known["cli"] > known["pnl"] > known["trades"] > known["layouts"] > known["kernel"] > known["protos"] == 0
    assert known["pnl"] == known["ingestion"] == known["adapters"]
