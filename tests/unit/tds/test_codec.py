"""The bytes of the test server: those that a real driver sent once, those of the specification, and there and back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tds import tokens
from tds.packets import ATTENTION, BULK_LOAD, SQL_BATCH, Malformed, Message, packed, read_message
from tds.reading import Reader
from tds.requests import (
    ENCRYPT_NOT_SUPPORTED,
    ENCRYPT_ON,
    ENCRYPT_REQUIRED,
    Login,
    hidden,
    prelogin,
    read_batch,
    read_login,
    read_prelogin,
    read_transaction_request,
)
from tds.tokens import Column, Said
from tds.types import BINARY, INTN, MAX, NVARCHAR, VARBINARY, Type, Value, type_named, without_null
from unit.tds.raw import login

# What pymssql 2.4.6 (FreeTDS 1.5.19) sent: its login, and two rows of
# (a VARBINARY(8), b BIGINT NOT NULL, c NVARCHAR(4), d VARBINARY(MAX), e BINARY(2) NOT NULL).
PRELOGIN_SENT = "00001a00060100200001020021000c03002d00040400310001ff090000000000024d5353514c53657276657200b427000000"
LOGIN_SENT = (
    "ac00000004000074001000000683f2f8b427000000000000e001000088ffffff36040000560002005a00030060000400680003006e000900"
    "0000000080000a0094000a00a800020002fc00000001ac000000ac00000076006d00770072006900a2a5eba5d7a5d2a565006f0064003100"
    "320037002e0030002e0030002e003100440042002d004c00690062007200610072007900750073005f0065006e0067006c00690073006800"
    "64006200"
)
USE_SENT = "1600000012000000020000000000000000000100000075007300650020005b00640062005d00"
BULK_SENT = (
    "810500000000000100a508000161000000000000002608016200000000000100e708000904d00034016300000000000100a5ffff01640000"
    "0000000000ad0200016500d10200410008feffffffffffffff02007800feffffffffffffff0200000070710000000002000102d1ffff0800"
    "00000000000040ffffffffffffffffffff02000304"
)


class Bytes:
    """A stream that has arrived already, in pieces of at most `step` bytes."""

    def __init__(self, data: bytes, step: int = 1 << 20) -> None:
        self._data, self._step = data, step

    def receive(self, size: int) -> bytes:
        piece, self._data = self._data[: min(size, self._step)], self._data[min(size, self._step) :]
        return piece

    def send(self, data: bytes) -> None:
        self._data += data


# --- packets --------------------------------------------------------------------------------------


def test_a_message_is_packets_of_which_the_last_is_marked() -> None:
    assert packed(SQL_BATCH, b"abcde", packet_bytes=11) == bytes.fromhex("0100000b00000100616263 0101000a00000200 6465")
    assert packed(SQL_BATCH, b"") == bytes.fromhex("0101000800000100")


@given(st.binary(max_size=2_000), st.integers(9, 600), st.integers(1, 700))
def test_messages_come_back_however_they_are_cut(payload: bytes, packet_bytes: int, step: int) -> None:
    sent = packed(BULK_LOAD, payload, packet_bytes=packet_bytes) + packed(SQL_BATCH, payload)
    stream = Bytes(sent, step)
    assert read_message(stream) == Message(BULK_LOAD, payload)
    assert read_message(stream) == Message(SQL_BATCH, payload)


def test_an_attention_in_the_middle_of_a_message_takes_its_place() -> None:
    first = packed(BULK_LOAD, b"x" * 50, packet_bytes=20)[:20]
    assert read_message(Bytes(first + packed(ATTENTION, b""))) == Message(ATTENTION, b"")


@pytest.mark.parametrize("data", ["0101000700000100", "01000009000001006107010009000001 0062"])
def test_what_is_no_tds_is_refused(data: str) -> None:
    """A length below that of the header; a message that goes on with another type."""
    with pytest.raises(Malformed):
        read_message(Bytes(bytes.fromhex(data)))


# --- what clients send ----------------------------------------------------------------------------


def test_a_prelogin_tells_what_the_client_wants_of_encryption() -> None:
    """FreeTDS without TLS; the example of [MS-SSTDS] 4.1, in which the client has none either way."""
    assert read_prelogin(bytes.fromhex(PRELOGIN_SENT)) == ENCRYPT_NOT_SUPPORTED
    example = "0000150006 01001b0001 02001c000c 0300280004 ff 080001550000 00 4d5353514c53657276657200 80190000"
    assert read_prelogin(bytes.fromhex(example)) == 0
    for wanted in (ENCRYPT_ON, ENCRYPT_NOT_SUPPORTED, ENCRYPT_REQUIRED):
        assert read_prelogin(prelogin(wanted)) == wanted


def test_a_login_is_read_as_the_driver_meant_it() -> None:
    assert read_login(bytes.fromhex(LOGIN_SENT)) == Login("wri", "pä'w", "db", "eod", 0x74000004)
    assert hidden("pä'w").hex() == "a2a5eba5d7a5d2a5"


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_logins_come_back(user: str, password: str, database: str) -> None:
    assert read_login(login(user, password, database)) == Login(user, password, database, "", 0x74000004)


def test_a_login_that_points_outside_of_itself_is_refused() -> None:
    with pytest.raises(Malformed, match="database"):
        read_login(login("u", "p", "database")[:-2])


def test_a_batch_is_read_past_its_headers() -> None:
    assert read_batch(bytes.fromhex(USE_SENT)) == "use [db]"
    assert read_transaction_request(bytes.fromhex("16000000120000000200000000000000000001000000 0700")) == 7


def test_a_bulk_load_is_read_as_the_driver_meant_it() -> None:
    """An empty value arrives as NULL: that is FreeTDS, and why the store's staging tables take NULL for empty."""
    described, rows = tokens.read_rows(Reader(bytes.fromhex(BULK_SENT)))
    assert [(column.name, column.type, column.nullable) for column in described] == [
        ("a", Type(VARBINARY, 8), True),
        ("b", Type(INTN, 8), False),
        ("c", Type(NVARCHAR, 8), True),
        ("d", Type(VARBINARY, MAX), True),
        ("e", Type(BINARY, 2), False),
    ]
    assert list(rows) == [[b"A\0", -2, "x", b"pq", b"\1\2"], [None, 2**62, None, None, b"\3\4"]]


