"""Frames to messages by the dictionary: data, groups, and each reason to reject, by its number."""

from __future__ import annotations

import random
from datetime import date

import pytest
from eod_workers.fix.dictionary import VERSIONS, dictionary
from eod_workers.fix.frames import frame
from eod_workers.fix.reading import (
    PARTIES,
    WORDING,
    Message,
    Part,
    Reason,
    read,
    read_by_structure,
    read_plain,
    repeating,
    structural,
    tokens,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.amounts import examples
from support.fix_messages import message, parsed, report, soh, trade_body

FIX44, FIX42 = dictionary(b"FIX.4.4"), dictionary(b"FIX.4.2")
WRAPPED = "<RTRF>8=FIX.4.2|9=40|35=8|55=ES|31=208700|32=1|10=000|</RTRF>"


def problem(raw: bytes, *, strict: bool = False) -> tuple[int, str] | None:
    """Reason and tag of what is wrong."""
    wrong = parsed(raw, strict=strict).problem
    return (int(wrong.reason), wrong.tag.decode("latin-1")) if wrong else None


# --- the dictionary -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dictionary_is_whole(version: bytes) -> None:
    """Every tag that a message, a group or a length names is a field; no level has a tag twice."""
    known = dictionary(version)
    for msg_type, kind in known.messages.items():
        level = known.level(msg_type)
        assert level.everywhere <= known.fields.keys(), kind.name
        assert len(level.order) == len(level.tags), kind.name
        assert set(level.required) <= level.tags, kind.name
    assert known.lengths.keys() | known.data.keys() <= known.fields.keys()
    assert all(known.fields[data].type == "DATA" for data in known.data)


def test_what_the_specification_says_of_an_execution_report() -> None:
    assert FIX44.messages[b"8"].name == FIX42.messages[b"8"].name == "ExecutionReport"
    assert {b"20"} == set(FIX42.messages[b"8"].body.required) - set(FIX44.messages[b"8"].body.required)
    assert FIX44.messages[b"8"].body.groups[PARTIES].order[:3] == (b"448", b"447", b"452")
    assert PARTIES not in FIX42.fields
    assert FIX44.fields[b"54"].values[b"5"] == "SELL_SHORT"
    assert FIX44.lengths[b"354"] == b"355"
    assert (FIX44.messages[b"8"].admin, FIX44.messages[b"A"].admin) == (False, True)


def test_there_is_no_dictionary_of_a_version_that_nobody_speaks() -> None:
    with pytest.raises(KeyError, match=r"no dictionary of b'FIX\.3\.0'"):
        dictionary(b"FIX.3.0")


# --- data ---------------------------------------------------------------------------------------------------


def test_what_a_length_field_announces_is_data_whatever_it_looks_like() -> None:
    read_ = parsed(report(2, "E1", "354=22|355=was|31=9.99|32=1000000|"))
    assert read_.problem is None
    assert (read_.fields[b"32"], read_.fields[b"31"]) == (b"100", b"12.5")
    assert read_.fields[b"355"] == soh("was|31=9.99|32=1000000")


def test_a_wrapper_holds_whole_frames() -> None:
    read_ = parsed(message("n", 2, f"212={len(WRAPPED)}|213={WRAPPED}|"))
    assert (read_.problem, read_.fields[b"213"], read_.fields[b"35"]) == (None, soh(WRAPPED), b"n")


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("95=3|96=a|b|", None),
        ("95=0|96=|", None),
        ("95=0|", None),
        ("95=2|96=a|b|", (5, "95")),
        ("95=99|96=a|b|", (5, "95")),
        ("95=3|58=abc|", (1, "96")),
        ("95=3|", (1, "96")),
        ("96=abc|", (1, "95")),
        ("58=x|96=abc|", (1, "95")),
        ("95=x|96=abc|", (6, "95")),
        ("95=-1|96=abc|", (6, "95")),
        (f"95={'9' * 30}|96=abc|", (6, "95")),
        ("95=3|355=abc|", (1, "96")),
    ],
)
def test_data_and_its_length_go_together(body: str, wrong: tuple[int, str] | None) -> None:
    assert problem(message("B", 2, body)) == wrong


