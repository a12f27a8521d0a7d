"""FIX messages as the tests write them: `|` for SOH, length and checksum made here."""

from __future__ import annotations

from eod_workers.fix.dictionary import dictionary
from eod_workers.fix.frames import frame
from eod_workers.fix.reading import Message, read


def soh(text: str) -> bytes:
    """The bytes of a text with `|` for SOH."""
    return text.replace("|", "\x01").encode("latin-1")


def parsed(raw: bytes, *, strict: bool = False) -> Message:
    """The message of a frame, by the dictionary of its version."""
    return read(raw, dictionary(raw[2 : raw.index(b"\x01")]), strict=strict)


def message(
    kind: str,
    number: int | str,
    body: str = "",
    *,
    sender: str = "ACME",
    target: str = "EOD",
    version: str = "FIX.4.4",
    sent: str = "20260102-21:00:00.000",
) -> bytes:
    """A whole frame from `sender` to `target`; `body` is what follows the header, each field with its `|`."""
    head = f"35={kind}|49={sender}|56={target}|34={number}|52={sent}|"
    return frame(version.encode(), soh(head + body))


def report(number: int | str, exec_id: str, body: str = "") -> bytes:
    """An ExecutionReport that is a trade of 100 IBM at 12.5, bought by T001; `body` comes at its end."""
    return message("8", number, trade_body(exec_id) + body)


def trade_body(exec_id: str, *, symbol: str = "IBM", quantity: str = "100", px: str = "12.5") -> str:
    """What follows the header of a report of a trade. OrderQty(38) and Price(44) are decoys."""
    return (
        f"37=O{exec_id}|17={exec_id}|150=F|39=1|1=ACC1|453=1|448=T001|447=D|452=12|55={symbol}|54=1|"
        f"38=9999|44=77.7|32={quantity}|31={px}|151=0|14={quantity}|6={px}|60=20260102-21:00:00.123|6061=VWAP|"
    )


SIDES = (
    "54=1|37=O1|453=2|448=BANK|447=D|452=1|448=T001|447=D|452=12|1=ACC1|",
    "54=2|37=O2|453=1|448=T002|447=D|452=12|1=ACC2|",
)


def capture(number: int | str, report_id: str, said: str = "", *, sides: tuple[str, ...] = SIDES) -> bytes:
    """A TradeCaptureReport of 100 IBM at 12.5, bought by T001 from T002; `said` stands in front of its sides."""
    deal = "55=IBM|32=100|31=12.5|75=20260102|60=20260102-21:00:00.123|6061=VWAP|"
    return message("AE", number, f"571={report_id}|570=N|{said}{deal}552={len(sides)}|{''.join(sides)}")
