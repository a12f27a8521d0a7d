"""FIX over TLS: who shows no certificate, another's or a strange one is not admitted; renewed files are taken up."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.ingestion import admission
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.tls import names_of
from eod_workers.runtime.tls import tls_of
from structlog.testing import capture_logs
from support.fix_messages import message, report
from support.fix_wire import Wire, booked, listening
from support.patience import soon
from support.stage_world import StageWorld
from testbed.tls import Authority

pytestmark = pytest.mark.timeout(60)


class Certificates:
    """An authority of the test's own, our certificate and those of counterparties."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ours", "the exchange's authority")
        self.server, self.key = self.authority.issue("server", "/CN=eod", server_names="DNS:localhost,IP:127.0.0.1")
        self.stranger = Authority(folder / "theirs", "somebody's authority")

    @property
    def told(self) -> dict[str, Any]:
        """What ingestion is told."""
        return {
            "fix_tls_cert_file": str(self.server),
            "fix_tls_key_file": str(self.key),
            "fix_tls_ca_file": str(self.authority.certificate),
        }

    def client(self, name: str = "", *, by: Authority | None = None) -> ssl.SSLContext:
        """What a counterparty connects with; it believes in our authority."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if name:
            context.load_cert_chain(*(by or self.authority).issue(name, f"/CN={name}"))
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def logon(sender: str = "ACME") -> bytes:
    """Message 1."""
    return message("A", 1, "98=0|108=30|", sender=sender)


async def heard(port: int, context: ssl.SSLContext, sender: str = "ACME") -> bytes:
    """The MsgType of the answer to a Logon, and the text of a Logout."""
    wire = await Wire.to(port, tls=context)
    await wire.write(logon(sender))
    await soon(lambda: bool(wire.heard), "an answer")
    answer = wire.heard[0]
    await wire.close()
    return answer[b"35"] + answer.get(b"58", b"")


async def test_a_session_goes_on_as_over_tcp(world: StageWorld, certificates: Certificates) -> None:
    worker, port = await listening(world, **certificates.told)
    wire = await Wire.to(port, tls=certificates.client("broker"))
    await wire.write(logon(), *(report(number, f"X{number}") for number in range(2, 502)), message("5", 502))
    await wire.hear(b"5")
    await wire.closed()
    while len(await booked(world)) < 500:  # noqa: ASYNC110 - the log tells nobody
        await asyncio.sleep(0.01)
    await worker.stop()


async def first_byte(port: int, context: ssl.SSLContext) -> bytes:
    """Of the answer to a Logon: in TLS 1.3 a client learns when it reads that it is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(logon())
        return await reader.readexactly(1)
    finally:
        writer.transport.abort()


async def test_who_has_no_certificate_of_our_authority_is_not_heard(
    world: StageWorld, certificates: Certificates
) -> None:
    worker, port = await listening(world, **certificates.told)
    for context in (certificates.client(), certificates.client("broker", by=certificates.stranger)):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await first_byte(port, context)
    assert await heard(port, certificates.client("broker")) == b"A"
    plain = await Wire.to(port)
    await plain.write(logon("BRAVO"))
    await plain.closed()
    assert plain.heard == []
    await worker.stop()


async def test_without_an_authority_nobody_needs_one(world: StageWorld, certificates: Certificates) -> None:
    worker, port = await listening(world, **{**certificates.told, "fix_tls_ca_file": ""})
    assert await heard(port, certificates.client()) == b"A"
    await worker.stop()


async def test_who_asks_for_no_certificates_holds_no_session_to_one(
    world: StageWorld, certificates: Certificates, tmp_path: Path
) -> None:
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions:\n  ACME->EOD: {certificate: acme}\n")
    with pytest.raises(ValueError, match=r"session 'ACME->EOD': it names a certificate, .*: set EOD_FIX_TLS_CA_FILE"):
        await listening(world, fix_sessions_file=str(file), **{**certificates.told, "fix_tls_ca_file": ""})


async def test_a_session_may_want_the_certificate_of_one(
    world: StageWorld, certificates: Certificates, tmp_path: Path
) -> None:
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions:\n  ACME->EOD: {certificate: acme}\n  BRAVO->EOD: {}\n")
    worker, port = await listening(world, fix_sessions_file=str(file), **certificates.told)
    bravo = certificates.client("bravo")
    refused = await heard(port, bravo)
    assert refused == b"5its certificate must be that of 'acme'; it shows bravo"
    assert await heard(port, bravo, "BRAVO") == b"A"
    assert await heard(port, certificates.client("acme")) == b"A"
    await worker.stop()