# --- what the server says -------------------------------------------------------------------------


def test_the_tokens_are_those_of_the_specification() -> None:
    """[MS-TDS] 2.2.7, written out by hand."""
    assert tokens.done(tokens.MORE, 3).hex() == "fd110000000300000000000000"
    assert tokens.env_text(tokens.DATABASE, "db", "m").hex() == "e3090001" + "0264006200" + "016d00"
    assert tokens.env_transaction(tokens.BEGUN, 7).hex() == "e30b0008" + "080700000000000000" + "00"
    assert tokens.env_transaction(tokens.COMMITTED, 7).hex() == "e30b0009" + "00" + "080700000000000000"
    error = tokens.said(Said(18456, "No", 14, 5, 2)).hex()
    assert error == "aa240018480000050e02004e006f0009" + "tests-tds".encode("utf-16-le").hex() + "00" + "02000000"
    assert tokens.said(Said(5701, "x", 0))[0] == tokens.INFO
    described = [Column("a", Type(INTN, 8)), Column("b", Type(NVARCHAR, 8), nullable=False)]
    assert tokens.columns(described).hex() == (
        "810200" + "00000000" + "0100" + "2608" + "016100" + "00000000" + "0000" + "e708000904d00034" + "016200"
    )
    assert tokens.row(described, [-2, "x"]).hex() == "d1" + "08feffffffffffffff" + "02007800"
    assert tokens.row(described, [None, ""]).hex() == "d2" + "01" + "0000"


def test_the_last_done_of_an_answer_says_that_nothing_follows() -> None:
    """Drivers wait for more otherwise."""
    answer = [tokens.done(tokens.MORE, 1), tokens.done(tokens.MORE | tokens.IN_TRANSACTION, 2)]
    assert tokens.ended(answer, 0) == [tokens.done(tokens.MORE, 1), tokens.done(0, 2)]
    assert tokens.ended([], tokens.IN_TRANSACTION) == [tokens.done(tokens.IN_TRANSACTION)]


INTEGERS = {Type(INTN, size): st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1) for size in (2, 4, 8)}
VALUES: dict[Type, st.SearchStrategy[Value]] = {
    **INTEGERS,
    Type(INTN, 1): st.integers(0, 255),
    Type(NVARCHAR, 40): st.text(max_size=10),
    Type(NVARCHAR, MAX): st.text(max_size=300),
    Type(VARBINARY, 20): st.binary(max_size=20),
    Type(VARBINARY, MAX): st.binary(max_size=300),
    Type(BINARY, 4): st.binary(min_size=4, max_size=4),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Column], list[list[Value]]]:
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=12))
    nullable = [draw(st.booleans()) for _ in kinds]
    described = [
        Column(f"c{number}", kind if null else without_null(kind), null)
        for number, (kind, null) in enumerate(zip(kinds, nullable, strict=True))
    ]
    values = [st.none() | VALUES[kind] if null else VALUES[kind] for kind, null in zip(kinds, nullable, strict=True)]
    return described, draw(st.lists(st.tuples(*values).map(list), max_size=5))


@given(tables())
def test_rows_come_back_as_they_were_sent(table: tuple[Sequence[Column], list[list[Value]]]) -> None:
    """Of every type, with NULLs in them and without, in both forms of a row."""
    described, rows = table
    sent = tokens.columns(described) + b"".join(tokens.row(described, row) for row in rows) + tokens.done(0, len(rows))
    found, read = tokens.read_rows(Reader(sent))
    assert found == described
    assert list(read) == rows


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Type(INTN, 2), 2**15), (Type(INTN, 1), -1), (Type(NVARCHAR, 4), "abc"), (Type(VARBINARY, 1), b"ab"), (Type(INTN, 4), "1")],
)  # fmt: skip
def test_what_does_not_fit_is_not_sent(kind: Type, value: Value) -> None:
    with pytest.raises(ValueError, match=r"fit|integer"):
        kind.encoded(value)


def test_types_have_the_names_of_t_sql() -> None:
    assert type_named("NVARCHAR", "10") == Type(NVARCHAR, 20)
    assert type_named("nvarchar", "MAX") == Type(NVARCHAR, MAX)
    assert type_named("BINARY", "32") == Type(BINARY, 32)
    assert type_named("bigint") == Type(INTN, 8)
    with pytest.raises(ValueError, match="no type geography"):
        type_named("geography")


@given(st.binary(max_size=60))
def test_bytes_that_mean_nothing_are_refused_and_never_read_for_ever(data: bytes) -> None:
    for read in (read_prelogin, lambda payload: list(tokens.read_rows(Reader(payload))[1])):
        try:
            read(data)
        except (Malformed, ValueError):
            continue
