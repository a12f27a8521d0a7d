"""A test that hangs costs itself, not the run."""

import subprocess
import sys
from pathlib import Path

_CONFIGURATION = """
[pytest]
timeout = 1
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""
_CONFTEST = """
from support import watchdog
watchdog.GRACE_S = 1.0
pytest_plugins = ["support.watchdog"]
"""
_TESTS = """
import asyncio


async def test_fails_and_its_clean_up_hangs():
    async def deaf():
        while True:
            try:
                await asyncio.sleep(1000)
            except BaseException:
                pass

    tasks = [asyncio.create_task(deaf())]
    await asyncio.sleep(0)
    assert not tasks, "what went wrong"


def test_behind_it():
    pass
"""


def test_a_test_whose_clean_up_hangs_is_ended_and_says_where_and_those_behind_it_run(tmp_path: Path) -> None:
    for name, text in {"pytest.ini": _CONFIGURATION, "conftest.py": _CONFTEST, "test_it.py": _TESTS}.items():
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = ran.stdout + ran.stderr
    assert ran.returncode == 1, printed
    assert "--- call of test_it.py::test_fails_and_its_clean_up_hangs failed" in ran.stdout
    assert "AssertionError: what went wrong" in ran.stdout
    assert "--- test_it.py::test_fails_and_its_clean_up_hangs hangs; the threads:" in ran.stderr
    assert "test_fails_and_its_clean_up_hangs.<locals>.deaf" in ran.stderr
    assert "await asyncio.sleep(1000)" in ran.stderr
    assert "1 passed" in ran.stdout, printed
