"""One connection, from the first packet to the last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tds import tokens
from tds.encryption import Encrypted, Plain
from tds.engine import Engine
from tds.faults import LOGIN, Fail, Pause
from tds.packets import (
    ANSWER,
    ATTENTION,
    BULK_LOAD,
    PRELOGIN,
    RPC,
    SQL_BATCH,
    TRANSACTION,
    Malformed,
    Message,
    packed,
    read_message,
)
from tds.packets import LOGIN as LOGIN_MESSAGE
from tds.reading import Reader
from tds.requests import (
    ENCRYPT_NOT_SUPPORTED,
    ENCRYPT_ON,
    TRANSACTION_BEGIN,
    TRANSACTION_COMMIT,
    TRANSACTION_ROLLBACK,
    prelogin,
    read_batch,
    read_call,
    read_login,
    read_prelogin,
    read_transaction_request,
)
from tds.script import Refused
from tds.tokens import PACKET_SIZE, Said

if TYPE_CHECKING:
    from tds.server import Server

_PACKET_BYTES = 4_096


class Session:
    """One connection."""

    def __init__(self, server: Server, stream: Plain) -> None:
        self._server = server
        self._stream: Plain | Encrypted = stream
        self._plain = stream
        self._engine: Engine | None = None

    def close(self) -> None:
        """End it."""
        if self._engine is not None:
            self._engine.close()

    def run(self) -> None:
        """Serve until the client leaves.

        Raises:
            Closed: it has left.
            Malformed: it does not speak TDS.
            Cut: a fault struck.
        """
        engine = self._log_in()
        if engine is None:
            return
        while True:
            message = read_message(self._stream)
            try:
                self._answer(self._served(engine, message))
            except InterruptedError:
                read_message(self._stream)  # the attention itself
                if engine.in_transaction:
                    engine.rollback()
                self._answer(tokens.done(tokens.CANCELLED))

    def wait(self, within_s: float) -> bool:
        """Wait; True at once when the client says something (a cancel) or has gone."""
        until = time.monotonic() + within_s
        while (left := until - time.monotonic()) > 0:
            if self._stream.waiting(left):
                return True
        return False

    def _log_in(self) -> Engine | None:
        message = read_message(self._plain)
        if message.kind == PRELOGIN:
            wanted = read_prelogin(message.payload)
            encrypt = self._server.tls is not None and wanted != ENCRYPT_NOT_SUPPORTED
            self._answer(prelogin(ENCRYPT_ON if encrypt else ENCRYPT_NOT_SUPPORTED))
            if encrypt and self._server.tls is not None:
                self._stream = Encrypted(self._plain, self._server.tls)
            message = read_message(self._stream)
        if message.kind != LOGIN_MESSAGE:
            raise Malformed(f"a login is expected, not a message of type {message.kind}")
        login = read_login(message.payload)
        self._server.logins += 1
        self._server.encrypted_logins += isinstance(self._stream, Encrypted)
        try:
            try:
                self._server.faults.meet(LOGIN)
            except Pause as pause:
                self.wait(pause.seconds)
            self._engine = self._server.open(login, self)
        except (Refused, Fail) as refusal:
            self._answer(tokens.said(refusal.said) + tokens.done(tokens.FAILED))
            return None
        database = login.database or "master"
        self._answer(
            tokens.env_text(tokens.DATABASE, database, "master")
            + tokens.said(Said(5701, f"Changed database context to '{database}'.", severity=0, state=2))
            + tokens.env_collation()
            + tokens.login_ack()
            + tokens.env_text(PACKET_SIZE, str(_PACKET_BYTES), str(_PACKET_BYTES))
            + tokens.done()
        )
        return self._engine

    def _served(self, engine: Engine, message: Message) -> bytes:
        match message.kind:
            case kind if kind == SQL_BATCH:
                return engine.run(read_batch(message.payload))
            case kind if kind == BULK_LOAD:
                described, rows = tokens.read_rows(Reader(message.payload))
                return engine.load(rows, described)
            case kind if kind == RPC:
                try:
                    call = read_call(message.payload)
                except ValueError as error:
                    return _not_known(str(error))
                return engine.call(call)
            case kind if kind == TRANSACTION:
                return self._transaction(engine, read_transaction_request(message.payload))
            case kind if kind == ATTENTION:
                return tokens.done(tokens.CANCELLED)
            case kind:
                return _not_known(f"messages of type {kind}")

    @staticmethod
    def _transaction(engine: Engine, request: int) -> bytes:
        acts = {
            TRANSACTION_BEGIN: engine.begin,
            TRANSACTION_COMMIT: engine.commit,
            TRANSACTION_ROLLBACK: engine.rollback,
        }
        if request not in acts:
            return _not_known(f"transaction request {request}")
        try:
            return acts[request]() + tokens.done(tokens.IN_TRANSACTION if engine.in_transaction else 0)
        except Refused as refusal:
            return tokens.said(refusal.said) + tokens.done(tokens.FAILED)

    def _answer(self, payload: bytes) -> None:
        self._stream.send(packed(ANSWER, payload, packet_bytes=_PACKET_BYTES))


def _not_known(what: str) -> bytes:
    return tokens.said(Said(50_000, f"This test server does not know {what}.")) + tokens.done(tokens.FAILED)