# --- what nobody can understand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("oops|", (17, "6061")),
        ("|", (17, "6061")),
        ("058=x|", (0, "058")),
        ("x=1|", (0, "x")),
        ("=1|", (0, "")),
        ("-1=x|", (0, "-1")),
        ("0=x|", (0, "0")),
        (f"{'9' * 10}=x|", (0, "9" * 10)),
        ("32=100|", (13, "32")),
        ("34=7|", (13, "34")),
        ("49=ACME|", (13, "49")),
        ("999999999=x|", None),
        ("9999=a|9999=b|", None),
    ],
)
def test_a_report_with_something_that_could_mean_two_things_is_not_understood(
    body: str, wrong: tuple[int, str] | None
) -> None:
    assert problem(report(2, "E1", body)) == wrong


def test_a_message_that_is_not_understood_still_has_its_fields() -> None:
    """Its number is what the session must know of it."""
    read_ = parsed(message("8", 7, "17=X1|oops|58=later|32=1|32=2|"))
    assert read_.problem is not None
    assert read_.problem.reason is Reason.DELIMITER_IN_VALUE, "the first of two"
    assert {tag: read_.fields[tag] for tag in (b"34", b"17", b"58", b"32")} == {
        b"34": b"7", b"17": b"X1", b"58": b"later", b"32": b"1",
    }  # fmt: skip


def test_a_field_of_nobody_s_dictionary_that_repeats_is_named_and_the_first_counts() -> None:
    read_ = parsed(report(2, "E1", "9999=a|9999=b|6061=TWAP|"))
    assert (read_.fields[b"9999"], read_.fields[b"6061"]) == (b"a", b"VWAP")
    assert read_.repeated == {b"9999", b"6061"}


# --- groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["FIX.4.4", "FIX.4.2"])
@pytest.mark.parametrize(
    "group",
    [
        "453=2|448=FIRM|447=D|452=1|448=T9|447=D|452=12|",
        "453=2|452=1|448=FIRM|447=D|452=12|448=T9|447=D|",
        "448=FIRM|447=D|452=1|448=T9|447=D|452=12|",
    ],
)
def test_parties_are_entries_of_a_group_in_any_version_and_order(version: str, group: str) -> None:
    """Some send them in FIX 4.2, which has none, and some without a count."""
    read_ = parsed(message("8", 2, f"17=X|{group}55=IBM|", version=version))
    assert read_.problem is None
    assert read_.groups[PARTIES] == [
        Part({b"448": b"FIRM", b"447": b"D", b"452": b"1"}), Part({b"448": b"T9", b"447": b"D", b"452": b"12"}),
    ]  # fmt: skip
    assert read_.fields[b"55"] == b"IBM"
    assert b"448" not in read_.fields


def test_groups_stand_inside_groups() -> None:
    body = "453=2|448=A|447=D|452=1|802=2|523=x|803=1|523=y|803=2|448=B|447=D|452=12|55=IBM|"
    first, second = parsed(message("8", 2, body)).groups[PARTIES]
    assert first.groups[b"802"] == [Part({b"523": b"x", b"803": b"1"}), Part({b"523": b"y", b"803": b"2"})]
    assert second == Part({b"448": b"B", b"447": b"D", b"452": b"12"})


def test_a_field_that_no_dictionary_has_does_not_end_a_group_and_is_the_message_s() -> None:
    read_ = parsed(message("8", 2, "453=2|448=A|452=1|6061=VWAP|448=B|452=12|55=IBM|"))
    assert (read_.problem, len(read_.groups[PARTIES]), read_.fields[b"6061"]) == (None, 2, b"VWAP")


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("453=0|", None),
        ("453=3|448=A|448=B|", (16, "453")),
        ("453=1|448=A|448=B|", (16, "453")),
        ("453=1|", (16, "453")),
        ("453=|448=A|", (6, "453")),
        ("453=two|448=A|448=B|", (6, "453")),
        (f"453={'1' * 5_000}|448=A|", (6, "453")),
        ("453=1|448=A|447=D|447=D|", (13, "447")),
        ("453=1|448=A|802=1|523=x|523=y|", (16, "802")),
        ("453=1|448=A|55=IBM|452=12|", (16, "453")),
        ("453=1|448=A|453=1|448=B|", (13, "453")),
        ("448=A|452=1|452=12|", (13, "452")),
        ("382=2|375=CITI|337=x|375=GS|", None),
        ("382=1|375=CITI|375=GS|", (16, "382")),
    ],
)
def test_a_group_has_as_many_entries_as_it_says(body: str, wrong: tuple[int, str] | None) -> None:
    assert problem(message("8", 2, "17=X|" + body)) == wrong


