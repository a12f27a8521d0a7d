"""Messages out of logs, however they were written, and how they are shown."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from eod_workers.cli.fix import app
from eod_workers.fix.frames import frame
from eod_workers.fix.logs import Logged, messages_of, open_log, repaired, unsound
from eod_workers.fix.shown import readable, shown, title
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import message, report, soh, trade_body
from typer.testing import CliRunner

FIRST, SECOND = report(2, "E1"), message("0", 3)
INNER = "8=FIX.4.2|9=5|35=0|10=163|"
WRAPPER = message("n", 4, f"212={len(INNER)}|213={INNER}|")
SEPARATORS = {"SOH": b"\x01", "bar": b"|", "caret": b"^A"}


def raws(*lines: bytes) -> list[bytes]:
    """The messages of some lines."""
    return [one.raw for one in messages_of(lines)]


@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)
@pytest.mark.parametrize("prefix", [b"", b"20260102-21:00:00.123 : ", b"2026-01-02 21:00:00,123 [INFO] in <- "])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_message_is_read_whatever_stands_between_fields_and_in_front(
    separator: bytes, prefix: bytes, end: bytes
) -> None:
    line = prefix + FIRST.replace(b"\x01", separator) + end
    assert list(messages_of([line])) == [Logged(1, prefix.decode().strip(" :"), FIRST, "")]


@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)
def test_what_is_inside_a_message_is_no_message_of_its_own(separator: bytes) -> None:
    lines = [raw.replace(b"\x01", separator) + b"\n" for raw in (FIRST, WRAPPER, SECOND)]
    assert raws(*lines) == [FIRST, WRAPPER, SECOND]


def test_several_messages_on_a_line_and_lines_without_any() -> None:
    lines = [b"started\n", b"in " + FIRST + SECOND + b"\n", b"\n", b"stopped\n", SECOND]
    assert [(one.line, one.raw) for one in messages_of(lines)] == [(2, FIRST), (2, SECOND), (5, SECOND)]


def test_a_data_field_may_hold_line_feeds() -> None:
    long = message("B", 2, "95=9|96=a\nb\nc=1|x|58=y|")
    lines = [line + b"\n" for line in (b"20260102-21:00:00 : " + long + b"\nnoise\n" + SECOND).split(b"\n")]
    assert raws(*lines) == [long, SECOND]


def test_what_is_cut_or_changed_is_there_with_what_is_wrong() -> None:
    cut, changed = FIRST[:60], FIRST.replace(b"31=12.5", b"31=99.5")
    found = list(messages_of([cut + b"\n", changed + b"\n", SECOND + b"\n"]))
    assert [(one.line, bool(one.why)) for one in found] == [(1, True), (2, True), (3, False)]
    assert "cut short" in found[0].why
    assert "CheckSum(10)" in found[1].why


def test_a_frame_that_a_log_has_changed_is_given_the_length_and_checksum_that_it_has() -> None:
    changed = FIRST.replace(b"448=T001", b"448=*")
    assert unsound(changed)
    assert unsound(repaired(changed)) == ""
    assert b"448=*\x01" in repaired(changed)
    assert repaired(FIRST) == FIRST
    for raw in (FIRST[:40], b"8=FIX.4.4\x0135=0\x01", b"", b"x"):
        with pytest.raises(ValueError, match=r"BodyLength\(9\)"):
            repaired(raw)


@given(
    text=st.lists(
        st.sampled_from([b"\n", b"x", b"8=FIX.4.4\x019=", b"8=FIX.4.4|9=5|", b"\x01", b"10=123|", FIRST, SECOND])
    )
)
def test_no_text_whatever_raises(text: list[bytes]) -> None:
    for one in messages_of(b"".join(text).splitlines(keepends=True)):
        assert one.raw.startswith(b"8=FIX")
        shown(one.raw)
        title(one.raw)


def test_a_compressed_log_is_read_as_it_is(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.log", tmp_path / "packed"
    plain.write_bytes(FIRST + b"\n")
    packed.write_bytes(gzip.compress(FIRST + b"\n" + SECOND + b"\n"))
    for path, expected in ((plain, [FIRST]), (packed, [FIRST, SECOND])):
        with open_log(path) as lines:
            assert raws(*lines) == expected


# --- shown --------------------------------------------------------------------------------------------------


def test_each_field_has_its_name_the_meaning_of_its_value_and_its_group() -> None:
    fields = {(one.tag, one.depth): (one.name, one.value, one.meaning) for one in shown(FIRST)}
    assert fields["54", 0] == ("Side", "1", "BUY")
    assert fields["31", 0] == ("LastPx", "12.5", "")
    assert fields["453", 0] == ("NoPartyIDs", "1", "")
    assert fields["452", 1] == ("PartyRole", "12", "EXECUTING_TRADER")
    assert fields["55", 0] == ("Symbol", "IBM", "")
    assert fields["6061", 0] == ("", "VWAP", "")
    assert title(FIRST) == "ExecutionReport(8) 2 ACME->EOD 20260102-21:00:00.000"
    assert readable(SECOND).startswith("8=FIX.4.4|9=")


def test_an_encoded_field_is_read_by_the_encoding_that_the_message_names() -> None:
    text = "取引".encode("shift_jis")
    head = soh("35=B|49=A|56=B|34=2|52=20260102-21:00:00|347=Shift_JIS|148=x|33=1|58=y|")
    raw = frame(b"FIX.4.4", head + b"354=%d\x01355=%b\x01" % (len(text), text))
    assert {one.tag: one.value for one in shown(raw)}["355"] == "取引"
    assert {one.tag: one.value for one in shown(raw.replace(b"Shift_JIS", b"EUC-JP"))}["355"] != "取引"


# --- the command --------------------------------------------------------------------------------------------


def test_decode_prints_messages_of_files_and_of_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "eod.log"
    path.write_bytes(b"20260102-21:00:00.123 : " + FIRST + b"\n" + SECOND + b"\n")
    said = CliRunner().invoke(app, ["decode", str(path)])
    assert said.exit_code == 0, said.output
    assert "ExecutionReport(8) 2 ACME->EOD" in said.output
    assert "20260102-21:00:00.123" in said.output
    assert "LastPx" in said.output
    piped = CliRunner().invoke(app, ["decode", "--json", "--type", "0"], input=FIRST + b"\n" + SECOND)
    (line,) = [json.loads(one) for one in piped.output.splitlines()]
    assert (line["title"], line["line"], line["source"], line["problem"]) == (
        "Heartbeat(0) 3 ACME->EOD 20260102-21:00:00.000", 2, "standard input", "",
    )  # fmt: skip
    assert {one["name"]: one["value"] for one in line["fields"]}["MsgSeqNum"] == "3"


def test_decode_shows_what_is_broken_and_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    path = tmp_path / "eod.log"
    bad = message("8", 2, trade_body("E1") + "58=\x1b[31m[red]|").replace(b"31=12.5", b"31=99.5")
    path.write_bytes(FIRST + b"\n" + bad + b"\n")
    said = CliRunner().invoke(app, ["decode", "--broken", str(path)])
    assert said.exit_code == 0
    assert "CheckSum(10)" in said.output
    assert "\x1b[31m" not in said.output
    assert r"\x1b[31m[red]" in said.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.log"], "no FIX message found"),
        (["absent.log"], "absent.log"),
        (["--type", "AE", "fix.log"], "type AE"),
    ],
)
def test_decode_says_when_there_is_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nothing.log").write_text("hello\n")
    Path("fix.log").write_bytes(FIRST)
    said = CliRunner().invoke(app, ["decode", *arguments])
    assert said.exit_code == 2
    assert says in said.output


def test_a_compressed_file_that_is_broken_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d 8=FIX.4.4" % n for n in range(10_000)))
    for name, content in (("cut", whole[:-20]), ("flipped", whole[:60] + bytes([whole[60] ^ 0xFF]) + whole[61:])):
        path = tmp_path / name
        path.write_bytes(content)
        with open_log(path) as lines, pytest.raises(OSError, match=rf"{path} is compressed \(gzip\), and broken: "):
            list(lines)
