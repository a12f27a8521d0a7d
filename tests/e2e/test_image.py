"""The image: how large it is, how fast it starts, and what it does not have."""

from __future__ import annotations

import json
import re
import time

import pytest
from testbed.errors import CommandFailed

from e2e.images import OLD, ROOT
from e2e.world import ClusterWorld

pytestmark = pytest.mark.timeout(600)

_ALONE = ("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--user=10001:10001")
_LOCKED = re.compile(r'^\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', re.MULTILINE)


def test_it_is_small_and_a_stage_starts_fast(world: ClusterWorld, figures: dict[str, object]) -> None:
    """Until the stage has read its settings and tries to reach Kafka, under another user and a read-only file system."""
    described = json.loads(world.docker("image", "inspect", OLD))[0]
    figures["image, MB unpacked (bar: 250)"] = round(described["Size"] / 1e6, 1)
    assert described["Config"]["User"] == "65532:65532"
    assert described["Config"]["Labels"]["org.opencontainers.image.revision"] == OLD
    settings = ("--env=EOD_KAFKA_BOOTSTRAP=127.0.0.1:1", "--env=EOD_REDIS_URL=redis://127.0.0.1:1")
    begun = time.monotonic()
    name = world.docker("run", "--detach", "--tty", *_ALONE[2:], *settings, OLD, "stage", "run", "flash-pnl").strip()
    try:
        while "stage.starting" not in world.docker("logs", name):
            assert time.monotonic() - begun < 30, world.docker("logs", name)
            time.sleep(0.05)
        figures["docker run to a stage that starts its work, s (bar: 2)"] = round(time.monotonic() - begun, 2)
    finally:
        world.docker("rm", "--force", name)


@pytest.mark.parametrize("program", ["/bin/sh", "/bin/bash", "/usr/bin/dpkg", "/usr/bin/apt", "/venv/bin/pip"])
def test_it_has_no_shell_and_nothing_to_install_with(world: ClusterWorld, program: str) -> None:
    with pytest.raises(CommandFailed, match="no such file or directory"):
        world.docker(*_ALONE, f"--entrypoint={program}", OLD)


@pytest.mark.parametrize(
    "command", [["stage", "list"], ["operator", "run", "--help"], ["reconcile", "--help"], ["archive", "--help"]]
)
def test_it_is_every_part_of_eod_by_command(world: ClusterWorld, command: list[str]) -> None:
    assert world.docker(*_ALONE, OLD, *command)


def test_its_kernel_is_built_and_loads(world: ClusterWorld) -> None:
    """After all that the image does not need was taken out of it."""
    code = (
        "from eod_workers.kernel import why_not; import eod_workers.pnl.ledger_kernel, eod_workers.trades.columns_kernel; "
        "import eod_workers.ingestion.plain_kernel; print(why_not() or 'used')"
    )
    assert world.docker(*_ALONE, "--entrypoint=/venv/bin/python", OLD, "-c", code).strip() == "used"


def test_it_lists_its_parts_as_they_are_locked(world: ClusterWorld) -> None:
    """The list of parts names each installed package with the version of the lock."""
    code = "import sys; sys.stdout.write(open('/venv/share/eod/sbom.cdx.json').read())"
    listed = json.loads(world.docker(*_ALONE, "--entrypoint=/venv/bin/python", OLD, "-c", code))
    parts = {part["name"].lower().replace("_", "-"): part["version"] for part in listed["components"]}
    locked = dict(_LOCKED.findall((ROOT / "uv.lock").read_text()))
    assert {"kopf", "aiokafka", "redis", "pymssql", "eod"} <= parts.keys()
    assert not {"pytest", "hatchling", "mypy"} & parts.keys()
    assert {name: version for name, version in parts.items() if locked.get(name) != version} == {}
