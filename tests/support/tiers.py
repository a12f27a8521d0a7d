"""A pytest plugin: two tiers of tests, and how long a test of each may take.

`make test` runs what is quick: an unmarked test takes less than `QUICK_S` on an idle machine. What takes longer, or plays
a theme again that a quick test has shown, is marked `slow` and is run by `make test-slow`. Every test has a time limit;
that of an unmarked one is short enough to show that it does not belong into its tier. With EOD_TIERS=strict, on an idle
machine, an unmarked test that took longer than `QUICK_S` fails the run.

All limits grow with `EOD_PATIENCE` (patience.py).
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from support.patience import limit_s

QUICK_S = 10.0
"""How long an unmarked test may take on an idle machine, without what it shares with others."""
LIMIT_S = {"quick": 60.0, "slow": 240.0}
"""When a test that has no limit of its own is taken for hung, by tier."""


def tier_of(item: pytest.Item) -> str:
    """`slow` or `quick`."""
    return "slow" if item.get_closest_marker("slow") else "quick"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # one of several test processes reports to the one that started it
        config.pluginmanager.register(_Controller())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its limit."""
    for item in items:
        own = item.get_closest_marker("timeout")
        stated_s = float(own.args[0]) if own else LIMIT_S[tier_of(item)]
        item.add_marker(pytest.mark.timeout(limit_s(stated_s)), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with each report which tier its test belongs to."""
    report = yield
    report.user_properties.append(("tier", tier_of(item)))
    return report


def too_long(report: pytest.TestReport) -> bool:
    """Whether a test has taken longer than its tier allows: its own part, for a server may have been started in its setup."""
    return report.when == "call" and ("tier", "quick") in report.user_properties and report.duration > QUICK_S


class _Controller:
    """Sees the reports of all test processes."""

    def __init__(self) -> None:
        self.long: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if too_long(report):
            self.long[report.nodeid] = report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.long and os.environ.get("EOD_TIERS") == "strict" and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.long:
            terminalreporter.section(f"longer than {QUICK_S:g} s without the mark slow")
        for name, took_s in sorted(self.long.items()):
            terminalreporter.write_line(f"{name}: {took_s:.1f} s")
