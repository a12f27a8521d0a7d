"""The house is in order: generated code, the lock, the layers, the Makefile and what the README promises of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from eod_contract.kinds import KINDS
from eod_contract.streams import STREAMS
from eod_workers.runtime.stages import load_stages
from eod_workers.runtime.variables import TopicNames
from support.patience import limit_s

ROOT = Path(__file__).resolve().parents[3]
GENERATED = Path("workers/eod_workers/protos")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def ran(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return how it ended."""
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=limit_s(120))


# --- generated code -----------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The schemas, what is generated of them and the tool, to be spoilt."""
    for folder in ("tools", "protos", str(GENERATED)):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_generated_code_is_what_the_schemas_say() -> None:
    ended = ran(sys.executable, "tools/protos.py", "--check")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _change_schema(copy: Path) -> str:
    schema = copy / "protos/eod/v1/prices.proto"
    schema.write_text(schema.read_text().replace("repeated sint64 px_e8 = 5;", "repeated sint64 px_e9 = 5;"))
    return "prices_pb2.py"


def _change_code(copy: Path) -> str:
    with (copy / GENERATED / "trades_pb2.py").open("a") as file:
        file.write("# by hand\n")
    return "trades_pb2.py"


def _change_types(copy: Path) -> str:
    with (copy / GENERATED / "trades_pb2.pyi").open("a") as file:
        file.write("# by hand\n")
    return "trades_pb2.pyi"


def _remove(copy: Path) -> str:
    (copy / GENERATED / "storage_pb2.py").unlink()
    return "storage_pb2.py"


def _leave_behind(copy: Path) -> str:
    (copy / GENERATED / "old_pb2.py").write_text("")
    return "old_pb2.py"


@pytest.mark.parametrize("spoil", [_change_schema, _change_code, _change_types, _remove, _leave_behind])
def test_a_drift_between_schemas_and_generated_code_is_found_and_named(
    copy: Path, spoil: Callable[[Path], str]
) -> None:
    name = spoil(copy)
    ended = ran(sys.executable, "tools/protos.py", "--check", cwd=copy)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert f"{GENERATED}/{name} does not match protos/: run 'make protos'" in ended.stdout.splitlines()


def test_generating_mends_the_drift(copy: Path) -> None:
    _change_schema(copy)
    assert ran(sys.executable, "tools/protos.py", cwd=copy).returncode == 0
    assert ran(sys.executable, "tools/protos.py", "--check", cwd=copy).returncode == 0


# --- dependencies -------------------------------------------------------------------------------------------


def test_the_lock_names_no_address_and_a_hash_for_everything() -> None:
    """Whoever clones has registries of their own; what they deliver is held against the hashes."""
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert re.findall(r"[a-z]+://[^\"]*", text) == []
    packages = tomllib.loads(text)["package"]
    bare = [
        (package["name"], file)
        for package in packages
        for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        if not str(file.get("hash", "")).startswith("sha256:")
    ]
    assert bare == []
    registries = {package["source"].get("registry") for package in packages} - {None}
    assert registries == {".wheels"}


def test_the_lock_holds_every_dependency_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {
        re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-") for text in wanted if isinstance(text, str)
    }
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]}
    assert names - locked == set()


def test_each_dependency_has_a_line_that_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'^    "[A-Za-z0-9._\[\]-]+>=[^"]*",(.*)$', text, flags=re.MULTILINE)
    assert len(listed) > 20
    assert [line for line in listed if not re.match(r"\s*# \S", line)] == []


# --- layers and names ---------------------------------------------------------------------------------------


