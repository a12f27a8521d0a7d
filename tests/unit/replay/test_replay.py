"""Recorded logs through the pipeline: what they trade arrives, what is no execution is counted, what is broken is named."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import typer
from eod_workers.replay.command import as_json, replay
from eod_workers.replay.run import Options, Replay, Result
from support.fix_messages import capture, message, parsed, report, trade_body
from typer.testing import CliRunner

APP = typer.Typer()
APP.command()(replay)


class Quiet:
    """Nobody looks."""

    def phase(self, text: str, total: int | None = None) -> None:
        del text, total

    def advance(self, steps: int = 1) -> None:
        del steps


def order(number: int) -> bytes:
    """What we have sent to the counterparty: the other direction of the log."""
    return message("D", number, "11=C1|55=IBM|54=1|60=20260102-21:00:00|40=1|", sender="EOD", target="ACME")


SELL = message("8", 5, trade_body("E5", quantity="40", px="15").replace("54=1", "54=2"))
BUST = message("8", 6, trade_body("E6").replace("150=F", "150=H") + "19=E4|")
RECORDED = [
    message("A", 1, "98=0|108=30|"), order(2), report(2, "E2"), report(3, "E3"), message("0", 4), report(4, "E4"), SELL,
    BUST, message("8", 7, "43=Y|" + trade_body("E3")), message("8", 8, trade_body("E8").replace("31=12.5|", "")),
    message("B", 9, "148=closing|33=1|58=x|"),
]  # fmt: skip


def written(path: Path, frames: list[bytes], *, separator: bytes = b"|", packed: bool = False) -> Path:
    """A log of QuickFIX's shape."""
    lines = b"".join(b"20260102-21:00:00.123 : " + raw.replace(b"\x01", separator) + b"\n" for raw in frames)
    path.write_bytes(gzip.compress(lines) if packed else lines)
    return path


async def replayed(*files: Path, **options: object) -> Result:
    """What comes of some logs."""
    return await Replay(Options(files, **options), Quiet()).run()  # type: ignore[arg-type]


@pytest.mark.parametrize(("separator", "packed"), [(b"|", False), (b"\x01", False), (b"^A", True)])
async def test_what_a_log_trades_arrives_and_is_equal_everywhere(
    tmp_path: Path, separator: bytes, *, packed: bool
) -> None:
    result = await replayed(written(tmp_path / "a.log", RECORDED, separator=separator, packed=packed))
    assert (result.report.exit_code, result.report.breaks, result.missing) == (0, [], [])
    assert result.sent == {"ACME->EOD": 8}
    assert result.left == {"of the session itself": 2, "of a side that reports nothing": 1}
    (position,) = result.positions.values()
    assert list(result.positions) == [("T001", "IBM")]
    assert (position.quantity_e8, position.realized_e16, position.trades) == (160 * 10**8, 100 * 10**16, 3)
    assert Counter(reason for reason, _ in result.letters) == {"Validation": 1}


def fill(number: int, exec_id: str, side: int, quantity: int, px: str, at: str, more: str = "") -> bytes:
    """A fill at a time."""
    body = trade_body(exec_id, quantity=str(quantity), px=px).replace("54=1", f"54={side}")
    return message("8", number, body.replace("60=20260102-21:00:00.123", f"60={at}") + more)


UNDATED = message("8", 3, trade_body("1001").replace("60=20260102-21:00:00.123|", ""))  # sent on 20260102


