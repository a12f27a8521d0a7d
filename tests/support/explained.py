"""A pytest plugin: a failed test shows the end of the log of every process that it started or used, and why in one line."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from testbed.process import begun, tail
from testbed.server import Server

_LINES = 40
_REASON_LENGTH = 240
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


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a failed test, which pytest's own summary cuts off at the width of the terminal; `.ci/run` repeats them."""
    failed = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    if failed:
        terminalreporter.section("why")
    for report in failed:
        terminalreporter.write_line(f"FAILED: {report.nodeid}: {_reason(report)}")


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr)
    first = next(iter(said.strip().splitlines()), "no reason was given")
    return str(first)[:_REASON_LENGTH]
