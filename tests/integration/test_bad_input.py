"""Whatever is wrong with the input gets a sentence that names the field, its right place, and costs nothing else.

Each test is a FIX session of its own, with traders of its own, on one pipeline.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from eod_workers.fix.reading import WORDING, Reason
from eod_workers.letters import MAX_RECORD_HELD
from support import known_close
from support.counterparty import MARKS_E8
from support.patience import eventually_nothing
from support.pipeline import EOD, KINDS, Pipeline, fresh_database
from support.raw_fix import RawFix, checksum, framed, report
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

REFERENCE = known_close.reference("A")
Spoil = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def pipeline(
    kafka: Kafka, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """A pipeline that lives as long as this module; nothing in here ends a stage of it."""
    folder = tmp_path_factory.mktemp("bad-input")
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(folder.name, kafka.bootstrap, url, s3_server, folder, REFERENCE)
        with pipeline.running():
            pipeline.mark(MARKS_E8)
            yield pipeline
            assert [kind for kind in KINDS if not pipeline.stages[kind].alive] == []


@pytest.fixture
def fix(pipeline: Pipeline, unique: str) -> Iterator[RawFix]:
    """A session of this test's own, logged on."""
    with RawFix(pipeline.fix_port, unique) as fix:
        yield fix.logon()


def stored(pipeline: Pipeline, session: str) -> set[str]:
    """ExecIDs in the regulatory store."""
    return {row[0] for row in pipeline.select("SELECT exec_id FROM trades WHERE session = ?", session)}


def await_stored(pipeline: Pipeline, session: str, *exec_ids: str) -> None:
    """Wait until the store holds these trades of a session; it must hold no other."""
    eventually_nothing(lambda: (missing := set(exec_ids) - stored(pipeline, session)) and f"not stored: {missing}", 20)
    assert stored(pipeline, session) == set(exec_ids)


def await_letter(pipeline: Pipeline, **said: object) -> dict[str, Any]:
    """The one dead letter of which this is said."""
    found: list[dict[str, Any]] = []

    def unmet() -> str:
        found[:] = [x for x in pipeline.letters() if all(x[name] == value for name, value in said.items())]
        return "" if found else f"no letter with {said}"

    eventually_nothing(unmet, 20)
    assert len(found) == 1, found
    return found[0]


def shown(pipeline: Pipeline, letter: dict[str, Any]) -> bytes:
    """The bytes that `eod dlq show` prints."""
    return pipeline.eod("dlq", "show", letter["id"]).splitlines()[1].replace("|", "\x01").encode("latin-1")


# --- frames -------------------------------------------------------------------------------------------------


def _wrong_checksum(body: bytes) -> bytes:
    raw = framed(body)
    return raw[:-4] + b"%03d\x01" % ((int(checksum(raw[:-7])) + 1) % 256)


def _too_long(body: bytes) -> bytes:
    return framed(body, length=len(body) + 20)


def _too_short(body: bytes) -> bytes:
    return framed(body, length=len(body) - 20)


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_wrong_checksum, "CheckSum(10)"),
        pytest.param(_too_long, "BodyLength(9)", marks=pytest.mark.slow),
        pytest.param(_too_short, "BodyLength(9)", marks=pytest.mark.slow),
    ],
)
def test_a_garbled_frame_is_a_dead_letter_and_is_asked_for_again(
    pipeline: Pipeline, fix: RawFix, spoil: Spoil, field: str
) -> None:
    """The trades before and after it are booked, and so is the trade itself once it was resent whole."""
    fix.trade("before")
    fix.number += 1
    number = fix.number
    garbled = fix.write(spoil(fix.message(b"8", report("garbled"), number)))
    fix.trade("after")
    request = fix.await_message(b"2")
    assert (request[b"7"], request[b"16"]) == (b"%d" % number, b"%d" % number)
    fix.write(framed(fix.message(b"8", report("garbled"), number, again=True)))
    fix.synchronize()
    await_stored(pipeline, fix.session, "before", "garbled", "after")
    letter = await_letter(pipeline, session=fix.session)
    assert letter["reason"] == "Deserialization"
    assert field in letter["detail"]
    assert shown(pipeline, letter) == garbled
    eventually_nothing(lambda: "" if garbled in pipeline.archive.frames() else "the garbled bytes are not archived", 10)
    refused = pipeline.eod("dlq", "redrive", letter["id"], code=2)
    assert "no FIX frame" in refused


