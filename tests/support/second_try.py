"""A pytest plugin: in `.ci/run` a test that uses a real server has a second try, and the summary says which needed it.

With EOD_SECOND_TRY=1 a test on real servers may run once more when it fails; a test without servers never. Whatever passed
only then is listed by name, with all that the failed try said, its servers' logs included: it is a fault, shown and not
hidden. What failed twice shows its first try, too: the second may have failed of what the first had left.
"""

from __future__ import annotations

import os

import pytest

ALLOWED = os.environ.get("EOD_SECOND_TRY") == "1"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests on real servers, which are marked so by then, run once more, if this run has second tries."""
    for item in items:
        if ALLOWED and item.get_closest_marker("servers"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    failed_first = {report.nodeid: report for report in terminalreporter.getreports("rerun")}
    failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)}
    passed = [report for name, report in sorted(failed_first.items()) if name not in failed]
    for name, report in sorted(failed_first.items()):
        terminalreporter.section(f"the {'first' if name in failed else 'failed'} try of {name}", sep="_")
        terminalreporter.write_line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.section(title, sep="-")
            terminalreporter.write_line(text)
    if passed:
        terminalreporter.section("passed only when run again")
    for report in passed:
        terminalreporter.write_line(report.nodeid)
