"""Run the unit tests on dates that calendars trip over; exit code 1 if they fail on one of them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATES = {
    "2026-10-06T19:55:00+00:00": "a Tuesday, five minutes before the close",
    "2026-10-10T16:00:00+00:00": "a Saturday",
    "2026-11-26T20:55:00+00:00": "Thanksgiving",
    "2026-11-27T17:55:00+00:00": "the half day after it, five minutes before its close",
    "2026-03-08T06:59:00+00:00": "the Sunday on which New York's clocks go forward, a minute before",
    "2026-11-01T05:59:00+00:00": "the Sunday on which they go back, a minute before",
    "2026-12-31T23:59:00+00:00": "the last minute of a year",
    "2028-02-29T20:55:00+00:00": "29 February",
}


def main() -> int:
    """Run and summarize."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="dates that begin so, for instance 2028-02-29")
    parser.add_argument("words", nargs="*", help="for pytest, behind --, instead of tests/unit")
    options = parser.parse_args()
    chosen = {date: what for date, what in DATES.items() if date.startswith(options.only)}
    if not chosen:
        sys.exit(f"no date begins with {options.only}; there are {', '.join(date[:10] for date in DATES)}")
    failed = []
    for date, what in chosen.items():
        print(f"=== {date[:16]} UTC: {what}", flush=True)
        what_to_run = options.words or ["tests/unit", "-m", "not slow"]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "3", *what_to_run]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "EOD_DATE": date}, check=False)
        if ended.returncode:
            failed.append(date)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    for date in failed:
        print(f"FAILED on {date[:16]} UTC: {DATES[date]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
