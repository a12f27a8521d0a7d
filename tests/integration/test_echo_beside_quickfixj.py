"""The echo acceptor beside one of QuickFIX/J: given the same messages, both say the same.

What differs on purpose is taken out of both (`comparable`):

- QuickFIX/J adds ", field=N" to the specification's wording of a reason, and has words of its own for a group that
  begins wrongly. Ours says what the specification says.
- It names a tag (371) also where the reason is no field's value: CompID, SendingTime, MsgType, NewSeqNo.
- It repeats the reason in the Logout that follows such a Reject.
- It leaves a group of no entries out of the body that it returns; and a PossResend comes back as one from ours.
- A Logon that is ahead it answers first and asks for what is missing later, when it likes.
- A ResendRequest under a number that is too low it refuses; ours does as QuickFIX of C++ does.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.frames import FrameBuffer, frame
from eod_workers.fix.reading import WORDING, Reason
from support.amounts import slow_but
from support.conformance import ONLY_44, SCRIPTS, written
from support.fix_messages import soh
from support.patience import limit_s
from support.quickfixj_echo import quickfixj_echo
from testbed.quickfixj import QuickFixJ

pytestmark = pytest.mark.quickfixj
_QUIET_S = 0.3
VERSIONS = ("FIX.4.2", "FIX.4.4")


@pytest.fixture(scope="module")
def theirs(quickfixj: QuickFixJ) -> Iterator[int]:
    """The port of QuickFIX/J."""
    with quickfixj_echo(quickfixj, [f"{version}:ISLD->TW" for version in VERSIONS]) as port:
        yield port


@pytest.fixture(scope="module")
def ours() -> Iterator[int]:
    """The port of `eod fix echo`."""
    sessions = [word for version in VERSIONS for word in ("--session", f"{version}:ISLD->TW")]
    eod = Path(".venv/bin/eod")
    command = [eod, "fix", "echo", "--port", "0", "--quiet", "--reset-on-logon", *sessions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split(" for ")[0].rpartition(":")[2])
        process.terminate()


def said(port: int, version: str, script: list[str]) -> list[list[str]]:
    """What an acceptor answers to each message, without times; "x" where it hangs up."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s(20)) as line:
        buffer = FrameBuffer()
        for place, step in enumerate(script):
            if not step.startswith("> "):
                continue
            now = time.time_ns()
            times = [format_timestamp(at).decode() for at in (now, now + 60 * 10**9)]
            line.sendall(frame(version.encode(), soh(written(step, *times))))
            expected = 0
            for answer in script[place + 1 :]:
                if answer.startswith("> "):
                    break
                expected += 1
            answers.append(heard(line, buffer, expected))
    return answers


def heard(line: socket.socket, buffer: FrameBuffer, expected: int) -> list[str]:
    """What comes until it is as much as is expected, and a moment longer."""
    found: list[str] = []
    until = time.monotonic() + limit_s(10)
    while time.monotonic() < until:
        line.settimeout(_QUIET_S if len(found) >= expected else limit_s(10))
        try:
            data = line.recv(65_536)
        except TimeoutError:
            break
        except ConnectionError:
            data = b""
        if not data:
            found.append("x")
            break
        found += [comparable(raw) for raw in buffer.feed(data) if isinstance(raw, bytes)]
    return found


def comparable(raw: bytes) -> str:
    """A message without what differs from run to run, or on purpose."""
    fields = [field.split("=", 1) for field in raw[:-1].decode("latin-1").split("\x01")]
    kept = [(tag, value) for tag, value in fields if tag not in {"8", "9", "10", "52", "122", "60"}]
    said = dict(kept)
    if said["35"] in {"D", "d", "C"}:
        kept = [field for field in kept if field not in {("386", "0"), ("97", "Y")}]
    if said["35"] == "3":
        unnamed = said.get("373") in {"9", "10", "11"} or said["372"] == "4"
        kept = [(tag, value) for tag, value in kept if tag != "58" and not (tag == "371" and unnamed)]
        text = re.sub(r", field=\d+$", "", said["58"])
        kept.append(("58", WORDING[Reason.GROUP_OUT_OF_ORDER] if text.startswith("The group ") else text))
    if said["35"] == "5" and said.get("58", "").split(",")[0] in WORDING.values():
        kept = [field for field in kept if field[0] != "58"]
    return "|".join(f"{tag}={value}" for tag, value in kept)


THEIR_OWN = {"a logon that is ahead", "a resend request whose number is too low"}
QUICK = ("a resend", "a rejection goes back the way that the message came", "a logon that resets the live session")


CASES = [
    *((version, name) for version in VERSIONS for name in SCRIPTS if name not in THEIR_OWN),
    *(("FIX.4.4", name) for name in ONLY_44),
]


@pytest.mark.parametrize("case", slow_but([one for one in CASES if one[1] in QUICK], CASES), ids=" ".join)
def test_both_say_the_same(theirs: int, ours: int, case: tuple[str, str]) -> None:
    version, name = case
    script = {**SCRIPTS, **ONLY_44}[name]
    drop = "20=0|" if version == "FIX.4.4" else ""
    steps = [step.replace(drop, "") if drop and "35=8" in step else step for step in script]
    assert said(ours, version, steps) == said(theirs, version, steps)
