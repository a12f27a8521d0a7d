"""Code that changes while it runs: complete and compiled it ends the process, which drains and begins anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eod_workers.process.live import Watch, broken, changed, fill, installed, listening, look, restarting
from support.patience import eventually, limit_s

LOOK_S = 0.05
WITHIN_S = 30


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package, as an image has it installed."""
    source = tmp_path / "site" / "desk"
    (source / "inner").mkdir(parents=True)
    (source / "__init__.py").write_text("")
    (source / "inner/__init__.py").write_text("")
    (source / "inner/word.py").write_text("WORD = 'old'\n")
    return source


# --- what has changed ---------------------------------------------------------------------------------------

OLD, NEW = (1, 10), (2, 10)


@pytest.mark.parametrize(
    ("running", "before", "now", "names"),
    [
        ({"a": OLD}, {"a": OLD}, {"a": OLD}, set()),
        ({"a": OLD}, {"a": OLD}, {"a": NEW}, set()),  # still arriving
        ({"a": OLD}, {"a": NEW}, {"a": NEW}, {"a"}),
        ({"a": OLD}, {"a": NEW}, {"a": NEW, "b": OLD}, set()),  # still arriving
        ({"a": OLD}, {"a": OLD, "b": OLD}, {"a": OLD, "b": OLD}, {"b"}),
        ({"a": OLD, "b": OLD}, {"a": OLD}, {"a": OLD}, {"b"}),  # deleted
        ({"a": OLD}, {"a": NEW}, {"a": OLD}, set()),  # and back
    ],
)
def test_a_change_counts_when_nothing_more_arrives(
    running: dict[str, tuple[int, int]],
    before: dict[str, tuple[int, int]],
    now: dict[str, tuple[int, int]],
    names: set[str],
) -> None:
    assert changed(running, before, now) == names


