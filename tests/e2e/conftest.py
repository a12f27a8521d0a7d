"""The cluster of the end-to-end run, which all of its tests share, in the order in which they stand."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from testbed import network

from e2e.world import ClusterWorld

_FIGURES = pytest.StashKey[dict[str, object]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a network of its own there is no cluster to be had."""
    if not network.isolated():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="runs in a network of its own: use `make e2e`"))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_FIGURES]:
        terminalreporter.section("the close on a cluster")
        for name, value in config.stash[_FIGURES].items():
            terminalreporter.write_line(f"{name}: {value}")
        folder = Path(config.rootpath) / "bench/results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "e2e.json").write_text(json.dumps(config.stash[_FIGURES], indent=1, default=str) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure, what the pipeline was doing: the cluster is gone when it is read."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, ClusterWorld):
        report.sections.append(("eod explain", world.explain()))
    return report


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    """A kind cluster with the images, in which nothing is installed yet."""
    with ClusterWorld.up(tmp_path_factory.mktemp("e2e")) as up:
        up.prepare()
        yield up


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> dict[str, object]:
    """What was measured on the way: printed at the end, and written to bench/results/e2e.json."""
    return request.config.stash[_FIGURES]