@pytest.mark.parametrize(
    ("frames", "quantity", "realized", "trades"),
    [
        pytest.param(
            [fill(2, "1", 1, 10, "-37.63", "20200420-18:30:00"), fill(3, "2", 2, 10, "10.01", "20200421-13:00:00")],
            0, "476.4", 2, id="a price below 0",
        ),
        pytest.param(
            [fill(2, "1001", 1, 10, "5", "20251231-20:00:00"), fill(3, "1001", 1, 4, "5", "20260102-20:00:00")],
            14, "0", 2, id="an ExecID that comes again on another day",
        ),
        pytest.param(
            [fill(2, "1001", 1, 10, "5", "20251231-20:00:00"), fill(3, "1001", 1, 4, "5", "20260102-20:00:00", "75=20251231|")],
            10, "0", 1, id="an ExecID that comes again on the same day",
        ),
        pytest.param([fill(2, "1001", 1, 10, "5", "20251231-20:00:00"), UNDATED], 110, "0", 2, id="no TransactTime"),
        pytest.param([fill(2, "1001", 1, 10, "5", "20260102-20:00:00"), UNDATED], 10, "0", 1, id="no TransactTime, known"),
        pytest.param(
            [fill(2, "1", 1, 10, "5", "20260102-20:00:00"), message("8", 3, "37=O|17=2|19=1|150=H|39=4|55=IBM|54=1|151=0|14=0|6=0|")],
            0, "0", 0, id="a bust without quantity and price",
        ),
    ],
)  # fmt: skip
async def test_what_was_traded_is_booked_in_every_store(
    tmp_path: Path, frames: list[bytes], quantity: int, realized: str, trades: int
) -> None:
    result = await replayed(written(tmp_path / "a.log", frames))
    assert (result.report.exit_code, result.report.breaks, result.missing, result.letters) == (0, [], [], {})
    (position,) = result.positions.values()
    assert (position.quantity_e8, position.trades) == (quantity * 10**8, trades)
    assert Fraction(position.realized_e16, 10**16) == Fraction(realized)


async def test_what_is_too_old_to_be_reported_today_is_a_letter_and_not_missed(tmp_path: Path) -> None:
    """It was not when it was recorded, but it is sent now."""
    old, new = fill(2, "1", 1, 10, "5", "20160110-20:00:00"), fill(3, "2", 1, 4, "5", "20260102-20:00:00")
    result = await replayed(written(tmp_path / "a.log", [old, new]))
    assert (result.report.exit_code, result.report.breaks, result.missing) == (0, [], [])
    ((reason, detail),) = result.letters
    assert reason == "Validation"
    assert detail.startswith("TransactTime(60)=20160110-20:00:00 is ")
    (position,) = result.positions.values()
    assert position.trades == 1


async def test_a_share_and_an_option_on_it_are_two_positions(tmp_path: Path) -> None:
    call = "167=OPT|200=20260116|201=1|202=150|"
    frames = [
        fill(2, "1", 1, 100, "185.5", "20260102-20:00:00"), fill(3, "2", 2, 10, "17", "20260102-20:00:01", call),
        fill(4, "3", 2, 40, "186", "20260102-20:00:02"),
    ]  # fmt: skip
    result = await replayed(written(tmp_path / "a.log", frames))
    assert (result.report.exit_code, result.missing, result.letters) == (0, [], {})
    assert {key: (one.quantity_e8, one.realized_e16, one.trades) for key, one in result.positions.items()} == {
        ("T001", "IBM"): (60 * 10**8, 20 * 10**16, 2),
        ("T001", "IBM   260116C00150000"): (-10 * 10**8, 0, 1),
    }


FUTURE = "167=FUT|200=202603|"
DATA = "traders: {T001: {name: Ann, desk: D}}\nstrategies: {VWAP: {name: V}}\nsecurities: {IBM: {multiplier: 50, currency: EUR}}"


