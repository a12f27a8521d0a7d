"""What was compiled is taken again only if it would come out the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.loaded import module_of

ROOT = Path(__file__).parents[3]
PLACES = ["eod_workers/kernel/hashes.so", "eod_workers/pnl/ledger_kernel.so"]
SOURCES = ["kernel/hashes.pyx", "kernel/hashes.pxd", "kernel/c/text.h", "pnl/ledger_kernel.pyx"]


@pytest.fixture
def hook() -> ModuleType:
    return module_of("hatch_build.py")


@pytest.fixture
def compiled(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the compiler was called for, in order; what it makes says how often that was."""
    calls: list[Path] = []

    def compile_kernel(_root: Path, built: Path) -> list[Path]:
        calls.append(built)
        libraries = [built / place for place in PLACES]
        for library in libraries:
            library.parent.mkdir(parents=True, exist_ok=True)
            library.write_text(f"{library.name} {len(calls)}")
        return libraries

    monkeypatch.setattr(hook, "compile_kernel", compile_kernel)
    return calls


@pytest.fixture
def root(tmp_path: Path, hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, on a machine that has a compiler, or something that says its version."""
    monkeypatch.setenv("CC", sys.executable)
    for name in SOURCES:
        file = tmp_path / "checkout/workers" / hook.PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "checkout/hatch_build.py").write_text("")
    return tmp_path / "checkout"


def test_without_a_cache_it_is_compiled_each_time(hook: ModuleType, compiled: list[Path], root: Path) -> None:
    assert hook.made(root, root / "a") == hook.made(root, root / "a")
    assert len(compiled) == 2


def test_the_same_sources_are_compiled_once_wherever_they_are(
    hook: ModuleType, compiled: list[Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EOD_KERNEL_CACHE", str(tmp_path / "cache"))
    first = hook.made(root, root / "a")
    moved = root.rename(tmp_path / "elsewhere")
    second = hook.made(moved, moved / "b")
    assert len(compiled) == 1
    assert first == [root / "a" / place for place in PLACES]
    assert second == [moved / "b" / place for place in PLACES]
    assert [one.read_text() for one in second] == ["hashes.so 1", "ledger_kernel.so 1"]


@pytest.mark.parametrize("changed", [*SOURCES, "../../hatch_build.py", "pnl/new.pyx", "pnl/new.pxd", "pnl/new.h"])
def test_a_changed_source_is_compiled(
    hook: ModuleType, compiled: list[Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setenv("EOD_KERNEL_CACHE", str(tmp_path / "cache"))
    hook.made(root, root / "a")
    (root / "workers" / hook.PACKAGE / changed).write_text("changed")
    assert [one.read_text() for one in hook.made(root, root / "a")] == ["hashes.so 2", "ledger_kernel.so 2"]
    assert len(compiled) == 2


def test_a_source_that_has_moved_is_compiled(
    hook: ModuleType, compiled: list[Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text is the same, the name of its module is not."""
    monkeypatch.setenv("EOD_KERNEL_CACHE", str(tmp_path / "cache"))
    hook.made(root, root / "a")
    source = root / "workers" / hook.PACKAGE / "pnl/ledger_kernel.pyx"
    source.rename(source.parents[1] / "kernel" / source.name)
    hook.made(root, root / "a")
    assert len(compiled) == 2


@pytest.mark.parametrize(("name", "value"), [("CFLAGS", "-O0"), ("CC", f"{sys.executable} -E"), ("LDFLAGS", "-s")])
def test_other_flags_are_another_kernel(
    hook: ModuleType,
    compiled: list[Path],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("EOD_KERNEL_CACHE", str(tmp_path / "cache"))
    hook.made(root, root / "a")
    monkeypatch.setenv(name, value)
    hook.made(root, root / "a")
    assert len(compiled) == 2


def test_a_compiler_that_fails_leaves_nothing_in_the_cache(
    hook: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_kernel(_root: Path, _built: Path) -> list[Path]:
        raise RuntimeError("no luck")

    monkeypatch.setattr(hook, "compile_kernel", compile_kernel)
    monkeypatch.setenv("EOD_KERNEL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="no luck"):
        hook.made(root, root / "a")
    assert not (tmp_path / "cache").exists()