def test_compiled_code_is_no_change(package: Path) -> None:
    before = look(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__/word.cpython-311.pyc").write_bytes(b"x")
    assert look(package) == before
    assert set(before) == {"__init__.py", "inner/__init__.py", "inner/word.py"}


def test_code_that_cannot_be_compiled_is_named_with_its_place(package: Path) -> None:
    (package / "inner/word.py").write_text("def word(:\n")
    (package / "data.txt").write_text("def word(:\n")
    names = {"inner/word.py", "data.txt", "deleted.py"}
    assert broken(package, names).startswith("inner/word.py: invalid syntax")
    (package / "inner/word.py").write_bytes(b"\0")
    assert broken(package, names).startswith("inner/word.py: ")
    assert broken(package, names - {"inner/word.py"}) == ""


# --- the folder ---------------------------------------------------------------------------------------------


def test_a_whole_package_is_copied_and_what_has_come_before_is_kept(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    (folder / "desk/inner").mkdir(parents=True)
    (folder / "desk/inner/word.py").write_text("WORD = 'new'\n")
    (folder / "desk/inner/__init__.py").write_text("")
    own = fill(folder, {"desk": package})
    assert (folder / "desk/inner/word.py").read_text() == "WORD = 'new'\n"
    there = look(folder)
    assert set(there) == {f"desk/{name}" for name in look(package)}
    assert own == {name: status for name, status in there.items() if name != "desk/inner/word.py"}
    assert fill(folder, {"desk": package}) == own


def test_a_file_that_is_replaced_while_others_are_copied_is_a_change(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its copying and the first look at the folder."""
    told: list[str] = []
    folder = tmp_path / "live"
    watch = Watch(folder, {"desk": package}, {}, lambda: told.append("drain"))

    def filled(folder: Path, packages: dict[str, Path]) -> dict[str, tuple[int, int]]:
        own = dict(fill(folder, packages))
        (folder / "desk/inner/word.py").write_text("WORD = 'newer'\n")
        return own

    monkeypatch.setattr("eod_workers.process.live.fill", filled)
    watch.until_changed(threading.Event(), lambda: True, LOOK_S)
    assert told == ["drain"]


def test_a_package_that_was_copied_half_is_not_taken_for_it(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    (package / "zone.py").write_text("")
    (folder / "desk/zone.py").mkdir(parents=True)  # what stops the copying on its way
    with pytest.raises(IsADirectoryError):
        fill(folder, {"desk": package})
    assert not (folder / "desk/__init__.py").exists()


def test_the_packages_are_those_that_commands_and_stages_come_from() -> None:
    found = installed()
    assert set(found) == {"eod_contract", "eod_operator", "eod_workers"}
    assert all((path / "__init__.py").is_file() for path in found.values())


# --- a watch ------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(package: Path, tmp_path: Path) -> Iterator[tuple[Watch, threading.Event, list[str]]]:
    """A watch on an empty folder, at work; when listening is set, it may drain."""
    told: list[str] = []
    heard, ended = threading.Event(), threading.Event()
    folder = tmp_path / "live"
    watch = Watch(folder, {"desk": package}, look(folder), lambda: told.append("drain"))
    thread = threading.Thread(target=watch.until_changed, args=(ended, heard.is_set, LOOK_S))
    thread.start()
    yield watch, heard, told
    ended.set()
    thread.join(timeout=limit_s(WITHIN_S))
    assert not thread.is_alive()


def test_nothing_is_touched_before_the_process_can_be_told(
    watched: tuple[Watch, threading.Event, list[str]],
) -> None:
    watch, heard, told = watched
    time.sleep(LOOK_S * 4)
    assert not watch.folder.exists()
    heard.set()
    eventually((watch.folder / "desk/__init__.py").exists)
    assert told == []


def test_a_file_that_has_come_before_the_copies_is_a_change(
    watched: tuple[Watch, threading.Event, list[str]],
) -> None:
    """The process does not run it: it has begun with the installed code."""
    watch, heard, told = watched
    early = watch.folder / "desk/inner/word.py"
    early.parent.mkdir(parents=True)
    early.write_text("WORD = 'new'\n")
    heard.set()
    eventually(lambda: told == ["drain"])
    assert watch.seen.is_set()


def test_broken_code_drains_nobody_until_it_is_mended(
    watched: tuple[Watch, threading.Event, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    watch, heard, told = watched
    heard.set()
    word = watch.folder / "desk/inner/word.py"
    eventually((watch.folder / "desk/__init__.py").exists)
    word.write_text("WORD = \n")
    said = ""

    def complained() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "live.broken" in said and "desk/inner/word.py: invalid syntax" in said

    eventually(complained, why=lambda: said)
    assert told == []
    word.write_text("WORD = 'newer'\n")
    eventually(lambda: told == ["drain"])


# --- the process --------------------------------------------------------------------------------------------


def test_without_a_folder_nothing_happens() -> None:
    with restarting(None), restarting(""):
        assert "live" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_that_python_does_not_look_into_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"EOD_LIVE_PATH={tmp_path} is not on PYTHONPATH"), restarting(str(tmp_path)):
        pass


def test_a_process_listens_when_it_handles_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert not listening()
        signal.signal(signal.SIGTERM, lambda *_: None)
        assert listening()
    finally:
        signal.signal(signal.SIGTERM, before)


_SERVICE = """
import asyncio, os, signal, sys
from desk.inner.word import WORD

async def serve():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("begun", os.getpid(), WORD, *sys.argv[1:], flush=True)
    await ended.wait()
    print("drained", WORD, flush=True)

def main():
    asyncio.run(serve())
    sys.exit(int(os.environ.get("CODE", "0")))
"""
_START = """
import sys
from importlib.util import find_spec
from pathlib import Path
import eod_workers.process.live as live

live.installed = lambda: {"desk": Path(find_spec("desk").origin).parent}
with live.restarting(sys.argv[1], look_s=0.05):
    from desk.service import main
    main()
"""


@pytest.fixture
def service(package: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Starts a small service, whose code the folder `live` replaces; returns it with what it prints."""
    (package / "service.py").write_text(_SERVICE)
    (tmp_path / "start.py").write_text(_START)
    live, out = tmp_path / "live", tmp_path / "out"
    started: list[subprocess.Popen[bytes]] = []

    def start(**env: str) -> tuple[subprocess.Popen[bytes], Path]:
        path = f"{live}:{package.parent}"
        with out.open("wb") as file:
            started.append(
                subprocess.Popen(
                    [sys.executable, tmp_path / "start.py", live, "word"],
                    env={**os.environ, "PYTHONPATH": path, **env},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
        return started[0], out

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_service_drains_and_begins_anew_with_the_changed_code(
    service: Callable[..., tuple[subprocess.Popen[bytes], Path]], tmp_path: Path
) -> None:
    """One file is sent, as Tilt does it; the process keeps its number and its command line, and does so again."""
    process, out = service()
    live = tmp_path / "live"
    eventually((live / "desk/__init__.py").exists, why=out.read_text)
    for word, before in (("new", "old"), ("newest", "new")):
        arriving = tmp_path / "arriving"
        arriving.write_text(f"WORD = '{word}'\n")
        arriving.rename(live / "desk/inner/word.py")
        begun = f"begun {process.pid} {word} {live} word"
        eventually(lambda begun=begun: begun in out.read_text().splitlines(), why=out.read_text)
        assert f"drained {before}" in out.read_text().splitlines()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=limit_s(WITHIN_S)) == 0
    behind = out.read_text().partition("drained newest\n")
    assert behind[1]
    assert "begun" not in behind[2]


def test_a_service_that_fails_while_it_drains_does_not_begin_anew(
    service: Callable[..., tuple[subprocess.Popen[bytes], Path]], tmp_path: Path
) -> None:
    process, out = service(CODE="3")
    word = tmp_path / "live/desk/inner/word.py"
    eventually((tmp_path / "live/desk/__init__.py").exists, why=out.read_text)
    word.write_text("WORD = 'new'\n")
    assert process.wait(timeout=limit_s(WITHIN_S)) == 3
    assert "begun" not in out.read_text().partition("drained old")[2]


def test_the_eod_command_watches_when_it_is_told_to(tmp_path: Path) -> None:
    """It is main() itself that does: stages and the operator are both run by it."""
    eod = Path(sys.executable).with_name("eod")
    env = {**os.environ, "EOD_LIVE_PATH": str(tmp_path)}
    refused = subprocess.run(
        [eod, "stage", "list"], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60)
    )
    assert refused.returncode == 1
    assert "is not on PYTHONPATH" in refused.stderr
    env["PYTHONPATH"] = str(tmp_path)
    listed = subprocess.run(
        [eod, "stage", "list"], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60)
    )
    assert (listed.returncode, list(tmp_path.iterdir())) == (0, [])
    assert "flash-pnl" in listed.stdout


@pytest.mark.slow
def test_the_operator_begins_anew_with_changed_code(tmp_path: Path) -> None:
    """The real command, in front of an API server that does not answer: what it runs is what was sent to the folder."""
    eod = Path(sys.executable).with_name("eod")
    live, kubeconfig = tmp_path / "live", tmp_path / "kubeconfig"
    live.mkdir()
    kubeconfig.write_text(
        '{"apiVersion": "v1", "kind": "Config", "current-context": "c", '
        '"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}], '
        '"users": [{"name": "c", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}'
    )
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "EOD_LIVE_PATH": str(live), "PYTHONPATH": str(live)}
    with (tmp_path / "out").open("wb") as file:
        process = subprocess.Popen([eod, "operator", "run", "--no-lease"], env=env, stdout=file, stderr=file)
    try:
        text = (tmp_path / "out").read_text
        service = live / "eod_operator/service.py"
        eventually((live / "eod_workers/__init__.py").exists, why=text)
        code = service.read_text().replace("acting without a lease", "acting anew without a lease")
        (tmp_path / "arriving").write_text(code)
        (tmp_path / "arriving").rename(service)
        eventually(lambda: "acting anew without a lease" in text(), why=text)
        assert text().index("acting without a lease") < text().index("acting anew without a lease")
    finally:
        process.terminate()
        try:
            assert process.wait(timeout=limit_s(WITHIN_S)) == 0
        finally:
            process.kill()
