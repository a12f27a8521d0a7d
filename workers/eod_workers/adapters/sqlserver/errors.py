"""What a failure of SQL Server or of its driver means to a caller, by its number.

Numbers below 20,000 or above 21,000 are SQL Server's (sys.messages), those between are of DB-Library, which FreeTDS
speaks to the driver.
"""

from __future__ import annotations

import re

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.schema import LATER, LOCKED, VERSION
from eod_workers.ports import Unavailable

_LOGIN_REFUSED = frozenset({18452, 18456, 18463, 18464, 18465, 18466, 18467, 18468, 18470, 18486, 18487, 18488})
_NO_DATABASE = frozenset({911, 4060, 4064})
_NOT_PERMITTED = frozenset({229, 230, 262, 297, 300, 916, 1088, 2760, 4701})
_IMPOSSIBLE_ROW = frozenset({220, 232, 241, 245, 295, 515, 547, 2628, 8114, 8115, 8152})
_NO_TABLE = 208
ALREADY_THERE = frozenset({2601, 2627})
"""Another writer has stored the same key between our look and our insert."""
_PASSING = (
    frozenset({-2, 64, 233, 596, 601, 617, 669, 701, 802, 845, 1105, 1204, 1205, 1222, 3906, 3908, 3960, 3966, 6005})
    | frozenset({8628, 8645, 8651, 9002, 10053, 10054, 10060, 10928, 10929, 14355, 17142, 17197, 17830, 18401, 18451})
    | frozenset({35206, 40143, 40197, 40501, 40540, 40613, 41301, 41302, 41305, 41325, 41839, 49918, 49919, 49920})
    | frozenset({921, 922, 924, 927, 941, 945, 952, 976, 978, 979, 982, 983})
)
"""Locks, memory, disk, start-up, fail-over, throttling: the same call may succeed later."""
_NOT_CONNECTED = frozenset({20_002, 20_009, 20_012, 20_013})
_NO_CONNECTION = "Connection to the database failed"
"""What the driver says, without a number, of a name that does not resolve."""
_DB_LIBRARY = range(20_000, 21_000)
_DB_LIBRARY_SAYS = re.compile(r"DB-Lib error message \d+, severity \d+:\s*")


def number_and_text(error: BaseException) -> tuple[int, str]:
    """The number of a driver's error, 0 without one, and what was said, on one line.

    The driver puts the pair into `args`, or a tuple of them.
    """
    args = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], tuple) else error.args
    if len(args) == 2 and isinstance(args[0], int):  # noqa: PLR2004 - a pair
        number, said = args
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    else:
        number, text = 0, str(error)
    server, *library = _DB_LIBRARY_SAYS.split(text)
    told = server if server.strip() else " ".join(library)
    return number, " ".join(told.split()) or "the driver gives no reason"


def meaning(error: BaseException, address: Address) -> Exception:
    """The error of `eod_workers.ports` that a caller is to see."""
    number, text = number_and_text(error)
    told = f"{address}: {text} ({number})" if number else f"{address}: {text}"
    if number in _LOGIN_REFUSED:
        return PermissionError(f"{told}; mend EOD_SQLSERVER_USER ({address.user}) or EOD_SQLSERVER_PASSWORD")
    if number in _NO_DATABASE:
        return PermissionError(
            f"{told}; mend EOD_SQLSERVER_DATABASE ({address.database}), or make the database and let {address.user} in"
        )
    if number in _NOT_PERMITTED:
        return PermissionError(
            f"{told}; EOD_SQLSERVER_USER ({address.user}) lacks a right that docs/sqlserver.md lists"
        )
    if number in _IMPOSSIBLE_ROW:
        return ValueError(f"{told}; SQL Server refuses the row")
    if number == _NO_TABLE:
        return missing_schema(address)
    if number == LATER:
        return ValueError(
            f"{address} has the schema of a later release than this, which has version {VERSION}: use that one"
        )
    if number == LOCKED:
        return Unavailable(told)
    if number in _NOT_CONNECTED or (not number and text.startswith(_NO_CONNECTION)):
        return Unavailable(f"{told}; {_about_connecting(address)}")
    if number in _PASSING or number in _DB_LIBRARY or number in ALREADY_THERE or not number:
        return Unavailable(told)
    return RuntimeError(told)


def _about_connecting(address: Address) -> str:
    """The driver does not tell a server that is away from one whose certificate or lack of TLS it refuses."""
    away = "it is away, EOD_SQLSERVER_HOST or EOD_SQLSERVER_PORT is wrong"
    if address.encryption != "require":
        return away.replace(", ", ", or ", 1)
    authority = f", and no certificate signed by EOD_SQLSERVER_CA_FILE ({address.ca_file})" if address.ca_file else ""
    return f"{away}, or it has no TLS, which EOD_SQLSERVER_ENCRYPTION=require asks for{authority}"


def missing_schema(address: Address) -> Unavailable:
    """The tables are not there: a Job may be making them now."""
    return Unavailable(f"{address} has no schema version {VERSION}: run 'eod db migrate' as a user who may make tables")
