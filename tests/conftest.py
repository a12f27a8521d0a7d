"""Fixtures of real servers, started when the first test asks and shared by the whole run; `own_…` ones are for killing.

Of several test processes all have the same servers (testbed/keeper.py), so a test keeps to names of its own.
What they need is fetched and built before the first test, outside its time limit. A server that this machine cannot
have skips its tests with one sentence that says what to install; with EOD_REQUIRE_ALL=1 it fails them instead.
"""

import contextlib
import fcntl
import gc
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import hypothesis
import pytest
import structlog
from support.amounts import EXAMPLES
from testbed.catalogue import FETCHED, Tool
from testbed.errors import BuildFailed, Missing
from testbed.helm import Helm
from testbed.kafka import Kafka, SecuredKafka
from testbed.keeper import Keeper, ask
from testbed.kubernetes import Kubernetes
from testbed.progress import say
from testbed.quickfix import QuickFix
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3
from testbed.server import Server

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=EXAMPLES)
hypothesis.settings.load_profile("ci")

pytest_plugins = ["support.dated", "support.explained", "support.second_try", "support.tiers", "support.watchdog"]

# fixture → key of the server, which is also the name of its marker
_FIXTURES = {
    "kafka": "kafka",
    "own_kafka": "kafka",
    "secured_kafka": "kafka",
    "redis_server": "redis",
    "own_redis": "redis",
    "s3_server": "s3",
    "own_s3": "s3",
    "kubernetes": "kubernetes",
    "own_kubernetes": "kubernetes",
    "quickfixj": "quickfixj",
    "helm": "helm",
}
_SERVERS = frozenset(_FIXTURES.values())
_INTEGRATION = Path(__file__).parent / "integration"
_USED = pytest.StashKey[dict[str, list[float]]]()
_UNAVAILABLE = pytest.StashKey[dict[str, Missing | BuildFailed]]()
_KEEPER = pytest.StashKey[Keeper]()
_SLUG_LENGTH = 40

AnyServer = TypeVar("AnyServer", bound=Server)


class Kept(Protocol):
    """See the fixture `kept`."""

    def __call__(self, kind: type[AnyServer], name: str = "") -> AnyServer:
        """The server, running."""


AnyTool = TypeVar("AnyTool", QuickFixJ, QuickFix, Helm)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = {}
    config.stash[_UNAVAILABLE] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each of several test processes who keeps the servers that all of them share: this one, which starts them."""
    stash = node.config.stash
    if _KEEPER not in stash:
        stash[_KEEPER] = Keeper(node.config._tmp_path_factory.getbasetemp(), partial(_started, node.config))
    node.workerinput["keeper"] = stash[_KEEPER].door


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was kept for others."""
    if _KEEPER in config.stash:
        config.stash[_KEEPER].close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the real servers that its fixtures reach: `-m "not kubernetes"` then does what it says.

    What a client of a real server leaves to the garbage collector is told in the summary and fails no test: a socket of
    a server that was killed, or a TLS connection whose farewell was still on its way when the test's loop ended.
    """
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _FIXTURES:
                item.add_marker(_FIXTURES[fixture])
        if _has_clients(item):
            item.add_marker(pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker("servers")


def pytest_collection_finish() -> None:
    """What was imported stays, and is left out of every collection of garbage: with it each takes 0.2 s."""
    gc.collect()
    gc.freeze()


def _has_clients(item: pytest.Item) -> bool:
    """Whether clients of real servers run in it: known once it is marked."""
    return _INTEGRATION in item.path.parents or any(mark.name in _SERVERS for mark in item.iter_markers())


@pytest.fixture(autouse=True)
def _left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves to the garbage collector is collected after it, so that no other test answers for it."""
    yield
    if _has_clients(request.node):
        gc.collect()


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process says where logs go, for all that comes behind it."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Fetch the servers that the selected tests need, before any test's time limit runs."""
    if session.config.option.collectonly:
        return
    needed = {marker.name for item in session.items for marker in item.iter_markers()}
    for key, server in FETCHED.items():
        if key in needed:
            with _seen(session.config):
                _fetch(session.config, server)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what one of several test processes has used; one that broke down tells nothing."""
    for server, starts_s in getattr(node, "workeroutput", {}).get("used", {}).items():
        node.config.stash[_USED].setdefault(server, []).extend(starts_s)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process has used, if it is one of several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["used"] = session.config.stash[_USED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used, unavailable = config.stash[_USED], config.stash[_UNAVAILABLE]
    if used or unavailable:
        terminalreporter.section("real servers used")
    for server, starts_s in used.items():
        times = f"{len(starts_s)} times, the slowest in" if len(starts_s) > 1 else "in"
        terminalreporter.write_line(f"{server}: started {times} {max(starts_s):.1f} s")
    for key, reason in unavailable.items():
        terminalreporter.write_line(f"not available: {FETCHED[key].title}: {reason}")


@pytest.fixture(scope="session")
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """`kept(Kafka)` is this run's one Kafka, also of several test processes; `kept(Kafka, "name")` is another one."""
    with contextlib.ExitStack() as stack:
        started: dict[tuple[type[Server], str], Server] = {}

        def server(kind: type[Server], name: str = "") -> Server:
            with _seen(request.config):
                _fetch(request.config, kind)
            _require(request.config, kind)
            if (kind, name) not in started:
                door = getattr(request.config, "workerinput", {}).get("keeper")
                running = contextlib.contextmanager(_running)(kind, request.config, tmp_path_factory)
                started[kind, name] = ask(door, kind, name) if door else stack.enter_context(running)
            return started[kind, name]

        yield server