@pytest.mark.parametrize(
    ("more", "data", "key", "multiplier"),
    [
        pytest.param((FUTURE + "231=50|", FUTURE + "231=50|"), "", "IBM 202603", 50, id="said"),
        pytest.param((FUTURE, FUTURE + "231=50|"), "", "IBM 202603", 50, id="said later"),
        pytest.param((FUTURE + "231=50|", FUTURE), "", "IBM 202603", 50, id="said once"),
        pytest.param((FUTURE + "15=EUR|",) * 2, "", "IBM 202603 (EUR)", 1, id="another currency"),
        pytest.param(("15=USD|", "231=0.5|"), "", "IBM", Fraction(1, 2), id="the currency of the house, and a fraction"),
        pytest.param((FUTURE, FUTURE), DATA, "IBM 202603 (EUR)", 50, id="known, of a future"),
        pytest.param(("", ""), DATA, "IBM (EUR)", 50, id="known, of what looks as a share"),
    ],
)  # fmt: skip
async def test_money_is_that_of_the_contract(
    tmp_path: Path, more: tuple[str, str], data: str, key: str, multiplier: Fraction
) -> None:
    """2 bought at 5,000 and sold at 5,010, whoever says what a point is worth."""
    frames = [
        fill(2, "1", 1, 2, "5000", "20260102-20:00:00", more[0]), fill(3, "2", 2, 2, "5010", "20260102-20:00:01", more[1]),
    ]  # fmt: skip
    if data:
        (tmp_path / "data.yaml").write_text(data)
    told: dict[str, object] = {"reference": tmp_path / "data.yaml"} if data else {}
    result = await replayed(written(tmp_path / "a.log", frames), **told)
    assert (result.report.exit_code, result.report.breaks, result.missing, result.letters) == (0, [], [], {})
    (position,) = result.positions.values()
    assert list(result.positions) == [("T001", key)]
    assert (position.quantity_e8, position.multiplier_e8, position.trades) == (0, multiplier * 10**8, 2)
    assert (Fraction(position.realized_e16, 10**16), position.total_e16) == (20 * multiplier, position.realized_e16)


