"""On what terms a FIX session is admitted: from where, with which heartbeat, in which time zone, and when its day ends.

Without a file all sessions have the same terms, those of the settings. With one, a session has its own, and who is not
in it may not log on. The file is read again when it changes, as a mounted ConfigMap does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
from eod_contract.watched import Watched
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, ValidationError

from eod_workers.fix.rules import MAX_ACCURACY_S, MAX_HEARTBEAT_S, Rules
from eod_workers.trades.dates import NEW_YORK, zone_of

logger = structlog.get_logger()
_NS = 1_000_000_000
_NAME = re.compile(r"(FIX\.4\.2:)?(?! )[^/:>]+(/[^/:>]+)?(?<! )->(?! )[^/:>]+(/[^/:>]+)?(?<! )\Z")
_HH_MM = re.compile(r"([01]\d|2[0-3]):[0-5]\d\Z")
_ADVICE = "mend the file, or unset EOD_FIX_SESSIONS_FILE"


def _zone(name: str) -> str:
    zone_of(name)
    return name


def _time_of_day(value: object) -> object:
    if value in (None, ""):
        return None
    if isinstance(value, time):
        return value
    if not _HH_MM.match(str(value)):
        raise ValueError(f"{value!r} is no time of day: write it as '17:00', in the zone of the session")
    return time.fromisoformat(str(value))


Zone = Annotated[str, AfterValidator(_zone)]
"""An IANA time zone that exists."""
TimeOfDay = Annotated[time | None, BeforeValidator(_time_of_day)]
"""HH:MM, or nothing."""


class Untold(str):
    """Why a session may not log on, in words for our log: settings and files of ours are nothing to whoever tries."""

    __slots__ = ()


def told(why: str, session: str) -> str:
    """What the counterparty hears of a reason."""
    return f"session {session!r} may not log on here" if isinstance(why, Untold) else why


class Terms(BaseModel):
    """What is agreed on with a counterparty.

    Attributes:
        zone: IANA time zone of its trading days, and of `reset`.
        reset: when both begin their numbers at 1 again, every day; None: only when the counterparty asks for it.
        addresses: where it may connect from; empty: from anywhere.
        certificate: a name that its TLS certificate must have, common or alternative; "": any that we believe, or none.
        trade_captures: whether a TradeCaptureReport(AE) is booked; else it is answered as an unsupported message.
        trader_tag: field that names the trader; without it, or where a report has none, the executing party does.
        messages_per_s: what it may send in a second; beyond that it is read no faster. None: as much as comes.
        heartbeat_s: HeartBtInt(108) that its Logon must have; None: whatever it has.
        sending_time_within_s: how far its SendingTime(52) may be from our clock; 0 does not look at it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: Zone = NEW_YORK
    reset: TimeOfDay = None
    addresses: tuple[IPvAnyNetwork, ...] = ()
    certificate: str = ""
    trade_captures: bool = True
    trader_tag: Annotated[int | None, Field(ge=1)] = None
    messages_per_s: Annotated[float | None, Field(gt=0)] = None
    heartbeat_s: Annotated[int | None, Field(ge=1, le=MAX_HEARTBEAT_S)] = None
    sending_time_within_s: Annotated[int, Field(ge=0, le=MAX_ACCURACY_S)] = 0

    @property
    def rules(self) -> Rules:
        """What its session asks of it."""
        return Rules(accuracy_s=self.sending_time_within_s or None)

    @property
    def told(self) -> str:
        """When the numbers begin again, in words; "" if they do not by themselves."""
        return f"{self.reset:%H:%M} {self.zone}" if self.reset is not None else ""

    def until_ns(self, now_ns: int) -> int:
        """When the day that now runs ends, in nanoseconds since the Unix epoch; 0 if it does not."""
        if self.reset is None:
            return 0
        local = datetime.fromtimestamp(now_ns // _NS, zone_of(self.zone))
        end = local.replace(hour=self.reset.hour, minute=self.reset.minute, second=0, microsecond=0, fold=0)
        while int(end.timestamp()) * _NS <= now_ns:
            end += timedelta(days=1)
        return int(end.timestamp()) * _NS


class TermsBook:
    """The terms of every session."""

    def __init__(self, usual: Terms, path: str = "", *, certified: bool = True) -> None:
        """`usual` are the terms of all, or where a file is named, what its sessions have unless they say otherwise.

        `certified` is whether certificates are asked for: else no session can be held to one.

        Raises:
            ValueError: the file cannot be read, or is wrong.
        """
        self._usual = usual
        self._path = Path(path) if path else None
        self._certified = certified
        self.refused = False
        """The file is wrong as it is now: the terms of before go on here, and nobody who starts now gets far."""
        self._watched = Watched(*([self._path] if self._path else []))
        self._sessions = None if self._path is None else self._load(self._path)

    def of(self, session: str) -> Terms | str:
        """The terms of a session, or why it has none."""
        if self._sessions is None:
            return self._usual
        where = f"session {session!r} is not in EOD_FIX_SESSIONS_FILE ({self._path})"
        return self._sessions.get(session) or Untold(where)

    def names(self, session: str) -> bool:
        """Whether a file names the session."""
        return self._sessions is not None and session in self._sessions

    def look_again(self) -> bool:
        """Reads the file again if it has changed; whether the terms have. A file that is wrong changes nothing."""
        if self._path is None or not self._watched.changed():
            return False
        try:
            self._sessions = self._load(self._path)
            self.refused = False
        except ValueError as error:
            self.refused = True
            why = "the terms that were read before go on"
            logger.error("fix.sessions_file", error=str(error), why=why)  # noqa: TRY400 - it says where
            return False
        logger.info("fix.sessions_file", path=str(self._path), sessions=len(self._sessions))
        return True

    def _load(self, path: Path) -> Mapping[str, Terms]:
        sessions = _load(path, self._usual)
        if not self._certified and (name := next((name for name, one in sessions.items() if one.certificate), "")):
            raise ValueError(
                f"the sessions file {path}, session {name!r}: it names a certificate, and nobody is asked for any: "
                "set EOD_FIX_TLS_CA_FILE, or take it out"
            )
        return sessions


def _load(path: Path, usual: Terms) -> Mapping[str, Terms]:
    """The sessions of a file.

    Raises:
        ValueError: it cannot be read, or is not of the form; the message says where, and how to mend it.
    """
    import yaml  # noqa: PLC0415 - who has no file starts sooner without it

    class Loader(yaml.BaseLoader):
        """Everything as text: 17:00 without quotes would be the number 61,200. No key counts that stands twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
            seen = set[str]()
            for key, _ in node.value:
                if (name := str(key.value)) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{name!r} stands twice", problem_mark=key.start_mark)
                seen.add(name)
            return dict(super().construct_mapping(node, deep=deep))

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 - it makes texts alone
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the sessions file {path} cannot be read: {error}; {_ADVICE}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"the sessions file {path} is not YAML as it is meant: {error}; {_ADVICE}") from None
    sessions = data.get("sessions") if isinstance(data, dict) else None
    if not isinstance(sessions, dict) or not set(data) <= {"sessions"}:
        raise ValueError(f"the sessions file {path} needs one key, sessions: {{'BROKER->EOD': {{…}}}}; {_ADVICE}")
    return {name: _terms(path, name, said, usual) for name, said in sessions.items()}


def _terms(path: Path, name: str, said: Any, usual: Terms) -> Terms:
    where = f"the sessions file {path}, session {name!r}"
    if not _NAME.match(name):
        raise ValueError(
            f"{where}: it must be SENDER->TARGET as the counterparty writes them, with FIX.4.2: in front for that "
            f"version, and /SUBID behind a side that has one; {_ADVICE}"
        )
    if said in (None, ""):
        return usual
    if not isinstance(said, dict):
        raise ValueError(f"{where}: {said!r} are no terms, such as reset: '17:00'; {_ADVICE}")  # noqa: TRY004 - of a file
    try:
        return Terms.model_validate({**usual.model_dump(), **said})
    except ValidationError as error:
        slips = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(f"{where}: {slips}; {_ADVICE}") from None
