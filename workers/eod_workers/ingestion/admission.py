"""Who is connected, who may log on, and whose numbers count: one connection a session.

A connection that is alive keeps its place, and a second logon of its session is refused; one that does not answer a
TestRequest(1) is given up for the newer, as after a broken line that only the counterparty has noticed. A connection on
another replica is asked after by way of that replica (see `claims`).

Should both believe that they serve a session, as after one was frozen, the older is fenced: a logon takes the session
over in the store (see `tenure`), and the older finds its numbers refused when it next saves any, at the latest with the
next Heartbeat(0) it hears. It hangs up then; nothing is lost if it has read meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import structlog

from eod_workers.fix.fields import text_of
from eod_workers.fix.session import Room
from eod_workers.ingestion import limits
from eod_workers.ingestion.claims import Claims
from eod_workers.ingestion.connection import Connection
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.sessions import note_stuck
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.tenure import Tenure, begin, owner_key, save, sent_key, state_key
from eod_workers.ingestion.terms import Terms, TermsBook, Untold, told
from eod_workers.ingestion.writer import LogWriter
from eod_workers.ports import Clock, StateStore, Unavailable
from eod_workers.runtime.tls import tls_of

logger = structlog.get_logger()
_LOOK_S = 1.0
_OTHER_DESCRIPTORS = 64
_ANSWER_S = 2.0
"""How long a connection may take to show that it is alive when another one logs on."""
_ANSWER_ELSEWHERE_S = _ANSWER_S + 1.0
"""The same of one on another replica, with the way there and back."""
_LIVE = "the session is live on another connection: log that out first"

_NOBODY = (
    "nobody is named who may log on: name counterparties in EOD_FIX_COUNTERPARTIES or EOD_FIX_SESSIONS_FILE (a file "
    "without sessions is a list, too), or say with EOD_FIX_ADMIT_ANYBODY=true that this is a demo"
)


class Admission:
    """The connections of one process, for as long as it has the same writer or several, one after the other."""

    def __init__(
        self,
        settings: IngestionSettings,
        state: StateStore,
        clock: Clock,
        metrics: IngestionMetrics,
        *,
        drawn_name: str,
    ) -> None:
        """Takes our CompID and the counterparties from the settings; `drawn_name` no other ingestion has.

        Raises:
            ValueError: nobody is named who may log on, the sessions file is wrong, or a file of TLS.
        """
        if not (settings.fix_sessions_file or settings.fix_counterparties or settings.fix_admit_anybody):
            raise ValueError(_NOBODY)
        self.connections: dict[Connection, None] = {}
        """In the order in which they came."""
        self.stopping = False
        """Nobody is admitted any more."""
        self.claims = Claims(state, self._is_live, drawn_name=drawn_name, answered_within_s=_ANSWER_ELSEWHERE_S)
        self._settings = settings
        self._book = TermsBook(
            Terms(
                zone=settings.fix_zone,
                reset=settings.fix_reset,
                trade_captures=settings.fix_trade_captures,
                trader_tag=settings.fix_trader_tag,
                messages_per_s=settings.fix_messages_per_s,
                sending_time_within_s=settings.fix_sending_time_within_s,
            ),
            settings.fix_sessions_file,
            certified=bool(settings.fix_tls_ca_file),
        )
        self.tls = tls_of(settings, "fix")
        self._state = state
        self._clock = clock
        self._metrics = metrics
        self._gone = asyncio.Event()
        self._strangers = limits.Budget(limits.STRANGERS_AT_ONCE, limits.STRANGERS_PER_S)
        self._room = Room()
        self._most = _most_connections(settings.fix_max_connections)
        self._claims = 0

    @property
    def why_full(self) -> str:
        """Why nobody more can be served, or "": who has not logged on makes room."""
        taken = len(self.connections) >= self._most and not any(one.is_unknown for one in self.connections)
        return self._full if taken else ""

    @property
    def _full(self) -> str:
        return (
            f"{self._most} FIX connections are open, the most there may be: raise EOD_FIX_MAX_CONNECTIONS, or scale out"
        )

    def connected(self, writer: LogWriter) -> Connection:
        """The protocol of a new connection, whose session will write to `writer`."""

        async def open_(connection: Connection, sender: bytes, target: bytes) -> Tenure | str:
            return await self._admit(writer, connection, sender, target)

        async def renew(tenure: Tenure) -> Tenure | str:
            return await self._renew(writer, tenure)

        return Connection(
            writer,
            self._clock,
            max_message_bytes=self._settings.fix_max_message_bytes,
            is_named=self._book.names,
            opener=open_,
            renewer=renew,
            saver=self._save,
            opened=self._connected,
            closed=self._disconnected,
            refusals=lambda reason: self._metrics.refused.labels(reason).inc(),
            strangers=self._strangers,
            room=self._room,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for connections to go: the condition is looked at whenever one has."""
        while not condition():
            self._gone.clear()
            await self._gone.wait()

    def hold_back(self, on: bool) -> None:  # noqa: FBT001 - the writer's callback
        """Stops or resumes reading all sockets."""
        for connection in self.connections:
            connection.hold_back(on)

    def wait(self, sessions: frozenset[str]) -> None:
        """Reads the sockets of all sessions but these, which wait for partitions that nobody leads."""
        for connection in self.connections:
            connection.wait(connection.name in sessions)

    def superseded(self, tenure: Tenure) -> None:
        """Another ingestion serves the session of a tenure, which has just found out."""
        self._metrics.superseded.inc()
        connection = next((one for one in self.connections if one.tenure is tenure), None)
        logger.warning(
            "fix.superseded",
            session=tenure.session,
            epoch=tenure.sequence.epoch,
            inbound=tenure.sequence.inbound,
            token=tenure.token,
            connected=connection is not None,
            why="another ingestion has taken the session over; it goes on from the numbers that were saved",
        )
        if connection is not None:
            connection.superseded()

    async def look_around(self) -> None:
        """Runs until it is cancelled: changed terms are agreed on, and sessions that wait in vain named in the store.

        These are for `eod fix sessions`. They save nothing, so this is also how they learn that somebody has taken them
        over, by `eod fix skip` or elsewhere.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            self.tls.look_again()
            if self._book.look_again():
                self._agree_again()
            self._metrics.sessions_file_refused.set(self._book.refused)
            for connection in list(self.connections):
                with contextlib.suppress(Unavailable):
                    await self._look_after(connection)

    def _agree_again(self) -> None:
        """The terms have changed: a session that is still to be there goes on by the new ones."""
        for connection in list(self.connections):
            if connection.session is None:
                continue
            terms = self._book.of(connection.name)
            if isinstance(terms, Terms):
                connection.agree(terms)
            else:
                connection.logout(told(terms, connection.name))

    async def _look_after(self, connection: Connection) -> None:
        session, tenure = connection.session, connection.tenure
        if session is None or tenure is None or not session.stuck_at:
            return
        stored = await self._state.get_versioned(state_key(tenure.session))
        if connection.tenure is not tenure:
            return
        if stored is not None and stored[0] > tenure.token:
            self.superseded(tenure)
        else:
            await note_stuck(self._state, tenure.session, tenure.sequence, session.held, connection.stuck_since_ns)

    async def _admit(self, writer: LogWriter, connection: Connection, sender: bytes, target: bytes) -> Tenure | str:
        session = connection.name
        terms = self._book.of(session)
        if isinstance(terms, str):
            return terms
        if why := self._stranger(text_of(sender), text_of(target)) or _unlike(terms, connection):
            return why
        connection.agree(terms)
        if self.stopping:
            return "ingestion is stopping"
        self._claims += 1
        connection.claim = self._claims

        def others() -> list[Connection]:
            """Those that are logged on, or began to before this one: of two at once the first is admitted."""
            return [
                other
                for other in self.connections
                if other is not connection
                and other.name == session
                and (other.session is not None or 0 < other.claim < connection.claim)
            ]

        if await self._is_any_live(others):
            return _LIVE
        try:
            if await self.claims.is_live(session):
                return _LIVE
        except Unavailable as error:
            return f"whether the session is live elsewhere cannot be found out now: {error}"
        except PermissionError as error:
            return f"whether the session is live elsewhere may not be asked: {error}"
        except TypeError:
            return (
                f"the state store holds something else than the session's owner under {owner_key(session)}: remove it"
            )
        return await self._take_over(writer, session, terms)

    async def _is_live(self, session: str) -> bool:
        """Whether a session is live here: another ingestion asks, with which somebody wants to log on."""

        def here() -> list[Connection]:
            return [one for one in self.connections if one.name == session and (one.session or one.claim)]

        if self.stopping:  # and its connections go as soon as the log has what they have sent
            await self.until(lambda: not here())
        return await self._is_any_live(here)

    async def _is_any_live(self, connections: Callable[[], list[Connection]]) -> bool:
        """Whether one of them answers; those that do not are hung up on, and have gone when this returns."""
        for one in connections():
            if await one.answers(_ANSWER_S):
                return True
            one.logout("another connection has logged on, and this one does not answer")
            one.abort()
        await self.until(lambda: not connections())
        return False

    async def _renew(self, writer: LogWriter, tenure: Tenure) -> Tenure | str:
        """The tenure of a session whose numbers begin again, once all that was read in the present is on the log."""
        await writer.acknowledged_so_far(tenure.session)
        if writer.live.get(tenure.session) is not tenure:
            return "another ingestion has taken the session over"
        terms = self._book.of(tenure.session)
        return terms if isinstance(terms, str) else await self._take_over(writer, tenure.session, terms)

    async def _take_over(self, writer: LogWriter, session: str, terms: Terms) -> Tenure | str:
        before, now_ns = writer.live.get(session), self._clock.now_ns()
        if before is not None and 0 < before.until_ns <= now_ns:
            await writer.acknowledged_so_far(session)  # of what is not on the log, nothing will be sent again
        before = writer.live.pop(session, None)  # what it has still to save is history for whoever comes next
        try:
            tenure = await begin(self._state, session, now_ns, before, terms.until_ns(now_ns), self.claims.name)
        except Unavailable as error:
            if before is not None:
                writer.live[session] = before
            return f"the session's sequence numbers cannot be read now: {error}"
        except (TypeError, ValueError):
            return (
                f"the state store holds something else than sequence numbers under {state_key(session)}, or than "
                f"messages under {sent_key(session)}: remove both, and let the counterparty log on with "
                "ResetSeqNumFlag(141)=Y"
            )
        if tenure is None:
            return "another ingestion has just taken the session over"
        if self.stopping:
            return "ingestion is stopping"
        writer.live[session] = tenure
        return tenure

    def _stranger(self, sender: str, target: str) -> str:
        """Why these CompIDs may not log on, or ""."""
        ours = self._settings.fix_comp_id
        if self._settings.fix_sessions_file:
            return ""  # it names both sides
        if target != ours:
            return Untold(f"TargetCompID(56)={target!r} is not ours ({ours!r}): set EOD_FIX_COMP_ID")
        named = self._settings.fix_counterparties
        if sender in named or not named:  # then it is said that anybody may
            return ""
        return Untold(f"SenderCompID(49)={sender!r} is not in EOD_FIX_COUNTERPARTIES")

    async def _save(self, tenure: Tenure) -> bool:
        saved = await save(self._state, tenure, tenure.sequence)
        if not saved:
            self.superseded(tenure)
        return saved

    def _connected(self, connection: Connection) -> str:
        full = ""
        if len(self.connections) >= self._most:
            unknown = [one for one in self.connections if one.is_unknown]
            full = "" if unknown else self._full
            if unknown:
                peers = Counter(one.peer for one in unknown)
                most = max(peers.values())
                oldest = next(one for one in unknown if peers[one.peer] == most)
                oldest.turn_away(
                    "unknown", f"it has not logged on, as {most - 1} others of its address, and all are full"
                )
        self.connections[connection] = None
        self._metrics.connections.set(len(self.connections))
        return full

    def _disconnected(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self._metrics.connections.set(len(self.connections))
        self._gone.set()


def _most_connections(wanted: int) -> int:
    """As many as are wanted, and as this process has descriptors for besides its log, its stores and its probes."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if descriptors == resource.RLIM_INFINITY else max(1, min(wanted, descriptors - _OTHER_DESCRIPTORS))


def _unlike(terms: Terms, connection: Connection) -> str:
    """What a connection or its Logon(A) has that was not agreed on or that FIX does not allow, or ""."""
    if terms.addresses and not _is_among(connection.peer, terms):
        return f"it connects from {connection.peer or 'nowhere known'}, which is not among its addresses"
    if terms.certificate and terms.certificate not in connection.certified:
        shown = ", ".join(sorted(connection.certified)) or "none"
        return f"its certificate must be that of {terms.certificate!r}; it shows {shown}"
    proposed = connection.logon.fields.get(b"108", b"")
    if terms.heartbeat_s is not None and proposed != b"%d" % terms.heartbeat_s:
        return f"HeartBtInt(108)={text_of(proposed)!r} is not {terms.heartbeat_s}, which was agreed on"
    return terms.rules.why_no_logon(connection.logon, connection.logon_at_ns)


def _is_among(peer: str, terms: Terms) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in terms.addresses)