# --- the quick way ------------------------------------------------------------------------------------------

_TAGS = ["1", "17", "32", "54", "55", "58", "60", "95", "96", "354", "355", "382", "375", "437", "447", "448", "452", "453",
         "523", "555", "600", "627", "628", "802", "803", "6061", "9999", "058", "x", ""]  # fmt: skip
_VALUES = ["", "0", "1", "2", "3", "12", "IBM", "a=b", "F", "x|31=9", "20260102-21:00:00"]
_FIELDS = st.lists(st.tuples(st.sampled_from(_TAGS), st.sampled_from(_VALUES)), max_size=12)


@given(
    kind=st.sampled_from(["8", "B", "AE", "D", "ZZ"]), fields=_FIELDS, version=st.sampled_from(["FIX.4.4", "FIX.4.2"])
)
@example(kind="8", fields=[("453", "1"), ("448", "T"), ("452", "12")], version="FIX.4.2")
@example(kind="8", fields=[("453", "1"), ("448", "T"), ("9999", "x"), ("452", "12")], version="FIX.4.4")
@example(kind="ZZ", fields=[("453", "1"), ("448", "T"), ("452", "12")], version="FIX.4.4")
@settings(max_examples=examples(400))
def test_the_quick_way_reads_what_the_dictionary_reads(kind: str, fields: list[tuple[str, str]], version: str) -> None:
    """Wherever it reads at all, both agree on everything."""
    raw = message(kind, 2, "".join(f"{tag}={value}|" for tag, value in fields), version=version)
    known = dictionary(version.encode())
    quick = read_plain(raw, known)
    if quick is not None:
        assert quick == read_by_structure(raw, known)


@given(cut=st.integers(0, 300), noise=st.binary(max_size=8), where=st.integers(0, 300))
def test_whatever_bytes_a_body_has_reading_raises_nothing_and_both_ways_agree(
    cut: int, noise: bytes, where: int
) -> None:
    body = report(2, "E1", "354=3|355=a|b|")[20:-7][: cut or None]
    raw = frame(b"FIX.4.4", b"35=8\x01" + body[:where] + noise + body[where:] + b"\x01")
    quick, whole = read_plain(raw, FIX44), read(raw, FIX44)
    assert isinstance(whole, Message)
    assert quick is None or quick == whole == read_by_structure(raw, FIX44)
    read(raw, FIX44, strict=True)


def test_the_usual_report_goes_the_quick_way() -> None:
    for version in ("FIX.4.4", "FIX.4.2"):
        raw = message("8", 2, trade_body("E1"), version=version)
        assert read_plain(raw, dictionary(version.encode())) is not None


def test_tags_that_the_quick_way_leaves_alone() -> None:
    assert {b"95", b"96", b"354", b"355", b"382", b"375", b"627", b"802", b"523"} <= structural(FIX44, b"8")
    assert structural(FIX44, b"8").isdisjoint({b"453", b"448", b"447", b"452", b"55", b"32", b"6061"})
    assert {b"448", b"447", b"452", b"375"} <= repeating(FIX44, b"8")
    assert repeating(FIX44, b"8").isdisjoint({b"453", b"32", b"55"})


def test_tokens_come_in_order_and_are_all_there() -> None:
    raw = message("8", 2, "95=3|96=a|b|58=x=y|")
    found, wrong = tokens(raw, FIX44)
    assert wrong is None
    assert b"".join(b"%b=%b\x01" % field for field in found) == raw


# --- strict -------------------------------------------------------------------------------------------------

ORDER = {"11": "ID", "21": "3", "40": "1", "54": "1", "38": "002000.00", "55": "INTC", "60": "20260102-21:00:00"}


def order(changes: dict[str, str | None] | None = None, more: str = "", kind: str = "D") -> bytes:
    """A NewOrderSingle with fields changed, or left out where None; `more` comes at its end."""
    fields = {tag: value for tag, value in {**ORDER, **(changes or {})}.items() if value is not None}
    return message(kind, 2, "".join(f"{tag}={value}|" for tag, value in fields.items()) + more)


def raw_order(*fields: str) -> bytes:
    """One whose fields are all written out, header and all."""
    return frame(b"FIX.4.4", soh("".join(f"{one}|" for one in fields)))


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (order(), None),
        (order({"55": None}), (1, "55")),
        (order({"54": None}), (1, "54")),
        (order(more="999=HI|"), (0, "999")),
        (order(more="5000=HI|"), (0, "5000")),
        (order(more="-1=HI|"), (0, "-1")),
        (order(more="0=HI|"), (0, "0")),
        (order(more="41=HI|"), (2, "41")),
        (order({"55": ""}), (4, "55")),
        (order({"54": "Z"}), (5, "54")),
        (order({"21": "4"}), (5, "21")),
        (order(more="18=1 2 6|"), None),
        (order(more="18=1 zz|"), (5, "18")),
        (order({"38": "+200.00"}), (6, "38")),
        (order({"38": "1e5"}), (6, "38")),
        (order({"38": "."}), (6, "38")),
        (order({"60": "20260102-25:00:00"}), (6, "60")),
        (order({"60": "now"}), (6, "60")),
        (order(more="126=20260102-21:00:00.123456|"), None),
        (order(more="432=20260102|"), None),
        (order(more="432=20261302|"), (6, "432")),
        (order(more="432=2026010|"), (6, "432")),
        (order(more="114=Y|"), None),
        (order(more="114=y|"), (6, "114")),
        (order(more="200=202601|"), None),
        (order(more="200=20260131|"), None),
        (order(more="200=202601w4|"), None),
        (order(more="200=202613|"), (6, "200")),
        (order(more="200=202601w6|"), (6, "200")),
        (order(more="40=1|"), (13, "40")),
        (order(kind="ZZ"), (11, "")),
        (order(more="386=3|336=PRE-OPEN|336=AFTER-HOURS|"), (16, "386")),
        (order(more="386=1|336=PRE-OPEN|336=AFTER-HOURS|"), (16, "386")),
        (order(more="386=2|336=PRE-OPEN|336=AFTER-HOURS|"), None),
        (order(more="386=0|"), None),
        (order(more="336=PRE-OPEN|"), (2, "336")),
        (order(more="453=1|447=D|448=A|452=1|"), (15, "447")),
        (order(more="453=1|448=A|452=1|447=D|"), (15, "447")),
        (order(more="453=1|448=A|447=D|452=1|"), None),
        (raw_order("35=D", "34=2", "49=A", "56=B", *(f"{t}={v}" for t, v in ORDER.items()), "52=20260102-21:00:00"),
         (14, "52")),
        (raw_order("35=D", "34=2", "49=A", "11=ID", "56=B", "52=20260102-21:00:00", "21=3", "40=1", "54=1"), (14, "56")),
        (raw_order("35=D", "34=2", "52=20260102-21:00:00", "56=B", "49=A", *(f"{t}={v}" for t, v in ORDER.items())), None),
    ],
)  # fmt: skip
def test_who_is_strict_names_the_reason_of_the_specification(raw: bytes, wrong: tuple[int, str] | None) -> None:
    assert problem(raw, strict=True) == wrong


@pytest.mark.parametrize(
    "raw",
    [order(more="999=HI|"), order(more="5000=x|"), order(more="41=HI|"), order({"54": "Z"}), order({"55": None}),
     order({"38": "1e5"}), order(kind="ZZ"), order({"55": ""}), order(more="453=1|452=1|448=A|")],
)  # fmt: skip
def test_who_is_lenient_takes_what_can_mean_one_thing_only(raw: bytes) -> None:
    assert problem(raw) is None


def test_every_reason_has_its_wording() -> None:
    assert set(WORDING) == set(Reason)
    assert [int(reason) for reason in Reason] == list(range(18))


def test_a_date_is_any_day_of_the_calendar() -> None:
    """A bond may have been issued before 1970."""
    source = random.Random(1)
    for _ in range(200):
        day = date.fromordinal(source.randrange(date(1900, 1, 1).toordinal(), date(2300, 1, 1).toordinal()))
        assert problem(order(more=f"225={day:%Y%m%d}|"), strict=True) is None