def test_the_layers_hold() -> None:
    ended = ran(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_layer_that_is_broken_is_found(tmp_path: Path) -> None:
    """The contracts are not merely there: an import that they forbid fails them."""
    for folder in ("contract", "operator", "workers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    added = {
        "operator/eod_operator/sizing.py": "import eod_workers.ports",
        "operator/eod_operator/metrics.py": "import eod_operator.sizing",
        "workers/eod_workers/fix/frames.py": "import sqlite3",
        "workers/eod_workers/archive/segments.py": "import eod_workers.pnl.published",
        "workers/eod_workers/orders/__init__.py": "",
        "workers/eod_workers/trades/model.py": "import eod_workers.trades.codec",
    }
    for name, line in added.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}/contract:{tmp_path}/operator:{tmp_path}/workers"}
    ended = ran(str(Path(sys.executable).with_name("lint-imports")), "--no-cache", cwd=tmp_path, env=env)
    assert ended.returncode == 1
    assert {line for line in ended.stdout.splitlines() if line.endswith("BROKEN")} == {
        "Packages: each knows those below it alone BROKEN",
        "The layers of the operator BROKEN",
        "The layers of the workers; stages know nothing of each other, nor of adapters BROKEN",
        "No cycles, within a package neither BROKEN",
        "Stages, and what they are made of, know no client library BROKEN",
    }
    assert "- eod_workers.orders" in ended.stdout, "a package without a place in the layers"
    assert "eod_workers.archive.segments -> eod_workers.pnl.published" in ended.stdout


def test_operator_is_the_standard_library_also_from_the_root_of_the_repository() -> None:
    """A file operator/__init__.py would put our folder in its place."""
    ended = ran(sys.executable, "-c", "import operator; print(operator.__file__, operator.add(1, 2))")
    assert ended.returncode == 0, ended.stderr
    assert str(ROOT) not in ended.stdout
    assert ended.stdout.split()[-1] == "3"
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("package", ["contract/eod_contract", "operator/eod_operator", "workers/eod_workers"])
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_no_folder_is_named_for_a_pattern_instead_of_what_it_does() -> None:
    vague = {"services", "managers", "utils", "helpers", "common"}
    folders = {
        path.name for top in ("contract", "operator", "workers") for path in (ROOT / top).rglob("*") if path.is_dir()
    }
    assert folders & vague == set()


# --- stages -------------------------------------------------------------------------------------------------


def test_a_stage_is_registered_under_its_own_name() -> None:
    stages = load_stages()
    assert set(stages) == {point.name for point in entry_points(group="eod.stages")}
    assert {name: stage.kind for name, stage in stages.items()} == dict(KINDS)


def test_one_stage_is_loaded_without_the_others() -> None:
    """A worker starts sooner: what the others import is not its business."""
    code = (
        "import sys; from eod_workers.runtime.stages import load_stage; print(load_stage('regulatory').kind.name);"
        "print(*sorted(m for m in sys.modules if m.count('.') == 1 and m.startswith('eod_workers.')));"
        "print(*sorted({'yaml', 'opentelemetry', 'aiohttp', 'redis', 'aiokafka'} & set(sys.modules)));"
        "print(load_stage('nonsense'))"
    )
    name, packages, libraries, nothing = ran(sys.executable, "-c", code).stdout.splitlines()
    assert (name, libraries, nothing) == ("regulatory", "", "None")
    assert not set(packages.split()) & {f"eod_workers.{one}" for one in ("ingestion", "pnl", "archive", "dead_letters")}


def test_a_worker_starts_without_a_command_line_and_a_web_framework() -> None:
    code = (
        "import sys; from eod_workers.cli import main; sys.argv = ['eod', 'stage', 'run', 'nonsense']\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print(*sorted({'typer', 'click', 'aiohttp', 'opentelemetry'} & set(sys.modules)))\n"
        "print('eod_workers.process.bootstrap' in sys.modules)"
    )
    done = ran(sys.executable, "-c", code)
    assert done.stdout.splitlines() == ["2", "", "True"]
    assert done.stderr.startswith("eod: there is no stage 'nonsense'; registered are archive, dead-letters, ")


