"""What a run of the tests says: who is slow, who needed a second try, and what the servers of a failed test wrote."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import amounts

TESTS = Path(__file__).parents[2]
_CONFIGURATION = """
[pytest]
timeout = 30
markers =
    slow: slow
    servers: uses a real server
"""
_PLUGINS = ("-p", "pytest_timeout", "-p", "pytest_rerunfailures", "-p", "xdist.plugin")
_TWO_TRIES = 'pytest_plugins = ["support.second_try"]'
_FLAKES = """
from pathlib import Path

import pytest

def flakes(name):
    tried = Path(name).exists()
    Path(name).touch()
    print("what the first try printed")
    assert tried, f"{name} failed at first"

@pytest.mark.servers
def test_flakes_on_a_server():
    flakes("server")

@pytest.mark.servers
def test_is_broken_on_a_server():
    again = Path("broken").exists()
    Path("broken").touch()
    assert False, "of what the first has left" if again else "of what is wrong"

def test_flakes_without_one():
    flakes("unit")
"""


def run(folder: Path, conftest: str, tests: str, *words: str, **environment: str) -> tuple[int, str]:
    """Run tests in a folder of their own; the exit code and what was printed."""
    for name, text in {"pytest.ini": _CONFIGURATION, "conftest.py": conftest, "test_it.py": tests}.items():
        (folder / name).write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EOD_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *_PLUGINS, "-rA", *words, "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("words", [[], ["-n", "1"]])
def test_what_passed_only_when_run_again_is_named_with_what_it_said_first(tmp_path: Path, words: list[str]) -> None:
    """Only tests on servers have a second try, and one that fails twice has failed."""
    code, printed = run(tmp_path, _TWO_TRIES, _FLAKES, *words, EOD_SECOND_TRY="1")
    assert code == 1
    again = printed.partition("passed only when run again")[2]
    assert re.findall(r"^test_it\.py::\w+$", again, re.MULTILINE) == ["test_it.py::test_flakes_on_a_server"]
    failed_try = printed.partition("the failed try of test_it.py::test_flakes_on_a_server")[2]
    assert "server failed at first" in failed_try
    assert "what the first try printed" in failed_try
    first_try = printed.partition("the first try of test_it.py::test_is_broken_on_a_server")[2]
    assert "AssertionError: of what is wrong" in first_try
    assert "AssertionError: of what the first has left" in printed
    assert set(re.findall(r"^FAILED (\S+)", printed, re.MULTILINE)) == {
        "test_it.py::test_is_broken_on_a_server",
        "test_it.py::test_flakes_without_one",
    }


def test_a_quick_run_plays_a_quarter_and_the_slow_tier_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amounts, "EXAMPLES", 25)
    assert [amounts.examples(full) for full in (300, 60, 1)] == [75, 15, 1]
    played = amounts.seeds(8)
    assert [one.values for one in played] == [(seed,) for seed in range(8)]
    assert [bool(one.marks) for one in played] == [False] * 2 + [True] * 6
    assert [bool(one.marks) for one in amounts.seeds(4, quick=3)] == [False] * 3 + [True]


def test_of_what_is_the_same_for_each_some_are_quick() -> None:
    assert [(one.values, bool(one.marks)) for one in amounts.slow_but("b", "abc")] == [
        (("a",), True),
        (("b",), False),
        (("c",), True),
    ]
    with pytest.raises(ValueError, match=r"\['d'\] are not among \['a', 'b', 'c'\]"):
        amounts.slow_but("bd", "abc")


def test_without_being_asked_for_there_is_no_second_try(tmp_path: Path) -> None:
    code, printed = run(tmp_path, _TWO_TRIES, _FLAKES)
    assert code == 1
    assert "3 failed" in printed
    assert "run again" not in printed


_LOGS = """
import sys
from pathlib import Path

from testbed.process import Process

def spawned(tmp_path, said):
    Process.spawn("one", [sys.executable, "-c", f"print({said!r})"], log=tmp_path / "one.log", env={}, tethered=False)._popen.wait()

def test_passes(tmp_path):
    spawned(tmp_path, "of no interest")

def test_fails(tmp_path):
    spawned(tmp_path, "what the server complained of")
    assert False, "it did not work out, and the reason is longer than a terminal is wide: 1 is not 2\\nand so on"
"""


@pytest.mark.parametrize("words", [[], ["-n", "1"]])
def test_a_failed_test_shows_the_logs_of_what_it_started(tmp_path: Path, words: list[str]) -> None:
    code, printed = run(tmp_path, 'pytest_plugins = ["support.explained"]', _LOGS, *words)
    assert code == 1
    assert "the end of one.log" in printed
    assert "what the server complained of" in printed
    assert re.findall("^FAILED: (.*)", printed, re.MULTILINE) == [
        "test_it.py::test_fails: AssertionError: it did not work out, and the reason is longer than a terminal is wide: 1 is not 2"
    ]
    assert "of no interest" not in printed


_TIERS = """
import time
import pytest

def test_is_quick():
    pass

def test_takes_its_time():
    time.sleep(0.3)

@pytest.mark.slow
def test_may_take_its_time():
    time.sleep(0.3)
"""
_QUICK = """
pytest_plugins = ["support.tiers"]

def pytest_configure():
    from support import tiers
    tiers.QUICK_S = 0.2
    tiers.LIMIT_S = {"quick": 0.6, "slow": 30.0}
"""


@pytest.mark.parametrize("words", [[], ["-n", "1"]])
def test_an_unmarked_test_that_takes_long_is_named_and_fails_a_strict_run(tmp_path: Path, words: list[str]) -> None:
    code, printed = run(tmp_path, _QUICK, _TIERS, *words, EOD_TIERS="strict")
    assert code == 1
    assert "3 passed" in printed
    section = printed.partition("longer than 0.2 s without the mark slow")[2]
    assert re.findall(r"^(test_it\.py::\w+): \d", section, re.MULTILINE) == ["test_it.py::test_takes_its_time"]
    assert run(tmp_path, _QUICK, _TIERS, *words)[0] == 0


def test_an_unmarked_test_is_ended_at_the_limit_of_its_tier(tmp_path: Path) -> None:
    """And a run that is told to be patient waits longer."""
    tests = _TIERS.replace("0.3", "0.9")
    code, printed = run(tmp_path, _QUICK, tests)
    assert code == 1
    assert "1 failed, 2 passed" in printed
    assert "test_takes_its_time - Failed: Timeout" in printed
    assert run(tmp_path, _QUICK, tests, EOD_PATIENCE="20")[0] == 0