async def test_trade_captures_of_a_log_are_booked_on_both_sides_and_every_byte_is_archived_once(tmp_path: Path) -> None:
    frames = [capture(2, "R1"), capture(3, "R2"), capture(4, "R3", "487=1|572=R2|"), report(5, "X5")]
    result = await replayed(written(tmp_path / "a.log", frames))
    assert (result.report.exit_code, result.report.breaks, result.missing, result.letters) == (0, [], [], {})
    assert {key: (one.quantity_e8 // 10**8, one.trades) for key, one in result.positions.items()} == {
        ("T001", "IBM"): (200, 2),
        ("T002", "IBM"): (-100, 1),
    }


async def test_sessions_of_several_logs_and_versions_stay_apart(tmp_path: Path) -> None:
    old = message("8", 2, trade_body("E2").replace("150=F", "150=2|20=0"), sender="OLD", version="FIX.4.2")
    other = message("8", 2, trade_body("E2"), sender="ACME", target="DESK")
    files = [written(tmp_path / f"{n}.log", frames) for n, frames in enumerate(([report(2, "E2")], [old, other]))]
    result = await replayed(*files)
    assert result.sent == {"ACME->EOD": 1, "FIX.4.2:OLD->EOD": 1, "ACME->DESK": 1}
    assert (result.report.exit_code, [one.trades for one in result.positions.values()]) == (0, [3])


async def test_broken_frames_are_named_and_sent_only_when_they_are_to_be_repaired(tmp_path: Path) -> None:
    changed = report(3, "E3").replace(b"448=T001", b"448=*")
    path = written(tmp_path / "a.log", [report(2, "E2"), changed, report(4, "E4")[:60]])
    result = await replayed(path)
    assert (result.sent, result.left) == ({"ACME->EOD": 1}, {"not a sound frame": 2})
    assert [(file, line) for file, line, _ in result.broken] == [(str(path), 2), (str(path), 3)]
    mended = await replayed(path, repair=True)
    assert (mended.sent, mended.left) == ({"ACME->EOD": 2}, {"not a whole frame": 1})
    assert {trader for trader, _ in mended.positions} == {"T001", "*"}


@pytest.mark.parametrize(
    ("speed", "slept"),
    [(0.0, []), (1.0, [0.4, 0.1, 5.0, 1.0]), (2.0, [0.2, 0.05, 5.0, 0.5])],
    ids=["fast", "own", "twice"],
)
async def test_messages_keep_the_pace_of_their_log_and_pauses_are_cut_short(speed: float, slept: list[float]) -> None:
    """A night between two messages is no reason to wait for one."""

    class Clock:
        def __init__(self) -> None:
            self.ns, self.slept = 10**18, list[float]()

        def now_ns(self) -> int:
            return self.ns

        async def sleep(self, seconds: float) -> None:
            self.slept.append(round(seconds, 6))
            self.ns += round(seconds * 1e9)

    clock, replay_ = Clock(), Replay(Options([], speed), Quiet())
    for at in ("02-21:00:00", "02-21:00:00.400", "02-21:00:00.5", "03-09:00:00", "03-09:00:01", "nonsense"):
        told = parsed(message("8", 2, "17=X|").replace(b"52=20260102-21:00:00.000", f"52=202601{at}".encode()))
        await replay_._keep_pace(clock, told)  # type: ignore[arg-type]
    assert clock.slept == slept


async def test_a_folder_that_holds_something_is_refused_at_once(tmp_path: Path) -> None:
    log, data = written(tmp_path / "a.log", RECORDED), tmp_path / "data"
    assert (await replayed(log, folder=data)).report.exit_code == 0
    with pytest.raises(FileExistsError, match="data is not empty"):
        await replayed(log, folder=data)


async def test_numbers_are_exact_as_json(tmp_path: Path) -> None:
    told = as_json(await replayed(written(tmp_path / "a.log", RECORDED)))
    assert json.loads(json.dumps(told)) == told
    assert told["positions"] == [
        {
            "trader": "T001", "symbol": "IBM", "quantity": "160", "average_price": "12.5", "mark": None,
            "realized": "100", "unrealized": None, "total": None, "trades": 3, "multiplier": "1", "currency": "USD", "approximate": False,
        },
    ]  # fmt: skip
    assert told["reconciliation"]["result"] == "equal"
    (letter,) = told["dead_letters"]
    assert (letter["letters"], letter["reason"]) == (1, "Validation")


def test_the_command_prints_tables_and_ends_with_the_verdict(tmp_path: Path) -> None:
    log, result = written(tmp_path / "a.log", RECORDED), tmp_path / "result.json"
    said = CliRunner().invoke(APP, [str(log), "--json", str(result)])
    assert said.exit_code == 0, said.output
    for text in (
        "positions",
        "T001",
        "dead letters",
        "left alone: 2 of the session itself",
        "8 messages of 1 sessions",
    ):
        assert text in said.output
    assert json.loads(result.read_text())["sent"] == {"ACME->EOD": 8}


@pytest.mark.parametrize(
    ("content", "says"), [(None, "a.log"), (b"hello\n", "no execution was sent"), (b"\x1f\x8bxx", "")]
)
def test_the_command_says_what_is_wrong_with_a_log(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "a.log").write_bytes(content)
    said = CliRunner().invoke(APP, [str(tmp_path / "a.log")])
    assert said.exit_code == 2
    assert says in said.output


async def test_a_log_is_read_and_booked_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the settings that ingestion reads messages by; none of those that say who may connect, and where."""
    reference = tmp_path / "reference.yaml"
    reference.write_text("{traders: {}, strategies: {}, securities: {IBM: {isin: US1, multiplier: 10}}}")
    said = {
        "ZONE": "Asia/Tokyo", "CURRENCY": "EUR", "TRADER_TAG": "50", "TRADE_CAPTURES": "false",
        "COUNTERPARTIES": "NOBODY", "PORT": "1", "COMP_ID": "OTHER", "RESET": "17:00", "SESSIONS_FILE": "nowhere.yaml",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(f"EOD_FIX_{name}", value)
    monkeypatch.setenv("EOD_REFERENCE_FILE", str(reference))
    named = message("8", 2, "50=DESK7|" + trade_body("E2", px="12"))
    result = await replayed(written(tmp_path / "log", [named, capture(3, "R1")]))
    (key,) = result.positions
    assert key == ("DESK7", "IBM"), "the trader of another field, in the house's currency"
    assert result.positions[key].multiplier_e8 == 10 * 10**8
    assert (result.currency, result.missing, result.report.exit_code) == ("EUR", [], 0)
    assert {row.trade_date for row in result.exceptions} == {20260103}, "it is the next day in Tokyo"


def test_settings_that_cannot_be_understood_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_FIX_ZONE", "Moon")
    done = CliRunner().invoke(APP, [str(written(tmp_path / "log", RECORDED))])
    assert done.exit_code == 2
    assert done.output.startswith("eod: EOD_FIX_ZONE")