def test_an_entry_point_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = EntryPoint("archives", "eod_workers.archive.stage:STAGE", "eod.stages")
    monkeypatch.setattr("eod_workers.runtime.stages.entry_points", lambda **_: [wrong])
    with pytest.raises(ValueError, match=r"archives \(eod_workers.archive.stage:STAGE\) is a stage of kind archive"):
        load_stages()


def test_a_stage_whose_kind_has_no_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator would not know of it, and nobody would size it."""
    monkeypatch.setattr("eod_workers.runtime.stages.KINDS", {name: KINDS[name] for name in KINDS if name != "archive"})
    with pytest.raises(ValueError, match=r"archive \(eod_workers.archive.stage:STAGE\) is not in eod_contract.kinds"):
        load_stages()


def test_stages_consume_the_topics_of_their_kinds_by_default() -> None:
    """The lag that the operator and the demo look at is that of the topics which a worker reads."""
    assert {TopicNames().topic(stream) for stream in STREAMS.values()} == set(STREAMS)
    for stage in load_stages().values():
        assert {*stage.kind.reads, *stage.kind.writes} <= set(STREAMS.values()), stage.kind.name
        assert stage.settings().consumed(stage.kind) == stage.kind.consumes


def test_the_page_about_the_log_has_the_streams() -> None:
    """Names, keys, how long they are kept, and which has the partitions of another."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("\n## The log\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    days = {name: stream.kept // timedelta(days=1) for name, stream in STREAMS.items()}
    kept = {name: f"{number} day" + "s" * (number != 1) for name, number in days.items()}
    assert [(row[0], row[1], row[3]) for row in rows] == [
        (f"`{one.name}`", one.key, kept[one.name]) for one in STREAMS.values()
    ]
    for row in rows:
        other = STREAMS[row[0].strip("`")].partitioned_as
        assert bool(other) == ("the partition count of" in row[2])
        assert f"`{other}`" in row[2] or not other


def test_the_chart_plans_the_streams() -> None:
    """Their names, and how long they are kept."""
    text = (ROOT / "charts/eod/templates/pipeline.yaml").read_text(encoding="utf-8")
    (planned,) = re.findall(r"\$hours := dict (.*) }}", text)
    hours = dict(re.findall(r'"([^"]+)" (\d+)', planned))
    assert hours == {name: str(stream.kept // timedelta(hours=1)) for name, stream in STREAMS.items()}


# --- the Makefile and the README ----------------------------------------------------------------------------


def targets() -> dict[str, str]:
    """Target → its sentence, of every rule in the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z][A-Za-z0-9_-]*):(?!=)(.*)$", text, flags=re.MULTILINE)
    return {name: rest.partition("## ")[2].strip() for name, rest in rules}


def test_every_target_has_a_sentence_and_make_help_lists_it() -> None:
    ended = ran("make", "--no-print-directory", "help")
    assert ended.returncode == 0, ended.stderr
    listed = dict(line.split(maxsplit=1) for line in _ANSI.sub("", ended.stdout).splitlines() if line.strip())
    assert listed == targets()
    assert all(targets().values()), "a target without a sentence"


def test_make_alone_shows_the_help() -> None:
    assert ran("make", "--no-print-directory").stdout == ran("make", "--no-print-directory", "help").stdout


def test_every_target_is_phony() -> None:
    """A file of the same name must not stop it."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    phony = {name for line in re.findall(r"^\.PHONY:(.*)$", text, flags=re.MULTILINE) for name in line.split()}
    assert phony == set(targets())


def _pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_pages_name_only_targets_that_exist(page: Path) -> None:
    """In commands: at the start of a line, or in backticks."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE))
    assert named - set(targets()) == set()


def test_the_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 < text.index("make demo") < len(text) // 2
    assert 0 < text.index("make test") < len(text) // 2


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_files_that_contributors_are_sent_to_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:contract|workers|operator|tests|charts|protos|docs)/[^`]*)`", text)
    assert len(named) > 25
    assert [one for one in named if "NAME" not in one and not (ROOT / one).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_pages_name_only_tests_that_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{page.name}: {file} has no {name}"
