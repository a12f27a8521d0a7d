"""`python -m fuzz NAME --seconds N --seed S` runs the fuzzer in the module of that name."""

from __future__ import annotations

import argparse
import logging
import time
from importlib import import_module
from pathlib import Path

import structlog

NAMES = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if "\ndef run(seconds: float, seed: int)" in path.read_text()
)


def main() -> None:
    """Runs one fuzzer and says what it has seen; a disagreement ends it with a trace and its seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="the same seed plays the same cases; the time by default"
    )
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"{given.name}, seed {seed}, {given.seconds:g} s", flush=True)  # noqa: T201 - a command-line tool
    print(import_module(f"fuzz.{given.name}").run(given.seconds, seed))  # noqa: T201 - the same


if __name__ == "__main__":
    main()
