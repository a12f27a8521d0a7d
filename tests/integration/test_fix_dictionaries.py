"""The dictionaries are those that QuickFIX/J ships."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from testbed.quickfixj import QuickFixJ

TOOL = Path(__file__).parents[2] / "tools/fix_dictionaries.py"


@pytest.mark.quickfixj
def test_the_dictionaries_have_not_drifted_from_their_source(quickfixj: QuickFixJ) -> None:
    jar = quickfixj.home / "jars" / f"{quickfixj.jar('quickfixj-core')}.jar"
    checked = subprocess.run([sys.executable, TOOL, "--check", jar], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