# --- reports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "tag", "reason", "sentence"),
    [
        ({"t54": "9"}, b"54", b"5", "Side(54)='9' is not one of 1, 2, 3, 4, 5, 6"),
        pytest.param({"t54": None}, b"54", b"1", "Side(54) is missing", marks=pytest.mark.slow),
        pytest.param(
            {"t150": "Z"}, b"150", b"5", "ExecType(150)='Z' is not a value of FIX 4.2 or 4.4", marks=pytest.mark.slow
        ),
        pytest.param({"t31": None}, b"31", b"1", "LastPx(31) is missing", marks=pytest.mark.slow),
        ({"t31": "12,5"}, b"31", b"6", "LastPx(31): '12,5' is not a decimal number"),
        pytest.param(
            {"t60": "yesterday"},
            b"60",
            b"6",
            "TransactTime(60): 'yesterday' is not a UTC time stamp",
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_impossible_report_is_rejected_and_kept(
    pipeline: Pipeline, fix: RawFix, changes: dict[str, str | None], tag: bytes, reason: bytes, sentence: str
) -> None:
    """Reject(3) tells the counterparty which field; the letter says the same; the trades around it are booked."""
    fix.trade("before")
    raw = fix.trade("wrong", **changes)
    number = fix.number
    fix.trade("after")
    reject = fix.await_message(b"3")
    assert (reject[b"45"], reject[b"371"], reject[b"372"], reject[b"373"]) == (b"%d" % number, tag, b"8", reason)
    assert reject[b"58"].decode().startswith(f"{WORDING[Reason(int(reason))]}: {sentence}")
    await_stored(pipeline, fix.session, "before", "after")
    letter = await_letter(pipeline, session=fix.session)
    assert (letter["reason"], letter["stage"], letter["msg_seq_num"]) == ("Validation", "ingestion", number)
    assert letter["detail"].startswith(sentence)
    assert shown(pipeline, letter) == raw


def test_an_unknown_trader_is_stored_valued_and_listed_for_review(pipeline: Pipeline, fix: RawFix) -> None:
    trader = f"WHO-{fix.session}"
    fix.trade("stranger", t448=trader)
    await_stored(pipeline, fix.session, "stranger")
    [(field, value, detail)] = pipeline.select(
        "SELECT field, value, detail FROM exceptions WHERE session = ?", fix.session
    )
    assert (field, value) == ("trader", trader)
    assert f"trader {trader!r} is not in the reference data" in detail
    eventually_nothing(lambda: "" if pipeline.positions(trader) else "no position", 10)
    assert pipeline.positions(trader)["S00"]["quantity"] == "100"


def test_a_record_that_does_not_decode_is_one_letter_and_stops_nobody(pipeline: Pipeline, fix: RawFix) -> None:
    """Two stages meet it and write the same letter; the trade behind it in its partition is booked by both."""
    trader = f"A-{fix.session}"
    rubbish = b"\xff rubbish of " + fix.session.encode()
    fix.trade("before", t448=trader)
    fix.synchronize()
    await_stored(pipeline, fix.session, "before")
    pipeline.produce("trades", [(b"S00", rubbish)])
    fix.trade("after", t448=trader)
    await_stored(pipeline, fix.session, "before", "after")
    letter = await_letter(pipeline, reason="Deserialization", session="")
    assert letter["detail"].startswith("not a TradeBatch")
    topic, _, offset = letter["source"].partition("@")
    assert topic.startswith(pipeline.topics["trades"])
    assert int(offset) > 0
    assert letter["bytes"] == len(rubbish)
    without_kafka = {**os.environ, **pipeline.env, "EOD_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    said = subprocess.run([EOD, "dlq", "list", "--json"], env=without_kafka, capture_output=True, check=True).stdout
    assert letter["id"] in {one["id"] for one in json.loads(said)}
    eventually_nothing(lambda: "" if pipeline.positions(trader)["S00"]["quantity"] == "200" else "not yet 200", 10)


def test_a_record_that_no_letter_has_room_for_is_one_letter_and_stops_nobody(pipeline: Pipeline, fix: RawFix) -> None:
    """A topic measures what is compressed: what comes out of a record may be larger than any record may be."""
    trader = f"A-{fix.session}"
    poison = bytes(5 << 20) + fix.session.encode()
    fix.trade("before", t448=trader)
    fix.synchronize()
    await_stored(pipeline, fix.session, "before")
    pipeline.produce("trades", [(b"S00", poison)])
    fix.trade("after", t448=trader)
    await_stored(pipeline, fix.session, "before", "after")
    eventually_nothing(lambda: "" if pipeline.positions(trader)["S00"]["quantity"] == "200" else "not yet 200", 10)
    letter = await_letter(pipeline, bytes=len(poison))
    assert letter["detail"].startswith("not a TradeBatch")
    left_out = f"and {len(poison) - MAX_RECORD_HELD:,} bytes more, which the letter has no room for"
    assert f"{left_out}: see {letter['source']}" in pipeline.eod("dlq", "show", letter["id"])
    assert "cannot read the record either" in pipeline.eod("dlq", "redrive", letter["id"], code=2)


# --- sessions -----------------------------------------------------------------------------------------------


def test_a_logon_to_somebody_else_is_refused_with_a_sentence(pipeline: Pipeline, unique: str) -> None:
    with RawFix(pipeline.fix_port, unique, target="NOBODY") as fix:
        raw = fix.send(b"A", {b"98": b"0", b"108": b"30"})
        [goodbye] = fix.await_end()
        assert goodbye[b"35"] == b"5"
        assert goodbye[b"58"].decode() == f"session '{unique}->NOBODY' may not log on here"
    eventually_nothing(lambda: "" if raw in pipeline.archive.frames() else "the Logon is not archived", 10)
    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon().trade("right")
        await_stored(pipeline, fix.session, "right")


def test_a_number_that_is_too_low_ends_the_connection_and_not_the_session(pipeline: Pipeline, fix: RawFix) -> None:
    fix.trade("first")
    fix.write(framed(fix.message(b"8", report("again"), fix.number)))
    goodbye = fix.await_end()[-1]
    assert goodbye[b"35"] == b"5"
    assert goodbye[b"58"].decode() == f"MsgSeqNum too low, expecting {fix.number + 1} but received {fix.number}"
    fix.connect().logon().trade("second")
    await_stored(pipeline, fix.session, "first", "second")


# --- redriving ----------------------------------------------------------------------------------------------


def test_a_mended_letter_is_booked_once_however_many_redrive_it(pipeline: Pipeline, fix: RawFix) -> None:
    """Unmended it is refused with the remedy; of several redrives at once one books it; everything shows the trade."""
    trader = f"A-{fix.session}"
    raw = fix.trade("priceless", t448=trader, t31=None)
    letter = await_letter(pipeline, session=fix.session)
    assert "--set 31=VALUE" in pipeline.eod("dlq", "redrive", letter["id"], code=2)
    assert "--set wants TAG=VALUE" in pipeline.eod("dlq", "redrive", letter["id"], "--set", "price=3", code=2)
    attempts = [
        subprocess.Popen(
            [EOD, "dlq", "redrive", letter["id"], "--set", "31=10.5"],
            env={**os.environ, **pipeline.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    said = [attempt.communicate(timeout=60)[0] for attempt in attempts]
    booked = [one for one in said if one.startswith("booked: ")]
    others = [one for one in said if one.startswith("already booked: ") or "has been redriven: booked" in one]
    assert (len(booked), len(others)) == (1, 2), said
    assert "has been redriven: " in pipeline.eod("dlq", "redrive", letter["id"], "--set", "31=11", code=2)
    await_stored(pipeline, fix.session, "priceless")
    rows = pipeline.select("SELECT last_px_e8, last_qty_e8, trader FROM trades WHERE session = ?", fix.session)
    assert rows == [(10_50000000, 100_00000000, trader)]
    eventually_nothing(lambda: "" if pipeline.positions(trader) else "no position", 10)
    position = pipeline.positions(trader)["S00"]
    assert {name: position[name] for name in ("quantity", "average_price", "cost", "trades")} == {
        "quantity": "100",
        "average_price": "10.5",
        "cost": "1050",
        "trades": 1,
    }
    assert await_letter(pipeline, session=fix.session)["redriven"] is True
    eventually_nothing(pipeline.lag, 20)
    frames = list(pipeline.archive.frames())
    assert frames.count(raw) == 1
    assert not [frame for frame in frames if b"\x0131=10.5\x01" in frame and trader.encode() in frame]


@pytest.mark.slow
def test_a_letter_that_does_not_exist_is_said_not_to(pipeline: Pipeline) -> None:
    for command in ("show", "redrive"):
        assert "there is no dead letter nonsense" in pipeline.eod("dlq", command, "nonsense", code=2)


def await_named(pipeline: Pipeline, address: str) -> None:
    """Wait until /readyz of every stage names an address."""

    def unmet() -> list[str]:
        return [why for stage in pipeline.stages.values() if address not in (why := stage.why_not_ready())]

    eventually_nothing(unmet, 30)


# --- the log ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_missing_topic_is_named_with_the_remedy_and_waited_for(pipeline: Pipeline, unique: str) -> None:
    """What makes it may be on its way, as the operator is where a pipeline has just been installed."""
    stranger = Pipeline(
        unique, pipeline.bootstrap, pipeline.redis_url, pipeline.s3, pipeline.folder / unique, REFERENCE
    )
    stranger.s3.create_bucket(unique)
    with closing(stranger):
        for stage in stranger.stages.values():
            stage.start()
        await_named(stranger, "eod topics ensure")
        stranger.eod("topics", "ensure")
        stranger.await_ready()


@pytest.mark.slow
def test_without_kafka_every_stage_says_so_and_recovers_when_it_comes(
    own_kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """/readyz names the address; SIGTERM still ends a stage; the others work as soon as there is a broker."""
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(unique, own_kafka.bootstrap, url, s3_server, tmp_path_factory.mktemp("no-kafka"), REFERENCE)
        s3_server.create_bucket(unique)
        pipeline.eod("topics", "ensure")
        own_kafka.kill()
        said = pipeline.eod("topics", "ensure", code=2)
        assert own_kafka.bootstrap in said
        with closing(pipeline):
            for stage in pipeline.stages.values():
                stage.start()
            await_named(pipeline, own_kafka.bootstrap)
            for stage in pipeline.stages.values():
                stage.signal()
            assert {kind: pipeline.stages[kind].exit_code(15) for kind in KINDS} == dict.fromkeys(KINDS, 0)
            for stage in pipeline.stages.values():
                stage.start()
            await_named(pipeline, own_kafka.bootstrap)
            own_kafka.start()
            pipeline.await_ready()
            with RawFix(pipeline.fix_port, unique) as fix:
                fix.logon().trade("late", t448="A-T01")
                await_stored(pipeline, fix.session, "late")
            eventually_nothing(lambda: "" if pipeline.positions("A-T01") else "no position", 10)
            # And away again while the stages run: each still ends when it is told to.
            own_kafka.kill()
            for stage in pipeline.stages.values():
                stage.signal()
            assert {kind: pipeline.stages[kind].exit_code(28) for kind in KINDS} == dict.fromkeys(KINDS, 0)


def test_the_list_of_letters_is_what_the_store_holds(pipeline: Pipeline, fix: RawFix) -> None:
    """`eod dlq list --json` names every letter once, oldest first."""
    fix.trade("wrong", t54="9")
    await_letter(pipeline, session=fix.session)
    listed = json.loads(pipeline.eod("dlq", "list", "--json"))
    assert {(one["redriven"], bool(one.pop("outcome"))) for one in listed} <= {(False, False), (True, True)}
    assert sorted(listed, key=lambda x: x["id"]) == sorted(pipeline.letters(), key=lambda x: x["id"])
    assert [x["received_at_ns"] for x in listed] == sorted(x["received_at_ns"] for x in listed)
    assert listed[-1]["session"] == fix.session
