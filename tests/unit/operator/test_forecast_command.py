"""`eod forecast`: what files and clusters hold, as tables, JSON and pictures, and what it says when they hold nothing."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from eod_operator.forecast_command import app
from eod_operator.forecast_files import Found, UnreadableError, as_memory, memories, read_sessions, train
from eod_operator.forecast_lookup import look_up
from eod_operator.forecast_plots import INSTALL
from eod_operator.kube.api import ClusterError
from eod_operator.lookup import LookupFailedError
from eod_operator.scaling.memory import Memory, dumps, loads, remember
from eod_operator.scaling.recorder import Circumstances, Recorder, trace
from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession
from support.recorded import FIRST_CLOSE_S, session, sessions
from typer.testing import CliRunner

PNG = b"\x89PNG\r\n\x1a\n"


def run(*args: str | Path, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(one) for one in args], input=text)
    return result.exit_code, result.stdout, result.stderr


def known() -> Memory:
    """Six ordinary sessions and three of an event."""
    memory = Memory(service_per_s=100.0)
    for one in (*sessions(6), *(session(day, scale=3.0, event="index-rebalance") for day in (10, 11, 12))):
        memory = remember(memory, one)
    return memory


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    file = tmp_path / "memory.json"
    file.write_text(dumps(known()), encoding="utf-8")
    return file


def config_map(**data: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x-forecast"}, "data": data})


def a_trace(one: RecordedSession, **changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        trace(Recorder.resumed(one), Circumstances(1, 12, service_per_s=90.0, start_s=30.0))
    )
    return made | changed


def table(path: Path, *known_: RecordedSession, **more: str) -> Path:
    """Sessions as CSV, and further lines."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["close", "relative_s", "rate", "event"])
        for one in known_:
            close = datetime.fromtimestamp(one.close_s, tz=UTC).isoformat()
            for edge, rate in zip(EDGES_S, one.rates_per_s, strict=False):
                writer.writerow([close, edge, rate, one.event])
        file.writelines(f"{line}\n" for line in more.values())
    return path


def test_show_tells_peak_trust_and_quantiles(memory: Path) -> None:
    code, out, err = run("show", memory, "--partitions", "12")
    assert (code, err) == (0, "")
    assert "6 ordinary sessions, 3 of index-rebalance; closes from 2026-05-28 to 2026-06-09" in out
    assert "ordinary sessions (6)\npeak 529 records/s 0:00:10 before the close, for 6 replicas, 0% above" in out
    assert "trusted: its peak was within 60% of what came in the last sessions" in out
    (at_close,) = [line.split() for line in out.splitlines() if line.startswith("+0:00:00")][:1]
    assert at_close == ["+0:00:00", "+0:00:10", *["528.9"] * 6]


def test_show_as_json_has_every_bin(memory: Path) -> None:
    code, out, _ = run("show", memory, "--json")
    (told,) = json.loads(out)
    assert code == 0
    assert (told["servicePerSecond"], len(told["edges"])) == (100.0, BINS + 1)
    assert [(kind["event"], kind["sessions"], kind["replicas"]) for kind in told["kinds"]] == [
        ("", 6, 6),
        ("index-rebalance", 3, 16),
    ]
    for kind in told["kinds"]:
        assert len(kind["ratesPerSecond"]) == BINS
        assert {"0.1", "0.25", "0.5", "0.75", "0.9"} == kind["fan"].keys()


def test_a_rate_given_goes_before_the_learned_one(memory: Path) -> None:
    (told,) = json.loads(run("show", memory, "--json", "--service-per-second", "50", "--partitions", "12")[1])
    assert [kind["replicas"] for kind in told["kinds"]] == [12, 12]  # 11 needed, 12 share evenly; never more


def test_backtest_tells_each_session(memory: Path) -> None:
    code, out, _ = run("backtest", memory)
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.startswith("2026-")]
    assert len(lines) == 9
    assert lines[0][1:9] == ["0", "-", "-", "-", "-", "-", "-", "no"]
    assert lines[2][1:9] == ["2", "529", "529", "+0%", "+7%", "6", "6", "yes"]


def test_backtest_as_json_is_of_those_before(memory: Path) -> None:
    (told,) = json.loads(run("backtest", memory, "--json")[1])
    ordinary = told["kinds"][0]["sessions"]
    assert [one["learnedFrom"] for one in ordinary] == [0, 1, 2, 3, 4, 5]
    assert [one["trusted"] for one in ordinary] == [False, False, True, True, True, True]
    assert (ordinary[0]["peakError"], ordinary[1]["peakError"]) == (None, pytest.approx(0.0, abs=0.002))
    assert ordinary[5]["neededReplicas"] == ordinary[5]["foreseenReplicas"] == 6


