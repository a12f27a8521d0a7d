"""Closes of exchanges, loaded by a process that ends at once: pandas would stay in this one, and is half of its size.

`python -m eod_operator.closes XNYS 2026` is that process; it prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys

from eod_operator.scaling.calendar import CalendarNotLoadedError, UnknownExchangeError, load_closes

WITHIN_S = 60.0


def load_elsewhere(code: str, year: int) -> tuple[float, ...]:
    """Closes of an exchange and year, as `scaling.calendar.load_closes` has them.

    Raises:
        UnknownExchangeError: the code is unknown or its calendar has no such year.
        CalendarNotLoadedError: the other process did not answer.
    """
    command = [sys.executable, "-m", "eod_operator.closes", code, str(year)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True)  # noqa: S603 - our own
        answer = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", None) or error
        raise CalendarNotLoadedError(f"the calendar of {code} for {year} could not be loaded: {said}") from error
    if "unknown" in answer:
        raise UnknownExchangeError(answer["unknown"])
    return tuple(answer["closes"])


def main(code: str, year: str) -> None:
    """Print the closes, or why there are none."""
    try:
        answer: dict[str, object] = {"closes": load_closes(code, int(year))}
    except UnknownExchangeError as error:
        answer = {"unknown": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
