"""`python -m testbed up | down | status | fetch`: the real servers, for humans and for CI."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from testbed import go
from testbed.catalogue import FETCHED, SERVERS
from testbed.errors import BuildFailed, Missing, StartFailed
from testbed.progress import say
from testbed.stages import NEEDED, Stages, where_to_look
from testbed.state import ServerRecord, State

_FOLDER = Path(__file__).parents[2] / ".testbed"
_INTERRUPTED = 130
"""What a shell says of a command that SIGINT has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 1 if a server that was asked for is not to be had."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        say("interrupted: the same command goes on where it was; 'make testbed-down' ends what has been started")
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    only: list[str] = options.only
    state = State(options.folder.absolute())
    match options.command:
        case "fetch":
            return _fetch(only)
        case "up":
            return _up(state, only)
        case "down":
            return _down(state, only)
        case "stages-up":
            return _stages_up(state)
        case "stages-down":
            Stages(state).down()
            return 0
        case _:
            return _status(state, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in {
        "fetch": "fetch and build everything into the cache, start nothing",
        "up": "start servers that go on running after this command",
        "down": "end them and delete their data",
        "stages-up": "start all stages on Kafka, Redis and S3, started if need be, and play a market to them",
        "stages-down": "end the stages",
        "status": "say what runs and where; exit code 1 unless all that was started still runs",
    }.items():
        command = commands.add_parser(name, help=summary)
        command.add_argument("--folder", type=Path, default=_FOLDER, help="of the servers' data (default: %(default)s)")
        if name == "status":
            command.add_argument("--json", action="store_true", help="for programs")
        if name in {"status", "stages-up", "stages-down"}:
            command.set_defaults(only=[])
        else:
            known = FETCHED if name == "fetch" else SERVERS
            command.add_argument(
                "--only", type=partial(_keys, known), default=[], help=f"some of {','.join(known)}, with commas"
            )
    return parser


def _keys(known: Collection[str], text: str) -> list[str]:
    keys = text.split(",")
    if unknown := [key for key in keys if key not in known]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return keys


def _fetch(only: Sequence[str]) -> int:
    failures = 0
    with go.compiled_once():
        for key in only or FETCHED:
            begun = time.monotonic()
            try:
                FETCHED[key].fetch()
            except (Missing, BuildFailed) as reason:
                failures += _unavailable(key, reason, asked_for=bool(only))
            else:
                _print(f"{FETCHED[key].title}: ready in the cache after {time.monotonic() - begun:.1f} s")
    return min(failures, 1)


def _up(state: State, only: Sequence[str]) -> int:
    failures = 0
    records = state.load()
    for key in only or SERVERS:
        if key in records and records[key].alive:
            say(f"{SERVERS[key].title} is already running")
            continue
        if key in records:  # crashed, in part at least: its data would want its old ports and passwords
            _end(state, records.pop(key))
        try:
            server = SERVERS[key](state.folder / key, tethered=False, prefer_default_ports=True).start()
        except (Missing, BuildFailed, StartFailed) as reason:
            failures += _unavailable(key, reason, asked_for=bool(only))
            continue
        try:
            records[key] = ServerRecord.of(server)
            state.save(records.values())
        except BaseException:
            server.kill()  # nobody would find it again
            raise
        say(f"{server.title} {records[key].version}: started in {server.startup_s:.1f} s")
    _print_table(records.values())
    _print(f"\nTo use them in this shell:  . {state.environment_file}\nTo end them:                make testbed-down")
    return min(failures, 1)


def _stages_up(state: State) -> int:
    stages = Stages(state)
    if stages.lost():
        say("a server that the stages worked on has gone, and what it held: servers and stages begin anew")
        _down(state, NEEDED)
        stages.forget()
    records = state.load()
    if (missing := [key for key in NEEDED if key not in records or not records[key].alive]) and _up(state, missing):
        return 1
    try:
        started = stages.up()
    except StartFailed as reason:
        say(str(reason))
        return 1
    _print(where_to_look(stages, started))
    return 0


def _down(state: State, only: Sequence[str]) -> int:
    records = state.load()
    if not only or set(only) & set(NEEDED):
        Stages(state).down()
    for key in only or list(records):
        if key in records:
            _end(state, records.pop(key))
            state.save(records.values())
            say(f"{SERVERS[key].title} ended")
    if not records:
        shutil.rmtree(state.folder, ignore_errors=True)
    return 0


def _status(state: State, *, as_json: bool) -> int:
    records = state.load()
    if as_json:
        _print(json.dumps([{**asdict(record), "alive": record.alive} for record in records.values()], indent=1))
    elif records:
        _print_table(records.values())
    else:
        _print("nothing was started: make testbed-up starts everything, make stages-up a pipeline on it")
    return 0 if records and all(record.alive for record in records.values()) else 1


def _end(state: State, record: ServerRecord) -> None:
    record.stop(SERVERS[record.key].patience_s)
    shutil.rmtree(state.folder / record.key, ignore_errors=True)


def _unavailable(key: str, reason: Exception, *, asked_for: bool) -> int:
    """Say why, and return 1 if that is a failure: a machine without a Go compiler is one only for who asks."""
    say(f"not available: {FETCHED[key].title}: {reason}")
    return 0 if isinstance(reason, Missing) and not asked_for and os.environ.get("EOD_REQUIRE_ALL") != "1" else 1


def _print_table(records: Iterable[ServerRecord]) -> None:
    for record in records:
        ports = " ".join(f"{name}={port}" for name, port in record.ports.items())
        _print(f"{record.title:16} {record.version:10} {'up' if record.alive else 'DEAD':5} {ports}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
