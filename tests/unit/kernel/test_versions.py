"""The kernel has the versions of the layouts from `layouts.py`: it writes those, and reads no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eod_workers import kernel
from eod_workers.layouts import LAYOUTS
from support.patience import limit_s
from unit.kernel.versions import OTHERS, TRIED

if not kernel.available():
    pytest.skip(f"the kernel is not used: {kernel.why_not()}", allow_module_level=True)

TESTS = Path(__file__).resolve().parents[2]
OTHERWISE = {layout.name: layout.otherwise for layout in LAYOUTS}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a kernel says that was loaded after the versions were changed."""
    ended = subprocess.run(
        [sys.executable, "-m", "unit.kernel.versions"],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s(60),
    )
    assert ended.returncode == 0, ended.stderr
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


def test_it_writes_the_version_of_the_layout(told: dict[str, Any]) -> None:
    assert told["written"] == [OTHERS["TradeBatch"], OTHERS["PnlSnapshot"]]


@pytest.mark.parametrize("name", OTHERS)
def test_it_reads_the_version_of_the_layout_and_no_other(told: dict[str, Any], name: str) -> None:
    said = told["read"][name]
    assert said.pop(str(OTHERS[name])) == ""
    assert set(said) == {str(version) for version in TRIED if version != OTHERS[name]}
    for version, why in said.items():
        assert f"{name} version {version}; this reader knows {OTHERS[name]}: {OTHERWISE[name]}" in why
