"""Whether the kernel is used: one variable turns it off, and a kernel that is not there is told with its remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKERS = Path(__file__).resolve().parents[3] / "workers"
COMPILED = sorted(
    ".".join(source.relative_to(WORKERS).with_suffix("").parts) for source in (WORKERS / "eod_workers").rglob("*.pyx")
)
_ASK = "from eod_workers import kernel; print(kernel.available()); print(kernel.why_not())"


def asked(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, since the answer is kept for the life of a process."""
    environment = {key: value for key, value in os.environ.items() if key != "EOD_KERNEL"} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_off_turns_it_off() -> None:
    assert asked(_ASK, EOD_KERNEL="off").stdout == "False\nEOD_KERNEL=off turns it off\n"


def test_a_value_that_says_nothing_is_refused() -> None:
    ended = asked(_ASK, EOD_KERNEL="of")
    assert ended.returncode != 0
    assert "EOD_KERNEL='of' is neither 'on' nor 'off'" in ended.stderr


def test_a_kernel_that_is_not_there_is_told_with_its_remedy() -> None:
    hide = "import sys; sys.modules['eod_workers.kernel.hashes'] = None; "
    first, second = asked(hide + _ASK, EOD_KERNEL="on").stdout.splitlines()
    assert first == "False"
    assert second.startswith("it is not built for this Python (")
    assert second.endswith("apt-get install gcc python3-dev, then 'make setup'")


@pytest.mark.parametrize(
    "module",
    [
        "eod_workers.kernel",
        "eod_workers.fix.frames",
        "eod_workers.trades.codec",
        "eod_workers.trades.columns",
        "eod_workers.ingestion.plain",
        "eod_workers.pnl.ledger",
    ],
)
def test_importing_loads_no_kernel(module: str) -> None:
    """Whoever has no use for it pays nothing for it."""
    assert len(COMPILED) >= 4
    assert asked(f"import sys, {module}; print(set({COMPILED!r}) & set(sys.modules))").stdout == "set()\n"


def test_flash_pnl_takes_the_ledger_that_the_switch_says() -> None:
    ask = "from eod_workers.pnl.ledger import make_ledger; print(type(make_ledger(0.1)).__module__)"
    assert asked(ask, EOD_KERNEL="off").stdout == "eod_workers.pnl.ledger\n"
    built = asked(_ASK).stdout.startswith("True")
    assert asked(ask).stdout == f"eod_workers.pnl.ledger{'_kernel' if built else ''}\n"
