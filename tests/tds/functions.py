"""Functions of T-SQL that SQLite lacks: decimals, times, LIKE.

The results have the precision and scale that SQL Server gives them (docs: Precision, scale, and length). Comparing two
decimals other than for equality is not understood here, and nothing does.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from zoneinfo import ZoneInfo

from tds.exact import A_SECOND, TIME_DIGITS, YEAR_1, Decimal, Time, decimal, time
from tds.script import Refused

MOST_DIGITS = 38
_LEAST_SCALE, _MOST_INTEGRAL = 6, 32
_ZONES = {"UTC": "UTC", "Eastern Standard Time": "America/New_York"}
_TICKS = {"DAY": 86_400 * A_SECOND, "HOUR": 3_600 * A_SECOND, "SECOND": A_SECOND}
_INT = range(-(2**31), 2**31)
_BIGINT = range(-(2**63), 2**63)
_INT_DIGITS, _BIGINT_DIGITS = 10, 19

Scalar = int | str | bytes | float | None


class Functions:
    """Makes them known to a connection, and keeps why one failed: SQLite tells that one did, and nothing else."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._why: Refused | None = None
        known: dict[str, tuple[int, Callable[..., Scalar]]] = {
            "CONCAT": (-1, _joined),
            "AS_DECIMAL": (3, _as_decimal),
            "AS_TIME": (2, _as_time),
            "TIMES": (2, _times),
            "NEGATED": (1, _negated),
            "DATE_ADDED": (3, _date_added),
            "ZONED": (2, _zoned),
            "IS_LIKE": (2, _is_like),
        }
        for name, (count, function) in known.items():
            connection.create_function(name, count, self._kept(function), deterministic=True)
        connection.create_aggregate("SUMMED", 1, lambda: _Kept(self._kept))  # type: ignore[arg-type,return-value]

    def why(self) -> Refused | None:
        """Why a function failed, once."""
        why, self._why = self._why, None
        return why

    def _kept(self, function: Callable[..., Scalar]) -> Callable[..., Scalar]:
        @wraps(function)
        def called(*values: object) -> Scalar:
            try:
                return function(*values)
            except Refused as why:
                self._why = why
                raise

        return called


def _said(number: Decimal) -> str:
    if not number.fits:
        raise Refused(8115, "Arithmetic overflow error converting expression to data type numeric.")
    return number.text()


def _number(value: Scalar) -> Decimal:
    if (found := decimal(value)) is not None:
        return found
    if not isinstance(value, int):
        raise Refused(8114, f"Error converting {value!r} to numeric.")
    return Decimal(_INT_DIGITS if value in _INT else _BIGINT_DIGITS, 0, value)


def _joined(*values: Scalar) -> str:
    """CONCAT, which takes NULL for an empty text."""
    return "".join("" if value is None else str(value) for value in values)


def _as_decimal(value: Scalar, precision: int, scale: int) -> str | None:
    if value is None:
        return None
    return _said(Decimal(precision, scale, _number(value).at_scale(scale)))


def _times(left: Scalar, right: Scalar) -> Scalar:
    """A product; that of integers is one, as in SQLite."""
    if left is None or right is None:
        return None
    if isinstance(left, float) or isinstance(right, float):
        return float(left) * float(right)
    if isinstance(left, int) and isinstance(right, int):
        product = left * right
        if product not in _BIGINT:
            raise Refused(8115, "Arithmetic overflow error converting expression to data type bigint.")
        return product
    one, other = _number(left), _number(right)
    precision, scale = one.precision + other.precision + 1, one.scale + other.scale
    exact = Decimal(precision, scale, one.units * other.units)
    if precision > MOST_DIGITS:
        integral = precision - scale
        kept = min(scale, MOST_DIGITS - integral)
        scale = kept if integral <= _MOST_INTEGRAL else min(scale, max(kept, _LEAST_SCALE))
        precision = MOST_DIGITS
    return _said(Decimal(precision, scale, exact.at_scale(scale)))


def _negated(value: Scalar) -> Scalar:
    if value is None or isinstance(value, int):
        return value if value is None else -value
    found = _number(value)
    return _said(Decimal(found.precision, found.scale, -found.units))


class _Summed:
    """SUM: of integers one, of decimals a decimal(38, s)."""

    def __init__(self) -> None:
        self._values: list[Decimal] = []
        self._exact = False

    def step(self, value: Scalar) -> Scalar:
        """One more."""
        if value is not None:
            self._exact |= decimal(value) is not None
            self._values.append(_number(value))
        return None

    def finalize(self) -> Scalar:
        """All of them."""
        if not self._values:
            return None
        if not self._exact:
            total = sum(value.units for value in self._values)
            if total not in _BIGINT:
                raise Refused(8115, "Arithmetic overflow error converting expression to data type bigint.")
            return total
        scale = max(value.scale for value in self._values)
        return _said(Decimal(MOST_DIGITS, scale, sum(value.at_scale(scale) for value in self._values)))


class _Kept:
    """SUM, with why it failed."""

    def __init__(self, kept: Callable[[Callable[..., Scalar]], Callable[..., Scalar]]) -> None:
        summed = _Summed()
        self.step, self.finalize = kept(summed.step), kept(summed.finalize)


def _as_time(value: Scalar, scale: int) -> str | None:
    if value is None:
        return None
    stands = time(value)
    if stands is None:
        try:
            day = datetime.strptime(str(value), "%Y-%m-%d")  # noqa: DTZ007 - a datetime2 has no zone
        except ValueError:
            raise Refused(241, f"Conversion failed when converting {value!r} to datetime2.") from None
        stands = Time(scale, (day - YEAR_1) // timedelta(seconds=1) * A_SECOND)
    step = 10 ** (TIME_DIGITS - scale)
    return Time(scale, (stands.ticks + step // 2) // step * step).text()


def _date_added(unit: str, number: Scalar, value: Scalar) -> str | None:
    stands = time(value)
    if number is None or stands is None:
        return None
    if not isinstance(number, int) or number not in _INT:
        raise Refused(8115, f"Arithmetic overflow error converting {number!r} to data type int.")
    if unit == "NANOSECOND":
        added = number // 100
    elif unit in _TICKS:
        added = number * _TICKS[unit]
    else:
        raise Refused(155, f"'{unit}' is not a recognized dateadd option of this test server.", severity=15)
    return Time(stands.scale, stands.ticks + added).text()


def _zoned(zone: str, value: Scalar) -> str | None:
    """`… AT TIME ZONE 'UTC' AT TIME ZONE zone`."""
    stands = time(value)
    if stands is None:
        return None
    if zone not in _ZONES:
        raise Refused(9820, f"The time zone parameter '{zone}' provided to AT TIME ZONE clause is invalid.")
    seconds, rest = divmod(stands.ticks, A_SECOND)
    there = (YEAR_1.replace(tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(ZoneInfo(_ZONES[zone]))
    local = (there.replace(tzinfo=None) - YEAR_1) // timedelta(seconds=1)
    return Time(stands.scale, local * A_SECOND + rest).text()


def _is_like(value: Scalar, pattern: str) -> int | None:
    """LIKE with %, _ and [classes]; by code points, as in a binary collation."""
    if value is None:
        return None
    parts = re.findall(r"\[[^\]]+\]|.", pattern, re.DOTALL)
    said = "".join(
        {"%": ".*", "_": "."}.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts
    )
    return int(re.fullmatch(said, str(value), re.DOTALL) is not None)