def test_pictures_are_drawn(memory: Path, tmp_path: Path) -> None:
    for command in ("show", "backtest"):
        file = tmp_path / f"{command}.png"
        assert run(command, memory, "--plot", file)[0] == 0
        assert file.read_bytes().startswith(PNG)


def test_nothing_known_is_drawn_too(tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(dumps(Memory()), encoding="utf-8")
    for command in ("show", "backtest"):
        code, out, _ = run(command, empty, "--plot", tmp_path / "empty.png")
        assert code == 0
        assert "no session has been recorded yet" in out
    assert (tmp_path / "empty.png").read_bytes().startswith(PNG)


def test_without_matplotlib_it_says_how_to_install_it(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run("show", memory, "--plot", tmp_path / "x.png")[::2] == (1, f"eod forecast show: {INSTALL}\n")


def test_matplotlib_is_not_loaded_unless_a_picture_is_asked_for(memory: Path) -> None:
    code = (
        "import sys; from eod_operator.forecast_command import app\n"
        "try: app(['show', sys.argv[1]])\n"
        "finally: print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, memory], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_a_picture_that_cannot_be_written_says_so(memory: Path, tmp_path: Path) -> None:
    code, _, err = run("show", memory, "--plot", tmp_path / "no" / "x.png")
    assert (code, err) == (1, f"eod forecast show: {tmp_path}/no/x.png: cannot be written: No such file or directory\n")


def test_a_config_map_has_one_memory_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    file.write_text(config_map(**{"trades.json": dumps(known()), "prices.json": dumps(Memory())}), encoding="utf-8")
    assert [one["name"] for one in json.loads(run("show", file, "--json")[1])] == ["prices", "trades"]
    assert [one["name"] for one in json.loads(run("show", file, "--json", "--stage", "trades")[1])] == ["trades"]
    assert run("show", file, "--stage", "x")[::2] == (
        1,
        f"eod forecast show: {file} tells nothing of 'x': it has prices, trades\n",
    )
    assert run("show", file, "--plot", tmp_path / "x.png")[::2] == (
        1,
        "eod forecast show: a picture is of one: choose with --stage among prices, trades\n",
    )


def test_standard_input_will_do() -> None:
    assert run("show", "-", "--json", text=dumps(known()))[0] == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (config_map(), "the ConfigMap is empty: the operator writes it after the first session"),
        (config_map(**{"a.json": "{"}), "a.json: the remembered sessions could not be read"),
        ("{", "is not JSON"),
        ("{}", "holds no session whose burst was watched"),
        ("a,b\n1,2\n", "lacks the columns close, relative_s, rate: a CSV has close, relative_s, rate and"),
        ("close,rate\n1,2\n", "lacks the column relative_s"),
        ("close,relative_s,rate\n", "holds no session"),
    ],
)
def test_what_holds_nothing_says_why(text: str, why: str) -> None:
    with pytest.raises(UnreadableError) as raised:
        as_memory(text, "given")
    assert str(raised.value).startswith("given: ")
    assert why in str(raised.value)


def test_only_a_memory_is_a_memory() -> None:
    with pytest.raises(UnreadableError, match="is no memory: give a memory of the operator, its ConfigMap"):
        memories("[]", "given")


@pytest.mark.parametrize("source", ["nowhere.json", "./nowhere", "/nowhere/at-all"])
def test_a_file_that_is_not_there(source: str) -> None:
    assert run("show", source)[::2] == (1, f"eod forecast show: {source}: cannot be read: No such file or directory\n")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    assert "is not text in UTF-8" in run("show", tmp_path / "x.json")[2]


def test_train_learns_from_a_csv(tmp_path: Path) -> None:
    file, output = table(tmp_path / "s.csv", *sessions(4), session(9, event="index-rebalance")), tmp_path / "m.json"
    code, out, err = run("train", file, "-o", output, "--service-per-second", "80")
    learned = loads(output.read_text(encoding="utf-8"))
    assert (code, err) == (0, "")
    assert out.startswith(
        f"{output}: 4 ordinary sessions, 1 of index-rebalance; closes from 2026-05-28 to 2026-06-06; 80 records"
    )
    assert [one.event for one in learned.sessions] == ["", "", "", "", "index-rebalance"]
    assert [score.close_s for score in learned.scores] == [FIRST_CLOSE_S + day * 86_400 for day in (1, 2, 3)]
    assert learned.sessions[0].rates_per_s == pytest.approx(session().rates_per_s, rel=1e-3)
    assert run("show", output)[0] == run("backtest", output)[0] == 0


def test_train_learns_from_traces(tmp_path: Path) -> None:
    one, many, output = tmp_path / "one.json", tmp_path / "many.json", tmp_path / "m.json"
    one.write_text(json.dumps(a_trace(session(0))), encoding="utf-8")
    many.write_text(json.dumps([a_trace(session(1)), a_trace(session(2), servicePerSecond=110.0)]), encoding="utf-8")
    assert run("train", one, many, "-o", output)[0] == 0
    learned = loads(output.read_text(encoding="utf-8"))
    assert (len(learned.sessions), learned.service_per_s, learned.starts_s) == (3, 90.0, (30.0, 30.0, 30.0))


def test_train_names_what_it_leaves_out(tmp_path: Path) -> None:
    unwatched = replace(session(8), rates_per_s=(None,) * BINS)
    odd = tmp_path / "odd.json"
    odd.write_text(
        json.dumps(
            [
                a_trace(unwatched),
                a_trace(session(0), edges=[1, 2]),
                a_trace(session(0), close="2026-01-01T00:00:00"),
                a_trace(session(0), arrivalPerSecond=[1]),
                {"x": 1},
            ]
        ),
        encoding="utf-8",
    )
    lines = {f"l{at}": "5,0,-1" for at in range(7)} | {"a": "5,99999,1", "b": "noon,0,1"}
    file = table(tmp_path / "s.csv", *sessions(22), **{"a": "5,99999,1", "b": "noon,0,1"} | lines)
    twice = table(tmp_path / "t.csv", session(21))
    code, _, err = run("train", file, twice, odd, "-o", tmp_path / "m.json")
    assert code == 0
    for sentence in (
        "line 7394: relative_s '99999' lies outside a session, which is -23400 to 3600 s from its close",
        "line 7395: Invalid isoformat string: 'noon'",
        "line 7396: rate '-1' is no number of records a second",
        "s.csv: 4 more lines like these",
        "the session of 2026-06-18T20:26:40Z: is there twice, and the last one counts",
        "the session of 2026-06-05T20:26:40Z: less than half of its burst was watched",
        "odd.json: trace 2: was recorded in other bins than this version's: record it anew",
        "odd.json: trace 3: close '2026-01-01T00:00:00' has no offset: write it as 2026-11-27T13:00:00-05:00",
        "odd.json: trace 4: rates_per_s has 1 bins",
        "odd.json: trace 5: is no trace",
        "the session of 2026-05-28T20:26:40Z: is older than those that are kept",
    ):
        assert sentence in err
    assert all(line.startswith("left out: ") for line in err.splitlines())


def test_train_without_a_session_writes_nothing(tmp_path: Path) -> None:
    file = table(tmp_path / "s.csv", replace(session(), rates_per_s=(1.0, *(None,) * (BINS - 1))), x="1,0,1")
    code, _, err = run("train", file, "-o", tmp_path / "m.json")
    assert (code, (tmp_path / "m.json").exists()) == (1, False)
    assert err.endswith("eod forecast train: no session is left to learn from; nothing was written\n")


def test_train_that_cannot_write_says_so(tmp_path: Path) -> None:
    file = table(tmp_path / "s.csv", *sessions(2))
    assert "m.json: cannot be written: No such file" in run("train", file, "-o", tmp_path / "no" / "m.json")[2]


def test_what_a_trace_does_not_tell_is_not_learned() -> None:
    found = Found()
    read_sessions(json.dumps(a_trace(session(), servicePerSecond=None, startSeconds=None)), "x", found)
    assert (train(found)[0].service_per_s, train(found)[0].starts_s) == (None, ())


class Answering:
    """An API server that has one ConfigMap, or refuses."""

    def __init__(self, answer: dict[str, Any] | ClusterError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []

    async def call(self, verb: str, kind: str, namespace: str | None, name: str = "") -> dict[str, Any]:
        self.asked.append((verb, kind, str(namespace), name))
        if isinstance(self.answer, ClusterError):
            raise self.answer
        return self.answer


def test_a_pipeline_is_read_from_its_config_map() -> None:
    """The API server leaves out the kind of what it was asked for by kind."""
    api = Answering({"data": {"trades.json": dumps(known())}})
    found = asyncio.run(look_up(api, "trading", "us-equities"))
    assert api.asked == [("get", "ConfigMap", "trading", "us-equities.forecast")]
    assert list(memories(json.dumps(found), "us-equities")) == ["trades"]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (404, "there is no ConfigMap x.forecast in namespace trading: the operator writes it after the first session"),
        (403, "you lack the right to get configmaps in namespace trading: ask for a Role"),
        (500, "check the address in the kubeconfig"),
    ],
)
def test_a_cluster_that_refuses_says_why(status: int, sentence: str) -> None:
    with pytest.raises(LookupFailedError, match=sentence):
        asyncio.run(look_up(Answering(ClusterError(status, "no")), "trading", "x"))


def test_a_pipeline_without_a_cluster_says_both(tmp_path: Path) -> None:
    code, _, err = run("show", "us-equities", "--kubeconfig", tmp_path / "none")
    no_cluster = f"there is no kubeconfig {tmp_path}/none: name one with --kubeconfig"
    assert code == 1
    assert err == (f"eod forecast show: us-equities is no file, and as a pipeline it cannot be read: {no_cluster}\n")
