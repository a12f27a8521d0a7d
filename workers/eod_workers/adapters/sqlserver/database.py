"""The database, the workers' login and its rights, made by somebody who may; any number of times.

The workers' login may add rows and nothing else, so who makes all this is another. Its password is set when the login
is made, and again only when the server refuses it: a policy that remembers old passwords would refuse the same one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.process import DriverProcess
from eod_workers.adapters.sqlserver.schema import IN_ONE_PIECE, SCHEMA, VERSION, scripted
from eod_workers.ports import Unavailable

LOGIN_WITHIN_S = 10
ANSWER_WITHIN_S = 120
"""Making a database takes its time."""
CALL_WITHIN_S = 180.0
_AFTER_ALL_ROWS = 2**62
_WHO = re.compile(r"EOD_SQLSERVER_(USER|PASSWORD)")
RIGHTS = {
    "eod.trades": "SELECT, INSERT",
    "eod.exceptions": "SELECT, INSERT",
    "eod.offsets": "SELECT, INSERT, UPDATE",
    "eod.schema_version": "SELECT",
}
"""Of the workers' login."""


def in_master(database: str, user: str, password: str) -> tuple[str, ...]:
    """Batches for the database master. A password that begins with `$(` is a variable of sqlcmd."""
    return (
        f"IF DB_ID({_text(database)}) IS NULL CREATE DATABASE {_name(database)}",
        f"IF SUSER_ID({_text(user)}) IS NULL CREATE LOGIN {_name(user)} WITH PASSWORD = {_text(password)}",
    )


def in_database(user: str, schema: Sequence[str] = SCHEMA) -> tuple[str, ...]:
    """Batches for the database itself: the schema, and the workers' user in it."""
    grants = (f"GRANT {rights} ON {table} TO {_name(user)}" for table, rights in RIGHTS.items())
    make = f"IF DATABASE_PRINCIPAL_ID({_text(user)}) IS NULL CREATE USER {_name(user)} FOR LOGIN {_name(user)}"
    return (*schema, make, *grants)


def as_script(database: str, user: str) -> str:
    """All of it for sqlcmd, which takes the password from the variable EOD_SQLSERVER_PASSWORD of its environment."""
    batches = (
        "USE master",
        *in_master(database, user, "$(EOD_SQLSERVER_PASSWORD)"),
        f"USE {_name(database)}",
        "SET XACT_ABORT ON",
        *in_database(user, IN_ONE_PIECE),
    )
    return scripted(batches)


async def make(admin: Address, worker: Address) -> list[str]:
    """Make what is missing; what was there and what was made, a line each.

    Args:
        admin: who may make databases and logins; its database is not looked at.
        worker: who is to work on which database.

    Raises:
        PermissionError: the server refuses the login, or a right.
        Unavailable: it is away.
        ValueError: both are the same login, or the database has the schema of a later release.
    """
    if admin.user.lower() == worker.user.lower():
        raise ValueError(
            f"EOD_SQLSERVER_USER and EOD_SQLSERVER_ADMIN_USER are both {admin.user}: "
            "give the workers a login of their own"
        )
    master = replace(admin, database="master")
    looks = {
        f"database {worker.database}": f"SELECT DB_ID({_text(worker.database)}) AS found",
        f"login {worker.user}": f"SELECT SUSER_ID({_text(worker.user)}) AS found",
    }
    found = await _run(master, tuple(looks.values()))
    told = [f"{what} {'made' if rows[0][0] is None else 'was there'}" for what, rows in zip(looks, found, strict=True)]
    await _run(master, in_master(worker.database, worker.user, worker.password))
    await _run(replace(admin, database=worker.database), in_database(worker.user))
    told.append(f"schema version {VERSION} and the rights of {worker.user} are there")
    try:
        await check(worker)
    except PermissionError:
        await _run(master, (f"ALTER LOGIN {_name(worker.user)} WITH PASSWORD = {_text(worker.password)}",))
        await check(worker)
        told.append(f"password of {worker.user} set to EOD_SQLSERVER_PASSWORD")
    return told


async def check(worker: Address) -> None:
    """Log in as a worker does and read.

    Raises:
        PermissionError: the server refuses the login, the database or a right.
        Unavailable: it is away, or the schema is missing.
    """
    await _called(worker, "page", "trades", _AFTER_ALL_ROWS)


async def _run(admin: Address, batches: Sequence[str]) -> list[Any]:
    try:
        found: list[Any] = await _called(admin, "run", batches)
    except (PermissionError, Unavailable) as error:  # of the same numbers, but it is another's variables that are wrong
        raise type(error)(_WHO.sub(r"EOD_SQLSERVER_ADMIN_\1", str(error))) from None
    return found


async def _called(address: Address, name: str, *args: object) -> Any:
    """A call in a process of its own: the driver tells a failure to connect by the number of the failure before it."""
    driver = DriverProcess(
        address, login_within_s=LOGIN_WITHIN_S, answer_within_s=ANSWER_WITHIN_S, call_within_s=CALL_WITHIN_S
    )
    try:
        return await driver.call(name, *args)
    finally:
        await driver.close()


def _name(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


def _text(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"N'{doubled}'"
