"""How long a worker takes from its start until it says that it is ready, and what of the processor that costs.

Every kind is started as a pod starts it, on real Kafka, Redis and S3, in turns with the peers: the least that a
consumer of Kafka in Python can be (it imports aiokafka, joins a group, prints a line), and, with `--before CHECKOUT`,
the same kind from another checkout that `make setup` was run in. The first start, which compiles, does not count.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from eod_contract.kinds import KINDS
from operator_bars.processes import usage
from rich.console import Console
from rich.progress import track
from rich.table import Table
from support.pipeline import Pipeline
from testbed.kafka import Kafka
from testbed.ports import free_port
from testbed.process import Process, tail
from testbed.redis import Redis
from testbed.s3 import S3

RESULT = Path("bench/results/startup.json")
PEER = "aiokafka alone"
_POLL_S = 0.002
_WITHIN_S = 60.0
_BARE = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer
async def main():
    consumer = AIOKafkaConsumer(sys.argv[2], bootstrap_servers=sys.argv[1], group_id=sys.argv[3])
    await consumer.start()
    print("READY", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Took:
    """From the start of a process until it is ready."""

    wall_s: float
    cpu_s: float


def begun(name: str, command: list[str | Path], log: Path, env: dict[str, str], ready: Callable[[], bool]) -> Took:
    """Starts a process, waits until it is ready, and kills it.

    Raises:
        RuntimeError: it has ended, or is not ready in a minute.
    """
    log.unlink(missing_ok=True)
    at = time.monotonic()
    process = Process.spawn(name, [str(word) for word in command], log=log, env=env, tethered=True)
    try:
        while not ready():
            if not process.alive or time.monotonic() > at + _WITHIN_S:
                raise RuntimeError(f"{name} is not ready\n{tail(log)}")
            time.sleep(_POLL_S)
        used = usage(process.pid)
        return Took(used.at_s - at, used.cpu_s)
    finally:
        process.kill()


def says_ready(log: Path) -> bool:
    """Whether a worker's log says that it has its partitions, or its port, which is when /readyz begins to agree."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return any(word in text for word in ("stage.assigned", "ingestion.listening", "READY"))


def programs(before: Path | None) -> dict[str, Path]:
    """Who is measured → its `eod`."""
    found = {"now": Path(sys.executable).with_name("eod")}
    if before is not None:
        found["before"] = before / ".venv/bin/eod"
        if not found["before"].exists():
            sys.exit(f"--before {before}: there is no {found['before']}: run 'make setup' there")
    return found


def measure(pipeline: Pipeline, who: dict[str, Path], runs: int, console: Console) -> dict[str, dict[str, list[Took]]]:
    """Kind → who → what each run took; the first of all is not counted."""
    took: dict[str, dict[str, list[Took]]] = {kind: defaultdict(list) for kind in (*KINDS, PEER)}
    groups = iter(range(10_000_000))
    for run in track(range(runs + 1), "starting workers", console=console):
        for kind in KINDS:
            for name, program in who.items():
                log = pipeline.folder / f"{kind}-{name}.log"
                group = {"EOD_GROUP": f"{pipeline.name}.{next(groups)}"} if pipeline.consumes(kind) else {}
                tables = f"sqlite://{pipeline.folder / name}.db"  # an earlier release may have others
                env = {**pipeline.env, **group, "EOD_HTTP_PORT": str(free_port()), "EOD_REGULATORY_URL": tables}
                one = begun(kind, [program, "stage", "run", kind], log, env, lambda log=log: says_ready(log))  # type: ignore[misc]
                took[kind][name] += [one] if run else []
        log = pipeline.folder / "bare.log"
        words = [pipeline.bootstrap, pipeline.topics["trades"], f"{pipeline.name}.{next(groups)}"]
        one = begun(PEER, [sys.executable, "-c", _BARE, *words], log, {}, lambda log=log: says_ready(log))  # type: ignore[misc]
        took[PEER]["now"] += [one] if run else []
    return took


def middle(took: Iterable[Took]) -> Took:
    """Medians."""
    some = list(took)
    return Took(median(one.wall_s for one in some), median(one.cpu_s for one in some))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="starts of each (default %(default)s)")
    parser.add_argument("--before", type=Path, help="another checkout, with its .venv, to compare with")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes (default %(default)s)")
    options = parser.parse_args()
    who, console = programs(options.before), Console(stderr=True)
    home = Path(tempfile.mkdtemp(prefix="eod-startup-"))
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(home / "kafka"))
        state = stack.enter_context(Redis(home / "redis"))
        s3 = stack.enter_context(S3(home / "s3"))
        pipeline = Pipeline("startup", kafka.bootstrap, state.url, s3, home / "pipeline")
        s3.create_bucket(pipeline.name)
        pipeline.eod("topics", "ensure", "--partitions", "12")
        took = measure(pipeline, who, options.runs, console)
    shutil.rmtree(home, ignore_errors=True)
    peer = middle(took[PEER]["now"])
    table = Table(
        title=f"Start to ready, medians of {options.runs} (peer: {PEER}, {peer.wall_s:.2f} s, {peer.cpu_s:.2f} CPU-s)"
    )
    for heading in ("kind", "who", "s", "CPU-s", "of the peer's CPU", "CPU of before"):
        table.add_column(heading, justify="left" if heading in {"kind", "who"} else "right")
    result = []
    for kind in KINDS:
        mine = {name: middle(some) for name, some in took[kind].items()}
        for name, one in mine.items():
            share = f"{one.cpu_s / mine['before'].cpu_s:.0%}" if "before" in mine and name == "now" else ""
            table.add_row(
                kind, name, f"{one.wall_s:.2f}", f"{one.cpu_s:.2f}", f"{one.cpu_s / peer.cpu_s:.1f} times", share
            )
            result.append(
                {"kind": kind, "who": name, "wall_s": one.wall_s, "cpu_s": one.cpu_s, "peer_cpu_s": peer.cpu_s}
            )
    Console().print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
