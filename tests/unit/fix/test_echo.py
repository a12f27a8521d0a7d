"""The echo acceptor, byte for byte: it follows the scripts of `support.conformance`, in both versions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.fix import echo
from eod_workers.fix.echo import BadSession, Echo, SessionName, session_name
from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.frames import FrameBuffer, frame
from support.conformance import LOGON, ONLY_44, ORDER, RETURNED, SCRIPTS, order, written
from support.fix_messages import soh
from support.patience import soon
from unit.fix.parties import Now

NOW = "20260102-21:00:00.000"


class _Socket(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


class Line:
    """A connection to the acceptor."""

    def __init__(self, acceptor: Echo, version: str) -> None:
        self.socket = _Socket()
        self.connection = acceptor.connected()
        self.connection.connection_made(self.socket)
        self._version = version.encode()
        self._said: list[str] = []

    def say(self, text: str) -> None:
        """Write a message."""
        self.connection.data_received(frame(self._version, soh(written(text, NOW, "20260102-21:00:01"))))

    def answers(self) -> list[str]:
        """What was answered since the last call."""
        written, self.socket.written = self.socket.written, b""
        said = []
        for raw in FrameBuffer().feed(written):
            assert isinstance(raw, bytes)
            body = raw.split(b"\x01", 2)[2][:-7]
            said.append(body.decode("latin-1").replace("\x01", "|").replace(f"={NOW}|", "=now|"))
        return said

    def end(self) -> None:
        """Hang up."""
        self.connection.connection_lost(None)


def make(now: Now, version: str = "FIX.4.4", *, reset: bool = False) -> Echo:
    """An acceptor of one session."""
    return Echo([session_name(f"{version}:ISLD->TW")], now, reset_on_logon=reset)


def play(line: Line, script: list[str]) -> None:
    """Follow a script."""
    for place, step in enumerate(script):
        if step.startswith("> "):
            assert line.answers() == [], f"before step {place}"
            line.say(step[2:])
            expected = []
            for answer in script[place + 1 :]:
                if answer.startswith("> "):
                    break
                expected.append(answer)
            found = [f"< {said}" for said in line.answers()] + (["x"] if line.socket.closed else [])
            assert found == expected, f"after {step}"


@pytest.mark.parametrize("version", ["FIX.4.2", "FIX.4.4"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_what_is_said_is_answered_so_in_both_versions(version: str, script: list[str]) -> None:
    line = Line(make(Now(), version), version)
    drop = "20=0|" if version == "FIX.4.4" else ""  # ExecTransType went with 4.2
    play(line, [step.replace(drop, "") if drop and "35=8" in step else step for step in script])
    line.end()


@pytest.mark.parametrize("script", ONLY_44.values(), ids=ONLY_44)
async def test_what_is_said_is_answered_so_in_4_4(script: list[str]) -> None:
    line = Line(make(Now()), "FIX.4.4")
    play(line, script)
    line.end()


@pytest.mark.parametrize(
    "first",
    [
        "35=0|34=1|49=TW|52=now|56=ISLD|",
        "35=A|34=1|49=WT|52=now|56=ISLD|98=0|108=30|",
        "35=A|34=1|49=TW|52=now|56=DLSI|98=0|108=30|",
        "35=A|34=1|49=TW|52=20260102-20:50:00|56=ISLD|98=0|108=30|",
        "35=A|34=1|49=TW|52=now|56=ISLD|98=0|108=abc|",
        "35=A|34=1|49=TW|52=now|56=ISLD|98=0|",
    ],
)
async def test_who_begins_strangely_is_disconnected_without_a_word(first: str) -> None:
    line = Line(make(Now()), "FIX.4.4")
    line.say(first)
    assert (line.answers(), line.socket.closed) == ([], True)
    line.end()


@pytest.mark.parametrize("version", ["FIX.4.2", "FIX.4.1", "FIX.5.0", "FIXT.1.1"])
async def test_another_version_is_another_session(version: str) -> None:
    line = Line(make(Now()), version)
    line.say(LOGON[0][2:])
    assert (line.answers(), line.socket.closed) == ([], True)
    line.end()


async def test_a_session_that_is_live_is_not_had_twice() -> None:
    acceptor = make(Now())
    first, second = Line(acceptor, "FIX.4.4"), Line(acceptor, "FIX.4.4")
    play(first, LOGON)
    second.say(LOGON[0][2:])
    assert (second.answers(), second.socket.closed, first.socket.closed) == ([], True, False)
    second.end()
    play(first, [order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}"])
    first.end()
    third = Line(acceptor, "FIX.4.4")
    play(third, ["> 35=A|34=3|49=TW|52=now|56=ISLD|98=0|108=30|", LOGON[1].replace("34=1", "34=3")])
    third.end()


async def test_numbers_begin_again_with_each_logon_where_that_is_wanted() -> None:
    acceptor = make(Now(), reset=True)
    for _ in range(2):
        line = Line(acceptor, "FIX.4.4")
        play(line, [*LOGON, order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}"])
        line.end()


@pytest.mark.parametrize(
    "garbage",
    [
        b"8=FIX.4.4\x019=5\x0135=0\x0110=000\x01",
        b"8=FIX.4.4\x0135=0\x019=5\x0110=000\x01",
        frame(b"FIX.4.4", soh("34=2|35=0|49=TW|56=ISLD|52=20260102-21:00:00|")),
        frame(b"FIX.4.4", soh("35=0|34=2|4garbled9=TW|56=ISLD|"))[:-4] + b"0\x01",
        b"8=FIX.4.4\x019=999999999\x0135=0\x0110=000\x01",
        b"hello\r\n",
    ],
)
async def test_what_is_garbled_is_passed_over(garbage: bytes) -> None:
    line = Line(make(Now()), "FIX.4.4")
    play(line, LOGON)
    line.connection.data_received(garbage)
    assert line.answers() == []
    play(line, [order(2), f"< 35=D|34=2|49=ISLD|52=now|56=TW|{RETURNED}"])
    line.end()


async def test_a_body_length_that_is_too_large_takes_what_it_announces_with_it() -> None:
    """As in the QuickFIX family: an acceptor of trades takes the frame that begins there."""
    line = Line(make(Now()), "FIX.4.4")
    play(line, LOGON)
    whole = frame(b"FIX.4.4", soh(f"35=0|34=2|49=TW|52={NOW}|56=ISLD|"))
    length = whole.split(b"\x01")[1]
    line.connection.data_received(whole.replace(length, b"9=%d" % (int(length[2:]) + 9), 1) + whole)
    play(line, ["> 35=1|34=2|49=TW|52=now|56=ISLD|112=HI|", "< 35=0|34=2|49=ISLD|52=now|56=TW|112=HI|"])
    line.end()


async def test_who_begins_with_what_is_garbled_is_disconnected_without_a_word() -> None:
    line = Line(make(Now()), "FIX.4.4")
    whole = frame(b"FIX.4.4", soh(LOGON[0][2:].replace("now", NOW)))
    line.connection.data_received(whole[:-4] + b"000\x01")
    assert (line.answers(), line.socket.closed) == ([], True)
    line.connection.data_received(whole)
    assert line.answers() == []
    line.end()


async def test_who_says_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "LOGON_WITHIN_S", 0.01)
    line = Line(make(Now()), "FIX.4.4")
    await soon(lambda: line.socket.closed, "it hangs up")
    line.end()


async def test_a_session_is_free_again_while_its_last_connection_ends() -> None:
    """What comes behind our last word is heard, and means nothing: to close at once could take that word back."""
    acceptor = make(Now(), reset=True)
    first, second = Line(acceptor, "FIX.4.4"), Line(acceptor, "FIX.4.4")
    play(first, [*LOGON, "> 35=5|34=2|49=TW|52=now|56=ISLD|", "< 35=5|34=2|49=ISLD|52=now|56=TW|", "x"])
    play(second, LOGON)
    first.say("35=5|34=3|49=TW|52=now|56=ISLD|")
    assert first.answers() == []
    first.end()
    third = Line(acceptor, "FIX.4.4")
    third.say(LOGON[0][2:])
    assert third.socket.closed, "the second is still there"
    second.end()
    third.end()


async def test_a_version_that_changes_in_the_midst_ends_the_session() -> None:
    line = Line(make(Now()), "FIX.4.4")
    play(line, LOGON)
    line.connection.data_received(frame(b"FIX.4.2", soh(f"35=0|34=2|49=TW|52={NOW}|56=ISLD|")))
    assert line.answers() == ["35=5|34=2|49=ISLD|52=now|56=TW|58=Incorrect BeginString|"]
    assert line.socket.closed
    line.end()


async def test_silence_is_answered_by_heartbeats_and_a_test_request_and_the_end() -> None:
    now = Now()
    line = Line(make(now), "FIX.4.4")
    play(line, [LOGON[0].replace("108=30", "108=10"), LOGON[1].replace("108=30", "108=10")])
    said: list[tuple[float, str]] = []
    session = line.connection._session
    assert session is not None
    begun = now()
    while not line.socket.closed and now() < begun + 60 * 10**9:
        now.pass_s(1)
        session.tick()
        line.connection._write()
        said += [((now() - begun) / 1e9, one) for one in line.answers()]
    kinds = [(at, one.split("|")[0]) for at, one in said]
    assert (10.0, "35=0") in kinds
    assert [at for at, kind in kinds if kind == "35=0"] == [10.0], "who does not answer is sent no Heartbeat"
    assert [(at, kind) for at, kind in kinds if kind == "35=1"] == [(12.0, "35=1")]
    (test,) = [one for _, one in said if one.startswith("35=1|")]
    assert test.replace(format_timestamp(begun + 12 * 10**9).decode(), "then").endswith("|56=TW|112=TEST|")
    assert line.socket.closed
    line.end()


async def test_our_logout_need_not_be_answered_for_ever() -> None:
    now = Now()
    line = Line(make(now), "FIX.4.4")
    play(line, LOGON)
    line.say("35=D|34=2|49=WT|52=now|56=ISLD|" + ORDER)
    assert [one.split("|")[0] for one in line.answers()] == ["35=3", "35=5"]
    session = line.connection._session
    assert session is not None
    for closed in (False, True):
        now.pass_s(1.5)
        session.tick()
        assert bool(session.closed) is closed
    line.end()


@pytest.mark.parametrize("text", ["", "FIX.4.4", "FIX.4.4:A", "FIX.4.4:A->", "FIX.4.4:->B", "A->B", "FIX.9.9:A->B"])
def test_a_name_that_is_no_session_is_refused_with_an_example_or_the_versions(text: str) -> None:
    with pytest.raises(BadSession, match=r"FIX\.4\.4:ISLD->TW44|there is no dictionary"):
        session_name(text)


def test_a_session_has_a_name() -> None:
    assert session_name("FIX.4.2:ISLD->TW") == SessionName(b"FIX.4.2", b"ISLD", b"TW")
    assert str(session_name("FIX.4.2:ISLD->TW")) == "FIX.4.2:ISLD->TW"


async def test_it_listens_where_it_is_told_to_and_says_what_happens() -> None:
    told: list[tuple[str, str, bytes]] = []
    network, ports = MemoryNetwork(), []
    acceptor = Echo([session_name("FIX.4.4:ISLD->TW")], Now(), watch=lambda *what: told.append(what))
    serving = asyncio.create_task(acceptor.serve(network, "127.0.0.1", 0, ports.append))
    while not ports:  # noqa: ASYNC110 - it is told by a callback
        await asyncio.sleep(0)

    class Caller(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.heard += data

    caller = Caller()
    await network.connect(lambda: caller, "127.0.0.1", ports[0])
    caller.transport.write(frame(b"FIX.4.4", soh(LOGON[0][2:].replace("now", NOW))))
    while not caller.heard:  # noqa: ASYNC110 - the same
        await asyncio.sleep(0)
    caller.transport.close()
    while not any(what == "closed" for _, what, _ in told):  # noqa: ASYNC110 - the same
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert [(name, what) for name, what, _ in told] == [
        ("FIX.4.4:ISLD->TW", what) for what in ("in", "logon", "out", "closed")
    ]
