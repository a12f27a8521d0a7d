"""A pytest plugin: a failed test shows the end of the log of every process that it started or used."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from testbed.process import begun, tail
from testbed.server import Server

_LINES = 40
_BEFORE = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEFORE] = len(begun)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        own = begun[item.stash.get(_BEFORE, len(begun)) :]
        shared = [
            log
            for server in getattr(item, "funcargs", {}).values()
            if isinstance(server, Server)
            for log in sorted(server.logs.glob("*.log"))
        ]
        for log in dict.fromkeys([*own, *shared]):
            report.sections.append((f"the end of {log.name}", tail(log, _LINES)))
    return report
