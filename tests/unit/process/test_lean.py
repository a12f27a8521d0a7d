"""What a worker does not import: most of its start is imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from eod_workers.lean import without

_STARTED = """
import sys
sys.argv = ["eod", "stage", "run", "flash-pnl"]
from eod_workers.cli import main
try:
    main()
except SystemExit as ended:
    import eod_workers.adapters.redis, eod_workers.adapters.kafka, eod_workers.process.bootstrap
    print(ended.code, *(name for name in {named} if name in sys.modules))
    import rich, opentelemetry.sdk.metrics
"""


def test_what_is_hidden_is_met_as_if_it_were_not_installed_and_is_there_afterwards() -> None:
    before = sys.modules.pop("wave", None)
    try:
        with without("wave", "sys"):
            with pytest.raises(ImportError):
                import wave  # noqa: PLC0415 - this is what is tested
            import sys as still  # noqa: PLC0415 - the same

            assert still is sys
        assert "wave" not in sys.modules
        import wave  # noqa: F401, PLC0415 - the same
    finally:
        if before is not None:
            sys.modules["wave"] = before


def test_a_worker_starts_without_what_it_never_uses() -> None:
    named = ["rich", "rich.console", "opentelemetry.sdk.metrics", "typer", "pandas", "kubernetes"]
    done = subprocess.run(
        [sys.executable, "-c", _STARTED.format(named=named)],
        env={"EOD_FIX_PORT": "none of a worker's"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["2"]), done.stderr
