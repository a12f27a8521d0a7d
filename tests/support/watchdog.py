"""A pytest plugin: a test that hangs ends, and says where it stood; a failure shows at once.

pytest-timeout raises in the main thread, once. An event loop may take that for the failure of one of its own callbacks
and run on, or the clean-up that follows may hang in its turn; the run then stands until somebody ends it, and prints
nothing. So each test also has a hard limit, `GRACE_S` beyond its soft one: past it, the stacks of all threads and all
asyncio tasks are written and the process ends. The servers that it started end with it; xdist names the test, and
`--max-worker-restart 0` ends the run, as a new process would begin that file again and hang again.
"""

import asyncio
import faulthandler
import gc
import os
import sys
import threading
from collections.abc import Generator
from typing import IO, Any

import pytest

from support.patience import limit_s

GRACE_S = 60.0

_OUTPUT = pytest.StashKey[IO[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTPUT] = os.fdopen(os.dup(2), "w")  # before anything is captured


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_OUTPUT].close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker("timeout")
    soft_s = float(marker.args[0] if marker else item.config.getini("timeout"))
    tries = 2 if item.get_closest_marker("flaky") else 1
    timer = threading.Timer(tries * soft_s + limit_s(GRACE_S), end, [item.nodeid, item.config.stash[_OUTPUT]])
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show a failure when it happens: a run that somebody ends would show none."""
    if report.failed and not os.environ.get("PYTEST_XDIST_WORKER"):
        sys.stdout.write(f"\n--- {report.when} of {report.nodeid} failed\n{report.longreprtext}\n")
        sys.stdout.flush()


def end(test: str, output: IO[str]) -> None:
    """Write where everything stands, and end the process."""
    output.write(f"\n--- {test} hangs; the threads:\n")
    output.flush()
    faulthandler.dump_traceback(output, all_threads=True)
    for task in _tasks():
        output.write(f"--- {task.get_name()} {task.get_coro()!r}\n")
        task.print_stack(file=output)
    output.flush()
    os._exit(1)


def _tasks() -> list[asyncio.Task[Any]]:
    loops = [one for one in gc.get_objects() if isinstance(one, asyncio.AbstractEventLoop) and one.is_running()]
    return [task for loop in loops for task in asyncio.all_tasks(loop)]
