"""tools/kind_up.sh, with programs that only write down how they were called."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.fake_programs import FakePrograms
from support.patience import limit_s

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {
    "docker": '[ "$1" != image ] || echo sha256:0123456789abcdef0123',
    "kind": '[ "$1" != get ] || cat "$CLUSTERS"',
    "kubectl": "",
    "helm": "",
    "make": "",
}


@pytest.fixture
def programs(tmp_path: Path) -> FakePrograms:
    made = FakePrograms(tmp_path, ("dirname", "grep", "cat"))
    for name, body in PROGRAMS.items():
        made.add(name, body)
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the script: it works on the folder that it is in."""
    (tmp_path / "eod/tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/kind_up.sh", tmp_path / "eod/tools")
    return tmp_path / "eod"


def kind_up(
    programs: FakePrograms, checkout: Path, *words: str, clusters: str = "", eula: str = "Y"
) -> subprocess.CompletedProcess[str]:
    (checkout / "clusters").write_text(clusters)
    env = programs.env(CLUSTERS=str(checkout / "clusters"), ACCEPT_EULA=eula)
    command = [checkout / "tools/kind_up.sh", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=limit_s(60))


def test_it_makes_the_cluster_and_installs_everything_in_it_in_order(programs: FakePrograms, checkout: Path) -> None:
    ended = kind_up(programs, checkout)
    assert ended.returncode == 0, ended.stderr
    assert programs.calls == [
        "docker info",
        "kind get clusters",
        "kind create cluster --config kind-config.yaml --wait 180s",
        "make image TAG=eod:dev",
        "docker image inspect --format {{.Id}} eod:dev",
        "docker tag eod:dev eod:dev-0123456789ab",
        "kind load docker-image eod:dev-0123456789ab --name eod",
        "helm dependency build charts/eod",
        "helm upgrade --install eod-crds charts/eod-crds --kube-context kind-eod --namespace eod --create-namespace",
        "kubectl --context kind-eod wait --for=condition=Established crd/eodpipelines.eod.markets --timeout=60s",
        (
            "helm upgrade --install eod charts/eod --values tools/kind-values.yaml "
            "--set eod-stores.sqlserver.acceptEula=true --timeout 15m --set image.tag=dev-0123456789ab,"
            "eod-operator.image.tag=dev-0123456789ab,eod-stores.image.tag=dev-0123456789ab "
            "--kube-context kind-eod --namespace eod --create-namespace"
        ),
    ]
    assert "Next:" in ended.stderr


def test_a_kind_without_a_status_yet_is_asked_for_again(programs: FakePrograms, checkout: Path) -> None:
    programs.add("sleep")
    programs.add("kubectl", '[ "$(grep -c wait "$CALLS")" != 1 ] || { echo "accessor error" >&2; exit 1; }')
    (checkout / "clusters").write_text("eod\n")
    env = programs.env(CLUSTERS=str(checkout / "clusters"), ACCEPT_EULA="Y", CALLS=str(programs.path.parent / "calls"))
    ended = subprocess.run(
        [checkout / "tools/kind_up.sh"], env=env, capture_output=True, text=True, check=False, timeout=limit_s(60)
    )
    assert ended.returncode == 0, ended.stderr
    waits = [number for number, call in enumerate(programs.calls) if "--for=condition=Established" in call]
    (release,) = [number for number, call in enumerate(programs.calls) if "install eod charts/eod " in call]
    assert len(waits) == 2
    assert waits[1] < release


def test_a_second_time_it_keeps_the_cluster_and_brings_it_up_to_date(programs: FakePrograms, checkout: Path) -> None:
    ended = kind_up(programs, checkout, clusters="other\neod\n")
    assert ended.returncode == 0, ended.stderr
    assert not any("create cluster" in call for call in programs.calls)
    assert sum(call.startswith("helm upgrade --install") for call in programs.calls) == 2


def test_a_cluster_of_another_name_is_not_taken_for_it(programs: FakePrograms, checkout: Path) -> None:
    kind_up(programs, checkout, clusters="eod-2\nmy-eod\n")
    assert "kind create cluster --config kind-config.yaml --wait 180s" in programs.calls


def test_bare_makes_the_cluster_alone(programs: FakePrograms, checkout: Path) -> None:
    """For Tilt, which installs the rest; nobody need accept a licence for that."""
    ended = kind_up(programs, checkout, "--bare", eula="")
    assert ended.returncode == 0, ended.stderr
    assert [call.split()[0] for call in programs.calls] == ["docker", "kind", "kind"]
    assert "tilt up" in ended.stderr


@pytest.mark.parametrize("missing", [["docker"], ["kind"], ["kubectl"], ["helm"], ["kind", "helm"]])
def test_what_is_missing_is_named_with_where_to_get_it(
    programs: FakePrograms, checkout: Path, missing: list[str]
) -> None:
    for name in missing:
        (programs.path / name).unlink()
    ended = kind_up(programs, checkout)
    assert ended.returncode == 1
    assert re.findall(r"(\w+) is not on PATH: install .*https://", ended.stderr) == missing
    assert programs.calls == []


@pytest.mark.parametrize(
    ("words", "eula", "sentence"),
    [(["--fast"], "Y", "unknown word '--fast'"), ([], "", "ACCEPT_EULA=Y"), ([], "y", "ACCEPT_EULA=Y")],
)
def test_what_it_cannot_do_is_said_before_anything_is_done(
    programs: FakePrograms, checkout: Path, words: list[str], eula: str, sentence: str
) -> None:
    ended = kind_up(programs, checkout, *words, eula=eula)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert programs.calls in ([], ["docker info"])


@pytest.mark.parametrize("failing", ["docker", "kind", "make", "helm", "kubectl"])
def test_it_ends_where_a_step_fails(programs: FakePrograms, checkout: Path, failing: str) -> None:
    programs.add(failing, "exit 7")
    ended = kind_up(programs, checkout)
    assert ended.returncode != 0
    assert "Next:" not in ended.stderr
    assert programs.calls[-1].split()[0] == failing
    assert (failing == "docker") == ("docker does not answer" in ended.stderr)


def test_the_files_that_it_names_are_there_and_the_cluster_is_the_one_of_the_config() -> None:
    script = (ROOT / "tools/kind_up.sh").read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w/.])((?:tools|charts)/[\w./-]+|kind-config\.yaml)", script):
        assert (ROOT / path).exists(), path
    config = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))
    assert f"CLUSTER={config['name']} " in script
    assert [node["role"] for node in config["nodes"]] == ["control-plane"]


@pytest.mark.parametrize("script", sorted(ROOT.glob("tools/*.sh")), ids=lambda script: script.name)
def test_shell_scripts_can_be_parsed_and_stop_at_the_first_error(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
