"""Writes operator/eod_operator/api/exchanges.py from what exchange_calendars knows: `python tools/exchanges.py`."""

from pathlib import Path

from exchange_calendars import get_calendar_names

FILE = Path(__file__).parents[1] / "operator/eod_operator/api/exchanges.py"
HEAD = '''"""The exchanges whose sessions are known, for the API server's own check.

Generated: `make crd` writes this file from exchange_calendars, and a test fails when an upgrade has changed its list.
"""

EXCHANGES: tuple[str, ...] = (
'''


def text() -> str:
    """The whole module."""
    names = "".join(f'    "{name}",\n' for name in sorted(get_calendar_names()))
    return f'{HEAD}{names})\n"""ISO 10383 codes, and the common names that stand for them."""\n'


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.name}")