async def test_a_renewed_certificate_is_shown_to_whoever_connects_next_and_a_wrong_one_is_not(
    world: StageWorld, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    worker, port = await listening(world, **certificates.told)
    context = certificates.client("broker")
    standing = await Wire.to(port, tls=context)
    await standing.write(logon())
    await standing.hear(b"A")

    async def shown() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        names = names_of(writer.get_extra_info("peercert"))
        writer.close()
        return "renewed" if "renewed" in names else "first"

    with capture_logs() as logs:
        assert await shown() == "first"
        certificates.server.write_text("no certificate")
        await soon(lambda: any(log["event"] == "fix.tls" for log in logs), "it has looked")
        assert await shown() == "first"
        new, key = certificates.authority.issue("renewed", "/CN=renewed", server_names="DNS:localhost,IP:127.0.0.1")
        key.replace(certificates.key)
        new.replace(certificates.server)
        while await shown() == "first":  # noqa: ASYNC110 - nobody tells that it has looked
            await asyncio.sleep(0.02)
    assert "no certificate with its key" in next(log["error"] for log in logs if log["event"] == "fix.tls")
    await standing.write(message("1", 2, "112=still here|"))
    await standing.hear(b"0")
    await standing.close()
    await worker.stop()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"fix_tls_key_file": ""}, "EOD_FIX_TLS_CERT_FILE is set, and EOD_FIX_TLS_KEY_FILE is not"),
        ({"fix_tls_cert_file": ""}, "EOD_FIX_TLS_KEY_FILE is set, and EOD_FIX_TLS_CERT_FILE is not"),
        ({"fix_tls_cert_file": "", "fix_tls_key_file": ""}, "EOD_FIX_TLS_CA_FILE is set, and EOD_FIX_TLS_CERT_FILE is"),
        (
            {"fix_tls_cert_file": "/nowhere"},
            "EOD_FIX_TLS_CERT_FILE=/nowhere and EOD_FIX_TLS_KEY_FILE=.* are no certificate",
        ),
        ({"fix_tls_ca_file": "/nowhere"}, "EOD_FIX_TLS_CA_FILE=/nowhere holds no certificates"),
        ({"fix_tls_ca_file": __file__}, "holds no certificates in PEM"),
    ],
)
def test_files_that_make_no_tls_are_refused_at_the_start(
    certificates: Certificates, changed: dict[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        tls_of(IngestionSettings(**{**certificates.told, **changed}), "fix")


async def test_a_certificate_whose_key_comes_later_waits_for_it(certificates: Certificates) -> None:
    """Whoever replaces the files one after the other leaves two for a moment that do not go together."""
    tls = tls_of(IngestionSettings(**{**certificates.told, "fix_tls_ca_file": ""}), "fix")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context)

    async def shown() -> set[str]:
        tls.look_again()
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=certificates.client())
        names = names_of(writer.get_extra_info("peercert"))
        writer.transport.abort()
        return {*names} - {"localhost", "127.0.0.1"}

    new, key = certificates.authority.issue("renewed", "/CN=renewed", server_names="DNS:localhost,IP:127.0.0.1")
    async with server:
        assert await shown() == {"eod"}
        new.replace(certificates.server)
        assert await shown() == {"eod"}
        key.replace(certificates.key)
        assert await shown() == {"renewed"}


async def test_an_authority_that_is_taken_out_is_believed_no_more(
    world: StageWorld, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_LOOK_S", 0.02)
    worker, port = await listening(world, **certificates.told)
    before, after = (
        certificates.client("before"),
        certificates.client("after", by=certificates.stranger),
    )
    with capture_logs() as logs:
        certificates.stranger.certificate.replace(certificates.authority.certificate)
        await soon(lambda: any(log["event"] == "fix.tls" for log in logs), "it has looked")
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await first_byte(port, before)
    assert await heard(port, after) == b"A"
    await worker.stop()


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    _, key = certificates.authority.issue("other", "/CN=other")
    with pytest.raises(ValueError, match="are no certificate with its key"):
        tls_of(IngestionSettings(**{**certificates.told, "fix_tls_key_file": str(key)}), "fix")


async def test_a_network_in_memory_has_none(certificates: Certificates) -> None:
    tls = tls_of(IngestionSettings(**certificates.told), "fix")
    with pytest.raises(ValueError, match="no TLS"):
        await MemoryNetwork().listen(asyncio.Protocol, "127.0.0.1", 0, tls=tls.context)


def test_the_names_of_a_certificate() -> None:
    certificate = {
        "subject": ((("countryName", "US"),), (("commonName", "acme"),)),
        "subjectAltName": (("DNS", "fix.acme.example"), ("URI", "spiffe://acme/fix")),
    }
    assert names_of(certificate) == {"acme", "fix.acme.example", "spiffe://acme/fix"}
    assert names_of(None) == names_of({}) == frozenset()