@pytest.fixture(scope="session")
def kafka(kept: Kept) -> Kafka:
    """A Kafka broker; make a topic of your own with `kafka.create_topic(topic_name, partitions)`."""
    return kept(Kafka)


@pytest.fixture(scope="session")
def secured_kafka(kept: Kept) -> SecuredKafka:
    """A Kafka broker that also has a door with TLS and a password, and one with TLS and client certificates."""
    return kept(SecuredKafka)


@pytest.fixture(scope="session")
def redis_server(kept: Kept) -> Redis:
    """A Redis server; keep to keys that start with `unique`."""
    return kept(Redis)


@pytest.fixture(scope="session")
def s3_server(kept: Kept) -> S3:
    """An S3 server; `s3_bucket` is a fresh bucket on it."""
    return kept(S3)


@pytest.fixture(scope="session")
def kubernetes(kept: Kept) -> Kubernetes:
    """A Kubernetes control plane; make a namespace of your own, named `unique`."""
    return kept(Kubernetes)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """Gives locks between the test processes, by names."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    @contextlib.contextmanager
    def entered(words: str) -> Iterator[None]:
        with (folder / f"{words}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return entered


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A Kafka broker of this test's own, to kill and restart."""
    yield from _running(Kafka, request.config, tmp_path_factory)


@pytest.fixture
def own_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis server of this test's own, to kill and restart."""
    yield from _running(Redis, request.config, tmp_path_factory)


@pytest.fixture
def own_s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server of this test's own, to kill and restart."""
    yield from _running(S3, request.config, tmp_path_factory)


@pytest.fixture
def own_kubernetes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A Kubernetes control plane of this test's own, to kill and restart."""
    yield from _running(Kubernetes, request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def quickfixj(request: pytest.FixtureRequest) -> QuickFixJ:
    """The FIX counterparty, compiled."""
    return _at_hand(QuickFixJ, QuickFixJ.fetch, request.config)


@pytest.fixture(scope="session")
def quickfix(request: pytest.FixtureRequest) -> QuickFix:
    """QuickFIX of C++ with its Python module, compiled."""
    return _at_hand(QuickFix, QuickFix.fetch, request.config)


@pytest.fixture(scope="session")
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm with settings of its own; name releases `unique`, and uninstall them."""
    return _at_hand(Helm, lambda: tmp_path_factory.mktemp("helm"), request.config)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other test and no other run uses, fit for a topic, a bucket, a key or a namespace."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:_SLUG_LENGTH].strip("-")
    return f"{slug}-{secrets.token_hex(4)}"


@pytest.fixture
def topic_name(unique: str) -> str:
    """A topic name of this test's own; the topic does not exist yet."""
    return unique


@pytest.fixture
def s3_bucket(s3_server: S3, unique: str) -> str:
    """A fresh bucket that keeps versions and honours object lock."""
    return s3_server.create_bucket(unique)


def _running(kind: type[AnyServer], config: pytest.Config, folders: pytest.TempPathFactory) -> Iterator[AnyServer]:
    with _seen(config):
        _fetch(config, kind)
    _require(config, kind)
    server = kind(folders.mktemp(kind.key))
    try:
        server.start()
        _started(config, server)
        yield server
        server.stop()
    finally:
        server.discard()


def _started(config: pytest.Config, server: Server) -> None:
    config.stash[_USED].setdefault(f"{server.title} {server.version}", []).append(server.startup_s)


def _at_hand(kind: type[AnyTool], home: Callable[[], Path], config: pytest.Config) -> AnyTool:
    with _seen(config):
        _fetch(config, kind)
    _require(config, kind)
    begun = time.monotonic()
    tool = kind(home())
    config.stash[_USED].setdefault(f"{tool.title} {tool.version}", []).append(time.monotonic() - begun)
    return tool


def _fetch(config: pytest.Config, kind: type[Server | Tool]) -> None:
    """Fetch a server once a run, and remember why it is not to be had."""
    unavailable = config.stash[_UNAVAILABLE]
    if kind.key in unavailable:
        return
    try:
        kind.fetch()
    except (Missing, BuildFailed) as reason:
        unavailable[kind.key] = reason
        say(f"not available: {kind.title}: {reason}")


def _require(config: pytest.Config, kind: type[Server | Tool]) -> None:
    match config.stash[_UNAVAILABLE].get(kind.key):
        case Missing() as reason if os.environ.get("EOD_REQUIRE_ALL") != "1":
            pytest.skip(f"{kind.title}: {reason}")
        case Missing() | BuildFailed() as reason:
            pytest.fail(f"{kind.title}: {reason}", pytrace=False)


@contextlib.contextmanager
def _seen(config: pytest.Config) -> Iterator[None]:
    """Let progress through to the terminal, which pytest would otherwise capture."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield
