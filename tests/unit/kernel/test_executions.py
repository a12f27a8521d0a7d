"""Each rule of a plain execution as a row: the kernel takes it, or the pure code says why not.

`taken`: both make the same trade. `refused`: the pure code refuses it, with a reason. `none`: it moves no position.
`left`: it is a trade, but not a plain one; the kernel leaves it to the pure code.
"""

from __future__ import annotations

import pytest
from eod_workers import kernel
from eod_workers.fix.fields import parse_timestamp_ns
from eod_workers.fix.frames import SOH, FrameBuffer, Garbled, frame
from eod_workers.fix.rules import MAX_ACCURACY_S, Rules
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import Invalid, trade_of
from eod_workers.trades.model import ACTION_TRADE, Trade
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import parsed

if not kernel.available():
    pytest.skip(f"the kernel is not used: {kernel.why_not()}", allow_module_level=True)

from eod_workers.ingestion.plain_kernel import take_plain
from eod_workers.trades.columns_kernel import TradeColumns

Body = list[tuple[str, str]]
USUAL: Body = [
    ("35", "8"), ("49", "ACME"), ("56", "EOD"), ("34", "7"), ("52", "20260102-21:00:00.000"), ("37", "O1"), ("17", "X1"),
    ("150", "F"), ("39", "2"), ("1", "ACC1"), ("453", "1"), ("448", "T001"), ("447", "D"), ("452", "12"), ("55", "IBM"),
    ("54", "1"), ("38", "900"), ("44", "77.7"), ("32", "100"), ("31", "12.5"), ("151", "0"), ("14", "100"), ("6", "12.5"),
    ("60", "20260102-21:00:00.123"), ("6061", "VWAP"),
]  # fmt: skip


NAMES = ((128, "taken"), (129, "refused"), (14_000, "refused"))
"""How long a name may be."""
DATES = TradeDates()
"""As a connection has them: the kernel knows the day that the pure code was last asked for."""
DATES.of(parse_timestamp_ns(b"20260102-21:00:00"))


def encoded(body: Body) -> bytes:
    return "".join(f"{tag}={value}\x01" for tag, value in body).encode("latin-1")


def kernels(
    raw: bytes, *, expected: int = 7, version: bytes = b"FIX.4.4", accuracy_ns: int = 0, received_at_ns: int = 42
) -> list[Trade]:
    """What the kernel makes of the bytes; all of them, or none."""
    columns = TradeColumns(12)
    position, taken = take_plain(
        raw,
        0,
        columns,
        begin_string=version,
        sender=b"ACME",
        target=b"EOD",
        session="ACME->EOD",
        epoch=3,
        expected=expected,
        received_at_ns=received_at_ns,
        dates=DATES,
        accuracy_ns=accuracy_ns,
    )
    trades = [trade for _, _, value in columns.drain() for trade in decode_trades(value)]
    assert (position, taken) == (sum(len(trade.frame) for trade in trades), len(trades))
    return trades


def pures(raw: bytes) -> Trade | str | None:
    """What the pure code makes of one frame: a trade, none, or the reason why it is refused."""
    (item,) = FrameBuffer().feed(raw)
    if isinstance(item, Garbled):
        return item.why
    try:
        return trade_of(parsed(item), item, session="ACME->EOD", epoch=3, msg_seq_num=7, received_at_ns=42, dates=DATES)
    except (Invalid, ValueError) as error:
        return str(error)


def compare(raw: bytes, verdict: str) -> None:
    theirs = pures(raw)
    ours = kernels(raw)
    found = "none" if theirs is None else "refused" if isinstance(theirs, str) else "taken" if ours else "left"
    assert found == verdict, theirs
    assert ours == ([theirs] if verdict == "taken" else [])
    if ours:
        assert ours[0].action == ACTION_TRADE


def changed(changes: dict[str, str | None]) -> Body:
    """The usual body with fields changed, left out where None, or added at the end where they are not in it."""
    known = {tag for tag, _ in USUAL}
    body = [(tag, changes.get(tag, value)) for tag, value in USUAL]
    body += [(tag, value) for tag, value in changes.items() if tag not in known]
    return [(tag, value) for tag, value in body if value is not None]


QUANTITIES = {
    "1": "taken", "0.00000001": "taken", "100.": "taken", ".5": "taken", "00100": "taken", "1.100000000000": "taken",
    "92233720368.54775807": "taken", "92233720368": "taken", "000092233720368.547758070000": "taken",
    "92233720368.54775808": "refused", "92233720369": "refused", "99999999999": "refused", "100000000000": "refused",
    # times 1e8 these are small numbers modulo 2**64
    "184467440738": "refused", "1844674407370955162": "refused", "18446744073709551617": "refused",
    "1234567890123456789": "refused", "9" * 40: "refused", "0" * 60 + "1": "taken", "1" + "0" * 60: "refused",
    "": "refused", ".": "refused", "-": "refused", "-.": "refused", "+1": "refused", " 1": "refused", "1 ": "refused",
    "1e5": "refused", "1E5": "refused", "0x10": "refused", "1,000": "refused", "1.2.3": "refused", "1_000": "refused",
    "0.000000001": "refused", "1.123456789": "refused", "1.000000001": "refused", "NaN": "refused", "inf": "refused",
    "1-": "refused", "--1": "refused", "1\n": "refused", "1\0": "refused", "²": "refused",
}  # fmt: skip
ZEROS = ["0", "0.0", "00", "0.", ".0", "-0", "-0.0", "-.0", "0.0000000000"]
NEGATIVE = ["-1", "-0.00000001", "-92233720368.54775807", "-92233720368.54775808"]


@pytest.mark.parametrize("tag", ["31", "32"])
@pytest.mark.parametrize(("text", "verdict"), QUANTITIES.items())
def test_numbers(tag: str, text: str, verdict: str) -> None:
    compare(frame(b"FIX.4.4", encoded(changed({tag: text}))), verdict)


@pytest.mark.parametrize(
    ("tag", "text", "verdict"),
    [
        *[("31", text, "taken") for text in ZEROS],
        *[("32", text, "refused") for text in ZEROS],
        *[("32", text, "refused") for text in NEGATIVE],
        *[("31", text, "taken" if text != "-92233720368.54775808" else "refused") for text in NEGATIVE],
        ("31", "-37.63", "taken"),
    ],
)
def test_a_quantity_is_above_zero_and_a_price_whatever_it_is(tag: str, text: str, verdict: str) -> None:
    compare(frame(b"FIX.4.4", encoded(changed({tag: text}))), verdict)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("20260102-21:00:00", "taken"),
        ("20260102-21:00:00.1", "taken"),
        ("20260102-21:00:00.123456789", "taken"),
        ("20260102-23:59:60", "taken"),
        ("20260102-23:59:60.999999999", "taken"),
        ("19700101-00:00:00", "taken"),
        ("22611231-23:59:60.999999999", "taken"),
        ("20240229-12:00:00", "taken"),
        ("20000229-12:00:00", "taken"),
        *[(f"2026{month:02}{day}-12:00:00", "taken") for month in range(1, 13) for day in ("01", "28")],
        *[(f"2026{month:02}31-12:00:00", "taken") for month in (1, 3, 5, 7, 8, 10, 12)],
        *[(f"2026{month:02}31-12:00:00", "refused") for month in (2, 4, 6, 9, 11)],
        *[(f"2026{month:02}30-12:00:00", "taken") for month in (4, 6, 9, 11)],
        ("20230229-12:00:00", "refused"),
        ("21000229-12:00:00", "refused"),
        ("20260230-12:00:00", "refused"),
        ("20260100-12:00:00", "refused"),
        ("20260132-12:00:00", "refused"),
        ("20260001-12:00:00", "refused"),
        ("20261301-12:00:00", "refused"),
        ("19691231-23:59:59", "refused"),
        ("22620101-00:00:00", "refused"),
        ("20260102-24:00:00", "refused"),
        ("20260102-12:60:00", "refused"),
        ("20260102-12:00:61", "refused"),
        ("20260102-12:00:00.", "refused"),
        ("20260102-12:00:00.1234567890", "refused"),
        ("20260102-12:00:00.12x", "refused"),
        ("20260102-12:00:00Z", "refused"),
        ("20260102-12:00:0", "refused"),
        ("20260102-12:00", "refused"),
        ("20260102 12:00:00", "refused"),
        ("20260102-12.00.00", "refused"),
        ("2026010a-12:00:00", "refused"),
        ("20260102-1a:00:00", "refused"),
        ("20260102-12:0a:00", "refused"),
        ("20260102-12:00:a0", "refused"),
        ("", "refused"),
        (" 20260102-12:00:00", "refused"),
    ],
)
def test_times(text: str, verdict: str) -> None:
    sent = text if verdict == "taken" else "20260102-21:00:00"  # what is too far from it is another test's
    compare(frame(b"FIX.4.4", encoded(changed({"60": text, "52": sent}))), verdict)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("20260103-21:00:00.000", "taken"),
        ("20260103-21:00:00.000000001", "refused"),
        ("20300102-21:00:00", "refused"),
        ("22611231-23:59:60", "refused"),
        ("20160102-21:00:00.000", "taken"),
        ("20160102-20:59:59.999999999", "refused"),
        ("19700101-00:00:00", "refused"),
    ],
)
def test_a_trade_is_not_far_from_its_report(text: str, verdict: str) -> None:
    compare(frame(b"FIX.4.4", encoded(changed({"60": text, "75": "20260102"}))), verdict)


SENT_NS = parse_timestamp_ns(b"20260102-21:00:00")
DATED = frame(b"FIX.4.4", encoded(changed({"75": "20260102"})))


@given(st.integers(-3, 3), st.sampled_from([1, 2, 120, 86_400]), st.sampled_from([-1, 1]))
def test_a_sending_time_is_compared_with_the_clock_to_the_nanosecond(beyond: int, within_s: int, sign: int) -> None:
    """As by the pure code (`fix/rules.py`)."""
    rules, received_at_ns = Rules(accuracy_s=within_s), SENT_NS + sign * (within_s * 10**9 + beyond)
    wrong = rules.wrong_time(parsed(DATED).fields, received_at_ns)
    assert (wrong is None) == (beyond <= 0)
    assert len(kernels(DATED, accuracy_ns=rules.accuracy_ns, received_at_ns=received_at_ns)) == (wrong is None)


@pytest.mark.parametrize("changes", [{"52": None}, {"52": ""}, {"52": "20260102-21:00:0x"}])
def test_it_leaves_what_has_no_sending_time_to_compare(changes: dict[str, str | None]) -> None:
    raw = frame(b"FIX.4.4", encoded(changed({**changes, "75": "20260102"})))
    assert kernels(raw) == kernels(raw, accuracy_ns=MAX_ACCURACY_S * 10**9, received_at_ns=SENT_NS) == []


@pytest.mark.parametrize("received_at_ns", [0, SENT_NS, 2**63 - 1])
def test_bounds_of_a_sending_time_never_wrap_around(received_at_ns: int) -> None:
    found = kernels(DATED, accuracy_ns=MAX_ACCURACY_S * 10**9, received_at_ns=received_at_ns)
    assert len(found) == (received_at_ns == SENT_NS)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "taken"),
        # what a report reports
        *[({"20": "0", "150": kind}, "taken") for kind in "12F"],
        *[({"150": kind}, "refused") for kind in ("1", "2", "", "FF", "f", "Z", "H", "G")],
        *[({"150": kind, "19": "X0"}, "left") for kind in "HG"],
        *[({"150": kind}, "none") for kind in "03456789ABCDEIJKL"],
        *[({"150": kind, "20": "0"}, "none") for kind in "0456"],
        *[({"20": trans, "19": "X0"}, "left") for trans in "12"],
        *[({"20": trans}, "refused") for trans in ("1", "2", "4", "", "00", "\0", "9")],
        ({"20": "3"}, "none"),
        ({"150": None}, "refused"),
        ({"150": None, "20": "0"}, "refused"),
        ({"19": "X0"}, "left"),
        ({"19": ""}, "left"),
        # identity
        ({"17": "x" * 64}, "taken"),
        ({"17": "x" * 65}, "refused"),
        ({"17": ""}, "refused"),
        ({"17": None}, "refused"),
        ({"17": "a=b\0\t "}, "taken"),
        # who and what
        ({"55": ""}, "refused"),
        ({"55": None}, "refused"),
        *[({"54": side}, "taken") for side in "123456"],
        *[({"54": side}, "refused") for side in ("0", "7", "", "11", "1 ", "B")],
        ({"54": None}, "refused"),
        ({"1": None}, "taken"),
        ({"1": ""}, "taken"),
        ({"6061": None}, "taken"),
        ({"6061": ""}, "taken"),
        ({"60": None}, "left"),
        ({"167": "CS"}, "taken"),
        ({"167": ""}, "taken"),
        ({"167": "OPT"}, "left"),
        ({"167": "FUT"}, "left"),
        ({"461": "ESVUFR"}, "taken"),
        ({"461": ""}, "taken"),
        ({"461": "OCASPS"}, "left"),
        ({"461": "FFICSX"}, "left"),
        ({"207": "XNYS"}, "taken"),
        ({"207": ""}, "taken"),
        ({"207": "X" * 60}, "taken"),
        ({"207": "X" * 61}, "left"),
        ({"207": "XNYS", "167": "CS", "461": "ESVUFR"}, "taken"),
        ({"15": "USD"}, "taken"),
        ({"55": "IBM (EUR)"}, "left"),
        ({"55": "IBM (EUR)", "15": "USD"}, "refused"),
        ({"55": "IBM (EUR)", "15": "EUR"}, "left"),
        ({"55": "IBM)"}, "left"),
        ({"55": "BRK B"}, "taken"),
        ({"55": " IBM"}, "left"),
        ({"55": "IBM "}, "left"),
        ({"55": " "}, "refused"),
        ({"15": "EUR"}, "left"),
        ({"15": "GBp"}, "left"),
        ({"15": "usd"}, "refused"),
        ({"15": "US"}, "refused"),
        ({"15": ""}, "left"),
        ({"231": "1"}, "left"),
        ({"231": "50"}, "left"),
        ({"231": "0"}, "refused"),
        ({"231": "x"}, "refused"),
        ({"65": "B"}, "left"),
        ({"200": "202603"}, "left"),
        ({"201": "1"}, "left"),
        ({"202": "150"}, "left"),
        ({"202": "x"}, "refused"),
        ({"205": "16"}, "left"),
        ({"541": "20260116"}, "left"),
        ({"442": "1"}, "taken"),
        ({"442": "2"}, "taken"),
        ({"442": "3"}, "none"),
        ({"75": "20260102"}, "taken"),
        ({"75": "20251231"}, "taken"),
        ({"75": "20260102", "60": "20200229-21:00:00"}, "taken"),
        ({"75": "20260230"}, "refused"),
        ({"75": "2026010"}, "refused"),
        ({"75": "202601020"}, "refused"),
        ({"75": "20260102-21:00:00"}, "refused"),
        ({"75": "19691231"}, "refused"),
        ({"75": "20240229"}, "taken"),
        ({"75": "20250229"}, "refused"),
        ({"75": "21000229"}, "refused"),
        ({"75": ""}, "refused"),
        ({"32": None}, "refused"),
        ({"31": None}, "refused"),
        # what is beyond ASCII becomes two bytes in a record
        *[({tag: "\xe9"}, "left") for tag in ("1", "17", "55", "448", "6061", "58")],
        ({"58": "a text, with = and all \x02"}, "taken"),
        *[({tag: "n" * size}, verdict) for tag in ("1", "55", "448", "6061") for size, verdict in NAMES],
        ({"448": "UNASSIGNED"}, "left"),
        # what is not plain
        ({"43": "Y"}, "left"),
        ({"43": "N"}, "left"),
        ({"58x": "no number"}, "refused"),
        ({"058": "no tag"}, "refused"),
        ({"017": "no ExecID"}, "refused"),
        ({"": "no tag"}, "refused"),
        # what a length field announces is data, whatever it looks like
        ({"354": "22", "355": "was\x0131=9.99\x0132=1000000"}, "left"),
        ({"354": "0"}, "left"),
        ({"354": "3"}, "refused"),
        ({"354": "3", "355": "four"}, "refused"),
        ({"355": "x"}, "refused"),
        # groups
        ({"382": "1", "375": "CITI"}, "left"),
        ({"382": "0"}, "left"),
        ({"382": "2", "375": "CITI"}, "refused"),
        # what stands around the body
        *[({tag: "0"}, "refused") for tag in ("8", "9", "10")],
        ({"100000": "beyond the tags we look at"}, "left"),
        ({"99999": "the last"}, "taken"),
        # who reports how many
        *[({"34": number}, "taken") for number in ("7", "07", "0" * 17 + "7")],
    ],
)
def test_fields(changes: dict[str, str | None], verdict: str) -> None:
    compare(frame(b"FIX.4.4", encoded(changed(changes))), verdict)


@pytest.mark.parametrize(
    "changes",
    [
        {"35": "9"}, {"35": "AE"}, {"35": ""}, {"35": None}, {"49": "ACM"}, {"49": "ACMEE"}, {"49": None}, {"56": "eod"},
        {"56": None}, {"34": "8"}, {"34": "6"}, {"34": ""}, {"34": None}, {"34": "7.0"}, {"34": "+7"}, {"34": "-7"},
        {"34": "0" * 18 + "7"}, {"34": "1" + "0" * 17 + "7"},
    ],
)  # fmt: skip
def test_what_is_not_the_next_report_of_this_session_is_left(changes: dict[str, str | None]) -> None:
    assert kernels(frame(b"FIX.4.4", encoded(changed(changes)))) == []


@pytest.mark.parametrize(
    "tag", ["1", "17", "20", "31", "32", "34", "35", "49", "54", "55", "56", "60", "75", "150", "6061"]
)
@pytest.mark.parametrize("again", ["at once", "at the end"])
def test_a_field_that_is_looked_at_and_repeats_is_refused(tag: str, again: str) -> None:
    """Which one of them is meant, nobody can tell."""
    body = [*USUAL[:7], ("20", "0"), ("75", "20260102"), *USUAL[7:]]
    place = next(i for i, (name, _) in enumerate(body) if name == tag)
    body.insert(place if again == "at once" else len(body), body[place])
    compare(frame(b"FIX.4.4", encoded(body)), "refused")


@pytest.mark.parametrize(("tag", "verdict"), [("9999", "taken"), ("58", "refused"), ("37", "refused"), ("999", "left")])
def test_any_other_field_that_repeats_is_refused_if_the_dictionary_has_it_there(tag: str, verdict: str) -> None:
    """It may be of a group that somebody has agreed on with us; a trade does not depend on it."""
    compare(frame(b"FIX.4.4", encoded([*changed({tag: "x"}), (tag, "y")])), verdict)


@pytest.mark.parametrize(
    ("group", "verdict", "trader"),
    [
        ("", "taken", ""),
        ("453=1|448=T1|447=D|452=12", "taken", "T1"),
        ("453=1|448=T1|452=12", "taken", "T1"),
        ("453=1|448=T1|452=12|447=D", "taken", "T1"),
        ("453=1|448=|452=12", "taken", ""),
        ("453=1|448=T1|447=|452=12", "taken", "T1"),
        ("453=1|448=T1|452=13", "taken", ""),
        ("453=1|448=T1|452=012", "taken", ""),
        ("453=1|448=T1|452=12 ", "taken", ""),
        ("453=1|448=T1", "taken", ""),
        ("453=1|448=a=b|452=12", "taken", "a=b"),
        # understood, but not plain
        ("453=0", "left", ""),
        ("453=01|448=T1|452=12", "left", "T1"),
        ("453=1|452=12|448=T1", "left", "T1"),
        ("453=1|448=T1|9999=x|452=12", "left", "T1"),
        ("453=1|448=T1|452=12|802=1|523=x|803=1", "left", "T1"),
        ("453=2|448=T1|452=1|448=T2|452=12", "left", "T2"),
        ("453=2|448=T1|452=12|448=T2|452=12", "left", "T1"),
        ("448=T1|447=D|452=12", "left", "T1"),
        ("448=T1|452=1|448=T2|452=12", "left", "T2"),
        ("452=12", "left", ""),
        # not understood
        ("453=1", "refused", ""),
        ("453=2|448=T1|452=12", "refused", ""),
        ("453=|448=T1|452=12", "refused", ""),
        ("453=x|448=T1|452=12", "refused", ""),
        ("453=1|58=x|448=T1|452=12", "refused", ""),
        ("453=1|448=T1|58=x|452=12", "refused", ""),
        ("453=1|448=T1|447=D|447=D|452=12", "refused", ""),
        ("453=1|448=T1|448=T2|452=12", "refused", ""),
        ("453=1|448=T1|452=12|453=1|448=T2|452=12", "refused", ""),
        ("448=T1|447=D|447=D|452=12", "refused", ""),
    ],
)
@pytest.mark.parametrize("last", [False, True], ids=["within", "last"])
def test_the_executing_trader(group: str, verdict: str, trader: str, *, last: bool) -> None:
    parties = [(tag, value) for tag, _, value in (field.partition("=") for field in group.split("|") if field)]
    others = [(tag, value) for tag, value in USUAL if tag not in {"453", "448", "447", "452"}]
    body = [*others, *parties] if last else [*others[:9], *parties, *others[9:]]
    raw = frame(b"FIX.4.4", encoded(body))
    compare(raw, verdict)
    if verdict != "refused":
        made = pures(raw)
        assert isinstance(made, Trade)
        assert made.trader == trader


def usual() -> bytes:
    return frame(b"FIX.4.4", encoded(USUAL))


def reframed(body: bytes, *, length: bytes | None = None, begin: bytes = b"FIX.4.4") -> bytes:
    """A frame whose BodyLength is as written; the CheckSum is right."""
    head = b"8=%b\x019=%b\x01%b" % (begin, b"%d" % len(body) if length is None else length, body)
    return head + b"10=%03d\x01" % (sum(head) % 256)


@pytest.mark.parametrize(
    ("raw", "verdict"),
    [
        (usual(), "taken"),
        (usual()[:-4] + b"%03d\x01" % ((int(usual()[-4:-1]) + 1) % 256), "refused"),
        (usual()[:-4] + b"%3d\x01" % (int(usual()[-4:-1]) % 100), "refused"),
        (reframed(encoded(USUAL), length=b"00%d" % len(encoded(USUAL))), "taken"),
        (reframed(encoded(USUAL), length=b"000%d" % len(encoded(USUAL))), "left"),
        (reframed(encoded(USUAL), length=b"+%d" % len(encoded(USUAL))), "refused"),
        (reframed(encoded(USUAL), length=b"%d" % (len(encoded(USUAL)) - 1)), "refused"),
        (reframed(encoded([*USUAL, ("58", "x" * 70_000)])), "left"),
        (reframed(encoded([*USUAL, ("58", "x" * 60_000)])), "taken"),
        (reframed(encoded(USUAL), begin=b"FIX.4.2"), "left"),
        (reframed(SOH + encoded(USUAL)), "refused"),
        (reframed(encoded(USUAL) + SOH), "refused"),
        (reframed(encoded(USUAL) + b"no equals sign\x01"), "refused"),
        (reframed(encoded(USUAL) + b"58\x01"), "refused"),
        (reframed(encoded(USUAL) + b"58=no end"), "refused"),
    ],
)
def test_frames(raw: bytes, verdict: str) -> None:
    items = FrameBuffer().feed(raw + usual())  # what is garbled ends where the next frame begins
    if isinstance(items[0], Garbled):
        assert (kernels(raw), verdict) == ([], "refused")
    else:
        compare(raw, verdict)


def test_a_longest_frame_is_taken_and_one_byte_more_is_not() -> None:
    fill = 65_536 - len(reframed(encoded([*USUAL, ("58", "x" * 60_000)]))) + 60_000 + 7  # the trailer does not count
    assert len(kernels(reframed(encoded([*USUAL, ("58", "x" * fill)])))) == 1
    assert kernels(reframed(encoded([*USUAL, ("58", "x" * (fill + 1))]))) == []
    assert isinstance(FrameBuffer().feed(reframed(encoded([*USUAL, ("58", "x" * fill)])))[0], bytes)


def numbered(*numbers: int) -> list[bytes]:
    return [frame(b"FIX.4.4", encoded(changed({"34": str(number), "17": f"X{number}"}))) for number in numbers]


@given(cut=st.integers(0, 1_500), before=st.binary(max_size=5))
def test_it_takes_whole_frames_and_stops_in_front_of_a_part(cut: int, before: bytes) -> None:
    frames = numbered(7, 8, 9, 10)
    stream = b"".join(frames)[:cut]
    columns = TradeColumns(12)
    whole = [sum(map(len, frames[: i + 1])) for i in range(4)]
    expected = sum(end <= len(stream) for end in whole)
    position, taken = take_plain(
        before + stream, len(before), columns, begin_string=b"FIX.4.4", sender=b"ACME", target=b"EOD",
        session="ACME->EOD", epoch=3, expected=7, received_at_ns=42, dates=DATES,
    )  # fmt: skip
    assert (taken, position - len(before)) == (expected, whole[expected - 1] if expected else 0)
    assert columns.frame_bytes == position - len(before)


