"""A counterparty of QuickFIX (C++): `quickfix_peer.py MODULE ROLE PORT VERSION SENDER TARGET FOLDER`.

It reads lines from standard input: `send 35=8|…` sends a message (`|` for SOH; header and trailer are QuickFIX's), an
empty line or the end logs out. On standard output it says what happens: `port 1234`, `logon`, `logout`, and each
application message as `app 35=8|…`. ROLE is initiator or acceptor. Numbers and messages are kept in the folder.
"""

import sys
from pathlib import Path
from typing import Any

MODULE, ROLE, PORT, VERSION, SENDER, TARGET, FOLDER = sys.argv[1:]
sys.path.insert(0, MODULE)
import quickfix as fix  # type: ignore[import-not-found] # noqa: E402 - from the folder that the command line names

_SOH = "\x01"


def say(*words: str) -> None:
    """A line for whoever has started us."""
    print(*words, flush=True)  # noqa: T201 - what it is for


class Application(fix.Application):  # type: ignore[misc] # it has no types
    """Says what it is told."""

    def onCreate(self, session: Any) -> None:  # noqa: N802 - QuickFIX's names
        """There is a session."""

    def onLogon(self, session: Any) -> None:  # noqa: N802
        """It is logged on."""
        del session
        say("logon")

    def onLogout(self, session: Any) -> None:  # noqa: N802
        """It is not any more."""
        del session
        say("logout")

    def toAdmin(self, message: Any, session: Any) -> None:  # noqa: N802
        """A session message goes out."""

    def fromAdmin(self, message: Any, session: Any) -> None:  # noqa: N802
        """A session message has come."""

    def toApp(self, message: Any, session: Any) -> None:  # noqa: N802
        """An application message goes out."""

    def fromApp(self, message: Any, session: Any) -> None:  # noqa: N802
        """An application message has come."""
        del session
        say("app", message.toString().replace(_SOH, "|"))


def settings() -> Any:
    """For one session that begins once and goes on."""
    dictionary = next(Path(MODULE).rglob(f"{VERSION.replace('.', '')}.xml"))
    where = (
        f"SocketConnectHost=127.0.0.1\nSocketConnectPort={PORT}\nReconnectInterval=1"
        if ROLE == "initiator"
        else f"SocketAcceptPort={PORT}\nSocketReuseAddress=Y"
    )
    file = Path(FOLDER, "settings.cfg")
    file.write_text(
        f"[DEFAULT]\nConnectionType={ROLE}\nFileStorePath={FOLDER}/store\nFileLogPath={FOLDER}/log\n"
        "StartTime=00:00:00\nEndTime=00:00:00\nUseDataDictionary=Y\nValidateUserDefinedFields=N\nHeartBtInt=5\n"
        f"[SESSION]\nBeginString={VERSION}\nSenderCompID={SENDER}\nTargetCompID={TARGET}\nDataDictionary={dictionary}\n{where}\n"
    )
    return fix.SessionSettings(str(file))


def main() -> None:
    """Runs until standard input ends."""
    told = settings()
    application, stores, logs = Application(), fix.FileStoreFactory(told), fix.FileLogFactory(told)
    kind = fix.SocketInitiator if ROLE == "initiator" else fix.SocketAcceptor
    engine = kind(application, stores, told, logs)
    engine.start()
    say("started")
    session = fix.SessionID(VERSION, SENDER, TARGET)
    known = fix.DataDictionary(str(next(Path(MODULE).rglob(f"{VERSION.replace('.', '')}.xml"))))
    for line in sys.stdin:
        word, _, body = line.strip().partition(" ")
        if word != "send":
            break
        text = f"8={VERSION}|9=0|{body}10=000|".replace("|", _SOH)
        fix.Session.sendToTarget(fix.Message(text, known, False), session)
    engine.stop()
    say("stopped")


main()
