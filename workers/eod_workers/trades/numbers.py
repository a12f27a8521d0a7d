"""Fixed-point numbers: prices, quantities and money are integers in units of 1e-8."""

from __future__ import annotations

import re

from eod_workers.fix.fields import quoted

E8 = 100_000_000
"""Units in one."""

MAX_E8 = 2**63 - 1
"""Largest magnitude that a signed 64-bit column holds."""

# FIX float (FIX 4.4 vol. 1, data types): optional sign, digits, optional point; no exponent, no blanks.
_FLOAT = re.compile(rb"(-?)(\d*)(?:\.(\d*))?\Z")
_PLACES = 8
_WHOLE_DIGITS = len(str(MAX_E8 // E8))


def parse_e8(text: bytes) -> int:
    """A FIX float as 1e-8 units.

    Raises:
        ValueError: not a FIX float, more than eight decimals that matter, or beyond 64 bits; the message says which.
    """
    match = _FLOAT.match(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a decimal number")
    sign, whole, part = match[1], match[2], match[3] or b""
    if not whole and not part:
        raise ValueError(f"{quoted(text)} is not a decimal number")
    if len(part) > _PLACES:
        if part[_PLACES:].strip(b"0"):
            raise ValueError(f"{quoted(text)} has more than {_PLACES} decimals")
        part = part[:_PLACES]
    if len(whole) > _WHOLE_DIGITS:  # leading zeros mean nothing; and int() refuses very long texts in its own words
        whole = whole.lstrip(b"0")
    if len(whole) > _WHOLE_DIGITS:
        raise ValueError(f"{quoted(text)} is too large: at most {MAX_E8 // E8} fits")
    value = int(whole or b"0") * E8 + int(part.ljust(_PLACES, b"0"))
    if value > MAX_E8:
        raise ValueError(f"{quoted(text)} is too large: at most {MAX_E8 // E8} fits")
    return -value if sign else value


def format_e8(value: int) -> str:
    """1e-8 units as exact decimal text without trailing zeros: 12_50000000 → "12.5"."""
    whole, part = divmod(abs(value), E8)
    text = f"{whole}.{part:08d}".rstrip("0").rstrip(".") if part else str(whole)
    return f"-{text}" if value < 0 else text