@pytest.mark.parametrize(
    ("numbers", "taken"), [((7, 8, 9), 3), ((7, 9, 8), 1), ((7, 7, 8), 1), ((8, 7), 0), ((7, 8, 6), 2)]
)
def test_it_stops_in_front_of_a_gap_and_of_a_repeat(numbers: tuple[int, ...], taken: int) -> None:
    trades = kernels_of(b"".join(numbered(*numbers)))
    assert [trade.msg_seq_num for trade in trades] == list(numbers[:taken])


def kernels_of(raw: bytes) -> list[Trade]:
    """What the kernel takes of the beginning of a stream."""
    columns = TradeColumns(1)
    take_plain(
        raw, 0, columns, begin_string=b"FIX.4.4", sender=b"ACME", target=b"EOD", session="ACME->EOD", epoch=3,
        expected=7, received_at_ns=42, dates=DATES,
    )  # fmt: skip
    return [trade for _, _, value in columns.drain() for trade in decode_trades(value)]


def test_it_leaves_symbols_that_are_set_apart_also_after_their_names_are_let_go_of() -> None:
    """More is known of them than a report says; of one with an exchange the pure code looks it up."""
    columns = TradeColumns(1, ("AIG", "ES"))

    def taken(symbol: str, exchange: str | None = None) -> int:
        raw = frame(b"FIX.4.4", encoded(changed({"55": symbol, "207": exchange})))
        return take_plain(
            raw, 0, columns, begin_string=b"FIX.4.4", sender=b"ACME", target=b"EOD", session="ACME->EOD", epoch=3,
            expected=7, received_at_ns=42, dates=DATES,
        )[1]  # fmt: skip

    assert [taken(symbol) for symbol in ("IBM", "AIG", "ES", "ESX")] == [1, 0, 0, 1]
    assert taken("IBM", "X") == 0
    for number in range(70_000):
        columns.add(known(number))
    columns.drain()
    assert [taken(symbol) for symbol in ("IBM", "AIG", "ES")] == [1, 0, 0]
    assert len(columns.drain()) == 1


def known(number: int) -> Trade:
    """A trade of a symbol that no other has."""
    (trade,) = kernels(frame(b"FIX.4.4", encoded(USUAL)))
    return trade._replace(symbol=f"S{number}")


def test_the_currency_of_the_house_may_be_said() -> None:
    raw = frame(b"FIX.4.4", encoded(changed({"15": "GBP"})))
    for house, taken in ((b"GBP", 1), (b"USD", 0), (b"GB", 0)):
        assert take_plain(
            raw, 0, TradeColumns(1), begin_string=b"FIX.4.4", sender=b"ACME", target=b"EOD", session="ACME->EOD",
            epoch=3, expected=7, received_at_ns=42, dates=DATES, currency=house,
        )[1] == taken  # fmt: skip


@pytest.mark.parametrize("between", [b"x", b"8=FIX.4.4\x019=5\x01", b"\x01", usual()[:40], usual()[:-1]])
def test_it_stops_in_front_of_garbage(between: bytes) -> None:
    first, second = numbered(7, 8)
    assert [trade.frame for trade in kernels_of(first + between + second)] == [first]


def test_it_stops_in_front_of_a_frame_that_does_not_end() -> None:
    """The byte behind CheckSum(10) is in no sum."""
    first, second = numbered(7, 8)
    assert kernels_of(first[:-1] + b"x" + second) == []


def test_a_place_outside_the_buffer_is_an_error() -> None:
    for position in (-1, 4):
        with pytest.raises(ValueError, match=f"position {position} is not within the 3 bytes"):
            take_plain(
                b"abc", position, TradeColumns(1), begin_string=b"FIX.4.4", sender=b"A", target=b"B", session="A->B",
                epoch=1, expected=1, received_at_ns=0, dates=DATES,
            )  # fmt: skip


def test_a_version_that_is_not_the_session_s_is_left() -> None:
    for begin in (b"FIXT.1.1", b"FIX.4.2", b"FIX.4.44", b"FIX.4."):
        assert kernels(reframed(encoded(USUAL), begin=begin)) == []


def test_fix_4_2() -> None:
    raw = frame(b"FIX.4.2", encoded(changed({"20": "0", "150": "2"})))
    assert kernels(raw, version=b"FIX.4.2") == [pures(raw)]
    assert kernels(raw) == []
